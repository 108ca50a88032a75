//! Trying a configured handler with one made-up event, outside the log: once, through the real path. Spends nothing, records nothing, and the
//! effect of a function is rolled back.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use crate::config::HandlerConfig;
use crate::domain::{Notification, Timestamp, Verdict};
use crate::handlers::{Built, SqlFunction};
use crate::relay;
use crate::store::{self, FunctionCall, SessionSettings, StoreError};

/// The event that is made up; what is `None` is taken from the configuration of the handler.
#[derive(Debug, Clone, Default)]
pub struct MadeUp {
    pub event_type: Option<String>,
    /// A JSON object.
    pub payload: Option<String>,
    /// Type and id.
    pub aggregate: Option<(String, String)>,
}

/// The result of a trial.
#[derive(Debug)]
pub struct Trial {
    pub verdict: Verdict,
    pub took: Duration,
    /// Its effect was taken back.
    pub is_rolled_back: bool,
}

/// A trial as a document.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TrialView {
    pub handler: String,
    pub kind: String,
    pub event: TrialEvent,
    pub delivered: bool,
    pub outcome: &'static str,
    pub reason: &'static str,
    pub status: Option<u16>,
    /// The receiver may have it all the same.
    pub ambiguous: bool,
    pub duration_ms: f64,
    /// The answer of the receiver.
    pub detail: String,
    pub retry_after_seconds: Option<f64>,
    pub rolled_back: bool,
}

/// The event that was sent.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TrialEvent {
    pub id: Uuid,
    #[serde(rename = "type")]
    pub event_type: String,
}

/// Why nothing was tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the feed has no receiver that could be tried; clients read it by themselves")]
    Feed,
    #[error("a projection has no receiver that could be tried; `outboxd check --connect` looks whether its function is there")]
    Projection,
}

/// Sends the event through the handler, once.
pub async fn try_once(
    config: &HandlerConfig,
    built: Built,
    notification: &Notification,
    pool: Option<(&PgPool, &str)>,
) -> Result<Trial, TrialError> {
    let began = Instant::now();
    match built {
        Built::Handler(handler) => {
            let verdict = relay::attempt(&*handler, notification, config.timeout).await;
            Ok(Trial { verdict, took: began.elapsed(), is_rolled_back: false })
        }
        Built::Function(function) => {
            // The relay casts an event for a function; all other kinds cast it inside the handler.
            let prepared = config.contracts.as_deref().map(|pins| relay::prepare(pins, notification));
            match (prepared.unwrap_or(Ok(Cow::Borrowed(notification))), pool) {
                (Ok(prepared), Some((pool, schema))) => Ok(try_function(&function, &prepared, pool, schema).await?),
                (Ok(_), None) => unreachable!("a function is tried with a connection"),
                (Err(verdict), _) => Ok(Trial { verdict, took: began.elapsed(), is_rolled_back: true }),
            }
        }
        Built::Publisher => Err(TrialError::Feed),
        Built::Projection(_) => Err(TrialError::Projection),
    }
}

async fn try_function(
    function: &SqlFunction,
    notification: &Notification,
    pool: &PgPool,
    schema: &str,
) -> Result<Trial, StoreError> {
    let call = FunctionCall {
        session: &SessionSettings::new(schema),
        function: &function.function,
        statement_timeout: function.statement_timeout,
        lock_timeout: function.lock_timeout,
        role: function.role.as_deref(),
        payload: store::PayloadType::default(),
    };
    let began = Instant::now();
    let verdict = store::try_function(pool, &call, notification).await?;
    Ok(Trial { verdict, took: began.elapsed(), is_rolled_back: true })
}

/// The event of a trial, which says that it is a test.
pub fn made_up(made_up: &MadeUp, config: &HandlerConfig, now: Timestamp) -> Notification {
    let MadeUp { event_type, payload, aggregate } = made_up.clone();
    let (aggregate_type, aggregate_id) = aggregate.unzip();
    Notification {
        id: Uuid::now_v7(),
        key: aggregate_type.as_ref().zip(aggregate_id.as_ref()).map(|(kind, id)| format!("{kind}/{id}")),
        aggregate_type,
        aggregate_id,
        occurred_at: now,
        is_test: true,
        ..Notification::sample(&event_type.unwrap_or_else(|| wanted_type(config)), payload.as_deref().unwrap_or("{}"))
    }
}

/// A type that the handler wants: its first pattern, a star standing for the word test.
fn wanted_type(config: &HandlerConfig) -> String {
    config.filter.types.first().map_or_else(|| "outboxd.test".to_owned(), |glob| glob.replace('*', "test"))
}

/// The trial as a document.
pub fn view(config: &HandlerConfig, notification: &Notification, trial: &Trial) -> TrialView {
    let Trial { verdict, took, is_rolled_back } = trial;
    TrialView {
        handler: config.name.clone(),
        kind: config.kind.clone(),
        event: TrialEvent { id: notification.id, event_type: notification.event_type.clone() },
        delivered: verdict.is_delivered(),
        outcome: verdict.outcome.as_str(),
        reason: verdict.reason.as_str(),
        status: verdict.status,
        ambiguous: verdict.ambiguous,
        duration_ms: took.as_secs_f64() * 1e3,
        detail: verdict.detail.to_string(),
        retry_after_seconds: verdict.retry_after.map(|after| after.as_secs_f64()),
        rolled_back: *is_rolled_back,
    }
}

/// A payload as the table checks it: an object.
pub fn parse_payload(text: &str) -> Result<String, String> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if value.is_object() => Ok(text.to_owned()),
        Ok(_) => Err("expected a JSON object, such as {\"n\": 1}".to_owned()),
        Err(error) => Err(format!("is no JSON: {}", crate::telemetry::chain(&error))),
    }
}

/// An aggregate such as `order/42`.
pub fn parse_aggregate(text: &str) -> Result<(String, String), &'static str> {
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
