//! What the outbox can say of its health: per handler, over all its partitions, and per relay.
//! Reads only, through indexes and within bounds; what is good or bad about it is decided in `status`.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::{ReloadReport, StoreError, reloads};
use crate::domain::Timestamp;

/// How many unread events are looked at per subscription; beyond that a count is a lower bound.
pub const COUNTED: u64 = 10_000;

/// Everything that a status is made of.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Stats {
    /// By name.
    pub handlers: Vec<HandlerStats>,
    /// The one heard of last comes first.
    pub relays: Vec<RelayStats>,
}

/// One handler, its partitions added up.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct HandlerStats {
    pub handler: String,
    pub kind: String,
    pub partitions: usize,
    /// Events without any outcome.
    pub pending: u64,
    /// False: there are at least `pending`.
    pub pending_is_exact: bool,
    pub retrying: u64,
    pub waiting: u64,
    pub dead: u64,
    /// Age of the oldest event that is pending, retrying or waiting.
    #[serde(rename = "oldest_unfinished_seconds", serialize_with = "seconds")]
    pub oldest_unfinished: Option<Duration>,
    pub last_failure: Option<LastFailure>,
    pub paused: Option<Paused>,
    /// `None`: closed, as it should be.
    pub circuit: Option<OpenCircuit>,
    /// Destinations in trouble: how many, and the oldest of them.
    pub destinations: u64,
    pub oldest_destination: Option<String>,
    /// Instances that own a partition, in order and without repetition.
    pub owners: Vec<String>,
    /// The longest that one of its partitions has been without a live lease; `None`: all have one.
    #[serde(rename = "unowned_seconds", serialize_with = "seconds")]
    pub unowned: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LastFailure {
    pub event: Uuid,
    pub at: Option<Timestamp>,
    pub reason: String,
    pub status: Option<i32>,
    pub detail: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Paused {
    pub since: Timestamp,
    pub by: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct OpenCircuit {
    /// `open` or `half_open`.
    pub state: String,
    pub since: Option<Timestamp>,
    pub reason: Option<String>,
    #[serde(rename = "probe_in_seconds", serialize_with = "seconds")]
    pub probe_in: Option<Duration>,
    /// The only event that speaks against the handler: there is no other to judge by.
    pub only_witness: Option<Uuid>,
}

/// One relay process.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RelayStats {
    pub id: String,
    pub host: String,
    pub pid: i32,
    pub version: String,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    #[serde(rename = "silent_seconds", serialize_with = "seconds_of")]
    pub silent: Duration,
    /// When it last read its configuration again, and what came of it.
    pub reloaded_at: Option<Timestamp>,
    pub reload: Option<ReloadReport>,
}

/// Reads all of it. Two statements, and two more per handler.
pub async fn read_stats(pool: &PgPool) -> Result<Stats, StoreError> {
    let relays = list_instances(pool).await?;
    let mut handlers = read_handlers(pool).await?;
    for handler in &mut handlers {
        read_backlog(pool, handler).await?;
        handler.last_failure = read_last_failure(pool, &handler.handler).await?;
    }
    Ok(Stats { handlers, relays })
}

async fn list_instances(pool: &PgPool) -> Result<Vec<RelayStats>, StoreError> {
    let rows =
        sqlx::query(include_str!("sql/list_instances.sql")).fetch_all(pool).await.map_err(StoreError::query("list the relays"))?;
    let relay = |row: &PgRow| {
        Ok(RelayStats {
            id: row.try_get(0)?,
            host: row.try_get(1)?,
            pid: row.try_get(2)?,
            version: row.try_get(3)?,
            started_at: row.try_get(4)?,
            seen_at: row.try_get(5)?,
            silent: micros(row.try_get(6)?),
            reloaded_at: row.try_get(7)?,
            reload: row.try_get::<Option<serde_json::Value>, _>(8)?.map(reloads::report),
        })
    };
    rows.iter().map(relay).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand the relays"))
}

/// The handlers with what their subscriptions say; nothing is counted yet.
async fn read_handlers(pool: &PgPool) -> Result<Vec<HandlerStats>, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_subscription_states.sql"))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read the subscriptions"))?;
    let mut handlers: Vec<HandlerStats> = Vec::new();
    for row in &rows {
        let next = subscription(row).map_err(StoreError::query("understand the subscriptions"))?;
        match handlers.last_mut().filter(|last| last.handler == next.handler) {
            Some(last) => last.add_partition(next),
            None => handlers.push(next),
        }
    }
    Ok(handlers)
}

fn subscription(row: &PgRow) -> Result<HandlerStats, sqlx::Error> {
    let paused = match row.try_get::<Option<Timestamp>, _>(5)? {
        Some(since) => Some(Paused { since, by: row.try_get(6)?, reason: row.try_get(7)? }),
        None => None,
    };
    let state: String = row.try_get(8)?;
    let circuit = match state.as_str() {
        "closed" => None,
        _ => Some(OpenCircuit {
            state,
            since: row.try_get(9)?,
            reason: row.try_get(10)?,
            probe_in: row.try_get::<Option<i64>, _>(11)?.map(micros),
            only_witness: row.try_get(13)?,
        }),
    };
    Ok(HandlerStats {
        handler: row.try_get(1)?,
        kind: row.try_get(3)?,
        partitions: 1,
        pending: 0,
        pending_is_exact: true,
        retrying: 0,
        waiting: 0,
        dead: 0,
        oldest_unfinished: None,
        last_failure: None,
        paused,
        circuit,
        destinations: row.try_get::<i64, _>(14)?.unsigned_abs(),
        oldest_destination: row.try_get(15)?,
        owners: row.try_get::<Option<String>, _>(4)?.into_iter().collect(),
        unowned: row.try_get::<Option<i64>, _>(12)?.map(micros),
    })
}

impl HandlerStats {
    /// The worst of both: held since the earlier, unowned for the longer.
    fn add_partition(&mut self, other: Self) {
        self.partitions += 1;
        self.paused = [self.paused.take(), other.paused].into_iter().flatten().min_by_key(|paused| paused.since);
        self.circuit = [self.circuit.take(), other.circuit].into_iter().flatten().min_by_key(|circuit| circuit.since);
        self.destinations += other.destinations;
        self.oldest_destination = self.oldest_destination.take().or(other.oldest_destination);
        self.unowned = self.unowned.max(other.unowned);
        self.owners.extend(other.owners);
        self.owners.sort();
        self.owners.dedup();
    }
}

async fn read_backlog(pool: &PgPool, handler: &mut HandlerStats) -> Result<(), StoreError> {
    let row = sqlx::query(include_str!("sql/read_handler_backlog.sql"))
        .bind(&handler.handler)
        .bind(COUNTED.cast_signed())
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("count what a handler has not finished"))?;
    count_backlog(&row, handler).map_err(StoreError::query("understand what a handler has not finished"))
}

fn count_backlog(row: &PgRow, handler: &mut HandlerStats) -> Result<(), sqlx::Error> {
    let count = |column: usize| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.max(0).unsigned_abs());
    handler.pending = count(0)?.min(COUNTED);
    handler.pending_is_exact = count(2)? < COUNTED;
    (handler.retrying, handler.waiting, handler.dead) = (count(3)?, count(4)?, count(5)?);
    let now: Timestamp = row.try_get(7)?;
    let oldest = [row.try_get::<Option<Timestamp>, _>(1)?, row.try_get(6)?].into_iter().flatten().min();
    handler.oldest_unfinished = oldest.map(|oldest| now.since(oldest));
    Ok(())
}

async fn read_last_failure(pool: &PgPool, handler: &str) -> Result<Option<LastFailure>, StoreError> {
    let row = sqlx::query(include_str!("sql/read_last_failure.sql"))
        .bind(handler)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("look for the last failure of a handler"))?;
    let failure = |row: PgRow| {
        Ok(LastFailure {
            event: row.try_get(0)?,
            at: row.try_get(1)?,
            reason: row.try_get(2)?,
            status: row.try_get(3)?,
            detail: row.try_get(4)?,
        })
    };
    row.map(failure).transpose().map_err(StoreError::query("understand the last failure of a handler"))
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros.max(0).unsigned_abs())
}

// The signatures are serde's.
#[expect(clippy::ref_option)]
fn seconds<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_some(&duration.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

fn seconds_of<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
