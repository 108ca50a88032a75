//! `outboxd handlers test`: one made-up event through the real path of a configured handler, once.
//! Reads the configuration, never the log; spends nothing, records nothing, and a function's effect is rolled back.

use std::borrow::Cow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::super::{CliError, EXIT_CONFIG, EXIT_FAILED, EXIT_OK, Global, chain, print::print, session};
use crate::app::Loaded;
use crate::config::HandlerConfig;
use crate::domain::{Notification, Timestamp, Verdict};
use crate::handlers::{self, Built, SqlFunction};
use crate::relay;
use crate::settings::describe_duration;
use crate::store::{self, FunctionCall, SessionSettings};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit code:
  0   the handler took it
  1   it did not; the reason says why
  64  the configuration is wrong, or has no such handler

Examples:
  outboxd handlers test billing
  outboxd handlers test billing --type order.placed --payload '{\"total\": 1}' --json
  outboxd handlers test stock --type order.placed --aggregate order/42 --payload '{\"order\": 42}'

The event is not in the log and nothing is recorded. It goes out with a fresh id and says that it is a test (a webhook carries the header \
`webhook-test: true`), but it does go out: choose a payload that the receiver can bear. A function of the kind sql is called in a \
transaction that is rolled back.")]
pub(super) struct TestArgs {
    /// The handler, as configured
    name: String,
    /// Type of the event [default: the first that the handler wants]
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
    #[error("the feed has no receiver that could be tried; clients read it by themselves")]
    Feed,
    #[error("a projection has no receiver that could be tried; `outboxd check --connect` looks whether its function is there")]
    Projection,
}

/// What came of it.
struct Trial {
    verdict: Verdict,
    took: Duration,
    /// Its effect was taken back.
    is_rolled_back: bool,
}

pub(super) async fn run(args: TestArgs, global: &Global) -> Result<ExitCode, CliError> {
    let loaded = global.load()?;
    let (config, built) = find(loaded, &args.name)?;
    let notification = made_up(args, &config);
    let trial = try_once(&config, built, &notification, global).await?;
    if global.json {
        print(&as_json(&config, &notification, &trial))?;
    } else {
        print(&describe(&config, &notification, &trial))?;
    }
    Ok(ExitCode::from(if trial.verdict.is_delivered() { EXIT_OK } else { EXIT_FAILED }))
}

fn find(loaded: Loaded, name: &str) -> Result<(HandlerConfig, Built), CliError> {
    let known = loaded.handlers.iter().map(|(config, _)| config.name.as_str()).collect::<Vec<_>>().join(", ");
    let unknown =
        || TestError::Unknown { name: name.to_owned(), known: if known.is_empty() { "none".to_owned() } else { known.clone() } };
    let found = loaded.handlers.into_iter().find(|(config, _)| config.name == name);
    found.ok_or_else(|| CliError::new(EXIT_CONFIG, unknown()))
}

async fn try_once(config: &HandlerConfig, built: Built, notification: &Notification, global: &Global) -> Result<Trial, CliError> {
    let began = Instant::now();
    match built {
        Built::Handler(handler) => {
            let verdict = relay::attempt(&*handler, notification, config.timeout).await;
            let took = began.elapsed();
            drop(handler);
            handlers::all_ended().await;
            Ok(Trial { verdict, took, is_rolled_back: false })
        }
        Built::Function(function) => {
            // What a contract makes of an event is done by the relay for a function, and inside the handler for all others.
            let prepared = config.contracts.as_deref().map(|pins| relay::prepare(pins, notification));
            match prepared.unwrap_or(Ok(Cow::Borrowed(notification))) {
                Ok(prepared) => try_function(&function, &prepared, global).await,
                Err(verdict) => Ok(Trial { verdict, took: began.elapsed(), is_rolled_back: true }),
            }
        }
        Built::Publisher => Err(CliError::new(EXIT_CONFIG, TestError::Feed)),
        Built::Projection(_) => Err(CliError::new(EXIT_CONFIG, TestError::Projection)),
    }
}

async fn try_function(function: &SqlFunction, notification: &Notification, global: &Global) -> Result<Trial, CliError> {
    let session = session::open(global).await?;
    let call = FunctionCall {
        session: &SessionSettings::new(&session.schema),
        function: &function.function,
        statement_timeout: function.statement_timeout,
        lock_timeout: function.lock_timeout,
        role: function.role.as_deref(),
        payload: store::PayloadType::default(),
    };
    let began = Instant::now();
    let verdict = store::try_function(&session.pool, &call, notification).await?;
    Ok(Trial { verdict, took: began.elapsed(), is_rolled_back: true })
}

fn made_up(args: TestArgs, config: &HandlerConfig) -> Notification {
    let TestArgs { event_type, payload, aggregate, .. } = args;
    let (aggregate_type, aggregate_id) = aggregate.unzip();
    Notification {
        id: Uuid::now_v7(),
        key: aggregate_type.as_ref().zip(aggregate_id.as_ref()).map(|(kind, id)| format!("{kind}/{id}")),
        aggregate_type,
        aggregate_id,
        occurred_at: Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()),
        is_test: true,
        ..Notification::sample(&event_type.unwrap_or_else(|| wanted_type(config)), &payload)
    }
}

/// A type that the handler wants: its first pattern, a star standing for the word test.
fn wanted_type(config: &HandlerConfig) -> String {
    config.filter.types.first().map_or_else(|| "outboxd.test".to_owned(), |glob| glob.replace('*', "test"))
}

fn describe(config: &HandlerConfig, notification: &Notification, trial: &Trial) -> String {
    let Trial { verdict, took, is_rolled_back } = trial;
    let mut text = format!("{} took {}: {}", config.name, describe_duration(*took), verdict.outcome.as_str());
    if !verdict.is_delivered() {
        text.push_str(&format!(", {}", verdict.reason));
    }
    text.push_str(&verdict.status.map(|status| format!(", status {status}")).unwrap_or_default());
    if verdict.ambiguous {
        text.push_str("; the receiver may have it");
    }
    text.push('\n');
    text.push_str(&format!("event {} of type {}\n", notification.id, notification.event_type));
    if !verdict.detail.is_empty() {
        text.push_str(&format!("answer: {}\n", printable(&verdict.detail)));
    }
    if let Some(after) = verdict.retry_after {
        text.push_str(&format!("it asks not to be called again for {}\n", describe_duration(after)));
    }
    if *is_rolled_back {
        text.push_str("the function was called in a transaction that was rolled back: nothing it did has stayed\n");
    }
    text
}

/// Others wrote it: it must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn as_json(config: &HandlerConfig, notification: &Notification, trial: &Trial) -> String {
    let Trial { verdict, took, is_rolled_back } = trial;
    let document = json!({
        "handler": config.name,
        "kind": config.kind,
        "event": { "id": notification.id, "type": notification.event_type },
        "delivered": verdict.is_delivered(),
        "outcome": verdict.outcome.as_str(),
        "reason": verdict.reason.as_str(),
        "status": verdict.status,
        "ambiguous": verdict.ambiguous,
        "duration_ms": took.as_secs_f64() * 1e3,
        "detail": verdict.detail,
        "retry_after_seconds": verdict.retry_after.map(|after| after.as_secs_f64()),
        "rolled_back": is_rolled_back,
    });
    format!("{document:#}\n")
}

/// As the table checks it: an object.
fn parse_payload(text: &str) -> Result<String, String> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if value.is_object() => Ok(text.to_owned()),
        Ok(_) => Err("expected a JSON object, such as {\"n\": 1}".to_owned()),
        Err(error) => Err(format!("is no JSON: {}", chain(&error))),
    }
}

fn parse_aggregate(text: &str) -> Result<(String, String), &'static str> {
    let (aggregate_type, aggregate_id) = text.split_once('/').ok_or("expected type and id, such as order/42")?;
    Ok((aggregate_type.to_owned(), aggregate_id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_an_object_and_an_aggregate_has_two_parts() {
        assert!(parse_payload("{\"n\": 1}").is_ok());
        assert!(parse_payload("[1]").is_err() && parse_payload("{").is_err());
        assert_eq!(parse_aggregate("order/4/2"), Ok(("order".to_owned(), "4/2".to_owned())));
        assert!(parse_aggregate("order").is_err());
    }
}
