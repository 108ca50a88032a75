//! `outboxd handlers test`: sends one made-up event once through the real path of a configured handler.
//! Reads the configuration, never the log; records nothing, uses up no attempt, and rolls back the effect of a function.

use std::process::ExitCode;

use clap::Args;

use super::super::text::as_json;
use super::super::{CliError, EXIT_CONFIG, EXIT_FAILED, EXIT_OK, Global, print::print, session};
use crate::app::Loaded;
use crate::config::HandlerConfig;
use crate::domain::{Notification, Timestamp};
use crate::handlers::{self, Built};
use crate::operations::trial::{self, MadeUp, Trial, TrialError, parse_aggregate, parse_payload};
use crate::settings::describe_duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit code:
  0   the handler delivered the event
  1   it did not; the reason is printed
  64  the configuration is wrong, or has no such handler

Examples:
  outboxd handlers test billing
  outboxd handlers test billing --type order.placed --payload '{\"total\": 1}' --json
  outboxd handlers test stock --type order.placed --aggregate order/42 --payload '{\"order\": 42}'

The event is not in the log and nothing is recorded. It is really sent, with a new id and a mark that it is a test (a webhook has the \
header `webhook-test: true`), so choose a payload that is harmless to the receiver. A function of the kind sql is called in a transaction \
that is rolled back.")]
pub(super) struct TestArgs {
    /// Name of the handler in the configuration
    name: String,
    /// Type of the event [default: the first type that the handler wants]
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Payload, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = parse_payload)]
    payload: String,
    /// Aggregate of the event, also its ordering key
    #[arg(long, value_name = "TYPE/ID", value_parser = parse_aggregate)]
    aggregate: Option<(String, String)>,
}

#[derive(Debug, thiserror::Error)]
enum TestError {
    #[error("the configuration has no handler \"{name}\"; it has {known}")]
    Unknown { name: String, known: String },
}

pub(super) async fn run(args: TestArgs, global: &Global) -> Result<ExitCode, CliError> {
    let loaded = global.load()?;
    let (config, built) = find(loaded, &args.name)?;
    let TestArgs { event_type, payload, aggregate, .. } = args;
    let made_up = MadeUp { event_type, payload: Some(payload), aggregate };
    let notification = trial::made_up(&made_up, &config, Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()));
    // Only a function needs a connection.
    let session = if matches!(built, Built::Function(_)) { Some(session::open(global).await?) } else { None };
    let connection = session.as_ref().map(|session| (&session.pool, session.schema.as_str()));
    let tried = trial::try_once(&config, built, &notification, connection).await;
    handlers::all_ended().await;
    let tried = tried.map_err(|error| match error {
        TrialError::Store(error) => error.into(),
        TrialError::Feed | TrialError::Projection => CliError::new(EXIT_CONFIG, error),
    })?;
    let text = match global.json {
        true => as_json(&trial::view(&config, &notification, &tried)),
        false => describe(&config, &notification, &tried),
    };
    print(&text)?;
    Ok(ExitCode::from(if tried.verdict.is_delivered() { EXIT_OK } else { EXIT_FAILED }))
}

fn find(loaded: Loaded, name: &str) -> Result<(HandlerConfig, Built), CliError> {
    let known = loaded.handlers.iter().map(|(config, _)| config.name.as_str()).collect::<Vec<_>>().join(", ");
    let unknown =
        || TestError::Unknown { name: name.to_owned(), known: if known.is_empty() { "none".to_owned() } else { known.clone() } };
    let found = loaded.handlers.into_iter().find(|(config, _)| config.name == name);
    found.ok_or_else(|| CliError::new(EXIT_CONFIG, unknown()))
}

fn describe(config: &HandlerConfig, notification: &Notification, trial: &Trial) -> String {
    let Trial { verdict, took, is_rolled_back } = trial;
    let mut text = format!("{} took {}: {}", config.name, describe_duration(*took), verdict.outcome.as_str());
    if !verdict.is_delivered() {
        text.push_str(&format!(", {}", verdict.reason));
    }
    text.push_str(&verdict.status.map(|status| format!(", status {status}")).unwrap_or_default());
    if verdict.ambiguous {
        text.push_str("; the receiver may have received it");
    }
    text.push('\n');
    text.push_str(&format!("event {} of type {}\n", notification.id, notification.event_type));
    if !verdict.detail.is_empty() {
        text.push_str(&format!("answer: {}\n", printable(&verdict.detail)));
    }
    if let Some(after) = verdict.retry_after {
        text.push_str(&format!("the receiver asks for a pause of {}\n", describe_duration(after)));
    }
    if *is_rolled_back {
        text.push_str("the function was called in a transaction that was rolled back: none of its changes remain\n");
    }
    text
}

/// A receiver wrote the text: control characters must not reach the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
