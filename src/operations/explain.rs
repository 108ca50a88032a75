//! Why an event waits: for each handler one sentence from the facts, and the command that changes it where one does.

use std::time::Duration;

use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::corrections::Correction;
use super::{OperationError, events, shell_word};
use crate::domain::circuit_command;
use crate::settings::describe_duration;
use crate::status::{HandlerState, handler_state};
use crate::store::events::EventState;
use crate::store::status::{HandlerStats, read_handler_stats};
use crate::store::{KeyHead, find_key_head};

/// Where an event stands at one handler, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Explanation {
    pub handler: String,
    /// A state of a delivery, or `pending`, or `passed`.
    pub state: String,
    pub text: String,
    /// The command to run next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The event that it waits behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<Uuid>,
    /// Deliveries of its key that wait behind the same event, counted up to 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub followers: Option<u64>,
}

/// Explains an event at every handler that wants it, or at one.
pub async fn explain(pool: &PgPool, schema: &str, id: Uuid, handler: Option<&str>) -> Result<Vec<Explanation>, OperationError> {
    let history = events::show(pool, schema, id).await?;
    let correction = Correction::of(&history.event);
    let mut explanations = Vec::new();
    for delivery in history.handlers.iter().filter(|delivery| handler.is_none_or(|handler| delivery.handler == handler)) {
        let stats = match delivery.state.as_str() {
            "pending" | "retrying" | "waiting" => read_handler_stats(pool, &delivery.handler).await?,
            _ => None,
        };
        let head = match (&delivery.key, delivery.state.as_str()) {
            (Some(key), "waiting") => find_key_head(pool, &delivery.handler, delivery.partition, key).await?,
            _ => None,
        };
        let explanation = judge(id, delivery, stats.as_ref(), head.as_ref());
        explanations.push(match &correction {
            Some(correction) if is_for_another(correction, delivery) => for_another(explanation, correction),
            _ => explanation,
        });
    }
    Ok(explanations)
}

/// Whether the handler leaves the event out, because it corrects an event for another one.
fn is_for_another(correction: &Correction, delivery: &EventState) -> bool {
    correction.only_for != delivery.handler && matches!(delivery.state.as_str(), "pending" | "passed")
}

fn for_another(explanation: Explanation, correction: &Correction) -> Explanation {
    let Correction { corrects, only_for } = correction;
    Explanation {
        text: format!("not for this handler: it corrects event {corrects} for {only_for} only"),
        command: Some(format!("outboxd events show {corrects}")),
        ..explanation
    }
}

fn judge(id: Uuid, delivery: &EventState, stats: Option<&HandlerStats>, head: Option<&KeyHead>) -> Explanation {
    let handler = shell_word(&delivery.handler);
    let obstacle = stats.and_then(describe_obstacle);
    let (text, command) = match delivery.state.as_str() {
        "delivered" => (format!("delivered{}", at(delivery)), None),
        "discarded" => (format!("discarded by an operator{}{}", at(delivery), detail(delivery)), None),
        "dead" => {
            let replay = delivery.replay.map(|replay| format!("; it was last part of replay {replay}")).unwrap_or_default();
            let text = format!("a dead letter{}: {}{}{replay}", at(delivery), reason(delivery), detail(delivery));
            (text, Some(format!("outboxd dead-letters show {id} --handler {handler}")))
        }
        "retrying" => describe_retry(delivery, obstacle),
        "waiting" => describe_waiting(delivery, head, obstacle),
        "pending" => describe_pending(stats, obstacle),
        _ => ("the handler has read past it and keeps no row of it".to_owned(), None),
    };
    Explanation {
        handler: delivery.handler.clone(),
        state: delivery.state.clone(),
        text,
        command,
        behind: head.map(|head| head.event),
        followers: head.map(|head| head.followers),
    }
}

/// A sentence, and the command that goes with it.
type Sentence = (String, Option<String>);

fn describe_retry(delivery: &EventState, obstacle: Option<Sentence>) -> Sentence {
    let attempts = delivery.attempts.unwrap_or_default();
    let failed = format!("attempt {attempts} failed with {}", reason(delivery));
    match (obstacle, delivery.due_at) {
        (Some((obstacle, command)), _) => (format!("{failed}; {obstacle}"), command),
        (None, Some(due)) => (format!("{failed}; the next attempt is due at {due}"), None),
        (None, None) => (failed, None),
    }
}

fn describe_waiting(delivery: &EventState, head: Option<&KeyHead>, obstacle: Option<Sentence>) -> Sentence {
    let key = delivery.key.as_deref().unwrap_or("-");
    let Some(head) = head else {
        let (why, command) = obstacle.unwrap_or_else(|| ("it is about to leave".to_owned(), None));
        return (format!("waits for its turn in the order of key {key}; {why}"), command);
    };
    let KeyHead { event, state, due_at, handled_at, followers, .. } = head;
    let why = head.reason.as_deref().unwrap_or("an unknown reason");
    let others = match followers.saturating_sub(1) {
        0 => String::new(),
        1 => "; 1 more waits".to_owned(),
        more => format!("; {more} more wait"),
    };
    let handler = shell_word(&delivery.handler);
    if state == "dead" {
        let since = handled_at.map(|at| format!(" since {at}")).unwrap_or_default();
        let text = format!("behind event {event} of key {key}, which is a dead letter{since} ({why}) and holds its key{others}");
        return (text, Some(format!("outboxd keys skip {handler} {} --because ...", shell_word(key))));
    }
    let due = due_at.map(|due| format!(", due at {due}")).unwrap_or_default();
    let text = format!("behind event {event} of key {key}, which is retried after {why}{due}{others}");
    match obstacle {
        Some((obstacle, command)) => (format!("{text}; {obstacle}"), command),
        None => (text, Some(format!("outboxd keys list --handler {handler}"))),
    }
}

fn describe_pending(stats: Option<&HandlerStats>, obstacle: Option<Sentence>) -> Sentence {
    if let Some((obstacle, command)) = obstacle {
        return (format!("not read yet: {obstacle}"), command);
    }
    let Some(stats) = stats else { return ("not read yet".to_owned(), None) };
    let more = if stats.pending_is_exact { "" } else { "at least " };
    let (events, are) = if stats.pending == 1 { ("event", "is") } else { ("events", "are") };
    let age = stats.oldest_unfinished.map(|age| Duration::from_secs(age.as_secs())).filter(|age| !age.is_zero());
    let age = age.map(|age| format!("; the oldest unfinished one is {} old", describe_duration(age))).unwrap_or_default();
    let text = format!("not read yet: {more}{} {events} of the handler {are} pending{age}", stats.pending);
    (text, Some("outboxd status".to_owned()))
}

/// The reason why the whole handler does not deliver.
fn describe_obstacle(stats: &HandlerStats) -> Option<Sentence> {
    let name = shell_word(&stats.handler);
    match handler_state(stats) {
        HandlerState::Paused => {
            let paused = stats.paused.as_ref()?;
            let by = paused.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
            let why = paused.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            let text = format!("the handler is paused{by} since {}{why}", paused.since);
            Some((text, Some(format!("outboxd handlers resume {name}"))))
        }
        HandlerState::NoOwner => Some(("no relay owns the handler".to_owned(), Some("outboxd status".to_owned()))),
        HandlerState::Stuck => {
            let error = stats.failing.as_ref().map(|failing| format!(": {}", failing.error)).unwrap_or_default();
            Some((format!("the handler cannot go on{error}"), Some("outboxd doctor".to_owned())))
        }
        HandlerState::CircuitOpen => {
            let circuit = stats.circuit.as_ref()?;
            let since = circuit.since.map(|since| format!(" since {since}")).unwrap_or_default();
            let why = circuit.reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
            let probe = circuit.probe_in.map(|wait| format!("; the next probe is in {}", describe_duration(wait)));
            let text = format!("the circuit of the handler is open{since}{why}{}", probe.unwrap_or_default());
            Some((text, Some(circuit_command(&name, circuit.reason.as_deref()))))
        }
        HandlerState::Waiting => {
            let until = stats.waiting_until.as_ref()?.until;
            Some((format!("the receiver asked for a pause until {until}"), Some(format!("outboxd handlers test {name}"))))
        }
        HandlerState::Lagging | HandlerState::Ok => None,
    }
}

fn reason(delivery: &EventState) -> String {
    match (delivery.reason.as_deref(), delivery.status) {
        (Some(reason), Some(status)) => format!("{reason} ({status})"),
        (reason, _) => reason.unwrap_or("an unknown reason").to_owned(),
    }
}

fn detail(delivery: &EventState) -> String {
    delivery.detail.as_deref().filter(|detail| !detail.is_empty()).map(|detail| format!(": {detail}")).unwrap_or_default()
}

fn at(delivery: &EventState) -> String {
    delivery.handled_at.map(|at| format!(" at {at}")).unwrap_or_default()
}
