//! Moving the position of a handler on behalf of a person: back, to deliver again, or forwards, to skip.
//! One transaction per move, with its audit row; an owner that runs is fenced by a new epoch and starts over from what is stored.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::audit::lift_statement_timeout;
use super::{Actor, AuditEntry, StoreError, begin, commit, record_audit, ring_control};
use crate::domain::Timestamp;
use crate::failpoints::failpoint;

/// Where a handler is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveTarget {
    Beginning,
    Now,
    /// This event is the first.
    Event(Uuid),
    /// The first event whose `occurred_at` is this moment or later.
    Since(Timestamp),
    /// The same, counted back from now by the clock of the database.
    Ago(Duration),
}

/// What a move does with events that the handler has not handled yet, and with those it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveKind {
    /// From the target on everything is delivered again; nothing is skipped.
    Rewind,
    /// What is not handled below the target is skipped; what is handled stays so.
    Skip,
    /// Both: the handler gets everything from the target on, and nothing below it.
    Restart,
}

impl MoveKind {
    fn delivers_again(self) -> bool {
        self != Self::Skip
    }
}

/// A move that a person asks for.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    pub handler: &'a str,
    pub kind: MoveKind,
    /// The first number to deliver, from [`find_move_target`].
    pub first_seq: i64,
    pub actor: Actor<'a>,
    pub reason: Option<&'a str>,
    /// What was asked for, as a JSON object, for the audit.
    pub asked: &'a str,
}

/// What a move changes, over all partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct MoveCounts {
    /// Events without an outcome below the target, which will never be delivered.
    pub skipped: u64,
    /// Events with an outcome from the target on.
    pub again: u64,
    /// Those of `again` that are dead letters now.
    pub dead: u64,
    /// Retrying or waiting below the target; they stay owed, whatever moves.
    pub kept: u64,
    /// False: `skipped` or `again` is a lower bound.
    pub is_exact: bool,
}

/// Events looked at per partition, at most: the owner waits meanwhile, and must be able to renew its lease.
const MOST_COUNTED: i64 = 200_000;

/// Larger than every number: behind everything.
const BEHIND_EVERYTHING: i64 = i64::MAX;

/// The first number that belongs to a target. `None`: the event is not in the log.
pub async fn find_move_target(pool: &PgPool, target: MoveTarget) -> Result<Option<i64>, StoreError> {
    let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    match target {
        MoveTarget::Beginning => Ok(Some(1)),
        MoveTarget::Now => Ok(Some(BEHIND_EVERYTHING)),
        MoveTarget::Event(id) => sqlx::query_scalar(include_str!("sql/find_event_seq.sql"))
            .bind(id)
            .fetch_optional(pool)
            .await
            .map_err(StoreError::query("find the event")),
        MoveTarget::Since(moment) => find_since(pool, Some(moment.as_micros()), None).await.map(Some),
        MoveTarget::Ago(time) => find_since(pool, None, Some(micros(time))).await.map(Some),
    }
}

async fn find_since(pool: &PgPool, at: Option<i64>, ago: Option<i64>) -> Result<i64, StoreError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let found: Option<i64> = sqlx::query_scalar(include_str!("sql/find_seq_since.sql"))
        .bind(at)
        .bind(ago)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::query("find the first event of that time"))?;
    Ok(found.unwrap_or(BEHIND_EVERYTHING))
}

/// What a move would change. `None`: there is no such handler.
pub async fn plan_move(pool: &PgPool, handler: &str, first_seq: i64) -> Result<Option<MoveCounts>, StoreError> {
    let ids = subscriptions_of(pool, handler).await?;
    if ids.is_empty() {
        return Ok(None);
    }
    // In a transaction only for its settings; nothing is written.
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let (now, _) = read_moment(&mut transaction).await?;
    let mut counts = MoveCounts { is_exact: true, ..MoveCounts::default() };
    for id in ids {
        count_again(&mut transaction, id, first_seq, &mut counts).await?;
        count_skipped(&mut transaction, id, first_seq, &now, &mut counts).await?;
    }
    Ok(Some(counts))
}

/// Moves a handler. `None`: there is no such handler, and nothing is written.
/// What is skipped is counted exactly; what is delivered again is counted just before the owner is stopped.
pub async fn move_handler(pool: &PgPool, request: &Move<'_>) -> Result<Option<MoveCounts>, StoreError> {
    let Move { handler, kind, first_seq, .. } = *request;
    let mut counts = MoveCounts { is_exact: true, ..MoveCounts::default() };
    let ids = subscriptions_of(pool, handler).await?;
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    if kind.delivers_again() {
        for id in ids {
            count_again(&mut transaction, id, first_seq, &mut counts).await?;
            take_back(&mut transaction, id, first_seq, false).await?;
        }
    }
    // From here on the owner waits. Until then we held no row that it writes, because a flush takes this lock first.
    let locked: Vec<(i32, Option<String>)> = sqlx::query_as(include_str!("sql/lock_handler.sql"))
        .bind(handler)
        .fetch_all(&mut *transaction)
        .await
        .map_err(StoreError::query("stop the owner of the handler"))?;
    if locked.is_empty() {
        return Ok(None);
    }
    let low_seq = read_last_seq(&mut transaction).await?;
    // Behind the lock, so that it is no older than any stored position.
    let (now, high_seq) = read_moment(&mut transaction).await?;
    for (id, _) in locked {
        if kind.delivers_again() {
            take_back(&mut transaction, id, first_seq, true).await?;
            drop_replay_items(&mut transaction, id, first_seq).await?;
        }
        if kind == MoveKind::Rewind {
            rewind(&mut transaction, id, first_seq).await?;
        } else {
            count_skipped(&mut transaction, id, first_seq, &now, &mut counts).await?;
            start_from(&mut transaction, id, first_seq, (&now, low_seq, high_seq), kind.delivers_again()).await?;
        }
    }
    note(&mut transaction, request, &counts).await?;
    failpoint!("position-moved");
    commit(transaction).await?;
    Ok(Some(counts))
}

async fn subscriptions_of(pool: &PgPool, handler: &str) -> Result<Vec<i32>, StoreError> {
    let all = super::subscriptions::list(pool).await?;
    Ok(all.into_iter().filter(|subscription| subscription.handler == handler).map(|subscription| subscription.id).collect())
}

async fn read_last_seq(connection: &mut PgConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar(include_str!("sql/read_last_seq.sql"))
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("read the sequence"))
}

async fn read_moment(connection: &mut PgConnection) -> Result<(String, i64), StoreError> {
    sqlx::query_as(include_str!("sql/read_moment.sql")).fetch_one(connection).await.map_err(StoreError::query("read the snapshot"))
}

async fn count_skipped(
    connection: &mut PgConnection,
    id: i32,
    first_seq: i64,
    now: &str,
    counts: &mut MoveCounts,
) -> Result<(), StoreError> {
    let (skipped, kept, looked_at): (i64, i64, i64) = sqlx::query_as(include_str!("sql/count_skipped.sql"))
        .bind(id)
        .bind(first_seq)
        .bind(now)
        .bind(MOST_COUNTED)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("count what the move skips"))?;
    counts.skipped += skipped.unsigned_abs();
    counts.kept += kept.unsigned_abs();
    counts.is_exact &= looked_at < MOST_COUNTED;
    Ok(())
}

async fn count_again(connection: &mut PgConnection, id: i32, first_seq: i64, counts: &mut MoveCounts) -> Result<(), StoreError> {
    let (again, dead, looked_at): (i64, i64, i64) = sqlx::query_as(include_str!("sql/count_again.sql"))
        .bind(id)
        .bind(first_seq)
        .bind(MOST_COUNTED)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("count what the move delivers again"))?;
    counts.again += again.unsigned_abs();
    counts.dead += dead.unsigned_abs();
    counts.is_exact &= looked_at < MOST_COUNTED;
    Ok(())
}

async fn take_back(connection: &mut PgConnection, id: i32, first_seq: i64, is_locked: bool) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/take_back_deliveries.sql"))
        .bind(id)
        .bind(first_seq)
        .bind(is_locked)
        .execute(connection)
        .await
        .map_err(StoreError::query("take back what was delivered"))?;
    Ok(())
}

async fn drop_replay_items(connection: &mut PgConnection, id: i32, first_seq: i64) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/drop_replay_items.sql"))
        .bind(id)
        .bind(first_seq)
        .execute(connection)
        .await
        .map_err(StoreError::query("drop what replays still had open"))?;
    Ok(())
}

async fn rewind(connection: &mut PgConnection, id: i32, first_seq: i64) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/rewind_subscription.sql"))
        .bind(id)
        .bind(first_seq)
        .execute(connection)
        .await
        .map_err(StoreError::query("rewind the handler"))?;
    Ok(())
}

async fn start_from(
    connection: &mut PgConnection,
    id: i32,
    first_seq: i64,
    (snapshot, low_seq, high_seq): (&str, i64, i64),
    again: bool,
) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/start_subscription_from.sql"))
        .bind(id)
        .bind(first_seq)
        .bind(snapshot)
        .bind(low_seq)
        .bind(high_seq)
        .bind(again)
        .execute(connection)
        .await
        .map_err(StoreError::query("move the handler"))?;
    Ok(())
}

/// The audit row, and the ring that tells the owner.
async fn note(connection: &mut PgConnection, request: &Move<'_>, counts: &MoveCounts) -> Result<(), StoreError> {
    let entry = AuditEntry {
        actor: request.actor,
        action: if request.kind == MoveKind::Rewind { "rewind" } else { "start from" },
        handler: Some(request.handler),
        filter: request.asked,
        affected: counts.skipped + counts.again,
        reason: request.reason,
    };
    record_audit(connection, &entry).await?;
    ring_control(connection).await
}
