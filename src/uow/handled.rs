//! Waiting until handlers are done with an event: for a command that has to show its own effect. Queries the database, not the
//! relay, and keeps no connection between two looks.

use std::time::Duration;

use sqlx::{PgPool, Row};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::Error;
use crate::domain::Stage;

/// Between looks, at first and at most.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_millis(200);
/// For one look. One that takes longer has a connection that has fallen silent, and the next one gets another.
const LONGEST_LOOK: Duration = Duration::from_secs(5);
/// Longer than any caller waits, and short enough to be added to a time.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// How the wait for an event has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waited {
    /// All handlers are done with it. The effects of the kind `sql` are visible now.
    Handled,
    /// Some are not: each with its stage, [`Stage::Pending`] or [`Stage::Stopped`].
    Unfinished(Vec<(String, Stage)>),
    /// There is no such event: it was never committed, or has been removed.
    Unknown,
}

/// Waits until these handlers are done with an event in the outbox of schema `outbox`, for `at_most` this long. The transaction that records
/// the event need not have ended yet. Ends early where only an operator can change the answer. `at_most` of zero looks once. Without a handler, only the commit is waited for.
///
/// Fails if the database does not answer; that can take five seconds more than `at_most`.
///
/// The role needs `select` on `events`, `subscriptions` and `deliveries` of the outbox.
///
/// ```
/// # use std::time::Duration;
/// # use outboxd::uow::*;
/// # async fn show(pool: &sqlx::PgPool, id: uuid::Uuid) -> Result<(), Error> {
/// if wait_until_handled(pool, id, &["order_list"], Duration::from_secs(2)).await? == Waited::Handled {
///     // the list shows the order
/// }
/// # Ok(()) }
/// ```
pub async fn wait_until_handled(pool: &PgPool, event: Uuid, handlers: &[&str], at_most: Duration) -> Result<Waited, Error> {
    wait_until_handled_in(pool, "outbox", event, handlers, at_most).await
}

/// [`wait_until_handled`] for an outbox that lives in another schema.
pub async fn wait_until_handled_in(
    pool: &PgPool,
    schema: &str,
    event: Uuid,
    handlers: &[&str],
    at_most: Duration,
) -> Result<Waited, Error> {
    let (end, mut pause) = (Instant::now() + at_most.min(FOREVER), LOOK_MIN);
    loop {
        // Before the look: what is recorded up to the end of the wait counts.
        let is_last = Instant::now() >= end;
        let waited = match timeout(LONGEST_LOOK, look(pool, schema, event, handlers)).await {
            Ok(waited) => waited?,
            Err(_) if is_last => return Err(Error::Statement(sqlx::Error::PoolTimedOut)),
            Err(_) => continue,
        };
        let is_open = match &waited {
            Waited::Handled => false,
            Waited::Unfinished(stages) => stages.iter().any(|(_, stage)| *stage == Stage::Pending),
            Waited::Unknown => true,
        };
        if is_last || !is_open {
            return Ok(waited);
        }
        tokio::time::sleep_until(end.min(Instant::now() + pause)).await;
        pause = (pause * 2).min(LOOK_MAX);
    }
}

async fn look(pool: &PgPool, schema: &str, event: Uuid, handlers: &[&str]) -> Result<Waited, Error> {
    let mut transaction = pool.begin().await.map_err(Error::Begin)?;
    sqlx::query(include_str!("../store/sql/enter_schema.sql")).bind(schema).execute(&mut *transaction).await?;
    let rows = sqlx::query(include_str!("../store/sql/read_event_progress.sql"))
        .bind(event)
        .bind(None::<Vec<String>>)
        .bind(None::<Vec<String>>)
        .bind(None::<serde_json::Value>)
        .bind(handlers)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    if rows.is_empty() {
        return Ok(Waited::Unknown);
    }
    // A handler without a subscription was never served, and its filter is unknown.
    let mut stages: Vec<(String, Stage)> = handlers.iter().map(|handler| ((*handler).to_owned(), Stage::Pending)).collect();
    for row in rows {
        let Some(found) = row.try_get::<Option<String>, _>("handler")? else { continue };
        let state: Option<String> = row.try_get("state")?;
        let stage = Stage::judge(state.as_deref(), row.try_get("is_wanted")?, row.try_get("has_passed")?);
        stages.iter_mut().filter(|(handler, _)| *handler == found).for_each(|(_, of)| *of = stage);
    }
    stages.retain(|(_, stage)| !stage.is_done());
    Ok(if stages.is_empty() { Waited::Handled } else { Waited::Unfinished(stages) })
}
