//! `outboxd keys`: ordering keys whose events wait behind one that failed, and letting one of them go on.
//! Works while the relay is down; one that runs follows at once.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::text::{as_json, dash, describe_moment, describe_reason, plain_table, printable, shell_word, shorten};
use super::{CliError, EXIT_OK, Global, ask, print::print, session};
use crate::operations::{check_handler, keys};
use crate::store::{BlockedKey, ListedDestination, OnlyWitness};

/// List the keys that wait behind a failed event, and let one go on
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List blocked keys: what they wait for, since when, and how many deliveries wait
    #[command(after_help = "Examples:
  outboxd keys list
  outboxd keys list --handler billing --json

Below the keys: destinations (routing keys, subjects, topics, streams) that take no events although others of the handler do. Above them: \
an event by which alone an open circuit is judged.

The most followers first. A head that is `retrying` moves by itself; one that is `dead` waits for a person: replay, discard or skip it.")]
    List(ListArgs),
    /// Make a dead letter of what a key waits for, and let its followers go on
    #[command(after_help = "Example:
  outboxd keys skip billing order/42 --because 'their record is broken, sent by hand (OPS-311)'

The event stays as a dead letter and can be replayed; it then comes after what went on without it. Who skipped it and why is kept \
in the audit.")]
    Skip(SkipArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only of this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(Debug, Args)]
struct SkipArgs {
    /// The handler
    handler: String,
    /// The key, as `keys list` shows it, for example order/42
    key: String,
    /// Why its followers need not wait; kept in the audit
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
    let question = format!("Make a dead letter of what {} waits for at {}?", printable(&key), printable(&handler));
    ask::confirm(&question, yes)?;
    let skipped = keys::skip(&session.pool, &ask::caller(), (&handler, &key), None, &because).await?;
    let id = skipped.head;
    eprintln!("{} goes on without event {id}, which is a dead letter", printable(&key));
    eprintln!("  outboxd dead-letters show {id} --handler {}", shell_word(&handler));
    if global.json {
        print(&as_json(&skipped))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

/// Events by which alone an open circuit is judged.
fn describe_witnesses(witnesses: &[OnlyWitness]) -> String {
    let line = |witness: &OnlyWitness| {
        let OnlyWitness { handler, key, event, reason } = witness;
        let key = key.as_deref().map_or_else(dash, printable);
        format!(
            "the circuit of {} is open because of event {event} alone (key {key}, {}); there is no other to judge by: the next event of \
             another key decides, or you do\n  outboxd events bury {event} --handler {} --because ...\n",
            printable(handler),
            describe_reason(reason.as_deref(), None),
            shell_word(handler)
        )
    };
    witnesses.iter().map(line).collect()
}

/// Destinations that take nothing although others of the handler do.
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
