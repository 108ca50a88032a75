//! Contracts: versions that are read although their announced end has come.

use std::sync::Arc;

use super::{Finding, Standards};
use crate::config::Config;
use crate::contracts::{Contract, Pins, Version};
use crate::store::ListedUse;
use crate::store::facts::Facts;

pub(super) fn judge(facts: &Facts, standards: &Standards<'_>, findings: &mut Vec<Finding>) {
    let (Some(config), Some(used)) = (standards.config, &facts.contract_use) else { return };
    for contract in config.contracts.registry.contracts() {
        findings.extend(contract.served().filter_map(|version| judge_version(contract, version, config, used)));
    }
}

fn judge_version(contract: &Contract, version: &Version, config: &Config, used: &[ListedUse]) -> Option<Finding> {
    let ending = version.deprecation.as_ref()?;
    let sunset = ending.sunset?;
    let is_late =
        |one: &&ListedUse| one.event_type == contract.event_type && one.version == version.number && ending.is_over(one.last_at);
    let late: Vec<&ListedUse> =
        used.iter().filter(is_late).filter(|one| is_pinned(config, &one.receiver, &contract.event_type, version.number)).collect();
    let last = late.iter().map(|one| one.last_at).max()?;
    let names: Vec<&str> = late.iter().map(|one| one.receiver.as_str()).collect();
    let place = format!("{}@{}", contract.event_type, version.number);
    let what = format!("{place} is past its sunset, {sunset}, and is still read by {}, the last event at {last}", names.join(", "));
    let why = "its readers were told that it ends on that day; until the last one reads another version it cannot be retired, and every \
               change of the event has to keep it";
    Some(Finding::warning("contracts", what, why).shell(format!("outboxd contracts retire {place}")))
}

/// Whether the configuration sends this version to the receiver; one that has moved on reads it no more, whatever was counted.
fn is_pinned(config: &Config, receiver: &str, event_type: &str, version: u32) -> bool {
    let sends = |pins: &Option<Arc<Pins>>| pins.iter().any(|pins| pins.versions().any(|pinned| pinned == (event_type, version)));
    match receiver.split_once(':') {
        Some(("handler", name)) => config.handlers.iter().any(|handler| handler.name == name && sends(&handler.contracts)),
        Some(("client", name)) => config.clients.iter().any(|client| client.name == name && sends(&client.contracts)),
        _ => false,
    }
}
