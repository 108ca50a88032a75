//! `outboxd events wait`: waits until handlers are done with an event, for scripts and operators.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::super::text::{as_json, dash, plain_table, printable};
use super::super::{CliError, EXIT_DATABASE, EXIT_FAILED, EXIT_OK, Global, print::print, session};
use crate::feed::{describe_progress, is_handled};
use crate::operations::check_handler;
use crate::settings::{describe_duration, parse_duration};
use crate::store::feed::read_event_progress;
use crate::store::list_handler_names;
use crate::uow::{self, Waited, wait_until_handled_in};

#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    /// The event's id
    pub id: Uuid,
    /// Wait only for these handlers [default: all]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub handlers: Vec<String>,
    /// Longest time to wait, for example 30s or 5m
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
        check_handler(&session.pool, handler).await?;
    }
    if handlers.is_empty() {
        handlers = list_handler_names(&session.pool).await?;
    }
    let names: Vec<&str> = handlers.iter().map(String::as_str).collect();
    let wait = async |at_most| wait_until_handled_in(&session.pool, &session.schema, id, &names, at_most).await.map_err(unanswered);
    if wait(Duration::ZERO).await? != Waited::Handled {
        let whom = if names.is_empty() { "the commit".to_owned() } else { names.join(", ") };
        eprintln!("waiting for {whom}, at most {}", describe_duration(timeout));
        wait(timeout).await?;
    }
    let found = read_event_progress(&session.pool, id, [None, None], None, &handlers).await?;
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

fn unanswered(error: uow::Error) -> CliError {
    CliError::new(EXIT_DATABASE, error)
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
