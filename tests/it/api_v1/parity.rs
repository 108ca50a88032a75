//! The command line and the API: every command has a route or a reason why it has none, and both give the same documents.

use std::collections::BTreeSet;

use clap::CommandFactory;
use outboxd::cli::Cli;
use outboxd::management::ROUTES;
use serde_json::Value;

use super::Api;

/// Commands without a route, each with its reason.
const CLI_ONLY: &[(&str, &str)] = &[
    ("adopt", "changes tables of the application, which takes the rights of their owner"),
    ("alerts test", "sends from where it runs, and waits for the receiver"),
    ("bench", "measures the machine that it runs on"),
    ("check", "reads the file of the machine that it runs on; the doctor tells what is wrong with the one of the relay"),
    ("clients", "makes secrets, which are shown to nobody else"),
    ("completions", "prints a script for a shell"),
    ("config", "prints the configuration, which holds secrets"),
    ("console", "serves the API, and makes secrets, which are shown to nobody else"),
    ("contracts", "reads files of a repository; the feed serves contracts to clients"),
    ("dead-letters export", "any number of payloads in one answer; the API has pages, and one payload at a time"),
    ("dead-letters replay", "the same as replay"),
    ("demo", "starts servers of its own"),
    ("events erase", "removes data for good, with a search of the whole log; takes as long as it takes"),
    ("events wait", "waits; clients wait at the feed"),
    ("feed", "what a client sees is served by the feed itself"),
    ("forget", "destroys keys for good, with a search of the whole log; writes a file of the machine that it runs on"),
    ("handlers rename", "takes the handler from every relay, step by step with their files"),
    ("handlers repartition", "takes the handler from every relay, step by step with their files"),
    ("health", "asks another listener"),
    ("man", "writes manual pages on the machine that it runs on"),
    ("migrate", "changes the schema, which takes the rights of its owner"),
    ("projections", "makes and drops tables of the application, which takes the rights of their owner"),
    ("rebase", "moves positions to another server while no relay runs"),
    ("run", "is the relay"),
    ("secret", "makes secrets, which are shown to nobody else"),
    ("streams", "reads whole streams of one application"),
    ("subjects", "makes and reads master keys, which are shown to nobody else"),
    ("verify", "reads the whole log"),
];

fn leaves(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
    let subcommands: Vec<&clap::Command> = command.get_subcommands().filter(|command| command.get_name() != "help").collect();
    if subcommands.is_empty() {
        found.insert(path.trim().to_owned());
    }
    for subcommand in subcommands {
        leaves(subcommand, &format!("{path} {}", subcommand.get_name()), found);
    }
}

#[test]
fn every_command_has_a_route_or_a_reason_why_it_has_none() {
    let mut commands = BTreeSet::new();
    leaves(&Cli::command(), "", &mut commands);
    let served: BTreeSet<&str> = ROUTES.iter().map(|route| route.command).filter(|command| !command.is_empty()).collect();
    let is_excused = |command: &str| {
        CLI_ONLY.iter().any(|(only, _)| command == *only || command.strip_prefix(only).is_some_and(|rest| rest.starts_with(' ')))
    };
    let missing: Vec<&String> =
        commands.iter().filter(|command| !served.contains(command.as_str()) && !is_excused(command)).collect();
    assert!(missing.is_empty(), "these commands have neither a route nor a reason: {missing:#?}");
    let both: Vec<&&str> = served.iter().filter(|command| is_excused(command)).collect();
    assert!(both.is_empty(), "{both:?}");
    let unknown: Vec<&&str> = served.iter().filter(|command| !commands.contains(**command)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(CLI_ONLY.iter().all(|(_, reason)| reason.len() > 10));
}

/// With the numbers as the API has them, without what changes while one looks.
fn comparable(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(name, _)| !name.ends_with("seconds") && name != "as_of");
            let converted = kept.map(|(name, value)| {
                let is_number = matches!(name.as_str(), "seq" | "aggregate_version") && value.is_number();
                let value = if is_number { Value::String(value.to_string()) } else { comparable(value) };
                (name, value)
            });
            Value::Object(converted.collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(comparable).collect()),
        other => other,
    }
}

/// Without the members that only one of them has.
fn without(mut value: Value, names: &[&str]) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| !names.contains(&name.as_str()));
    }
    value
}

#[tokio::test]
async fn the_command_line_and_the_api_give_the_same_documents() {
    let api = Api::create().await;
    let id = api.add("dead", "order/42").await.to_string();
    api.add("waiting", "order/42").await;
    api.add_handler("mail").await;
    let binary = api.binary();
    assert_eq!(binary.run(&["replay", "--all", "--yes", "--detach"]).await.code, Some(0));
    // Words, the address, and what only the API says.
    for (arguments, path, only_here) in [
        (vec!["dead-letters", "list"], "/dead-letters".to_owned(), &["next", "command"][..]),
        (vec!["dead-letters", "groups"], "/dead-letters/groups".to_owned(), &[]),
        (
            vec!["dead-letters", "show", &id, "--handler", "billing"],
            format!("/dead-letters/{id}/billing"),
            &["hidden", "payload_bytes"],
        ),
        (vec!["events", "list"], "/events".to_owned(), &["next"]),
        (vec!["events", "show", &id], format!("/events/{id}"), &["hidden", "payload_bytes"]),
        (vec!["replays", "list"], "/replays".to_owned(), &["next"]),
        (vec!["keys", "list"], "/keys".to_owned(), &[]),
        (vec!["handlers", "list"], "/handlers".to_owned(), &[]),
        (vec!["alerts", "list"], "/alerts".to_owned(), &[]),
        (vec!["status"], "/status".to_owned(), &[]),
    ] {
        let finished = binary.run(&[arguments.as_slice(), &["--json"]].concat()).await;
        let printed: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
        let served = without(comparable(api.read(&path).await), only_here);
        // The example's payload has a number that only looks like one of ours.
        let mut printed = comparable(printed);
        if !printed["event"]["payload"].is_null() {
            printed["event"]["payload"] = serde_json::json!({ "seq": 7 });
        }
        assert_eq!(served["event"]["payload"].is_null(), printed["event"]["payload"].is_null());
        let mut served = served;
        if !served["event"]["payload"].is_null() {
            served["event"]["payload"] = serde_json::json!({ "seq": 7 });
        }
        assert_eq!(served, printed, "{arguments:?} and {path}");
    }
    assert_eq!(api.database.count("audit where via = 'cli' and actor = 'ada'").await, 1);
}
