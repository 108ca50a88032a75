//! Replays: a set of deliveries that an operator wants once more. The set is frozen when the replay starts, leaves bit by bit,
//! and is counted until every delivery in it has an outcome.
//!
//! `replay_items` holds the set. A held item changes no delivery; `release_replays.sql` lets the next ones leave, in a turn of
//! the owner of the subscription and before it reads what is due:
//!
//! - A key leaves only while nothing older of it is unfinished. Its oldest item becomes `retrying` and due, and the other items
//!   of the key that leave with it become `waiting` right behind. So the lanes in memory never have to learn of a row that came
//!   between.
//! - The rate is a token bucket in the row of the replay, by the clock of the database. All owners pay from it.
//! - At most half of `max_parked` is filled with replayed deliveries, so that live events still find room. Nothing leaves while
//!   the circuit is open.
//! - An owner never waits for a row that the command of an operator has locked; it skips that row until the next turn.
//!
//! The flush that records an outcome counts it for the replay (`settle_replay_items.sql`).

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::audit::lift_statement_timeout;
use super::dead_letters::{count_deliveries, list_deliveries};
use super::filter::{DeliveryFilter, Scope};
use super::text::{storable, storable_json, storable_or_none};
use super::{
    Actor, AuditEntry, DeadLetter, DeliveryCount, Fence, Selection, StoreError, begin, commit, record_audit, ring_control,
};
use crate::domain::Timestamp;
use crate::failpoints::failpoint;

/// The request of an operator.
#[derive(Debug, Clone, Default)]
pub struct NewReplay {
    pub id: Uuid,
    pub filter: DeliveryFilter,
    /// Deliveries a second, over all handlers and partitions; `None`: as many as the handlers take.
    pub rate: Option<f64>,
    /// Why; kept in the audit.
    pub note: Option<String>,
    /// How many deliveries were seen to match; another number starts nothing.
    pub expected: Option<u64>,
}

/// The result of the request to start a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// So many deliveries are frozen. 0: nothing was written.
    Frozen(u64),
    /// A replay of this id asks for the same; nothing was changed.
    Known,
    /// A replay of this id asks for something else; nothing was changed.
    Taken,
    /// Another number matched than was expected; nothing was changed.
    Drifted(u64),
}

/// The last replay of a page: the next page begins behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayPlace {
    pub at: Timestamp,
    pub id: Uuid,
}

/// A replay and what has become of it. `asked` is the sum of the six counts that follow.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Replay {
    pub id: Uuid,
    pub at: Timestamp,
    pub actor: String,
    pub handler: Option<String>,
    #[schema(value_type = Object)]
    pub filter: serde_json::Value,
    pub note: Option<String>,
    /// Deliveries a second; `None`: no limit.
    pub rate: Option<f64>,
    /// `running`, `cancelled` or `done`. A cancelled one may still have deliveries that had left before.
    pub state: String,
    pub cancelled_by: Option<String>,
    pub ended_at: Option<Timestamp>,
    pub asked: u64,
    pub delivered: u64,
    /// Dead letters again.
    pub failed: u64,
    /// Discarded meanwhile, or their events or handlers are gone.
    pub dropped: u64,
    /// Taken back before they left.
    pub cancelled: u64,
    /// Still to leave.
    pub held: u64,
    /// Have left and have no outcome yet.
    pub released: u64,
    /// Handlers of the replay that do not deliver now: paused, circuit open, or served by no relay.
    pub stopped: Vec<String>,
}

impl Replay {
    /// Whether nothing will change any more without an operator.
    pub fn is_over(&self) -> bool {
        self.held + self.released == 0
    }
}

/// The result of a release for one subscription.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Released {
    /// A running replay has more of this subscription, or had before.
    pub has_held: bool,
    /// The rate lets something leave.
    pub has_tokens: bool,
    pub released: u64,
    pub dropped: u64,
}

/// The result of cancelling or resuming a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// So many deliveries were given back, or are held again.
    Done(u64),
    /// It is not in the state that this needs; nothing was changed.
    NotNow,
}

/// How many deliveries match and are in no other replay, for each handler that has any.
pub async fn count_replayable(pool: &PgPool, filter: &DeliveryFilter) -> Result<Vec<DeliveryCount>, StoreError> {
    count_deliveries(pool, filter, Scope::Replayable).await
}

/// The newest of them, at most `limit`.
pub async fn list_replayable(pool: &PgPool, filter: &DeliveryFilter, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
    list_deliveries(pool, filter, Scope::Replayable, None, limit).await
}

/// The events whose deliveries were given up first among those, at most `limit`: with them a replay can begin.
pub async fn find_oldest_replayable(pool: &PgPool, filter: &DeliveryFilter, limit: u32) -> Result<Vec<Uuid>, StoreError> {
    let rows = filter
        .query(include_str!("sql/find_oldest_replayable.sql"), Scope::Replayable)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("find the oldest dead letters"))?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(StoreError::query("understand the dead letters"))
}

/// How many handlers a replay still waits for.
pub async fn count_open_handlers(pool: &PgPool, id: Uuid) -> Result<u64, StoreError> {
    let query = sqlx::query_scalar::<_, i64>(include_str!("sql/count_open_handlers.sql")).bind(id);
    query.fetch_one(pool).await.map(i64::unsigned_abs).map_err(StoreError::query("count the handlers of the replay"))
}

/// Freezes the deliveries that match and are in no other replay. The same replay again changes nothing.
pub async fn start_replay(pool: &PgPool, replay: &NewReplay, actor: Actor<'_>) -> Result<Started, StoreError> {
    let NewReplay { id, filter, rate, note, expected } = replay;
    let (handler, asked) = (filter.handler.as_deref(), filter.to_json());
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    lock_replays(&mut transaction).await?;
    let known: Option<bool> = sqlx::query_scalar(include_str!("sql/compare_replay.sql"))
        .bind(id)
        .bind(storable_json(&asked))
        .bind(storable_or_none(note.as_deref()))
        .bind(rate)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::query("look for the replay"))?;
    if let Some(is_same) = known {
        return Ok(if is_same { Started::Known } else { Started::Taken });
    }
    sqlx::query(include_str!("sql/insert_replay.sql"))
        .bind(id)
        .bind(storable(actor.name))
        .bind(handler)
        .bind(storable_json(&asked))
        .bind(storable_or_none(note.as_deref()))
        .bind(rate)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("record the replay"))?;
    let frozen = filter
        .query(include_str!("sql/freeze_replay.sql"), Scope::Replayable)
        .bind(*id)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("freeze the set of the replay"))?
        .rows_affected();
    if expected.is_some_and(|expected| expected != frozen) {
        return Ok(Started::Drifted(frozen)); // the transaction rolls back as it is dropped
    }
    if frozen == 0 {
        return Ok(Started::Frozen(0));
    }
    sqlx::query(include_str!("sql/count_asked.sql"))
        .bind(id)
        .bind(frozen.cast_signed())
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("record the replay"))?;
    let entry = AuditEntry { actor, action: "replay", handler, filter: &asked, affected: frozen, reason: note.as_deref() };
    record_audit(&mut transaction, &entry).await?;
    ring_control(&mut *transaction).await?;
    failpoint!("replay-frozen");
    commit(transaction).await?;
    Ok(Started::Frozen(frozen))
}

/// The newest replays, behind a place if one is given, at most `limit`.
pub async fn list_replays(pool: &PgPool, after: Option<ReplayPlace>, limit: u32) -> Result<Vec<Replay>, StoreError> {
    read_replays(pool, None, after, limit).await
}

/// One replay; `None`: there is none of that id.
pub async fn read_replay(pool: &PgPool, id: Uuid) -> Result<Option<Replay>, StoreError> {
    Ok(read_replays(pool, Some(id), None, 1).await?.pop())
}

async fn read_replays(pool: &PgPool, id: Option<Uuid>, after: Option<ReplayPlace>, limit: u32) -> Result<Vec<Replay>, StoreError> {
    let rows = sqlx::query(include_str!("sql/list_replays.sql"))
        .bind(id)
        .bind(i64::from(limit))
        .bind(after.map(|place| place.at))
        .bind(after.map(|place| place.id))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the replays"))?;
    rows.iter().map(replay).collect::<Result<_, _>>().map_err(StoreError::query("understand the replays"))
}

fn replay(row: &PgRow) -> Result<Replay, sqlx::Error> {
    let count = |column: &str| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    let filter: String = row.try_get("filter")?;
    Ok(Replay {
        id: row.try_get("id")?,
        at: row.try_get("at")?,
        actor: row.try_get("actor")?,
        handler: row.try_get("handler")?,
        filter: serde_json::from_str(&filter).map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        note: row.try_get("note")?,
        rate: row.try_get("rate")?,
        state: row.try_get("state")?,
        cancelled_by: row.try_get("cancelled_by")?,
        ended_at: row.try_get("ended_at")?,
        asked: count("asked")?,
        delivered: count("delivered")?,
        failed: count("failed")?,
        dropped: count("dropped")?,
        cancelled: count("cancelled")?,
        held: count("held")?,
        released: count("released")?,
        stopped: row.try_get::<Option<_>, _>("stopped")?.unwrap_or_default(),
    })
}

/// Ends a running replay: what has not left stays what it was.
pub async fn cancel_replay(pool: &PgPool, id: Uuid, actor: Actor<'_>, reason: Option<&str>) -> Result<Changed, StoreError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let row = sqlx::query(include_str!("sql/cancel_replay.sql"))
        .bind(id)
        .bind(storable(actor.name))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::query("cancel the replay"))?;
    let Some(row) = row else { return Ok(Changed::NotNow) };
    let cancelled = sqlx::query(include_str!("sql/cancel_replay_items.sql"))
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("cancel the replay"))?
        .rows_affected();
    note(&mut transaction, "cancel_replay", &row, id, actor, cancelled, reason).await?;
    commit(transaction).await?;
    Ok(Changed::Done(cancelled))
}

/// Lets a cancelled replay go on with what was taken back and is still as it was.
pub async fn resume_replay(pool: &PgPool, id: Uuid, actor: Actor<'_>) -> Result<Changed, StoreError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    lock_replays(&mut transaction).await?;
    let row = sqlx::query(include_str!("sql/resume_replay.sql"))
        .bind(id)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::query("resume the replay"))?;
    let Some(row) = row else { return Ok(Changed::NotNow) };
    let held = sqlx::query(include_str!("sql/resume_replay_items.sql"))
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("resume the replay"))?
        .rows_affected();
    if held == 0 {
        return Ok(Changed::Done(0)); // it stays cancelled: the transaction rolls back
    }
    note(&mut transaction, "resume_replay", &row, id, actor, held, None).await?;
    ring_control(&mut *transaction).await?;
    commit(transaction).await?;
    Ok(Changed::Done(held))
}

async fn note(
    connection: &mut PgConnection,
    action: &'static str,
    row: &PgRow,
    id: Uuid,
    actor: Actor<'_>,
    affected: u64,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let handler: Option<String> = row.try_get(0).map_err(StoreError::query("understand the replay"))?;
    let filter = format!("{{\"replay\":\"{id}\"}}");
    record_audit(connection, &AuditEntry { actor, action, handler: handler.as_deref(), filter: &filter, affected, reason }).await
}

async fn lock_replays(connection: &mut PgConnection) -> Result<(), StoreError> {
    let locked = sqlx::query(include_str!("sql/lock_replays.sql")).execute(connection).await;
    locked.map(drop).map_err(StoreError::query("wait for another replay that is being started"))
}

/// Items released at once for one subscription.
const MOST_RELEASED: i64 = 1_000;
/// Held items looked at for those whose keys are free.
const LOOKED_AT: i64 = 4_000;

/// Lets the next deliveries of running replays leave, at most `limit` of each, for a subscription that we own.
pub async fn release_replays(pool: &PgPool, fence: Fence, selection: &Selection, limit: u64) -> Result<Released, StoreError> {
    let row = sqlx::query(include_str!("sql/release_replays.sql"))
        .bind(fence.subscription)
        .bind(fence.epoch)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX).min(MOST_RELEASED))
        .bind(LOOKED_AT)
        .bind(selection.key_source())
        .bind(selection.key_path())
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("release the next of a replay"))?;
    let released = |row: &PgRow| {
        let count = |column: &str| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
        Ok(Released {
            has_held: row.try_get("has_held")?,
            has_tokens: row.try_get("has_tokens")?,
            released: count("released")?,
            dropped: count("dropped")?,
        })
    };
    released(&row).map_err(StoreError::query("understand what a replay released"))
}

/// Writes down the outcome of replays that have nothing open any more.
pub async fn finish_replays(pool: &PgPool) -> Result<(), StoreError> {
    let finished = sqlx::query(include_str!("sql/finish_replays.sql")).execute(pool).await;
    failpoint!("replay-finished", finished.as_ref().is_ok_and(|done| done.rows_affected() > 0));
    finished.map(drop).map_err(StoreError::query("write down the outcome of a replay"))
}

/// Counts released items whose outcome has just been recorded, in the same transaction.
pub(super) async fn settle_replay_items(connection: &mut PgConnection, subscription: i32, seqs: &[i64]) -> Result<(), StoreError> {
    let settled = sqlx::query(include_str!("sql/settle_replay_items.sql")).bind(subscription).bind(seqs).execute(connection).await;
    failpoint!("replay-settled");
    settled.map(drop).map_err(StoreError::query("count the outcome of a replay"))
}
