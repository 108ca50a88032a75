//! Dead letters: listed page by page, grouped, noted on, shown with what can be done, and discarded.

use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Caller, OperationError, Page, RefusalKind, check_handler, shell_word};
use crate::domain::DeliveryState;
use crate::store::events::{Attempt, Event, EventHistory, EventState, read_history};
use crate::store::{self, Acted, DeadLetter, DeadLetterGroup, DeliveryFilter, Fingerprint, LetterPlace};

/// An event with what became of it, for the decision about a dead letter.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Letter {
    pub event: Event,
    pub deliveries: Vec<LetterDelivery>,
}

/// A delivery of the event at one handler, with every recorded attempt.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LetterDelivery {
    #[serde(flatten)]
    pub delivery: EventState,
    pub attempts_made: Vec<Attempt>,
    /// The possible acts of an operator; only for a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commands: Option<LetterCommands>,
}

/// Commands ready to be pasted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LetterCommands {
    pub replay: String,
    pub discard: String,
    pub edit: String,
}

/// A page of dead letters, the newest first.
pub async fn list(
    pool: &PgPool,
    filter: &DeliveryFilter,
    after: Option<LetterPlace>,
    limit: u32,
) -> Result<Page<DeadLetter>, OperationError> {
    // One more than asked for tells whether there are more.
    Ok(Page::of(store::list_dead_letters(pool, filter, after, limit + 1).await?, limit))
}

/// The largest groups of dead letters.
pub async fn groups(pool: &PgPool, filter: &DeliveryFilter, limit: u32) -> Result<Page<DeadLetterGroup>, OperationError> {
    Ok(Page::of(store::group_dead_letters(pool, filter, limit + 1).await?, limit))
}

/// Writes a note on a group, for one handler or for each that has dead letters of it; gives for how many.
pub async fn note(
    pool: &PgPool,
    caller: &Caller,
    handler: Option<&str>,
    group: Fingerprint,
    text: &str,
) -> Result<u64, OperationError> {
    if let Some(handler) = handler {
        check_handler(pool, handler).await?;
    }
    match store::note_group(pool, handler, group, caller.actor(), text).await? {
        0 => {
            let text = format!("there are no dead letters of group {group}; `outboxd dead-letters groups` shows all");
            Err(OperationError::refused(RefusalKind::NotFound, text, "outboxd dead-letters groups"))
        }
        noted => Ok(noted),
    }
}

/// One event with every recorded delivery, or with that of one handler. `schema` is named in the commands where it is not the default.
pub async fn show(pool: &PgPool, id: Uuid, handler: Option<&str>, schema: Option<&str>) -> Result<Letter, OperationError> {
    if let Some(handler) = handler {
        check_handler(pool, handler).await?;
    }
    let Some(EventHistory { event, handlers, attempts }) = read_history(pool, id, handler).await? else {
        let text = format!("there is no event {id}; it never was, or retention has removed it");
        return Err(OperationError::refused(RefusalKind::NotFound, text, "outboxd events list"));
    };
    let recorded = handlers.into_iter().filter(|delivery| delivery.attempts.is_some());
    let deliveries: Vec<LetterDelivery> = recorded.map(|delivery| shown(id, delivery, &attempts, schema)).collect();
    if deliveries.is_empty() {
        let text = format!("event {id} has no recorded delivery; it was not handled yet, or its success was not recorded");
        return Err(OperationError::refused(RefusalKind::NotFound, text, format!("outboxd events show {id}")));
    }
    Ok(Letter { event, deliveries })
}

fn shown(id: Uuid, delivery: EventState, attempts: &[Attempt], schema: Option<&str>) -> LetterDelivery {
    let is_its = |attempt: &&Attempt| attempt.handler == delivery.handler && attempt.partition == delivery.partition;
    let attempts_made = attempts.iter().filter(is_its).cloned().collect();
    let is_dead = delivery.state == DeliveryState::Dead.as_str();
    let commands = is_dead.then(|| commands(id, &delivery.handler, schema));
    LetterDelivery { delivery, attempts_made, commands }
}

/// The address of the database is left out: it holds a password.
fn commands(id: Uuid, handler: &str, schema: Option<&str>) -> LetterCommands {
    let schema = schema.map(|schema| format!(" --schema {schema}")).unwrap_or_default();
    let which = format!("--id {id} --handler {}{schema}", shell_word(handler));
    LetterCommands {
        replay: format!("outboxd dead-letters replay {which}"),
        discard: format!("outboxd dead-letters discard {which} --because 'why it need not be delivered'"),
        edit: format!(
            "outboxd dead-letters edit {id} --handler {}{schema} --payload corrected.json --because 'what was wrong'",
            shell_word(handler)
        ),
    }
}

/// Gives up for good what a preview has shown, by the filter of the preview. With `expected` nothing is changed if another number matches by now.
pub async fn discard(
    pool: &PgPool,
    caller: &Caller,
    filter: &DeliveryFilter,
    expected: Option<u64>,
    reason: &str,
) -> Result<Acted, OperationError> {
    Ok(store::discard_dead_letters(pool, filter, expected, caller.actor(), reason).await?)
}
