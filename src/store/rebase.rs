//! Rebase: gives every position the transaction ids of the server that the outbox is on now, after a restore, a copy or an
//! upgrade. And what `verify` counts: whether snapshot and sequence number agree on what is pending. `rebase` in the crate root
//! judges whether a rebase may be done.
//!
//! After a dump and restore the stored snapshots name transactions of another server. The rebase locks the events against writers
//! and judges each event by three witnesses (`plan_rebase.sql`):
//!
//! - the stored snapshot: what was pending at the copy;
//! - the sequence number beside that of the position: what came after the copy, from a sequence that was copied, too;
//! - the birth of the row: the `xmin` of a restored row is the restoring transaction; that of a row written here is its `tx` or a
//!   savepoint of it.
//!
//! Then the position of every subscription becomes an open window from the beginning of time to now. It is read up to before the
//! first pending event, and what is finished behind that is in `done`. So a relay needs to know nothing of a rebase: it goes on
//! inside a window as after any restart and leaves out events that have an outcome.
//!
//! Events whose `tx` this server has not finished get transaction id 3, the first that a cluster can have: it is behind every
//! snapshot except that of the beginning. Events with a sequence number that was used before get the next numbers. Where
//! transaction ids continue, positions stay as they are and only their leases are released.

use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, PgPool, Postgres, Row, Transaction};

use super::audit::{allow_log_changes, lift_statement_timeout};
use super::feed::begin_epoch_of_rebase;
use super::{Actor, AuditEntry, StoreError, begin, commit, read_identity, record_audit, store_incarnation};
use crate::domain::{Numbering, ServerIdentity, Standing};

/// Events that a handler has not finished, by the snapshot of its position and by the highest sequence number that this can have seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Witnesses {
    pub handler: String,
    pub partitions: i64,
    /// Both say that it is pending.
    pub both: i64,
    /// Only the snapshot says so, and a transaction that overtook the position's explains it.
    pub late: i64,
    /// Only the snapshot says so, and nothing explains it: it would be delivered again.
    pub again: i64,
    /// Only the number says so: it would never be delivered.
    pub lost: i64,
    /// The first event on which they disagree.
    pub first_in_doubt: Option<i64>,
}

/// The changes of a rebase to one handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HandlerPlan {
    pub handler: String,
    /// Events that it is owed and that have no outcome.
    pub pending: i64,
    /// Of these, those that the stored snapshot shows.
    pub by_snapshot: i64,
    /// Those with a number above the position's.
    pub by_number: i64,
    /// Those written on this server since the copy.
    pub born_here: i64,
    /// Deliveries that are retrying or waiting; they go on as they are.
    pub unfinished: i64,
    #[serde(skip)]
    partitions: Vec<PartitionPlan>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PartitionPlan {
    subscription: i32,
    begins_after: Option<i64>,
    done: Option<String>,
}

/// A sequence that would give out a number that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LowSequence {
    pub name: String,
    pub last: i64,
    pub needed: i64,
}

/// The plan of a rebase.
#[derive(Debug, Clone)]
pub struct RebasePlan {
    pub identity: ServerIdentity,
    /// Empty where the numbers continue: positions stay as they are then.
    pub handlers: Vec<HandlerPlan>,
    pub low_sequences: Vec<LowSequence>,
    pub is_bell_right: bool,
    /// Relays that are connected, whatever they think of this server.
    pub relays: Vec<String>,
}

/// The result of a rebase.
#[derive(Debug, Clone)]
pub struct Rebased {
    pub plan: RebasePlan,
    pub subscriptions: u64,
    /// Events that were given a transaction number of this server.
    pub renumbered: u64,
}

/// Counts what a handler has not finished, by both witnesses.
pub async fn count_pending(pool: &PgPool, handler: &str) -> Result<Witnesses, StoreError> {
    let mut transaction = begin(pool).await?;
    // Where numbers began anew it is the whole log that is looked at.
    lift_statement_timeout(&mut transaction).await?;
    let row = sqlx::query(include_str!("sql/count_pending.sql"))
        .bind(handler)
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::query("count what is pending"))?;
    let witnesses = || {
        Ok(Witnesses {
            handler: handler.to_owned(),
            partitions: row.try_get("partitions")?,
            both: row.try_get("both")?,
            late: row.try_get("late")?,
            again: row.try_get("again")?,
            lost: row.try_get("lost")?,
            first_in_doubt: row.try_get("first_in_doubt")?,
        })
    };
    witnesses().map_err(StoreError::query("understand what is pending"))
}

/// Whether the bell belongs to the schema as it is called now.
pub async fn is_bell_right(executor: impl PgExecutor<'_>) -> Result<bool, StoreError> {
    sqlx::query_scalar(include_str!("sql/check_bell.sql")).fetch_one(executor).await.map_err(StoreError::query("check the bell"))
}

/// The statement that makes the bell anew, for operators to paste.
pub fn bell_repair() -> &'static str {
    include_str!("sql/repair_bell.sql")
}

/// Sequences that are behind their tables.
pub async fn find_low_sequences(executor: impl PgExecutor<'_>) -> Result<Vec<LowSequence>, StoreError> {
    let rows = sqlx::query(include_str!("sql/find_low_sequences.sql"))
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("compare the sequences with their tables"))?;
    let low = |row: &PgRow| Ok(LowSequence { name: row.try_get(0)?, last: row.try_get(1)?, needed: row.try_get(2)? });
    rows.iter().map(low).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand the sequences"))
}

/// Finds out what a rebase would do, and changes nothing.
pub async fn plan_rebase(pool: &PgPool) -> Result<RebasePlan, StoreError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    plan(&mut transaction).await // rolled back as it is dropped
}

/// Does it, in one transaction, as far as `refuse` has nothing against what is found under the lock. Writers wait meanwhile.
pub async fn rebase<E: From<StoreError>>(
    pool: &PgPool,
    actor: &str,
    refuse: impl FnOnce(&RebasePlan) -> Result<(), E>,
) -> Result<Rebased, E> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    sqlx::query(include_str!("sql/lock_events.sql"))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("lock the events; another session writes, or a transaction is prepared"))?;
    allow_log_changes(&mut transaction).await?;
    let plan = plan(&mut transaction).await?;
    refuse(&plan)?;
    // Told by the positions as they are, so before anything moves.
    let numbered_again = match plan.identity.standing() {
        Standing::NumberedAgain { .. } => find_numbered_again(&mut transaction).await?,
        _ => Vec::new(),
    };
    // Before anything is written: a snapshot does not list the transaction that takes it.
    let snapshot: String = sqlx::query_scalar(include_str!("sql/read_snapshot.sql"))
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::query("read the snapshot"))?;
    let last_seq = raise_sequences(&mut transaction).await?;
    let (subscriptions, renumbered) = match plan.identity.numbering() {
        Numbering::Continues => {
            number_anew(&mut transaction, &numbered_again).await?;
            (release(&mut transaction).await?, numbered_again.len() as u64)
        }
        Numbering::BeganAnew => move_positions(&mut transaction, &plan, &snapshot, last_seq).await?,
    };
    let rebased = Rebased { plan, subscriptions, renumbered };
    confirm(&mut transaction, actor, &rebased).await?;
    commit(transaction).await?;
    Ok(rebased)
}

/// Events with a number that was given out a second time, in order.
async fn find_numbered_again(connection: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
    sqlx::query_scalar(include_str!("sql/find_numbered_again.sql"))
        .fetch_all(connection)
        .await
        .map_err(StoreError::query("find the events whose numbers were used before"))
}

/// Gives events the next numbers of the sequence, one after the other.
async fn number_anew(connection: &mut PgConnection, seqs: &[i64]) -> Result<(), StoreError> {
    for seq in seqs {
        sqlx::query(include_str!("sql/number_anew.sql"))
            .bind(seq)
            .execute(&mut *connection)
            .await
            .map_err(StoreError::query("give an event a new number"))?;
    }
    Ok(())
}

async fn plan(transaction: &mut Transaction<'_, Postgres>) -> Result<RebasePlan, StoreError> {
    let identity = read_identity(&mut **transaction).await?;
    let mut handlers = Vec::new();
    if identity.stored.is_some() && identity.numbering() == Numbering::BeganAnew {
        let names: Vec<String> = sqlx::query_scalar(include_str!("sql/list_handler_names.sql"))
            .bind(i64::MAX)
            .fetch_all(&mut **transaction)
            .await
            .map_err(StoreError::query("list the handlers"))?;
        for name in names {
            handlers.push(plan_handler(transaction, name).await?);
        }
    }
    Ok(RebasePlan {
        identity,
        handlers,
        low_sequences: find_low_sequences(&mut **transaction).await?,
        is_bell_right: is_bell_right(&mut **transaction).await?,
        relays: find_relays(&mut **transaction).await?,
    })
}

async fn plan_handler(connection: &mut PgConnection, handler: String) -> Result<HandlerPlan, StoreError> {
    let rows = sqlx::query(include_str!("sql/plan_rebase.sql"))
        .bind(&handler)
        .fetch_all(connection)
        .await
        .map_err(StoreError::query("find what is pending"))?;
    decode_plan(handler, &rows).map_err(StoreError::query("understand what is pending"))
}

fn decode_plan(handler: String, rows: &[PgRow]) -> Result<HandlerPlan, sqlx::Error> {
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let mut plan = HandlerPlan {
        handler,
        pending: first.try_get("owed")?,
        by_snapshot: first.try_get("by_snapshot")?,
        by_number: first.try_get("by_number")?,
        born_here: first.try_get("born_here")?,
        unfinished: 0,
        partitions: Vec::with_capacity(rows.len()),
    };
    for row in rows {
        plan.unfinished += row.try_get::<i64, _>("unfinished")?;
        plan.partitions.push(PartitionPlan {
            subscription: row.try_get("id")?,
            begins_after: row.try_get("begins_after")?,
            done: row.try_get("done")?,
        });
    }
    Ok(plan)
}

async fn find_relays(executor: impl PgExecutor<'_>) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(include_str!("sql/find_relay_sessions.sql"))
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("look for relays"))
}

/// The numbers mean what they meant: the positions are right as they are, and only their owners are gone.
async fn release(connection: &mut PgConnection) -> Result<u64, StoreError> {
    let released = sqlx::query(include_str!("sql/release_leases.sql"))
        .execute(connection)
        .await
        .map_err(StoreError::query("release the leases"))?;
    Ok(released.rows_affected())
}

/// No number is given out twice; gives the one that stands now, and will as long as the events are locked.
async fn raise_sequences(connection: &mut PgConnection) -> Result<i64, StoreError> {
    let error = || StoreError::query("raise the sequences");
    sqlx::query(include_str!("sql/raise_sequences.sql")).fetch_all(&mut *connection).await.map_err(error())?;
    sqlx::query_scalar(include_str!("sql/read_last_seq.sql")).fetch_one(connection).await.map_err(error())
}

async fn move_positions(
    connection: &mut PgConnection,
    plan: &RebasePlan,
    snapshot: &str,
    last_seq: i64,
) -> Result<(u64, u64), StoreError> {
    let renumbered = sqlx::query(include_str!("sql/renumber_events.sql"))
        .bind(snapshot)
        .execute(&mut *connection)
        .await
        .map_err(StoreError::query("renumber the events"))?
        .rows_affected();
    let mut subscriptions = 0;
    for partition in plan.handlers.iter().flat_map(|handler| &handler.partitions) {
        let moved = sqlx::query(include_str!("sql/rebase_subscription.sql"))
            .bind(partition.subscription)
            .bind(snapshot)
            .bind(last_seq)
            .bind(partition.begins_after)
            .bind(&partition.done)
            .execute(&mut *connection)
            .await
            .map_err(StoreError::query("move a position"))?;
        subscriptions += moved.rows_affected();
    }
    Ok((subscriptions, renumbered))
}

/// The steps that do not depend on how the positions were treated: bell, instances, identity, audit.
async fn confirm(connection: &mut PgConnection, actor: &str, rebased: &Rebased) -> Result<(), StoreError> {
    if !rebased.plan.is_bell_right {
        sqlx::query(include_str!("sql/repair_bell.sql"))
            .execute(&mut *connection)
            .await
            .map_err(StoreError::query("make the bell anew; the owner of the schema can"))?;
    }
    sqlx::query(include_str!("sql/forget_instances.sql"))
        .execute(&mut *connection)
        .await
        .map_err(StoreError::query("forget the relays of the other server"))?;
    sqlx::query(include_str!("sql/forget_moments.sql"))
        .execute(&mut *connection)
        .await
        .map_err(StoreError::query("forget the moments of the other server"))?;
    store_incarnation(&mut *connection).await?;
    begin_epoch_of_rebase(&mut *connection).await?;
    let identity = &rebased.plan.identity;
    let filter = serde_json::json!({
        "from": identity.stored, "to": identity.found, "numbering": identity.numbering(), "handlers": rebased.plan.handlers,
        "renumbered": rebased.renumbered,
    });
    let entry = AuditEntry {
        actor: Actor::cli(actor),
        action: "rebase",
        handler: None,
        filter: &filter.to_string(),
        affected: rebased.subscriptions,
        reason: None,
    };
    record_audit(connection, &entry).await
}
