//! Edit and replay: an operator corrects the payload of a dead letter. The result is a new event for the handler of the letter only,
//! linked to the original by its headers; the letter is discarded in the same transaction. The audit keeps which places of the payload
//! were changed, and no value: every role reads the audit, and no erasure reaches it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Caller, Configuration, OperationError, RefusalKind, check_handler, refuse_projection, shell_word};
use crate::contracts::{PayloadChange, changes};
use crate::domain::json::hides;
use crate::domain::{CORRECTS, DeliveryState, Notification, ONLY_FOR, SHREDDED};
use crate::relay;
use crate::store::events::{Event, EventHistory, EventState, read_history};
use crate::store::{self, Corrected, NewCorrection, find_key_head};
use crate::telemetry::chain;

/// Changes that the audit names.
const MOST_NAMED: usize = 50;
/// Bytes of a path in the audit.
const PATH_BYTES: usize = 200;

/// A corrected payload, as an operator gives it.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    pub event: Uuid,
    pub handler: &'a str,
    /// A JSON object.
    pub payload: &'a str,
    /// Places that nobody sees on this road, and that therefore nobody edits here.
    pub redact: &'a [Vec<String>],
}

/// Whether the corrected payload is valid under the contract of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContractCheck {
    /// It is.
    Valid,
    /// The type has no contract.
    None,
    /// No configuration is at hand here; the relay checks the payload at the attempt.
    Unchecked,
}

/// What a correction would change.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct CorrectionPlan {
    /// The event that is corrected.
    pub event: Uuid,
    pub handler: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub key: Option<String>,
    pub changes: Vec<PayloadChange>,
    pub contract: ContractCheck,
    /// Deliveries of its key that wait behind the letter, counted up to 10,000. They go before the correction, which takes `force`.
    pub followers: u64,
    #[serde(skip)]
    payload: String,
}

/// How a plan is carried out.
#[derive(Debug, Clone, Copy)]
pub struct CorrectionOrder<'a> {
    /// Id of the new event; the same id again changes nothing.
    pub id: Uuid,
    pub reason: &'a str,
    pub force: bool,
}

/// A correction that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RecordedCorrection {
    /// The new event.
    pub id: Uuid,
    /// The event that it corrects.
    pub corrects: Uuid,
    pub handler: String,
    /// False: this very correction was recorded before.
    pub is_new: bool,
}

/// What the headers of an event say of a correction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The event that it corrects.
    pub corrects: Uuid,
    /// The one handler that receives it.
    pub only_for: String,
}

impl Correction {
    /// `None`: the event is no correction.
    pub fn of(event: &Event) -> Option<Self> {
        let notification = with_payload(event, "{}");
        Some(Self { corrects: notification.header(CORRECTS)?.parse().ok()?, only_for: notification.header(ONLY_FOR)? })
    }
}

/// Checks a corrected payload, and says what it would change. Changes nothing.
pub async fn plan(
    pool: &PgPool,
    configuration: Option<&Configuration>,
    draft: &Draft<'_>,
) -> Result<CorrectionPlan, OperationError> {
    let (event, delivery) = read_letter(pool, draft.event, draft.handler).await?;
    refuse_state(pool, &event).await?;
    let payload = check_payload(pool, &event, draft).await?;
    refuse_shredded(&event, payload)?;
    let changes = changes(event.payload.get(), payload)
        .map_err(|problem| OperationError::plain(RefusalKind::Invalid, format!("the payload cannot be compared: it {problem}")))?;
    if changes.is_empty() {
        let text = "the payload says what it said before; a replay delivers the event once more as it is";
        let command = format!("outboxd dead-letters replay --id {} --handler {}", event.id, shell_word(draft.handler));
        return Err(OperationError::refused(RefusalKind::Invalid, text, command));
    }
    let contract = check_contract(configuration, &with_payload(&event, payload), draft.handler)?;
    Ok(CorrectionPlan {
        event: event.id,
        handler: draft.handler.to_owned(),
        event_type: event.event_type,
        followers: count_followers(pool, &delivery, event.id).await?,
        key: delivery.key,
        changes,
        contract,
        payload: payload.to_owned(),
    })
}

/// The event and its dead letter at the handler, ready to be edited.
pub async fn read_letter(pool: &PgPool, id: Uuid, handler: &str) -> Result<(Event, EventState), OperationError> {
    check_handler(pool, handler).await?;
    refuse_projection(pool, handler, "mend its function, or use `outboxd projections skip`").await?;
    let show = format!("outboxd events show {id}");
    let Some(EventHistory { event, handlers, .. }) = read_history(pool, id, Some(handler)).await? else {
        let text = format!("there is no event {id}; it never was, or retention has removed it");
        return Err(OperationError::refused(RefusalKind::NotFound, text, "outboxd events list"));
    };
    if let Some(damage) = &event.damage {
        let text = format!("event {id} cannot be read as a whole, so it cannot be edited: {damage}");
        return Err(OperationError::refused(RefusalKind::NotNow, text, show));
    }
    let state = handlers.iter().map(|delivery| delivery.state.as_str()).next().unwrap_or("not wanted").to_owned();
    match handlers.into_iter().find(|delivery| delivery.state == DeliveryState::Dead.as_str()) {
        Some(delivery) => Ok((event, delivery)),
        None => Err(not_dead(id, handler, &state)),
    }
}

fn not_dead(id: Uuid, handler: &str, state: &str) -> OperationError {
    let text =
        format!("event {id} is {state} at {handler}: only a dead letter can be edited; another operator may have been faster");
    OperationError::refused(RefusalKind::NotNow, text, format!("outboxd events show {id}"))
}

/// A sourced event is the state of an aggregate: a second one beside it would change that state.
async fn refuse_state(pool: &PgPool, event: &Event) -> Result<(), OperationError> {
    if !store::is_sourced(pool, event.seq).await? {
        return Ok(());
    }
    let text = format!(
        "event {} is a version of a stream, which is the state of its aggregate: append an event that corrects it \
         (docs/event-sourcing.md), and discard the letter",
        event.id
    );
    Err(OperationError::plain(RefusalKind::Invalid, text))
}

/// Values of a person are encrypted for their event: under the id of another one they do not open.
fn refuse_shredded(event: &Event, payload: &str) -> Result<(), OperationError> {
    if !event.payload.get().contains(SHREDDED) && !payload.contains(SHREDDED) {
        return Ok(());
    }
    let text = format!(
        "the payload of event {} has encrypted values of a person (Shredded), which open in their own event only: record a corrected \
         event in the application, and discard the letter",
        event.id
    );
    Err(OperationError::plain(RefusalKind::Invalid, text))
}

/// The payload without white space around it, if the outbox takes it and nothing hidden would be overwritten.
async fn check_payload<'a>(pool: &PgPool, event: &Event, draft: &Draft<'a>) -> Result<&'a str, OperationError> {
    let invalid = |text: String| OperationError::plain(RefusalKind::Invalid, text);
    let payload = draft.payload.trim_matches([' ', '\t', '\r', '\n', '\u{feff}']);
    let raw: &RawValue =
        serde_json::from_str(payload).map_err(|error| invalid(format!("the payload is no JSON: {}", chain(&error))))?;
    if !payload.starts_with('{') {
        return Err(invalid("the payload is no JSON object, such as {\"total\": 99.50}".to_owned()));
    }
    let (bytes, bound) = (payload.len() as u64, store::read_max_payload(pool).await?);
    if bytes > bound {
        return Err(invalid(format!("the payload has {bytes} bytes, {bound} are allowed (outbox.max_payload)")));
    }
    if hides(&event.payload, draft.redact) || hides(raw, draft.redact) {
        let text =
            "a part of the payload is redacted here (console.redact), so it cannot be edited here; the command edits all of it";
        return Err(OperationError::refused(RefusalKind::Invalid, text, edit_command(event.id, draft.handler)));
    }
    Ok(payload)
}

/// The line that edits the same letter.
pub fn edit_command(event: Uuid, handler: &str) -> String {
    format!("outboxd dead-letters edit {event} --handler {} --payload corrected.json --because '...'", shell_word(handler))
}

/// The event as a handler would be sent it with this payload.
fn with_payload(event: &Event, payload: &str) -> Notification {
    Notification {
        seq: event.seq,
        id: event.id,
        headers: event.headers.get().to_owned(),
        aggregate_type: event.aggregate_type.clone(),
        aggregate_id: event.aggregate_id.clone(),
        aggregate_version: event.aggregate_version,
        occurred_at: event.occurred_at,
        ..Notification::sample(&event.event_type, payload)
    }
}

/// Valid in the version in which it is recorded, and in the one that the handler is sent.
fn check_contract(
    configuration: Option<&Configuration>,
    notification: &Notification,
    handler: &str,
) -> Result<ContractCheck, OperationError> {
    let Some(configuration) = configuration else { return Ok(ContractCheck::Unchecked) };
    let registry = &configuration.config.contracts.registry;
    let event_type = &notification.event_type;
    if registry.contract(event_type).is_none() {
        return Ok(ContractCheck::None);
    }
    let refused = |why: String| {
        let text = format!("the payload breaks the contract of {event_type}: {why}");
        OperationError::refused(RefusalKind::Invalid, text, format!("outboxd contracts show {}", shell_word(event_type)))
    };
    let version = notification.recorded_version().ok_or_else(|| refused("the header version is no number".to_owned()))?;
    let recorded = registry.version(event_type, version).map_err(|error| refused(chain(&error)))?;
    recorded.schema.validate(&notification.payload).map_err(|invalid| refused(chain(&invalid)))?;
    let pins =
        configuration.handlers.iter().find(|(config, _)| config.name == handler).and_then(|(config, _)| config.contracts.as_ref());
    match pins.map(|pins| relay::prepare(pins, notification)) {
        Some(Err(verdict)) => Err(refused(verdict.detail.to_string())),
        None | Some(Ok(Cow::Borrowed(_) | Cow::Owned(_))) => Ok(ContractCheck::Valid),
    }
}

/// Deliveries that wait behind this letter.
async fn count_followers(pool: &PgPool, delivery: &EventState, event: Uuid) -> Result<u64, OperationError> {
    let Some(key) = &delivery.key else { return Ok(0) };
    let head = find_key_head(pool, &delivery.handler, delivery.partition, key).await?;
    Ok(head.filter(|head| head.event == event).map_or(0, |head| head.followers))
}

/// A correction that was recorded before, under an id of the caller's.
pub async fn find(
    pool: &PgPool,
    event: Uuid,
    handler: &str,
    (id, payload): (Uuid, &str),
) -> Result<Option<RecordedCorrection>, OperationError> {
    let is_there = store::is_correction(pool, id, event, handler, payload).await?;
    Ok(is_there.then(|| RecordedCorrection { id, corrects: event, handler: handler.to_owned(), is_new: false }))
}

/// Records the correction and discards the letter, if it is a dead letter still.
pub async fn carry_out(
    pool: &PgPool,
    caller: &Caller,
    plan: &CorrectionPlan,
    order: &CorrectionOrder<'_>,
) -> Result<RecordedCorrection, OperationError> {
    let (event, handler) = (plan.event, plan.handler.as_str());
    let new = NewCorrection {
        id: order.id,
        corrects: event,
        handler,
        payload: &plan.payload,
        asked: &asked(plan, order.id),
        actor: caller.actor(),
        reason: order.reason,
        force: order.force,
    };
    let corrected = store::correct_letter(pool, &new).await.map_err(|error| match error {
        error if error.is_about_data() => {
            OperationError::plain(RefusalKind::Invalid, format!("Postgres does not take the payload: {}", chain(&error)))
        }
        error => error.into(),
    })?;
    let is_new = match corrected {
        Corrected::Recorded => true,
        Corrected::Known => false,
        Corrected::NotDead => return Err(not_dead(event, handler, "no dead letter any more")),
        Corrected::Followed(followers) => return Err(followed(plan, followers)),
        Corrected::Taken => {
            let text = format!("the id {} belongs to another event; take a new one", order.id);
            return Err(OperationError::plain(RefusalKind::Taken, text));
        }
        Corrected::Unwanted => {
            let text = format!(
                "{handler} does not want events of type {} any more, so it would not receive the correction",
                plan.event_type
            );
            return Err(OperationError::refused(RefusalKind::NotNow, text, "outboxd handlers list"));
        }
    };
    Ok(RecordedCorrection { id: order.id, corrects: event, handler: handler.to_owned(), is_new })
}

fn followed(plan: &CorrectionPlan, followers: u64) -> OperationError {
    let (deliveries, wait) = if followers == 1 { ("delivery", "waits") } else { ("deliveries", "wait") };
    let text = format!(
        "{followers} {deliveries} of key {} {wait} behind this letter and would go before the correction, which comes last in its key; \
         with force that is accepted",
        plan.key.as_deref().unwrap_or("-")
    );
    let command = format!("{} --force", edit_command(plan.event, &plan.handler));
    OperationError::refused(RefusalKind::NeedsForce, text, command)
}

/// What the audit keeps: both events, and which places were changed.
fn asked(plan: &CorrectionPlan, id: Uuid) -> String {
    let named: Vec<serde_json::Value> = plan
        .changes
        .iter()
        .take(MOST_NAMED)
        .map(|change| {
            let path = &change.path[..change.path.floor_char_boundary(PATH_BYTES)];
            serde_json::json!({ "path": path, "change": change.word() })
        })
        .collect();
    let more = plan.changes.len().saturating_sub(MOST_NAMED);
    let mut asked = serde_json::json!({ "ids": [plan.event], "correction": id, "changes": named });
    if more > 0 {
        asked["more_changes"] = more.into();
    }
    asked.to_string()
}
