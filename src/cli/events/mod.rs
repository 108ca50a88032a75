//! `outboxd events`: shows one event with every delivery and attempt, lists the newest events, or erases events.

mod erase;
mod wait;

use std::process::ExitCode;

use clap::Subcommand;
use uuid::Uuid;

use erase::EraseArgs;
use wait::WaitArgs;

use super::contracts::render::show_version;
use super::print::print;
use super::text::{
    SHOWN_BYTES, as_json, dash, describe_age, describe_aggregate, describe_event, describe_reason, plain_table, printable,
    shell_word,
};
use super::{CliError, Global, ask, link, session};
use crate::operations::check_handler;
use crate::operations::events::{self, Search};
use crate::store::events::{Attempt, EventHistory, EventList, EventState, SEARCHED};

#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    #[command(subcommand)]
    pub command: EventsCommand,
}

#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// List the newest events
    #[command(after_help = "\
Examples:
  outboxd events list
  outboxd events list --type 'order.*' --limit 100
  outboxd events list --key order/42 --json")]
    List(ListArgs),
    /// Show an event, its state at every handler, and every attempt
    #[command(
        disable_version_flag = true,
        after_help = "\
Examples:
  outboxd events show 018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f
  outboxd events show 018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f --full
  outboxd events show 018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f --version 1
  outboxd events show 018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f --json | jq .event.payload"
    )]
    Show(ShowArgs),
    /// Wait until an event is committed and handlers are done with it
    #[command(after_help = "\
Examples:
  outboxd events wait 018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f
  outboxd events wait 018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f --handlers billing,stock --timeout 2m

Exit code 0: every handler has handled the event or does not want it. Exit code 1: the time is over, the event is a dead letter of a \
handler, or it does not exist.")]
    Wait(WaitArgs),
    /// Make an event a dead letter of one handler, whether it was attempted or not
    #[command(after_help = "\
Example:
  outboxd events bury 018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f --handler billing --because 'unknown to them, sent by hand (OPS-311)'

A running relay restarts the loop of the handler without the event; other events of its key continue. If the circuit of the handler is \
open because of this event alone, the circuit is closed. The dead letter can be replayed. The audit keeps the operator and the reason.")]
    Bury(BuryArgs),
    /// Erase events for good with their deliveries and attempts, such as data of a person
    Erase(EraseArgs),
}

#[derive(Debug, clap::Args)]
pub struct BuryArgs {
    /// The event's id
    pub id: Uuid,
    /// The handler that must not deliver it
    #[arg(long, value_name = "NAME")]
    pub handler: String,
    /// Reason; kept with the dead letter and in the audit
    #[arg(long, value_name = "TEXT", value_parser = ask::parse_text, visible_alias = "note")]
    pub because: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only events of these types; `*` stands for any characters
    #[arg(long = "type", value_name = "GLOB")]
    pub event_type: Option<String>,
    /// Only events of this aggregate, as type and id: the ordering key that handlers have by default, for example order/42
    #[arg(long, value_name = "TYPE/ID", value_parser = parse_key)]
    pub key: Option<String>,
    /// Only events of aggregates with this id, whatever their type
    #[arg(long, value_name = "ID")]
    pub aggregate_id: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Print the address of the same page of the console
    #[arg(long)]
    pub link: bool,
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The event's id, the same that receivers get
    pub id: Uuid,
    /// Print the whole payload, not only its first 4 KiB (--json always has all of it)
    #[arg(long)]
    pub full: bool,
    /// Show the payload as a receiver of this version of its contract gets it
    #[arg(long, value_name = "NUMBER")]
    pub version: Option<u32>,
    /// Print the address of the same page of the console
    #[arg(long)]
    pub link: bool,
}

pub async fn run(args: EventsArgs, global: &Global) -> Result<ExitCode, CliError> {
    let text = match args.command {
        EventsCommand::List(args) if args.link => {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let (event_type, key, aggregate) = (text(&args.event_type), text(&args.key), text(&args.aggregate_id));
            link::print_link(global, "events", &[("type", &event_type), ("key", &key), ("aggregate", &aggregate)])?;
            return Ok(ExitCode::SUCCESS);
        }
        EventsCommand::Show(args) if args.link => {
            link::print_link(global, &link::letter_path(args.id, None), &[])?;
            return Ok(ExitCode::SUCCESS);
        }
        EventsCommand::List(args) => list(args, global).await?,
        EventsCommand::Show(args) => show(args, global).await?,
        EventsCommand::Wait(args) => return wait::run(args, global).await,
        EventsCommand::Bury(args) => bury(args, global).await?,
        EventsCommand::Erase(args) => return erase::run(args, global).await,
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The key of an event that has no aggregate type begins with the slash.
fn parse_key(text: &str) -> Result<String, String> {
    if text.contains('/') {
        return Ok(text.to_owned());
    }
    Err(format!("expected type and id of an aggregate such as order/42; for the id alone use --aggregate-id {text}"))
}

async fn list(args: ListArgs, global: &Global) -> Result<String, CliError> {
    let session = session::open(global).await?;
    let search = Search { event_type: args.event_type, key: args.key, aggregate_id: args.aggregate_id };
    let found = events::list(&session.pool, &search, None, args.limit).await?;
    Ok(if global.json { as_json(&found) } else { describe_list(&found) })
}

async fn show(args: ShowArgs, global: &Global) -> Result<String, CliError> {
    let session = session::open(global).await?;
    let mut history = events::show(&session.pool, &session.schema, args.id).await?;
    if let Some(version) = args.version {
        show_version(&mut history.event, version, global)?;
    }
    let shown_bytes = if args.full { usize::MAX } else { SHOWN_BYTES };
    Ok(if global.json { as_json(&history) } else { describe(&history, shown_bytes) })
}

async fn bury(args: BuryArgs, global: &Global) -> Result<String, CliError> {
    let BuryArgs { id, handler, because, yes } = args;
    let session = session::open(global).await?;
    check_handler(&session.pool, &handler).await?;
    ask::confirm(&format!("Make event {id} a dead letter of {}?", printable(&handler)), yes)?;
    let buried = events::bury(&session.pool, &ask::caller(), &session.schema, id, &handler, &because).await?;
    eprintln!("event {id} is now a dead letter of {}; it was {}", printable(&handler), buried.was);
    eprintln!("  outboxd dead-letters show {id} --handler {}", shell_word(&handler));
    Ok(if global.json { as_json(&buried) } else { String::new() })
}

fn describe_list(found: &EventList) -> String {
    let mut table = plain_table(&["ID", "TYPE", "AGGREGATE", "OCCURRED", "BYTES"]);
    for event in &found.events {
        let aggregate = describe_aggregate(event.aggregate_type.as_deref(), event.aggregate_id.as_deref(), event.aggregate_version);
        let (id, occurred_at, bytes) = (event.id.to_string(), event.occurred_at.to_string(), event.payload_bytes.to_string());
        table.add_row([id, printable(&event.event_type), aggregate, occurred_at, bytes]);
    }
    let mut text = if found.events.is_empty() { "no events\n".to_owned() } else { format!("{}\n", table.trim_fmt()) };
    if found.is_cut_short {
        text.push_str(&format!("searched the newest {SEARCHED} events only\n"));
    }
    text
}

fn describe(history: &EventHistory, shown_bytes: usize) -> String {
    let EventHistory { event, handlers, attempts } = history;
    let mut parts = vec![describe_event(event, shown_bytes), describe_states(handlers)];
    if !attempts.is_empty() {
        parts.push(describe_attempts(attempts));
    }
    parts.join("\n")
}

fn describe_states(states: &[EventState]) -> String {
    if states.is_empty() {
        return "no handler wants this event\n".to_owned();
    }
    let mut table = plain_table(&["HANDLER", "STATE", "ATTEMPTS", "DUE", "HANDLED", "REASON", "DETAIL"]);
    for state in states {
        table.add_row([
            state.handler.clone(),
            state.state.clone(),
            state.attempts.map_or_else(dash, |attempts| attempts.to_string()),
            state.due_in.map_or_else(dash, |due_in| {
                if due_in.is_zero() { "now".to_owned() } else { format!("in {}", describe_age(due_in)) }
            }),
            state.handled_at.map_or_else(dash, |at| at.to_string()),
            describe_reason(state.reason.as_deref(), state.status),
            state.detail.as_deref().map_or_else(dash, printable),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

fn describe_attempts(attempts: &[Attempt]) -> String {
    let mut table = plain_table(&["AT", "HANDLER", "ATTEMPT", "OUTCOME", "REASON", "TOOK", "DETAIL"]);
    for attempt in attempts {
        // Before a replay an operator must know that the receiver may have the event already.
        let ambiguous = if attempt.ambiguous { " (ambiguous)" } else { "" };
        table.add_row([
            attempt.at.to_string(),
            attempt.handler.clone(),
            attempt.attempt.to_string(),
            format!("{}{ambiguous}", attempt.outcome),
            describe_reason(Some(&attempt.reason), attempt.status),
            format!("{}ms", attempt.duration_ms),
            attempt.detail.as_deref().map_or_else(dash, printable),
        ]);
    }
    format!("attempts\n{}\n", table.trim_fmt())
}
