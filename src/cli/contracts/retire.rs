//! `outboxd contracts retire`: checks whether a version may be retired, and names the lines to change. The state of a version is in its file,
//! so the command changes nothing.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::super::print::print;
use super::super::text::{as_json, describe_age, describe_moment, printable, shell_word};
use super::super::{CliError, EXIT_FAILED, EXIT_OK, Global};
use super::list::{Receivers, receiver_words};
use super::{ContractsError, split};
use crate::config::Contracts;
use crate::contracts::retirement::{Evidence, Objection, Receiver, Retirement, judge};
use crate::contracts::{Contract, Version};
use crate::settings::{format_duration, parse_duration};
use crate::store::{CountedUse, ListedUse};

pub(super) const HELP: &str = "\
Exit code:
  0   it may be retired, or is retired already
  1   it may not; the reasons are printed
  64  the configuration is wrong
  75  the database cannot be reached

Examples:
  outboxd contracts retire order.placed@1
  outboxd contracts retire order.placed@1 --unused-for 7d
  outboxd contracts retire order.placed@1 --json | jq -r '.objections[].text'

The command changes nothing. A version may be retired when its sunset has passed, another version is served, and no receiver got it within \
`--unused-for`. Relays count real deliveries and store the counts within a minute. A receiver that is pinned to the version but got no event \
of it does not prevent retirement; the command names the lines to change. Exception: if no receiver got the type in any version, the silence \
proves nothing.";

#[derive(Debug, Args)]
pub(super) struct RetireArgs {
    /// Type and version: order.placed@1
    contract: String,
    /// How long no receiver may have got the version
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = duration)]
    unused_for: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as \"30d\"".to_owned())
}

/// A line of a file that must change.
struct FileChange {
    file: String,
    entry: String,
    text: String,
}

pub(super) fn retire(
    args: &RetireArgs,
    contracts: &Contracts,
    receivers: &Receivers,
    global: &Global,
) -> Result<ExitCode, CliError> {
    let (event_type, number) = split(&args.contract);
    let number = number.ok_or_else(|| CliError::failed(ContractsError::NoVersion(args.contract.clone())))?;
    let version = contracts.registry.version(event_type, number).map_err(CliError::failed)?;
    let contract = contracts.registry.contract(event_type).expect("it has this version");
    let counted = receivers.counted.as_ref().expect("it is read for this command");
    let evidence = evidence(contract, number, receivers, counted);
    let verdict = judge(contract, version, &evidence, args.unused_for);
    let changes = match &verdict {
        Retirement::Allowed(silent) => changes(contract, version, silent, contracts, global),
        _ => Vec::new(),
    };
    print(&match global.json {
        true => told_as_json(args, version, &verdict, &evidence, &changes),
        false => describe(args, &verdict, &evidence, &changes, global),
    })?;
    Ok(ExitCode::from(if matches!(verdict, Retirement::Refused(_)) { EXIT_FAILED } else { EXIT_OK }))
}

fn evidence(contract: &Contract, version: u32, receivers: &Receivers, counted: &CountedUse) -> Evidence {
    let of_type = || counted.receivers.iter().filter(|used| used.event_type == contract.event_type);
    let (handlers, clients) = receivers.of(&contract.event_type, version);
    let handlers = handlers.into_iter().map(|name| format!("handler:{name}"));
    let pinned: Vec<String> = handlers.chain(clients.into_iter().map(|name| format!("client:{name}"))).collect();
    let of_version = || of_type().filter(|used| used.version == version);
    let times = |used: &ListedUse| (used.first_at, used.last_at, used.events);
    let one = |name: &String| Receiver {
        name: name.clone(),
        is_pinned: pinned.contains(name),
        used: of_version().find(|used| used.receiver == *name).map(times),
    };
    let others = of_version().map(|used| &used.receiver).filter(|name| !pinned.contains(name));
    Evidence {
        now: counted.now,
        counted_since: counted.since,
        type_sent_at: of_type().map(|used| used.last_at).max(),
        receivers: pinned.iter().chain(others).map(one).collect(),
    }
}

/// The lines that a retired version does not allow. The contract comes first, because the pins are refused as soon as it is changed.
fn changes(contract: &Contract, version: &Version, silent: &[Receiver], contracts: &Contracts, global: &Global) -> Vec<FileChange> {
    let event_type = &contract.event_type;
    let successor = version.deprecation.as_ref().and_then(|ending| ending.successor);
    let others = contract.served().map(|other| other.number).filter(|other| *other != version.number);
    let successor = successor.or_else(|| others.last());
    let successor = successor.map_or_else(String::new, |number| format!(" \"{event_type}@{number}\""));
    let pin = |receiver: &Receiver| {
        let (kind, name) = receiver.name.split_once(':').unwrap_or(("handler", &receiver.name));
        FileChange {
            file: global.config.display().to_string(),
            entry: format!("[[{kind}s]] name = {name:?}"),
            text: format!("in events, pin{successor} in place of \"{event_type}@{}\"", version.number),
        }
    };
    let state = FileChange {
        file: contracts.path.clone().unwrap_or_default(),
        entry: format!("[[contracts]] type = {event_type:?}, [[contracts.versions]] version = {}", version.number),
        text: "state = \"retired\"; leave schema and casts, which events in the log still need".to_owned(),
    };
    silent.iter().map(pin).chain([state]).collect()
}

fn describe(args: &RetireArgs, verdict: &Retirement, evidence: &Evidence, changes: &[FileChange], global: &Global) -> String {
    let version = printable(&args.contract);
    let mut text = match verdict {
        Retirement::Done => return format!("{version} is retired already\n"),
        Retirement::Allowed(_) => format!("{version} may be retired\n"),
        Retirement::Refused(_) => format!("{version} may not be retired\n"),
    };
    if let Retirement::Refused(objections) = verdict {
        text.push_str("\nbecause\n");
        objections.iter().for_each(|objection| text.push_str(&format!("  {}\n", describe_objection(objection))));
    }
    let silent: Vec<&Receiver> =
        evidence.receivers.iter().filter(|one| one.is_pinned && !one.reads(evidence.now, args.unused_for)).collect();
    if !silent.is_empty() {
        text.push_str("\npinned to it, without an event\n");
        silent.iter().for_each(|receiver| text.push_str(&format!("  {}\n", describe_silence(receiver, evidence))));
    }
    if !changes.is_empty() {
        text.push_str("\nchange\n");
        for FileChange { file, entry, text: change } in changes {
            text.push_str(&format!("  {}: {}\n    {}\n", printable(file), printable(entry), printable(change)));
        }
        let config = shell_word(&global.config.display().to_string());
        text.push_str(&format!("\nthen\n  outboxd --config {config} check\n  outboxd --config {config} reload\n"));
    }
    text
}

fn describe_silence(receiver: &Receiver, evidence: &Evidence) -> String {
    let name = printable(&receiver_words(&receiver.name));
    match receiver.used {
        Some((_, last, events)) => {
            let ago = describe_age(evidence.now.since(last));
            format!("{name}: last sent at {}, {ago} ago; {events} events altogether", describe_moment(last))
        }
        None => format!("{name}: no event since counting began at {}", describe_moment(evidence.counted_since)),
    }
}

fn describe_objection(objection: &Objection) -> String {
    match objection {
        Objection::Draft => "it is a draft and was never published; remove its entry".to_owned(),
        Objection::NotAnnounced(state) => {
            format!("it is {state}; announce its end first: deprecated = {{ since = \"...\", sunset = \"...\", successor = ... }}")
        }
        Objection::NoSunset => "its deprecation has no sunset; add the day from which it may be retired".to_owned(),
        Objection::SunsetAhead(day) => format!("its sunset, {day}, has not passed"),
        Objection::OnlyServed => {
            "no other version is served; receivers would get events in the form in which they were recorded".to_owned()
        }
        Objection::CountedSince(since, time) => format!(
            "deliveries are counted since {}, for less than {}; earlier receivers are unknown (--unused-for shortens the time)",
            describe_moment(*since),
            format_duration(*time)
        ),
        Objection::Read(receiver, first, last, events) => format!(
            "{} reads it: {events} events since {}, the last at {}",
            printable(&receiver_words(receiver)),
            describe_moment(*first),
            describe_moment(*last)
        ),
        Objection::NothingSent(receivers, time) => {
            let names: Vec<String> = receivers.iter().map(|name| printable(&receiver_words(name))).collect();
            format!(
                "no receiver got this type in any version within {}, so the silence of {} proves nothing; pin another version there first",
                format_duration(*time),
                names.join(", ")
            )
        }
    }
}

fn told_as_json(args: &RetireArgs, version: &Version, verdict: &Retirement, evidence: &Evidence, changes: &[FileChange]) -> String {
    let objections: Vec<Value> = match verdict {
        Retirement::Refused(objections) => {
            objections.iter().map(|objection| json!({ "rule": objection.rule(), "text": describe_objection(objection) })).collect()
        }
        _ => Vec::new(),
    };
    let receiver = |receiver: &Receiver| {
        json!({
            "receiver": receiver.name,
            "is_pinned": receiver.is_pinned,
            "reads": receiver.reads(evidence.now, args.unused_for),
            "first_at": receiver.used.map(|(first, _, _)| first),
            "last_at": receiver.used.map(|(_, last, _)| last),
            "events": receiver.used.map_or(0, |(_, _, events)| events),
        })
    };
    let change = |change: &FileChange| json!({ "file": change.file, "entry": change.entry, "change": change.text });
    as_json(&json!({
        "version": args.contract,
        "state": version.state.as_str(),
        "may_retire": !matches!(verdict, Retirement::Refused(_)),
        "objections": objections,
        "receivers": evidence.receivers.iter().map(receiver).collect::<Vec<_>>(),
        "unused_for_seconds": args.unused_for.as_secs(),
        "counted_since": evidence.counted_since,
        "as_of": evidence.now,
        "changes": changes.iter().map(change).collect::<Vec<_>>(),
    }))
}
