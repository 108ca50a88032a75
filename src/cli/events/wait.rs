//! `outboxd events wait`: until handlers are done with an event, for scripts and for people who want to see it.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::text::{as_json, dash, plain_table, printable};
use super::super::{CliError, EXIT_FAILED, EXIT_OK, Global, ask, print::print, session};
use crate::feed::{describe_progress, is_handled, is_open};
use crate::settings::{describe_duration, parse_duration};
use crate::store::feed::read_event_progress;
use crate::store::list_handler_names;

/// Between looks, at first and at most.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    /// The event's id
    pub id: Uuid,
    /// Only for these handlers; all by default
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub handlers: Vec<String>,
    /// Longest wait, for example 30s or 5m
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_timeout)]
    pub timeout: Duration,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 30s".to_owned())
}

pub async fn run(args: WaitArgs, global: &Global) -> Result<ExitCode, CliError> {
    let WaitArgs { id, mut handlers, timeout } = args;
    let session = session::open(global).await?;
    for handler in &handlers {
        ask::check_handler(&session.pool, handler).await?;
    }
    if handlers.is_empty() {
        handlers = list_handler_names(&session.pool).await?;
    }
    let (end, mut pause) = (Instant::now() + timeout, LOOK_MIN);
    let found = loop {
        // Before the look: what is recorded up to the end of the wait counts.
        let is_last = Instant::now() >= end;
        let found = read_event_progress(&session.pool, id, [None, None], None, &handlers).await?;
        if is_last || found.as_ref().is_some_and(|found| !is_open(&handlers, found)) {
            break found;
        }
        tokio::time::sleep_until(end.min(Instant::now() + pause)).await;
        pause = (pause * 2).min(LOOK_MAX);
    };
    let Some(found) = found else {
        return Err(CliError::failed(format!(
            "there was no event {id} in schema \"{}\" within {}; it was not committed, or retention has removed it",
            session.schema,
            describe_duration(timeout)
        )));
    };
    let told = describe_progress(id, &handlers, &found);
    print(&if global.json { as_json(&told) } else { describe_states(&told) })?;
    Ok(ExitCode::from(if is_handled(&handlers, &found) { EXIT_OK } else { EXIT_FAILED }))
}

fn describe_states(told: &Value) -> String {
    let Some(handlers) = told["handlers"].as_object().filter(|handlers| !handlers.is_empty()) else {
        return "there are no handlers\n".to_owned();
    };
    let mut table = plain_table(&["HANDLER", "STATE", "ATTEMPTS", "DUE", "REASON", "HELD"]);
    for (handler, progress) in handlers {
        let text = |name: &str| match &progress[name] {
            Value::Null => dash(),
            Value::String(text) => printable(text),
            other => other.to_string(),
        };
        let held = match (progress["paused"] == true, progress["circuit_open"] == true) {
            (true, _) => "paused".to_owned(),
            (_, true) => "circuit open".to_owned(),
            _ => dash(),
        };
        table.add_row([printable(handler), text("state"), text("attempts"), text("due_at"), text("reason"), held]);
    }
    format!("{}\n", table.trim_fmt())
}
