//! `outboxd keys`: lists ordering keys whose events wait behind a failed event, and skips the event that blocks a key.
//! Works while the relay is down; a running relay follows at once.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::text::{as_json, dash, describe_moment, describe_reason, plain_table, printable, shell_word, shorten};
use super::{CliError, EXIT_OK, Global, ask, print::print, session};
use crate::operations::{check_handler, keys};
use crate::store::{BlockedKey, ListedDestination, OnlyWitness};

/// List the keys that wait behind a failed event, and skip such an event
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List blocked keys: the event that blocks each, since when, and how many deliveries wait
    #[command(after_help = "Examples:
  outboxd keys list
  outboxd keys list --handler billing --json

Below the keys the command lists destinations (routing keys, subjects, topics, streams) that accept no events although others of the \
handler do. Above the keys it names an event because of which alone a circuit is open.

Keys with the most waiting deliveries come first. A blocking event in the state `retrying` is attempted again; one in the state `dead` \
waits until you replay, discard or skip it.")]
    List(ListArgs),
    /// Make the event that blocks a key a dead letter, and deliver the following events
    #[command(after_help = "Example:
  outboxd keys skip billing order/42 --because 'their record is broken, sent by hand (OPS-311)'

The event stays as a dead letter and can be replayed; it then arrives after the events that followed it. The audit keeps the operator and \
the reason.")]
    Skip(SkipArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only keys of this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// At most this many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(Debug, Args)]
struct SkipArgs {
    /// Name of the handler
    handler: String,
    /// The key, as `keys list` shows it, for example order/42
    key: String,
    /// Why the following events need not wait; kept in the audit
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text)]
    because: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub async fn run(args: KeysArgs, global: &Global) -> Result<ExitCode, CliError> {
    match args.command {
        KeysCommand::List(args) => list(args, global).await,
        KeysCommand::Skip(args) => skip(args, global).await,
    }
}

async fn list(args: ListArgs, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let blocked = keys::list(&session.pool, args.handler.as_deref(), args.limit).await?;
    let text = match global.json {
        true => as_json(&blocked),
        false => {
            [describe_witnesses(&blocked.only_witnesses), describe(&blocked.keys), describe_destinations(&blocked.destinations)]
                .concat()
        }
    };
    print(&text)?;
    Ok(ExitCode::from(EXIT_OK))
}

async fn skip(args: SkipArgs, global: &Global) -> Result<ExitCode, CliError> {
    let SkipArgs { handler, key, because, yes } = args;
    let session = session::open(global).await?;
    check_handler(&session.pool, &handler).await?;
    let question = format!("Make the event that blocks {} at {} a dead letter?", printable(&key), printable(&handler));
    ask::confirm(&question, yes)?;
    let skipped = keys::skip(&session.pool, &ask::caller(), (&handler, &key), None, &because).await?;
    let id = skipped.head;
    eprintln!("{} continues without event {id}, which is a dead letter", printable(&key));
    eprintln!("  outboxd dead-letters show {id} --handler {}", shell_word(&handler));
    if global.json {
        print(&as_json(&skipped))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

/// Events because of which alone a circuit is open.
fn describe_witnesses(witnesses: &[OnlyWitness]) -> String {
    let line = |witness: &OnlyWitness| {
        let OnlyWitness { handler, key, event, reason } = witness;
        let key = key.as_deref().map_or_else(dash, printable);
        format!(
            "the circuit of {} is open because of event {event} alone (key {key}, {}); the next event of another key decides whether the \
            handler is at fault, or you do\n  outboxd events bury {event} --handler {} --because ...\n",
            printable(handler),
            describe_reason(reason.as_deref(), None),
            shell_word(handler)
        )
    };
    witnesses.iter().map(line).collect()
}

/// Destinations that accept no events although others of the handler do.
fn describe_destinations(destinations: &[ListedDestination]) -> String {
    if destinations.is_empty() {
        return String::new();
    }
    let mut table = plain_table(&["HANDLER", "DESTINATION", "WAITING", "SINCE", "PROBES", "REASON", "NEXT PROBE", "DETAIL"]);
    for destination in destinations {
        table.add_row([
            printable(&destination.handler),
            shorten(&destination.destination),
            destination.waiting.to_string(),
            describe_moment(destination.since),
            destination.probes.to_string(),
            describe_reason(Some(&destination.reason), destination.status),
            describe_moment(destination.probe_at),
            shorten(destination.detail.as_deref().unwrap_or("-")),
        ]);
    }
    format!("destinations in trouble\n{}\n", table.trim_fmt())
}

fn describe(keys: &[BlockedKey]) -> String {
    if keys.is_empty() {
        return "no key is blocked\n".to_owned();
    }
    let mut table = plain_table(&["HANDLER", "KEY", "WAITING", "BEHIND", "STATE", "SINCE", "REASON", "NEXT ATTEMPT", "DETAIL"]);
    for key in keys {
        table.add_row([
            printable(&key.handler),
            printable(&key.key),
            key.followers.to_string(),
            key.head.to_string(),
            key.state.clone(),
            key.since.map_or_else(dash, describe_moment),
            describe_reason(key.reason.as_deref(), key.status),
            key.due_at.map_or_else(dash, describe_moment),
            shorten(key.detail.as_deref().unwrap_or("-")),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}
