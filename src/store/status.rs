//! The state of the outbox in numbers: per handler, over all its partitions, and per relay. Reads only, through indexes and
//! within bounds; `status` in the crate root judges the numbers.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

pub use super::backlog::COUNTED;
use super::backlog::read_backlog;
use super::{ReloadReport, StoreError, progress, reloads};
use crate::domain::Timestamp;
use crate::telemetry::{chain, is_stuck};

/// A relay that has said nothing about a subscription for longer is not running, or cannot say it.
const SILENCE: Duration = Duration::from_secs(60);

/// Everything that a status is made of.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Stats {
    /// By name.
    pub handlers: Vec<HandlerStats>,
    /// The one heard of last comes first.
    pub relays: Vec<RelayStats>,
    /// Subscriptions that a running relay serves and that were deleted.
    pub vanished: Vec<String>,
}

/// One handler, its partitions added up.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
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
    /// False: there are at least so many recorded deliveries.
    pub deliveries_are_exact: bool,
    /// Why nothing could be counted; `None`: it was.
    pub uncounted: Option<String>,
    /// Since the oldest event that is pending, retrying or waiting was committed, as the relays saw it.
    #[serde(rename = "oldest_unfinished_seconds", serialize_with = "seconds")]
    #[schema(value_type = Option<f64>)]
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
    #[schema(value_type = Option<f64>)]
    pub unowned: Option<Duration>,
    /// The last read that succeeded; of several partitions the one longest ago.
    pub last_read_at: Option<Timestamp>,
    /// The last time that outcomes and position were recorded; of several partitions the one longest ago.
    pub last_flush_at: Option<Timestamp>,
    /// The longest since one of its partitions that has an owner was recorded.
    #[serde(rename = "unrecorded_seconds", serialize_with = "seconds")]
    #[schema(value_type = Option<f64>)]
    pub unrecorded: Option<Duration>,
    /// The error that keeps one of its partitions from going on; of several, the one that has lasted longest.
    pub failing: Option<Failing>,
    /// Its receiver asked for a pause that is not over.
    pub waiting_until: Option<WaitingUntil>,
    /// Partitions with a live lease, and the instances that hold them.
    #[serde(skip)]
    pub owned: usize,
    #[serde(skip)]
    pub live_owners: Vec<String>,
    /// Partitions whose circuit is open.
    #[serde(skip)]
    pub open_circuits: usize,
    /// Its relays say that it has nothing to do, and so many dead letters.
    #[serde(skip)]
    pub dead_at_rest: Option<u64>,
    #[serde(skip)]
    pub follows: bool, // a version of a projection that no reader sees: it reads history, however old that is
}

/// The counts of the handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// All of them, and the last failure of each is looked for.
    All,
    /// Those that may have something to do. Of the others what their relays say is believed, which is some seconds old.
    Busy,
}

/// The error that keeps a handler from going on, as its owner reported.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct Failing {
    pub since: Timestamp,
    #[serde(rename = "seconds", serialize_with = "seconds_of")]
    #[schema(value_type = f64)]
    pub lasted: Duration,
    pub last_at: Option<Timestamp>,
    /// How often its loop has failed; 0: it has fallen silent without an error.
    pub failures: u64,
    /// `read`, `flush` or `lease`.
    pub operation: String,
    pub sqlstate: Option<String>,
    pub error: String,
    pub event: Option<Uuid>,
}

/// A pause that a receiver asked for, for example with `Retry-After`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct WaitingUntil {
    pub until: Timestamp,
    #[serde(rename = "seconds_left", serialize_with = "seconds_of")]
    #[schema(value_type = f64)]
    pub left: Duration,
    /// The answer of the receiver.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct LastFailure {
    pub event: Uuid,
    pub at: Option<Timestamp>,
    pub reason: String,
    pub status: Option<i32>,
    pub detail: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Paused {
    pub since: Timestamp,
    pub by: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct OpenCircuit {
    /// `open` or `half_open`.
    pub state: String,
    pub since: Option<Timestamp>,
    pub reason: Option<String>,
    #[serde(rename = "probe_in_seconds", serialize_with = "seconds")]
    #[schema(value_type = Option<f64>)]
    pub probe_in: Option<Duration>,
    /// The only event that speaks against the handler: there is no other to judge by.
    pub only_witness: Option<Uuid>,
}

/// One relay process.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct RelayStats {
    pub id: String,
    pub host: String,
    pub pid: i32,
    pub version: String,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    #[serde(rename = "silent_seconds", serialize_with = "seconds_of")]
    #[schema(value_type = f64)]
    pub silent: Duration,
    /// When it last read its configuration again, and what came of it.
    pub reloaded_at: Option<Timestamp>,
    pub reload: Option<ReloadReport>,
}

/// Reads all of it. Three statements, and two more per handler that is counted. What cannot be counted, because a table is locked or may not be read,
/// does not hide the rest: the rest must be reported then.
pub async fn read_stats(pool: &PgPool, counting: Counting) -> Result<Stats, StoreError> {
    let relays = list_instances(pool).await?;
    let vanished = progress::list_vanished(pool, SILENCE).await?;
    let mut handlers = read_handlers(pool).await?;
    let mut uncounted: Option<String> = None;
    for handler in &mut handlers {
        if let Some(dead) = handler.dead_at_rest.filter(|_| counting == Counting::Busy) {
            handler.dead = dead;
            continue;
        }
        if uncounted.is_none() {
            uncounted = count(pool, handler).await.err().map(|error| chain(&error));
        }
        // Where one look ran into its time limit, the next would, too.
        handler.uncounted.clone_from(&uncounted);
    }
    Ok(Stats { handlers, relays, vanished })
}

/// One handler. `None`: there is none of that name.
pub async fn read_handler_stats(pool: &PgPool, name: &str) -> Result<Option<HandlerStats>, StoreError> {
    let Some(mut handler) = read_handlers(pool).await?.into_iter().find(|handler| handler.handler == name) else {
        return Ok(None);
    };
    handler.uncounted = count(pool, &mut handler).await.err().map(|error| chain(&error));
    Ok(Some(handler))
}

/// The relays that are known, the one heard of last first.
pub async fn read_relays(pool: &PgPool) -> Result<Vec<RelayStats>, StoreError> {
    list_instances(pool).await
}

async fn count(pool: &PgPool, handler: &mut HandlerStats) -> Result<(), StoreError> {
    let mut transaction = progress::begin_look(pool).await?;
    let backlog = read_backlog(&mut transaction, &handler.handler).await?;
    (handler.pending, handler.pending_is_exact) = (backlog.pending, backlog.pending_is_exact);
    (handler.retrying, handler.waiting, handler.dead) = (backlog.retrying, backlog.waiting, backlog.dead);
    (handler.deliveries_are_exact, handler.oldest_unfinished) = (backlog.deliveries_are_exact, backlog.oldest);
    handler.last_failure = read_last_failure(&mut transaction, &handler.handler).await?;
    super::commit(transaction).await
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
    let failing = match row.try_get::<Option<Timestamp>, _>("failing_since")? {
        Some(since) => Some(Failing {
            since,
            lasted: micros(row.try_get::<Option<i64>, _>("failing_micros")?.unwrap_or_default()),
            last_at: row.try_get("failed_at")?,
            failures: row.try_get::<Option<i64>, _>("failures")?.unwrap_or_default().unsigned_abs(),
            operation: row.try_get::<Option<String>, _>("operation")?.unwrap_or_default(),
            sqlstate: row.try_get("sqlstate")?,
            error: row.try_get::<Option<String>, _>("error")?.unwrap_or_default(),
            event: row.try_get("event")?,
        }),
        None => None,
    };
    let waiting_until = match row.try_get::<Option<Timestamp>, _>("waiting_until")? {
        Some(until) => Some(WaitingUntil {
            until,
            left: micros(row.try_get::<Option<i64>, _>("waiting_micros")?.unwrap_or_default()),
            reason: row.try_get("waiting_reason")?,
        }),
        None => None,
    };
    let (owner, unowned) = (row.try_get::<Option<String>, _>(4)?, row.try_get::<Option<i64>, _>(12)?.map(micros));
    Ok(HandlerStats {
        handler: row.try_get(1)?,
        kind: row.try_get(3)?,
        partitions: 1,
        pending: 0,
        pending_is_exact: true,
        retrying: 0,
        waiting: 0,
        dead: 0,
        deliveries_are_exact: true,
        uncounted: None,
        oldest_unfinished: None,
        last_failure: None,
        paused,
        destinations: row.try_get::<i64, _>(14)?.unsigned_abs(),
        oldest_destination: row.try_get(15)?,
        owned: usize::from(unowned.is_none()),
        live_owners: owner.iter().filter(|_| unowned.is_none()).cloned().collect(),
        open_circuits: usize::from(circuit.is_some()),
        owners: owner.into_iter().collect(),
        unowned,
        last_read_at: row.try_get("read_at")?,
        last_flush_at: Some(row.try_get("flushed_at")?),
        unrecorded: row.try_get::<Option<i64>, _>("unrecorded_micros")?.map(micros),
        failing,
        waiting_until,
        circuit,
        dead_at_rest: row.try_get::<Option<i64>, _>("dead_at_rest")?.map(i64::unsigned_abs),
        follows: row.try_get("follows")?,
    })
}

impl HandlerStats {
    /// The error that keeps the handler from going on, if it is more than one bad moment.
    pub fn stuck(&self) -> Option<&Failing> {
        self.failing.as_ref().filter(|failing| is_stuck(failing.failures, failing.lasted))
    }

    /// The worst of both: held since the earlier, unowned for the longer.
    fn add_partition(&mut self, other: Self) {
        self.partitions += 1;
        self.owned += other.owned;
        self.open_circuits += other.open_circuits;
        self.live_owners.extend(other.live_owners);
        self.live_owners.sort();
        self.live_owners.dedup();
        self.paused = [self.paused.take(), other.paused].into_iter().flatten().min_by_key(|paused| paused.since);
        self.circuit = [self.circuit.take(), other.circuit].into_iter().flatten().min_by_key(|circuit| circuit.since);
        self.destinations += other.destinations;
        self.oldest_destination = self.oldest_destination.take().or(other.oldest_destination);
        self.unowned = self.unowned.max(other.unowned);
        self.unrecorded = self.unrecorded.max(other.unrecorded);
        self.last_read_at = self.last_read_at.min(other.last_read_at);
        self.last_flush_at = self.last_flush_at.min(other.last_flush_at);
        self.failing = [self.failing.take(), other.failing].into_iter().flatten().min_by_key(|failing| failing.since);
        self.waiting_until =
            [self.waiting_until.take(), other.waiting_until].into_iter().flatten().max_by_key(|waiting| waiting.until);
        self.dead_at_rest = self.dead_at_rest.zip(other.dead_at_rest).map(|(one, other)| one + other);
        self.owners.extend(other.owners);
        self.owners.sort();
        self.owners.dedup();
    }
}

async fn read_last_failure(connection: &mut PgConnection, handler: &str) -> Result<Option<LastFailure>, StoreError> {
    let row = sqlx::query(include_str!("sql/read_last_failure.sql"))
        .bind(handler)
        .fetch_optional(connection)
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
