//! `outboxd streams`: shows one stream, and verifies all streams. Changes nothing.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgPool;
use uuid::Uuid;

use super::print::print;
use super::text::{as_json, plain_table, plural, printable, shell_word};
use super::{CliError, EXIT_CRITICAL, EXIT_OK, Global, session};
use crate::domain::Timestamp;
use crate::store::streams::{
    KeptState, StreamEvent, StreamFault, StreamHead, StreamPage, VerifiedStreams, read_stream_events, read_stream_head,
    verify_streams,
};

/// Show a stream, and verify all streams
#[derive(Debug, Args)]
pub struct StreamsArgs {
    #[command(subcommand)]
    command: StreamsCommand,
}

#[derive(Debug, Subcommand)]
enum StreamsCommand {
    /// Show a stream: its version, its kept states, and its events
    #[command(after_help = "Examples:
  outboxd streams show account ann
  outboxd streams show account ann --from 1000 --limit 500
  outboxd streams show account ann --json | jq '.events[].payload'

Without --from the last events are shown. A version whose event was erased is shown without an event.")]
    Show(ShowArgs),
    /// Check all streams for missing versions, versions without an event, and heads that differ
    #[command(after_help = "Examples:
  outboxd streams verify
  outboxd streams verify --json | jq '.faults[] | select(.fault == \"gap\")'

Faults:
  gap          versions are missing
  no_event     versions have no event: it was erased or deleted
  other_event  the event of a version belongs to another stream or version
  head         the version of the stream is not that of its last event
  no_stream    versions have no stream
  state        a kept state is of a later version than the stream has, or has no stream

The command reads every version and its event, so it takes a while on a large log. It does not block writers or relays.

Exit code:
  0  no faults
  2  faults were found")]
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Type of the stream, for example account
    #[arg(value_name = "TYPE")]
    stream_type: String,
    /// Key of the stream, for example ann
    key: String,
    /// From this version on
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u32).range(1..))]
    from: Option<u32>,
    /// At most this many events
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// At most this many faults
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(rename = "type")]
    stream_type: String,
    key: String,
    version: i64,
    archived_at: Option<Timestamp>,
    states: Vec<KeptState>,
    events: Vec<ShownEvent>,
}

/// Headers and payload stay text, so that numbers beyond 2^53 keep their digits.
#[derive(Debug, Serialize)]
struct ShownEvent {
    version: i64,
    /// `None`: the event was erased, and the following fields are empty as well.
    event: Option<Uuid>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

pub async fn run(args: StreamsArgs, global: &Global) -> Result<ExitCode, CliError> {
    match args.command {
        StreamsCommand::Show(args) => show(args, global).await,
        StreamsCommand::Verify(args) => verify(args, global).await,
    }
}

async fn show(args: ShowArgs, global: &Global) -> Result<ExitCode, CliError> {
    let ShowArgs { stream_type, key, from, limit } = args;
    let session = session::open(global).await?;
    let Some(head) = read_stream_head(&session.pool, &stream_type, &key).await? else {
        let name = printable(&format!("{stream_type}/{key}"));
        return Err(CliError::failed(format!("there is no stream {name} in schema \"{}\"", session.schema)));
    };
    let last = (head.version - i64::from(limit)).max(0);
    let after = from.map_or(last, |from| i64::from(from) - 1);
    let events = read_events(&session.pool, &head, after, i64::from(limit)).await?;
    print(&match global.json {
        true => as_json(&document(&stream_type, &key, &head, &events)),
        false => describe(&stream_type, &key, &head, &events),
    })?;
    Ok(ExitCode::from(EXIT_OK))
}

/// Reads page after page, because a page ends early at a damaged event.
async fn read_events(pool: &PgPool, head: &StreamHead, mut after: i64, limit: i64) -> Result<Vec<StreamEvent>, CliError> {
    let (up_to, mut events) = (head.version.min(after.saturating_add(limit)), Vec::new());
    while after < up_to {
        let page = StreamPage { after, up_to, versions: up_to - after, bytes: i64::MAX };
        let read = read_stream_events(pool, head.id, page).await?;
        let Some(last) = read.last() else { break };
        after = last.version;
        events.extend(read);
    }
    Ok(events)
}

fn document(stream_type: &str, key: &str, head: &StreamHead, events: &[StreamEvent]) -> Shown {
    Shown {
        stream_type: stream_type.to_owned(),
        key: key.to_owned(),
        version: head.version,
        archived_at: head.archived_at,
        states: head.states.clone(),
        events: events.iter().map(shown).collect(),
    }
}

fn shown(StreamEvent { version, event, damage }: &StreamEvent) -> ShownEvent {
    let event = event.as_deref();
    let raw = |text: &str| RawValue::from_string(text.to_owned()).ok();
    ShownEvent {
        version: *version,
        event: event.map(|event| event.id),
        event_type: event.map(|event| event.event_type.clone()),
        occurred_at: event.map(|event| event.occurred_at),
        headers: event.and_then(|event| raw(&event.headers)),
        payload: event.and_then(|event| raw(&event.payload)),
        damage: damage.clone(),
    }
}

fn describe(stream_type: &str, key: &str, head: &StreamHead, events: &[StreamEvent]) -> String {
    let mut text = format!("stream   {}\nversion  {}\n", printable(&format!("{stream_type}/{key}")), head.version);
    if let Some(at) = &head.archived_at {
        text.push_str(&format!("archived {at}\n"));
    }
    for state in &head.states {
        text.push_str(&format!("state    of version {}, shape {}\n", state.version, state.shape));
    }
    let mut table = plain_table(&["VERSION", "OCCURRED", "TYPE", "EVENT"]);
    for StreamEvent { version, event, damage } in events {
        let cells = match event {
            None => [version.to_string(), "-".to_owned(), "erased".to_owned(), "-".to_owned()],
            Some(event) => {
                let damaged = if damage.is_some() { " (damaged)" } else { "" };
                let event_type = format!("{}{damaged}", printable(&event.event_type));
                [version.to_string(), event.occurred_at.to_string(), event_type, event.id.to_string()]
            }
        };
        table.add_row(cells);
    }
    if !events.is_empty() {
        text.push_str(&format!("\n{}\n", table.trim_fmt()));
    }
    text
}

async fn verify(args: VerifyArgs, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let verified = verify_streams(&session.pool, args.limit).await?;
    print(&if global.json { as_json(&verified) } else { describe_verified(&verified) })?;
    Ok(ExitCode::from(if verified.faults.is_empty() { EXIT_OK } else { EXIT_CRITICAL }))
}

fn describe_verified(verified: &VerifiedStreams) -> String {
    let VerifiedStreams { streams, versions, faults } = verified;
    let counted =
        format!("{streams} stream{} with {versions} event{}", plural(streams.unsigned_abs()), plural(versions.unsigned_abs()));
    if faults.is_empty() {
        return format!("{counted}: no faults\n");
    }
    let mut table = plain_table(&["STREAM", "FAULT", "VERSION", "COUNT"]);
    for fault in faults {
        table.add_row([name(fault), fault.fault.clone(), fault.version.to_string(), fault.count.to_string()]);
    }
    let next = faults.iter().find_map(|fault| fault.stream_type.as_deref().zip(fault.key.as_deref()).zip(Some(fault.version)));
    let next = next.map(|((stream_type, key), version)| {
        format!("\n-> outboxd streams show {} {} --from {version}\n", shell_word(stream_type), shell_word(key))
    });
    format!("{counted}\n\n{}\n{}", table.trim_fmt(), next.unwrap_or_default())
}

fn name(fault: &StreamFault) -> String {
    match (&fault.stream_type, &fault.key) {
        (Some(stream_type), Some(key)) => printable(&format!("{stream_type}/{key}")),
        _ => format!("number {}", fault.stream),
    }
}
