//! `outboxd contracts list` and `show`: the versions, and the handlers and clients that receive each.

use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::super::CliError;
use super::super::text::{as_json, dash, describe_age, describe_moment, plain_table, printable};
use super::split;
use crate::config::{ClientConfig, HandlerConfig};
use crate::contracts::{Cast, Contract, Pins, Registry, Version, digest};
use crate::store::{CountedUse, ListedUse};

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Also show from the database how many events of each version were sent
    #[arg(long = "use")]
    pub with_use: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The type, or the type with a version: order.placed@1
    contract: String,
    /// Also show from the database which receivers got it, since when and how many events
    #[arg(long = "use")]
    pub with_use: bool,
}

/// The receivers of a version, and the counted deliveries if the option asks for them.
pub(in crate::cli) struct Receivers {
    pub handlers: Vec<HandlerConfig>,
    pub clients: Vec<ClientConfig>,
    pub counted: Option<CountedUse>,
}

impl Receivers {
    /// Names of the handlers and of the clients that receive this version.
    pub fn of(&self, event_type: &str, version: u32) -> (Vec<&str>, Vec<&str>) {
        let is_sent = |pins: &Option<Arc<Pins>>| {
            pins.as_ref().is_some_and(|pins| pins.versions().any(|pinned| pinned == (event_type, version)))
        };
        let handlers = self.handlers.iter().filter(|handler| is_sent(&handler.contracts)).map(|handler| handler.name.as_str());
        let clients = self.clients.iter().filter(|client| is_sent(&client.contracts)).map(|client| client.name.as_str());
        (handlers.collect(), clients.collect())
    }

    /// The counted deliveries of this version. `None`: the option did not ask for them.
    fn used<'r>(&'r self, event_type: &'r str, version: u32) -> Option<Vec<&'r ListedUse>> {
        let of_version = |used: &&ListedUse| used.event_type == event_type && used.version == version;
        self.counted.as_ref().map(|counted| counted.receivers.iter().filter(of_version).collect())
    }

    /// The age of the last delivery, and the number of events altogether.
    fn sums(&self, event_type: &str, version: u32) -> Option<(String, String)> {
        let (counted, used) = (self.counted.as_ref()?, self.used(event_type, version)?);
        let last = used.iter().map(|used| used.last_at).max();
        let ago = last.map_or_else(dash, |last| format!("{} ago", describe_age(counted.now.since(last))));
        Some((ago, used.iter().map(|used| used.events).sum::<u64>().to_string()))
    }

    /// For the terminal; `None`: no receiver.
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
    let mut header = vec!["TYPE", "VERSION", "STATE", "SUNSET", "SUCCESSOR", "SENT TO"];
    if receivers.counted.is_some() {
        header.extend(["LAST SENT", "EVENTS"]);
    }
    let mut table = plain_table(&header);
    for contract in registry.contracts() {
        for version in contract.versions.values() {
            let ending = version.deprecation.as_ref();
            let mut row = vec![
                printable(&contract.event_type).to_string(),
                version.number.to_string(),
                version.state.to_string(),
                ending.and_then(|ending| ending.sunset).map_or_else(|| "-".to_owned(), |day| day.to_string()),
                ending.and_then(|ending| ending.successor).map_or_else(|| "-".to_owned(), |number| number.to_string()),
                receivers.describe(&contract.event_type, version.number).unwrap_or_else(|| "-".to_owned()),
            ];
            row.extend(receivers.sums(&contract.event_type, version.number).into_iter().flat_map(|(last, events)| [last, events]));
            table.add_row(row);
        }
    }
    format!("{}\n", table.trim_fmt())
}

pub(super) fn show(args: &ShowArgs, registry: &Registry, receivers: &Receivers, is_json: bool) -> Result<String, CliError> {
    let (event_type, number) = split(&args.contract);
    let contract = registry.contract(event_type).ok_or_else(|| {
        let known: Vec<&str> = registry.contracts().map(|contract| contract.event_type.as_str()).collect();
        CliError::failed(format!("there is no contract for \"{event_type}\"; contracts exist for {}", known.join(", ")))
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
    let sent_to = receivers.describe(&contract.event_type, version.number).unwrap_or_else(|| "no receiver".to_owned());
    text.push_str(&format!("  sent to        {sent_to}\n"));
    for used in receivers.used(&contract.event_type, version.number).unwrap_or_default() {
        let (first, last) = (describe_moment(used.first_at), describe_moment(used.last_at));
        let who = printable(&receiver_words(&used.receiver));
        text.push_str(&format!("  was sent to    {who}: {} events since {first}, the last at {last}\n", used.events));
    }
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

/// `client:acme` as the list shows it: `acme (client)`.
pub(super) fn receiver_words(receiver: &str) -> String {
    match receiver.split_once(':') {
        Some(("client", name)) => format!("{name} (client)"),
        Some((_, name)) => name.to_owned(),
        None => receiver.to_owned(),
    }
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
    if let Some(used) = receivers.used(&contract.event_type, version.number) {
        document["use"] = json!(used);
    }
    document["examples"] = version.examples.iter().map(|example| example.name.clone()).collect();
    document["digest"] = json!(digest(version.schema.value()));
    if with_schema {
        document["schema"] = version.schema.value().clone();
    }
    document
}
