//! Pins: which version of each public event a handler is sent. `events = ["order.placed@1"]`, also with a glob.
//! Demands a pin as soon as more than one version is served, and refuses one that leads nowhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::{HandlerConfig, handler_path};
use super::Contracts;
use crate::contracts::{Contract, Pins};
use crate::domain::matches_glob;
use crate::settings::Mistakes;

/// `order.placed@1` is the type `order.placed` in version 1. Without a number behind the last `@` the whole text is the type.
pub(in crate::config) fn split_pin(text: &str) -> (&str, Option<u32>) {
    let split = text.rsplit_once('@').filter(|(_, version)| version.bytes().all(|byte| byte.is_ascii_digit()));
    let version = |text: &str| text.parse::<u32>().ok().filter(|version| *version > 0 && !text.starts_with('0'));
    match split.and_then(|(name, text)| Some((name, version(text)?))) {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    }
}

/// Gives each handler its versions.
pub(super) fn resolve(contracts: &Contracts, handlers: &mut [HandlerConfig], mistakes: &Mistakes) {
    for (index, handler) in handlers.iter_mut().enumerate() {
        let path = format!("{}.events", handler_path(index, &handler.name));
        for text in unused_pins(contracts, handler) {
            mistakes.add(path.clone(), text);
        }
        let mut versions = Vec::new();
        for contract in contracts.registry.contracts().filter(|contract| is_wanted(handler, &contract.event_type)) {
            match version_of(contract, &handler.pins) {
                Ok(version) => versions.extend(version.map(|version| (contract.event_type.clone(), version))),
                Err(text) => mistakes.add(path.clone(), text),
            }
        }
        let pins = Pins::new(Arc::clone(&contracts.registry), versions, &contracts.naming);
        handler.contracts = (!pins.is_empty()).then(|| Arc::new(pins));
    }
}

fn is_wanted(handler: &HandlerConfig, event_type: &str) -> bool {
    handler.filter.types.is_empty() || handler.filter.types.iter().any(|glob| matches_glob(glob, event_type))
}

fn unused_pins(contracts: &Contracts, handler: &HandlerConfig) -> Vec<String> {
    let mut texts = Vec::new();
    for (glob, version) in &handler.pins {
        let Some(version) = version else { continue };
        if contracts.path.is_none() {
            texts.push(format!(
                "\"{glob}@{version}\" pins a version, and there are no contracts; set contracts.path to their folder"
            ));
        } else if !contracts.registry.contracts().any(|contract| matches_glob(glob, &contract.event_type)) {
            let known: Vec<&str> = contracts.registry.contracts().map(|contract| contract.event_type.as_str()).collect();
            texts.push(format!(
                "\"{glob}@{version}\" pins a version, and no contract has such a type; there are {}",
                known.join(", ")
            ));
        }
    }
    texts
}

/// The version of this contract that the handler is sent. `None`: none is served yet, and events go out as recorded.
fn version_of(contract: &Contract, pins: &[(String, Option<u32>)]) -> Result<Option<u32>, String> {
    let event_type = &contract.event_type;
    let matching: Vec<_> = pins.iter().filter(|(glob, _)| matches_glob(glob, event_type)).collect();
    // Who names a type exactly means it, whatever a glob beside it says.
    let exact = matching.iter().any(|(glob, version)| glob == event_type && version.is_some());
    let counts = |glob: &String| !exact || glob == event_type;
    let pinned: BTreeSet<u32> = matching.iter().filter(|(glob, _)| counts(glob)).filter_map(|(_, version)| *version).collect();
    let served: Vec<String> = contract.served().map(|version| version.number.to_string()).collect();
    let mut pinned = pinned.into_iter();
    match (pinned.next(), pinned.next()) {
        (Some(one), Some(other)) => Err(format!(
            "pins {event_type} to the versions {one} and {other}; a handler gets one version, so make a handler of each"
        )),
        (Some(version), None) => match contract.versions.get(&version) {
            None => Err(format!("\"{event_type}@{version}\": there is no such version; the contract has {}", contract.known())),
            Some(found) if !found.state.is_served() => {
                Err(format!("\"{event_type}@{version}\": the version is {}, and is not sent", found.state))
            }
            Some(_) => Ok(Some(version)),
        },
        (None, _) => match served.as_slice() {
            [] => Ok(None),
            [_] => Ok(contract.served().next().map(|version| version.number)),
            _ => Err(format!(
                "wants {event_type}, of which the versions {} are served; pin one, for example \"{event_type}@{}\"",
                served.join(" and "),
                served[0]
            )),
        },
    }
}
