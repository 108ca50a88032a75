//! Erasure: events are taken out of the log for good, with everything that is known of them. For data of a person, which a log that is
//! kept for a while must be able to forget. Works beside a relay; what it has read already may still reach a receiver once.

use serde::Serialize;
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::audit::{allow_log_changes, lift_statement_timeout};
use super::{Actor, AuditEntry, StoreError, begin, commit, record_audit, ring_control};
use crate::domain::{EventFilter, Timestamp};

/// Which events; every part that is set must match.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EventSelection {
    /// Event ids; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<Uuid>,
    /// The ordering key: `type/id` of the aggregate, or the key that a handler has recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Glob over the type; `*` stands for any characters.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Occurred at this moment or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Occurred before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
}

/// What would be erased.
#[derive(Debug, Clone, Default)]
pub struct ErasurePlan {
    /// Every event that matches, in order.
    seqs: Vec<i64>,
    /// Those that some handler has not received yet.
    unfinished: Vec<i64>,
    /// Those that a stream is made of.
    sourced: Vec<i64>,
    pub pending: Vec<PendingEvents>,
}

/// Events that a handler is still owed.
#[derive(Debug, Clone, Serialize)]
pub struct PendingEvents {
    pub handler: String,
    pub events: i64,
}

/// Who erases, and why.
#[derive(Debug, Clone, Copy)]
pub struct Erasing<'a> {
    pub actor: &'a str,
    pub because: &'a str,
    /// Also what a handler has not received yet.
    pub with_pending: bool,
    /// Also what a stream is made of, which cannot be read then.
    pub with_sourced: bool,
}

impl ErasurePlan {
    pub fn matched(&self) -> usize {
        self.seqs.len()
    }

    /// Events that match and that some handler has not received yet.
    pub fn unfinished(&self) -> usize {
        self.unfinished.len()
    }

    /// Events that match and that are versions of streams.
    pub fn sourced(&self) -> usize {
        self.sourced.len()
    }

    /// The events that go.
    pub fn chosen(&self, with_pending: bool, with_sourced: bool) -> Vec<i64> {
        let is_chosen = |seq: &i64| {
            (with_pending || self.unfinished.binary_search(seq).is_err())
                && (with_sourced || self.sourced.binary_search(seq).is_err())
        };
        self.seqs.iter().copied().filter(is_chosen).collect()
    }
}

/// Events taken in one transaction: short enough that a flush of the relay does not wait for it.
const CHUNK: usize = 1_000;

/// Finds the events and what handlers are still owed of them. Reads the log from one end to the other unless ids are given.
pub async fn plan_erasure(pool: &PgPool, selection: &EventSelection) -> Result<ErasurePlan, StoreError> {
    let error = || StoreError::query("find the events");
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    let types = EventFilter { types: selection.event_type.iter().cloned().collect(), ..EventFilter::default() };
    let seqs: Vec<i64> = sqlx::query_scalar(include_str!("sql/find_events.sql"))
        .bind((!selection.ids.is_empty()).then(|| selection.ids.clone()))
        .bind(&selection.key)
        .bind(types.type_patterns().and_then(|mut patterns| patterns.pop()))
        .bind(selection.since)
        .bind(selection.before)
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await
        .map_err(error())?;
    let mut plan = ErasurePlan { seqs, ..ErasurePlan::default() };
    let mut pending = std::collections::BTreeMap::new();
    for chunk in plan.seqs.chunks(CHUNK) {
        let rows = sqlx::query(include_str!("sql/find_pending_events.sql")).bind(chunk).fetch_all(&mut *transaction).await;
        for row in rows.map_err(error())? {
            *pending.entry(row.try_get::<String, _>(1).map_err(error())?).or_insert(0) += 1;
            plan.unfinished.push(row.try_get(0).map_err(error())?);
        }
        let sourced = sqlx::query_scalar(include_str!("sql/find_sourced.sql")).bind(chunk).fetch_all(&mut *transaction).await;
        plan.sourced.extend::<Vec<i64>>(sourced.map_err(error())?);
    }
    plan.unfinished.sort_unstable();
    plan.unfinished.dedup();
    plan.pending = pending.into_iter().map(|(handler, events)| PendingEvents { handler, events }).collect();
    Ok(plan) // rolled back as the transaction is dropped
}

/// Erases what was planned, some at a time, each with its note in the audit; gives how many events went.
pub async fn erase(pool: &PgPool, selection: &EventSelection, plan: &ErasurePlan, erasing: Erasing<'_>) -> Result<u64, StoreError> {
    let mut erased = 0;
    for chunk in plan.chosen(erasing.with_pending, erasing.with_sourced).chunks(CHUNK) {
        let mut transaction = begin(pool).await?;
        lift_statement_timeout(&mut transaction).await?;
        allow_log_changes(&mut transaction).await?;
        let gone = erase_chunk(&mut transaction, chunk).await?;
        let filter = serde_json::to_string(selection).expect("texts have a JSON form");
        let entry = AuditEntry {
            actor: Actor::cli(erasing.actor),
            action: "erase",
            handler: None,
            filter: &filter,
            affected: gone,
            reason: Some(erasing.because),
        };
        record_audit(&mut transaction, &entry).await?;
        // Keys that waited for one of them go on at once.
        ring_control(&mut *transaction).await?;
        commit(transaction).await?;
        erased += gone;
    }
    Ok(erased)
}

async fn erase_chunk(connection: &mut PgConnection, seqs: &[i64]) -> Result<u64, StoreError> {
    let gone: i64 = sqlx::query_scalar(include_str!("sql/erase_events.sql"))
        .bind(seqs)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("erase events"))?;
    Ok(gone.unsigned_abs())
}
