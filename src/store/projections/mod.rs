//! Projections: versions of read tables that are built from the log, and what their owners record. The position of a version is that of its
//! subscription; everything else about it is one row. Decides nothing: which version may read how far is the relay's to know.

mod acts;
mod calls;
mod views;

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, PgPool, Row};
use uuid::Uuid;

use super::text::storable;
use super::{Done, Entries, Fence, Fenced, Reached, StoreError, begin, commit, record_within};
use crate::domain::{OpenWindow, Position, Timestamp};
use crate::failpoints::failpoint;

pub use acts::{Acted, Restart, drop_version, restart, skip};
pub use calls::{begin_calls, call_function, end_calls};
pub use views::{Switch, Switched, switch};

/// The kind of the subscriptions that are projections.
pub const KIND: &str = "projection";

/// A version as it is registered.
#[derive(Debug, Clone, Copy)]
pub struct NewVersion<'a> {
    pub name: &'a str,
    pub version: u32,
    /// The handler of its subscription.
    pub handler: &'a str,
    pub target: Option<&'a str>,
    pub view: Option<&'a str>,
}

/// Creates a version if it is new. Runs in the transaction that registers its subscription.
pub async fn register(connection: &mut PgConnection, new: &NewVersion<'_>) -> Result<(), StoreError> {
    sqlx::query(include_str!("../sql/register_projection.sql"))
        .bind(new.name)
        .bind(i32::try_from(new.version).unwrap_or(i32::MAX))
        .bind(new.handler)
        .bind(new.target)
        .bind(new.view)
        .execute(connection)
        .await
        .map(drop)
        .map_err(StoreError::query("register a projection"))
}

/// The event at which a version stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoppedAt {
    pub since: Timestamp,
    #[serde(skip)]
    pub seq: i64,
    pub event: Uuid,
    #[serde(rename = "type")]
    pub event_type: String,
    pub attempts: u32,
    pub reason: String,
    pub detail: String,
}

/// A version, its position and its owner.
#[derive(Debug, Clone)]
pub struct Version {
    pub name: String,
    pub version: u32,
    /// `None`: it was dropped.
    pub subscription: Option<i32>,
    pub target: Option<String>,
    pub view: Option<String>,
    pub is_live: bool,
    pub rate: Option<u32>,
    pub began_at: Timestamp,
    /// Since it began.
    pub age: Duration,
    pub live_since: Option<Timestamp>,
    /// Events behind its position, those that were skipped included.
    pub handled: u64,
    pub skipped: u64,
    pub stopped: Option<StoppedAt>,
    pub dropped_at: Option<Timestamp>,
    pub position: Option<Position>,
    /// The instance with a live lease.
    pub owner: Option<String>,
    pub paused_at: Option<Timestamp>,
    /// Of which events it is built; two versions with the same filter have seen the same number of events at the same position.
    pub filter: Filter,
}

/// Types, aggregate types and headers of a subscription.
pub type Filter = (Option<Vec<String>>, Option<Vec<String>>, Option<serde_json::Value>);

impl Version {
    /// Its name in the commands for handlers.
    pub fn handler(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// Every version of every projection, those that were dropped included.
pub async fn list(executor: impl PgExecutor<'_>) -> Result<Vec<Version>, StoreError> {
    let rows = sqlx::query(include_str!("../sql/list_projections.sql"))
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("list the projections"))?;
    rows.iter().map(version).collect::<Result<_, _>>().map_err(StoreError::query("understand the projections"))
}

fn version(row: &PgRow) -> Result<Version, sqlx::Error> {
    let unsigned = |column: &str| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.unsigned_abs());
    let small = |column: &str| Ok::<_, sqlx::Error>(row.try_get::<i32, _>(column)?.unsigned_abs());
    let stopped = match row.try_get::<Option<Timestamp>, _>("stopped_at")? {
        Some(since) => Some(StoppedAt {
            since,
            seq: row.try_get("stopped_seq")?,
            event: row.try_get("stopped_event")?,
            event_type: row.try_get("stopped_type")?,
            attempts: small("attempts")?,
            reason: row.try_get::<Option<String>, _>("reason")?.unwrap_or_default(),
            detail: row.try_get::<Option<String>, _>("detail")?.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(Version {
        name: row.try_get("name")?,
        version: small("version")?,
        subscription: row.try_get("subscription")?,
        target: row.try_get("target")?,
        view: row.try_get("view")?,
        is_live: row.try_get("is_live")?,
        rate: row.try_get::<Option<i32>, _>("rate")?.map(i32::unsigned_abs),
        began_at: row.try_get("began_at")?,
        age: Duration::from_micros(unsigned("age_micros")?),
        live_since: row.try_get("live_since")?,
        handled: unsigned("handled")?,
        skipped: unsigned("skipped")?,
        stopped,
        dropped_at: row.try_get("dropped_at")?,
        position: position(row)?,
        owner: row.try_get("owner")?,
        paused_at: row.try_get("paused_at")?,
        filter: (row.try_get("type_patterns")?, row.try_get("aggregate_types")?, row.try_get("required_headers")?),
    })
}

/// The position of a subscription that may not be there.
fn position(row: &PgRow) -> Result<Option<Position>, sqlx::Error> {
    let snapshot = |text: String| text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)));
    let Some(text) = row.try_get::<Option<String>, _>("snapshot")? else { return Ok(None) };
    let high_seq: i64 = row.try_get("high_seq")?;
    let window = match row.try_get::<Option<String>, _>("window_snapshot")? {
        // The nearer bound of a window is not stored; the one of the position holds as well.
        Some(text) => Some(OpenWindow {
            snapshot: snapshot(text)?,
            low_seq: high_seq,
            seq: row.try_get("window_seq")?,
            high_seq: row.try_get("window_high_seq")?,
        }),
        None => None,
    };
    Ok(Some(Position { snapshot: snapshot(text)?, low_seq: row.try_get("low_seq")?, high_seq, window }))
}

/// The state of a version that its owner needs before a read.
#[derive(Debug, Clone)]
pub struct Standing {
    pub is_live: bool,
    pub rate: Option<u32>,
    /// Where the live version is; `None`: this one is live, or none is.
    pub live: Option<Position>,
}

/// `None`: the version was dropped.
pub async fn read_standing(pool: &PgPool, subscription: i32) -> Result<Option<Standing>, StoreError> {
    let row = sqlx::query(include_str!("../sql/read_projection.sql"))
        .bind(subscription)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("read the projection"))?;
    let standing = |row: PgRow| {
        let rate = row.try_get::<Option<i32>, _>("rate")?.map(i32::unsigned_abs);
        Ok(Standing { is_live: row.try_get("is_live")?, rate, live: position(&row)? })
    };
    row.map(standing).transpose().map_err(StoreError::query("understand the projection"))
}

/// The result of recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Recorded {
    /// The version is live, or it is not; if that is not what the functions were told, the caller has to roll back.
    Written {
        is_live: bool,
    },
    LeaseLost,
}

/// Records the position behind events in the transaction in which they were projected.
pub async fn record(
    connection: &mut PgConnection,
    fence: Fence,
    position: &Position,
    handled: usize,
) -> Result<Recorded, StoreError> {
    if record_position(&mut *connection, fence, position).await? == Fenced::LeaseLost {
        return Ok(Recorded::LeaseLost);
    }
    // Behind the lock of the subscription, which a switch takes before it changes which version is live.
    let is_live: Option<bool> = sqlx::query_scalar(include_str!("../sql/record_projected.sql"))
        .bind(fence.subscription)
        .bind(i64::try_from(handled).unwrap_or(i64::MAX))
        .fetch_optional(connection)
        .await
        .map_err(StoreError::query("record what was projected"))?;
    failpoint!("projection-recorded");
    Ok(is_live.map_or(Recorded::LeaseLost, |is_live| Recorded::Written { is_live }))
}

/// The event that keeps a version from going on, and why.
#[derive(Debug, Clone)]
pub struct Stop {
    pub seq: i64,
    pub event: Uuid,
    pub event_type: String,
    pub reason: &'static str,
    pub detail: String,
}

/// Notes that a version stands at an event; `before` is its position just before the event.
pub async fn record_stop(pool: &PgPool, fence: Fence, before: &Position, stop: &Stop) -> Result<Fenced, StoreError> {
    let mut transaction = begin(pool).await?;
    if record_position(&mut transaction, fence, before).await? == Fenced::LeaseLost {
        return Ok(Fenced::LeaseLost);
    }
    sqlx::query(include_str!("../sql/stop_projection.sql"))
        .bind(fence.subscription)
        .bind(stop.seq)
        .bind(stop.event)
        .bind(&stop.event_type)
        .bind(stop.reason)
        .bind(storable(&stop.detail))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("note where the projection stands"))?;
    commit(transaction).await?;
    Ok(Fenced::Written)
}

async fn record_position(connection: &mut PgConnection, fence: Fence, position: &Position) -> Result<Fenced, StoreError> {
    let reached = Reached { position: position.clone(), done: Done::AsStored };
    Ok(record_within(connection, fence, "", &reached, &Entries::default()).await?.fenced)
}

/// Types of which retention removes events, so that a version that begins now lacks what the removed ones said; among the newest `looked_at`.
pub async fn list_removed_types(pool: &PgPool, subscription: i32, looked_at: i64) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(include_str!("../sql/list_removed_types.sql"))
        .bind(subscription)
        .bind(looked_at)
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("look for types that retention removes"))
}

/// The sequence number of the first event of the log.
pub async fn read_first_seq(pool: &PgPool) -> Result<Option<i64>, StoreError> {
    sqlx::query_scalar(include_str!("../sql/read_first_seq.sql"))
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("find the first event"))
}

/// Whether there is a function of this name that a projection can call.
pub async fn has_function(pool: &PgPool, function: &str) -> Result<bool, StoreError> {
    sqlx::query_scalar(include_str!("../sql/has_projection_function.sql"))
        .bind(function)
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("look for the function of the projection"))
}
