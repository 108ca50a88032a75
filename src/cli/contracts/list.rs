//! `outboxd contracts list` and `show`: what there is, and which handlers and clients are sent it.

use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::super::CliError;
use super::super::text::{as_json, plain_table, printable};
use super::split;
use crate::config::{ClientConfig, HandlerConfig};
use crate::contracts::{Cast, Contract, Pins, Registry, Version, digest};

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The type, or the type with a version: order.placed@1
    contract: String,
}

/// Whoever may be sent a version.
pub(super) struct Receivers {
    pub handlers: Vec<HandlerConfig>,
    pub clients: Vec<ClientConfig>,
}

impl Receivers {
    /// Names of the handlers, and those of the clients, that are sent this version.
    fn of(&self, event_type: &str, version: u32) -> (Vec<&str>, Vec<&str>) {
        let is_sent = |pins: &Option<Arc<Pins>>| {
            pins.as_ref().is_some_and(|pins| pins.versions().any(|pinned| pinned == (event_type, version)))
        };
        let handlers = self.handlers.iter().filter(|handler| is_sent(&handler.contracts)).map(|handler| handler.name.as_str());
        let clients = self.clients.iter().filter(|client| is_sent(&client.contracts)).map(|client| client.name.as_str());
        (handlers.collect(), clients.collect())
    }

    /// For people; `None`: nobody.
    fn describe(&self, event_type: &str, version: u32) -> Option<String> {
        let (handlers, clients) = self.of(event_type, version);
        let clients = clients.into_iter().map(|client| format!("{client} (client)"));
        let all: Vec<String> = handlers.into_iter().map(str::to_owned).chain(clients).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

pub(super) fn list(registry: &Registry, receivers: &Receivers, is_json: bool) -> String {
    if is_json {
        let contracts: Vec<Value> = registry.contracts().map(|contract| contract_as_json(contract, receivers, false)).collect();
        return as_json(&contracts);
    }
    let mut table = plain_table(&["TYPE", "VERSION", "STATE", "SUNSET", "SUCCESSOR", "SENT TO"]);
    for contract in registry.contracts() {
        for version in contract.versions.values() {
            let ending = version.deprecation.as_ref();
            table.add_row([
                printable(&contract.event_type).to_string(),
                version.number.to_string(),
                version.state.to_string(),
                ending.and_then(|ending| ending.sunset).map_or_else(|| "-".to_owned(), |day| day.to_string()),
                ending.and_then(|ending| ending.successor).map_or_else(|| "-".to_owned(), |number| number.to_string()),
                receivers.describe(&contract.event_type, version.number).unwrap_or_else(|| "-".to_owned()),
            ]);
        }
    }
    format!("{}\n", table.trim_fmt())
}

pub(super) fn show(args: &ShowArgs, registry: &Registry, receivers: &Receivers, is_json: bool) -> Result<String, CliError> {
    let (event_type, number) = split(&args.contract);
    let contract = registry.contract(event_type).ok_or_else(|| {
        let known: Vec<&str> = registry.contracts().map(|contract| contract.event_type.as_str()).collect();
        CliError::failed(format!("there is no contract for \"{event_type}\"; there are {}", known.join(", ")))
    })?;
    let version = number.map(|number| registry.version(event_type, number)).transpose().map_err(CliError::failed)?;
    if is_json {
        return Ok(as_json(&match version {
            Some(version) => version_as_json(contract, version, receivers, true),
            None => contract_as_json(contract, receivers, true),
        }));
    }
    let mut text = format!("{}\n", printable(&contract.event_type));
    if let Some(owner) = &contract.owner {
        text.push_str(&format!("owner      {}\n", printable(owner)));
    }
    for shown in contract.versions.values().filter(|shown| version.is_none_or(|version| version.number == shown.number)) {
        text.push_str(&describe(contract, shown, receivers, version.is_some()));
    }
    Ok(text)
}

fn describe(contract: &Contract, version: &Version, receivers: &Receivers, with_schema: bool) -> String {
    let mut text = format!("\nversion {}, {}\n", version.number, version.state);
    if let Some(ending) = &version.deprecation {
        let sunset = ending.sunset.map(|day| format!(", until {day}")).unwrap_or_default();
        let successor = ending.successor.map(|number| format!("; then version {number}")).unwrap_or_default();
        let link = ending.link.as_ref().map(|link| format!("; {link}")).unwrap_or_default();
        text.push_str(&format!("  deprecated     since {}{sunset}{successor}{link}\n", ending.since));
    }
    let sent_to = receivers.describe(&contract.event_type, version.number).unwrap_or_else(|| "nobody".to_owned());
    text.push_str(&format!("  sent to        {sent_to}\n"));
    for (name, cast) in [("from previous", &version.from_previous), ("from next", &version.from_next)] {
        if let Some(cast) = cast {
            text.push_str(&format!("  {name:<14} {}\n", operations(cast).join(", ")));
            if !cast.loses().is_empty() {
                let lost: Vec<String> = cast.loses().iter().map(ToString::to_string).collect();
                text.push_str(&format!("  {:<14} {}\n", "  loses", lost.join(", ")));
            }
        }
    }
    text.push_str(&format!("  examples       {}\n", version.examples.len()));
    if with_schema {
        text.push_str(&format!("  digest         {}\n\n{}\n", digest(version.schema.value()), version.schema.text().trim_end()));
    }
    text
}

fn operations(cast: &Cast) -> Vec<String> {
    match cast.operations() {
        [] => vec!["nothing changes".to_owned()],
        operations => operations.iter().map(ToString::to_string).collect(),
    }
}

fn contract_as_json(contract: &Contract, receivers: &Receivers, with_schema: bool) -> Value {
    let versions: Vec<Value> =
        contract.versions.values().map(|version| version_as_json(contract, version, receivers, with_schema)).collect();
    json!({ "type": contract.event_type, "owner": contract.owner, "versions": versions })
}

fn version_as_json(contract: &Contract, version: &Version, receivers: &Receivers, with_schema: bool) -> Value {
    let (handlers, clients) = receivers.of(&contract.event_type, version.number);
    let cast = |cast: &Option<Cast>| {
        cast.as_ref().map(|cast| {
            let lost: Vec<String> = cast.loses().iter().map(ToString::to_string).collect();
            json!({ "operations": cast.operations().iter().map(ToString::to_string).collect::<Vec<_>>(), "loses": lost })
        })
    };
    let mut document = Value::Object(version.facts());
    document["type"] = json!(contract.event_type);
    document["handlers"] = json!(handlers);
    document["clients"] = json!(clients);
    document["from_previous"] = json!(cast(&version.from_previous));
    document["from_next"] = json!(cast(&version.from_next));
    document["examples"] = version.examples.iter().map(|example| example.name.clone()).collect();
    document["digest"] = json!(digest(version.schema.value()));
    if with_schema {
        document["schema"] = version.schema.value().clone();
    }
    document
}
