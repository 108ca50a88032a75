//! Pins: the version of each public event that a handler or a client gets. `events = ["order.placed@1"]`, also with a glob.
//! Requires a pin as soon as more than one version is served, and refuses one that matches nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::feed::client_path;
use super::super::{Config, handler_path};
use super::Contracts;
use crate::contracts::{Contract, Pins};
use crate::domain::matches_glob;
use crate::settings::{Mistakes, Section};

/// `order.placed@1` is the type `order.placed` in version 1. Without a number behind the last `@` the whole text is the type.
fn split_pin(text: &str) -> (&str, Option<u32>) {
    let split = text.rsplit_once('@').filter(|(_, version)| version.bytes().all(|byte| byte.is_ascii_digit()));
    let version = |text: &str| text.parse::<u32>().ok().filter(|version| *version > 0 && !text.starts_with('0'));
    match split.and_then(|(name, text)| Some((name, version(text)?))) {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    }
}

/// The event types with their pinned versions; the contracts are not known here.
pub(in crate::config) fn read_pins(section: &Section<'_>) -> Vec<(String, Option<u32>)> {
    let texts = section.texts("events");
    let pin = |text: &String| {
        let (glob, version) = split_pin(text);
        (glob.to_owned(), version)
    };
    texts.iter().map(pin).collect()
}

/// A receiver of events: a handler, or a client of the feed.
struct Receiver<'r> {
    /// Its path for mistakes.
    path: String,
    /// `handler` or `client`, for messages.
    kind: &'static str,
    pins: &'r [(String, Option<u32>)],
    /// The lists of globs that a type must match; an empty list matches every type.
    types: Vec<&'r [String]>,
}

impl Receiver<'_> {
    fn wants(&self, event_type: &str) -> bool {
        self.types.iter().all(|globs| globs.is_empty() || globs.iter().any(|glob| matches_glob(glob, event_type)))
    }
}

/// Gives each handler and each client its versions.
pub(super) fn resolve(config: &mut Config, mistakes: &Mistakes) {
    let contracts = &config.contracts;
    for (index, handler) in config.handlers.iter_mut().enumerate() {
        let path = format!("{}.events", handler_path(index, &handler.name));
        let receiver = Receiver { path, kind: "handler", pins: &handler.pins, types: vec![&handler.filter.types] };
        handler.contracts = pins_of(contracts, &receiver, mistakes);
    }
    // Without event types there is no feed, and clients have nothing to read.
    let feed = &config.feed;
    for (index, client) in config.clients.iter_mut().enumerate().filter(|_| feed.is_on()) {
        let path = format!("{}.events", client_path(index, &client.name));
        let receiver = Receiver { path, kind: "client", pins: &client.pins, types: vec![&feed.events, &client.events] };
        client.contracts = pins_of(contracts, &receiver, mistakes);
    }
}

fn pins_of(contracts: &Contracts, receiver: &Receiver<'_>, mistakes: &Mistakes) -> Option<Arc<Pins>> {
    for text in unused_pins(contracts, receiver.pins) {
        mistakes.add(receiver.path.clone(), text);
    }
    let mut versions = Vec::new();
    for contract in contracts.registry.contracts().filter(|contract| receiver.wants(&contract.event_type)) {
        match version_of(contract, receiver) {
            Ok(version) => versions.extend(version.map(|version| (contract.event_type.clone(), version))),
            Err(text) => mistakes.add(receiver.path.clone(), text),
        }
    }
    let pins = Pins::new(Arc::clone(&contracts.registry), versions, &contracts.naming);
    (!pins.is_empty()).then(|| Arc::new(pins))
}

fn unused_pins(contracts: &Contracts, pins: &[(String, Option<u32>)]) -> Vec<String> {
    let mut texts = Vec::new();
    for (glob, version) in pins {
        let Some(version) = version else { continue };
        if contracts.path.is_none() {
            texts.push(format!(
                "\"{glob}@{version}\" pins a version, and there are no contracts; set contracts.path to their folder"
            ));
        } else if !contracts.registry.contracts().any(|contract| matches_glob(glob, &contract.event_type)) {
            let known: Vec<&str> = contracts.registry.contracts().map(|contract| contract.event_type.as_str()).collect();
            texts.push(format!(
                "\"{glob}@{version}\" pins a version, and no contract has such a type; contracts exist for {}",
                known.join(", ")
            ));
        }
    }
    texts
}

/// The version of this contract that the receiver gets. `None`: none is served yet, and events are sent as recorded.
fn version_of(contract: &Contract, receiver: &Receiver<'_>) -> Result<Option<u32>, String> {
    let event_type = &contract.event_type;
    let matching: Vec<_> = receiver.pins.iter().filter(|(glob, _)| matches_glob(glob, event_type)).collect();
    // An exact type takes precedence over a glob.
    let exact = matching.iter().any(|(glob, version)| glob == event_type && version.is_some());
    let counts = |glob: &String| !exact || glob == event_type;
    let pinned: BTreeSet<u32> = matching.iter().filter(|(glob, _)| counts(glob)).filter_map(|(_, version)| *version).collect();
    let served: Vec<String> = contract.served().map(|version| version.number.to_string()).collect();
    let mut pinned = pinned.into_iter();
    match (pinned.next(), pinned.next()) {
        (Some(one), Some(other)) => Err(format!(
            "pins {event_type} to the versions {one} and {other}; a {kind} gets one version, so make a {kind} of each",
            kind = receiver.kind
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
