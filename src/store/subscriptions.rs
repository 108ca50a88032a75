//! Subscriptions and their leases: which instance reads for a handler, from where, until when. See `relay::supervisor`.

use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, PgPool, Row};
use uuid::Uuid;

use super::{Fence, Fenced, Selection, StoreError};
use crate::domain::{OpenWindow, Position, Timestamp};

/// A handler's partition as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub id: i32,
    pub handler: String,
    pub partition: u16,
    pub partitions: u16,
    pub kind: String,
    /// The filter and the order, as last registered.
    pub wants: Wanted,
}

/// The filter and the ordering key of a subscription, as the columns have them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Wanted {
    pub type_patterns: Option<Vec<String>>,
    pub aggregate_types: Option<Vec<String>>,
    pub required_headers: Option<serde_json::Value>,
    pub key_source: String,
    pub key_path: Vec<String>,
}

impl Wanted {
    pub fn of(selection: &Selection) -> Self {
        Self {
            type_patterns: selection.type_patterns().clone(),
            aggregate_types: selection.aggregate_types().clone(),
            required_headers: selection.headers().clone(),
            key_source: selection.key_source().to_owned(),
            key_path: selection.key_path().to_vec(),
        }
    }

    /// Whether both want the same events, in whichever order.
    pub fn selects_as(&self, other: &Self) -> bool {
        let filter =
            |wanted: &Self| (wanted.type_patterns.clone(), wanted.aggregate_types.clone(), wanted.required_headers.clone());
        filter(self) == filter(other)
    }

    /// Whether both take the ordering key from the same place.
    pub fn orders_as(&self, other: &Self) -> bool {
        (&self.key_source, &self.key_path) == (&other.key_source, &other.key_path)
    }

    /// The ordering key as `key` and `ordering` of a handler say it.
    pub fn describe_key(&self) -> String {
        match self.key_source.as_str() {
            "header" | "payload" => format!("{}:{}", self.key_source, self.key_path.join(".")),
            other => other.to_owned(),
        }
    }
}

/// Every subscription, those of handlers that are no longer configured included.
pub async fn list(executor: impl PgExecutor<'_>) -> Result<Vec<Subscription>, StoreError> {
    let rows = sqlx::query(include_str!("sql/list_subscriptions.sql"))
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("list the subscriptions"))?;
    let subscription = |row: &PgRow| {
        let number = |column: usize| Ok::<_, sqlx::Error>(u16::try_from(row.try_get::<i32, _>(column)?).unwrap_or(u16::MAX));
        Ok(Subscription {
            id: row.try_get(0)?,
            handler: row.try_get(1)?,
            partition: number(2)?,
            partitions: number(3)?,
            kind: row.try_get(4)?,
            wants: Wanted {
                type_patterns: row.try_get(5)?,
                aggregate_types: row.try_get(6)?,
                required_headers: row.try_get(7)?,
                key_source: row.try_get(8)?,
                key_path: row.try_get(9)?,
            },
        })
    };
    rows.iter().map(subscription).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand the subscriptions"))
}

/// A subscription as the configuration wants it.
#[derive(Debug)]
pub struct Registration<'a> {
    pub handler: &'a str,
    pub kind: &'a str,
    pub partition: u16,
    pub partitions: u16,
    pub selection: &'a Selection,
    /// A new one begins before the first event, not now.
    pub from_beginning: bool,
}

/// Keeps other relays from registering until the transaction ends.
pub async fn lock_registration(connection: &mut PgConnection) -> Result<(), StoreError> {
    let locked = sqlx::query(include_str!("sql/lock_registration.sql")).execute(connection).await;
    locked.map(drop).map_err(StoreError::query("wait for other relays that register"))
}

/// Creates a subscription if it is new, and notes what it wants.
pub async fn register(connection: &mut PgConnection, registration: &Registration<'_>) -> Result<(), StoreError> {
    // Two statements on purpose: the lower bound must be older than the snapshot.
    let seq_before: i64 = sqlx::query_scalar(include_str!("sql/read_last_seq.sql"))
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::query("read the sequence"))?;
    sqlx::query(include_str!("sql/register_subscription.sql"))
        .bind(registration.handler)
        .bind(i32::from(registration.partition))
        .bind(i32::from(registration.partitions))
        .bind(registration.kind)
        .bind(registration.selection.type_patterns())
        .bind(registration.selection.aggregate_types())
        .bind(registration.selection.headers())
        .bind(registration.from_beginning)
        .bind(seq_before)
        .bind(registration.selection.key_source())
        .bind(registration.selection.key_path())
        .execute(connection)
        .await
        .map_err(StoreError::query("register a subscription"))?;
    Ok(())
}

/// The requests of operators for a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    pub is_paused: bool,
    /// Rises when an operator moved the position: start over from what is stored.
    pub moves: i32,
    /// Rises when an operator closed the circuit.
    pub circuit_closings: i32,
}

/// A lease that was just taken.
#[derive(Debug, Clone, Copy)]
pub struct Acquired {
    pub subscription: i32,
    pub wishes: Wishes,
    /// Its last owner did not give it back: it may have died with events in flight.
    pub was_abandoned: bool,
}

/// A subscription that an instance can serve, under the name and the number of partitions that it knows.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub id: i32,
    pub handler: String,
    pub partitions: u16,
}

/// Takes free subscriptions out of `candidates`, at most `limit`. One that an operator has renamed or repartitioned meanwhile is not taken.
pub async fn acquire(
    pool: &PgPool,
    instance: &str,
    lease: Duration,
    candidates: &[Candidate],
    limit: usize,
) -> Result<Vec<Acquired>, StoreError> {
    let rows = sqlx::query(include_str!("sql/acquire_leases.sql"))
        .bind(instance)
        .bind(micros(lease))
        .bind(candidates.iter().map(|candidate| candidate.id).collect::<Vec<_>>())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(candidates.iter().map(|candidate| candidate.handler.as_str()).collect::<Vec<_>>())
        .bind(candidates.iter().map(|candidate| i32::from(candidate.partitions)).collect::<Vec<_>>())
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("acquire leases"))?;
    let acquired =
        |row: &PgRow| Ok(Acquired { subscription: row.try_get(0)?, wishes: wishes(row)?, was_abandoned: row.try_get(4)? });
    rows.iter().map(acquired).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand the leases"))
}

/// A lease that is still ours.
#[derive(Debug, Clone, Copy)]
pub struct Renewed {
    pub subscription: i32,
    pub wishes: Wishes,
    /// Of the lease: less than a whole one where another session has locked the subscription, so that it could not be renewed.
    pub left: Duration,
}

/// Renews the leases of this instance on what it serves. One on anything else runs out. A row that another session has locked is not waited for, but
/// the row itself: a flush of our own holds it for some milliseconds. One that cannot be renewed is ours while at least half of its lease
/// is left, which is until the next round.
pub async fn renew(pool: &PgPool, instance: &str, lease: Duration, served: &[i32]) -> Result<Vec<Renewed>, StoreError> {
    let error = || StoreError::query("renew leases");
    let rows = sqlx::query(include_str!("sql/renew_leases.sql"))
        .bind(instance)
        .bind(micros(lease))
        .bind(served)
        .fetch_all(pool)
        .await
        .map_err(error())?;
    let understand = |rows: Vec<PgRow>| {
        rows.iter().map(renewed).collect::<Result<Vec<_>, sqlx::Error>>().map_err(StoreError::query("understand the leases"))
    };
    let (mut renewed, mut locked): (Vec<_>, Vec<_>) = understand(rows)?.into_iter().partition(|one| one.left >= lease);
    // The most urgent first: an operator's lock must not use up the time of the others.
    locked.sort_by_key(|one| one.left);
    let until = Instant::now() + lease / 4;
    for one in locked {
        if Instant::now() >= until {
            renewed.push(one);
            continue;
        }
        let mut transaction = pool.begin().await.map_err(error())?;
        let bound = format!("{}ms", (lease / 12).as_millis().max(1));
        sqlx::query(include_str!("sql/bound_lock.sql")).bind(bound).execute(&mut *transaction).await.map_err(error())?;
        let renewing = sqlx::query(include_str!("sql/renew_lease.sql")).bind(instance).bind(micros(lease)).bind(one.subscription);
        match renewing.fetch_all(&mut *transaction).await.map_err(error()) {
            Ok(rows) => {
                transaction.commit().await.map_err(error())?;
                renewed.extend(understand(rows)?);
            }
            Err(refusal) if refusal.sqlstate().as_deref() == Some("55P03") => {
                transaction.rollback().await.map_err(error())?;
                renewed.push(one);
            }
            Err(failure) => return Err(failure),
        }
    }
    renewed.retain(|one| one.left >= lease / 2);
    Ok(renewed)
}

fn renewed(row: &PgRow) -> Result<Renewed, sqlx::Error> {
    let left = Duration::from_micros(u64::try_from(row.try_get::<i64, _>(4)?).unwrap_or(0));
    Ok(Renewed { subscription: row.try_get(0)?, wishes: wishes(row)?, left })
}

fn wishes(row: &PgRow) -> Result<Wishes, sqlx::Error> {
    Ok(Wishes { is_paused: row.try_get(1)?, moves: row.try_get(2)?, circuit_closings: row.try_get(3)? })
}

/// The stored state from which an owner begins.
#[derive(Debug)]
pub struct TakenUp {
    pub fence: Fence,
    pub position: Position,
    pub done: Option<String>,
    /// Highest `seq` that can be settled already.
    pub settled_to: i64,
    pub is_paused: bool,
    /// How long until the first probe, if the circuit is open.
    pub open_circuit: Option<Duration>,
}

/// Begins (again) with a subscription that this instance owns, under a new epoch. `None`: the lease is lost.
pub async fn take_up(pool: &PgPool, subscription: i32, instance: &str) -> Result<Option<TakenUp>, StoreError> {
    let error = || StoreError::query("take up a subscription");
    // Several statements on purpose: the first may have waited for a flush of the last owner, whose rows only a later snapshot sees.
    let mut transaction = pool.begin().await.map_err(error())?;
    let row = sqlx::query(include_str!("sql/take_up_subscription.sql"))
        .bind(subscription)
        .bind(instance)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error())?;
    let Some(row) = row else { return Ok(None) };
    sqlx::query(include_str!("sql/take_back_waiting.sql")).bind(subscription).execute(&mut *transaction).await.map_err(error())?;
    let settled_to = sqlx::query_scalar(include_str!("sql/read_settled_to.sql"))
        .bind(subscription)
        .fetch_one(&mut *transaction)
        .await
        .map_err(error())?;
    transaction.commit().await.map_err(error())?;
    taken_up(&row, subscription, settled_to).map(Some).map_err(StoreError::query("understand a subscription"))
}

fn taken_up(row: &PgRow, subscription: i32, settled_to: i64) -> Result<TakenUp, sqlx::Error> {
    let snapshot = |text: String| text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)));
    let high_seq: i64 = row.try_get(3)?;
    let window = match row.try_get::<Option<String>, _>(4)? {
        // The nearer bound of a window is not stored; the one of the position holds as well.
        Some(text) => {
            Some(OpenWindow { snapshot: snapshot(text)?, low_seq: high_seq, seq: row.try_get(5)?, high_seq: row.try_get(6)? })
        }
        None => None,
    };
    let position = Position { snapshot: snapshot(row.try_get(1)?)?, low_seq: row.try_get(2)?, high_seq, window };
    let circuit: String = row.try_get(9)?;
    let wait: Option<i64> = row.try_get(11)?;
    Ok(TakenUp {
        fence: Fence { subscription, epoch: row.try_get(0)? },
        position,
        done: row.try_get(7)?,
        settled_to,
        is_paused: row.try_get(8)?,
        open_circuit: (circuit != "closed").then(|| Duration::from_micros(wait.unwrap_or(0).max(0).unsigned_abs())),
    })
}

/// Gives a subscription back after a drain.
pub async fn release(pool: &PgPool, fence: Fence) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/release_lease.sql"))
        .bind(fence.subscription)
        .bind(fence.epoch)
        .execute(pool)
        .await
        .map_err(StoreError::query("release a lease"))?;
    Ok(())
}

/// Notes what the circuit does.
pub async fn record_circuit(
    pool: &PgPool,
    fence: Fence,
    (state, reason): (&'static str, Option<&'static str>),
    wait: Option<Duration>,
    only_witness: Option<Uuid>,
) -> Result<Fenced, StoreError> {
    let written = sqlx::query(include_str!("sql/record_circuit.sql"))
        .bind(fence.subscription)
        .bind(fence.epoch)
        .bind(state)
        .bind(reason)
        .bind(wait.map(micros))
        .bind(only_witness)
        .execute(pool)
        .await
        .map_err(StoreError::query("record the circuit"))?;
    Ok(if written.rows_affected() == 0 { Fenced::LeaseLost } else { Fenced::Written })
}

/// The backlog of one subscription.
#[derive(Debug, Clone, Default)]
pub struct Backlog {
    /// Events in the log that have no outcome, among those that were looked at.
    pub unread: u64,
    /// False: there may be more than was counted.
    pub is_exact: bool,
    pub retrying: u64,
    pub waiting: u64,
    pub dead: u64,
    /// Since the oldest event that is not finished was committed, as the relays saw it.
    pub oldest: Option<Duration>,
}

/// Events that are looked at in the log per arm, and deliveries that are counted per state: what a look costs at most.
const LOOKED_AT: i64 = 10_000;
pub const COUNTED_DELIVERIES: u64 = 100_000;

/// Measures one subscription within a bound on rows and on time. `most_parked`: deliveries up to which the count must be right.
pub async fn read_backlog(
    pool: &PgPool,
    subscription: i32,
    selection: &Selection,
    most_parked: u64,
) -> Result<Backlog, StoreError> {
    let counted = most_parked.saturating_add(1).max(COUNTED_DELIVERIES);
    // Of each event the payload would be taken apart for its key.
    let is_costly = selection.partitions() > 1 && selection.key_source() == "payload";
    let mut transaction = super::progress::begin_look(pool).await?;
    let row = sqlx::query(include_str!("sql/read_backlog.sql"))
        .bind(subscription)
        .bind(selection.type_patterns())
        .bind(selection.aggregate_types())
        .bind(selection.headers())
        .bind(selection.key_source())
        .bind(selection.key_path())
        .bind(selection.partitions())
        .bind(selection.partition())
        .bind(if is_costly { LOOKED_AT / 10 } else { LOOKED_AT })
        .bind(i64::try_from(counted).unwrap_or(i64::MAX))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(StoreError::query("read the backlog"))?;
    super::commit(transaction).await?;
    row.as_ref().map_or_else(|| Ok(Backlog::default()), backlog).map_err(StoreError::query("understand the backlog"))
}

fn backlog(row: &PgRow) -> Result<Backlog, sqlx::Error> {
    let count = |column: usize| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.unsigned_abs());
    let now: Timestamp = row.try_get(7)?;
    let oldest = [row.try_get::<Option<Timestamp>, _>(5)?, row.try_get(6)?].into_iter().flatten().min();
    Ok(Backlog {
        unread: count(0)?,
        is_exact: row.try_get(1)?,
        retrying: count(2)?,
        waiting: count(3)?,
        dead: count(4)?,
        oldest: oldest.map(|oldest| now.since(oldest)),
    })
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
