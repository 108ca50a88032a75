//! Gives a handler another name or another number of partitions on behalf of an operator. Everything that belongs to it moves
//! along, so nothing is skipped and nothing is delivered again. One transaction each, with its audit row; refused while a relay
//! serves the handler.

use sqlx::{PgConnection, PgPool};

use super::audit::lift_statement_timeout;
use super::corrections::count_unread_corrections;
use super::{Actor, AuditEntry, StoreError, begin, commit, record_audit, ring_control, subscriptions};

/// Pieces that `done` may have. It is written with every flush until the position has passed it.
const MOST_RANGES: u64 = 10_000;

/// The result of changing a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebuilt<T> {
    Done(T),
    /// Live relays serve it; nothing was changed.
    Owned(Vec<String>),
    /// There is no such handler.
    Unknown,
    /// There is a handler of the new name; nothing was changed.
    Taken,
    /// The partitions are too far apart; nothing was changed.
    Apart(u64),
    /// So many corrections for the handler are not read yet; nothing was changed.
    Corrections(u64),
}

/// Another number of partitions that an operator asks for.
#[derive(Debug, Clone, Copy)]
pub struct Repartition<'a> {
    pub handler: &'a str,
    pub partitions: u16,
    /// Another ordering key: source and path. `None`: as it is.
    pub key: Option<(&'a str, &'a [String])>,
    /// Only look; nothing is changed.
    pub is_dry: bool,
    pub actor: &'a str,
    pub because: Option<&'a str>,
}

/// The rows that have moved into other partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Moved {
    /// Partitions before.
    pub from: u16,
    /// Events without an outcome, over all partitions; they are delivered by the new ones.
    pub pending: u64,
    pub deliveries: u64,
}

/// Gives a handler another name. Returns the number of its subscriptions.
pub async fn rename_handler(
    pool: &PgPool,
    (old, new): (&str, &str),
    actor: &str,
    because: Option<&str>,
) -> Result<Rebuilt<u64>, StoreError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    // No relay registers meanwhile: it would take the new name for a new handler.
    subscriptions::lock_registration(&mut transaction).await?;
    if let Err(refused) = lock_unowned(&mut transaction, old).await? {
        return Ok(refused);
    }
    if subscriptions::list(&mut *transaction).await?.iter().any(|known| known.handler == new) {
        return Ok(Rebuilt::Taken);
    }
    // A correction is for a handler by its name; under another name it would be for nobody.
    let unread = count_unread_corrections(&mut transaction, old).await?;
    if unread > 0 {
        return Ok(Rebuilt::Corrections(unread));
    }
    let renamed: i64 = sqlx::query_scalar(include_str!("sql/rename_handler.sql"))
        .bind(old)
        .bind(new)
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::query("rename the handler"))?;
    let filter = serde_json::json!({ "from": old, "to": new }).to_string();
    let entry = AuditEntry {
        actor: Actor::cli(actor),
        action: "rename",
        handler: Some(new),
        filter: &filter,
        affected: renamed.unsigned_abs(),
        reason: because,
    };
    record_audit(&mut transaction, &entry).await?;
    ring_control(&mut *transaction).await?;
    commit(transaction).await?;
    Ok(Rebuilt::Done(renamed.unsigned_abs()))
}

/// Gives a handler another number of partitions, or another ordering key, or both.
pub async fn repartition(pool: &PgPool, wish: &Repartition<'_>) -> Result<Rebuilt<Moved>, StoreError> {
    let mut transaction = begin(pool).await?;
    lift_statement_timeout(&mut transaction).await?;
    subscriptions::lock_registration(&mut transaction).await?;
    if let Err(refused) = lock_unowned(&mut transaction, wish.handler).await? {
        return Ok(refused);
    }
    let known = subscriptions::list(&mut *transaction).await?;
    let Some(first) = known.iter().find(|known| known.handler == wish.handler) else { return Ok(Rebuilt::Unknown) };
    let low_seq: i64 = fetch(&mut transaction, include_str!("sql/read_last_seq.sql")).await?;
    // Behind the lock, so that it is no older than any stored position.
    let (snapshot, high_seq): (String, i64) = sqlx::query_as(include_str!("sql/read_moment.sql"))
        .fetch_one(&mut *transaction)
        .await
        .map_err(StoreError::query("read the snapshot"))?;
    let (first_seq, pending, settled, ranges): (Option<i64>, i64, Option<String>, i64) =
        sqlx::query_as(include_str!("sql/plan_repartition.sql"))
            .bind(wish.handler)
            .bind(&snapshot)
            .fetch_one(&mut *transaction)
            .await
            .map_err(StoreError::query("find what the partitions have not handled"))?;
    if ranges.unsigned_abs() > MOST_RANGES {
        return Ok(Rebuilt::Apart(pending.unsigned_abs()));
    }
    let mut moved = Moved { from: first.partitions, pending: pending.unsigned_abs(), deliveries: 0 };
    let (key_source, key_path) = wish.key.unwrap_or((&first.wants.key_source, &first.wants.key_path));
    execute(
        &mut transaction,
        sqlx::query(include_str!("sql/add_partitions.sql")).bind(wish.handler).bind(i32::from(wish.partitions)),
    )
    .await?;
    let place = sqlx::query(include_str!("sql/place_partitions.sql"))
        .bind(wish.handler)
        .bind(i32::from(wish.partitions))
        .bind(key_source)
        .bind(key_path)
        .bind(&snapshot)
        .bind(low_seq)
        .bind(high_seq)
        .bind(first_seq)
        .bind(settled);
    execute(&mut transaction, place).await?;
    if wish.key.is_some() {
        execute(&mut transaction, sqlx::query(include_str!("sql/rekey_deliveries.sql")).bind(wish.handler)).await?;
    }
    moved.deliveries = move_rows(&mut transaction, include_str!("sql/move_deliveries.sql"), wish.handler).await?;
    move_rows(&mut transaction, include_str!("sql/move_attempts.sql"), wish.handler).await?;
    move_rows(&mut transaction, include_str!("sql/move_replay_items.sql"), wish.handler).await?;
    execute(
        &mut transaction,
        sqlx::query(include_str!("sql/drop_partitions.sql")).bind(wish.handler).bind(i32::from(wish.partitions)),
    )
    .await?;
    if wish.is_dry {
        return Ok(Rebuilt::Done(moved)); // the transaction rolls back
    }
    let filter = serde_json::json!({ "from": moved.from, "to": wish.partitions, "pending": moved.pending }).to_string();
    let (handler, affected) = (Some(wish.handler), moved.deliveries);
    let entry = AuditEntry {
        actor: Actor::cli(wish.actor),
        action: "repartition",
        handler,
        filter: &filter,
        affected,
        reason: wish.because,
    };
    record_audit(&mut transaction, &entry).await?;
    ring_control(&mut *transaction).await?;
    commit(transaction).await?;
    Ok(Rebuilt::Done(moved))
}

/// Locks the subscriptions of a handler. `Err`: it is refused.
async fn lock_unowned<T>(connection: &mut PgConnection, handler: &str) -> Result<Result<(), Rebuilt<T>>, StoreError> {
    let rows: Vec<(i32, Option<String>)> = sqlx::query_as(include_str!("sql/lock_handler.sql"))
        .bind(handler)
        .fetch_all(connection)
        .await
        .map_err(StoreError::query("look at the leases of the handler"))?;
    if rows.is_empty() {
        return Ok(Err(Rebuilt::Unknown));
    }
    let mut owners: Vec<String> = rows.into_iter().filter_map(|(_, owner)| owner).collect();
    owners.sort();
    owners.dedup();
    Ok(if owners.is_empty() { Ok(()) } else { Err(Rebuilt::Owned(owners)) })
}

async fn fetch(connection: &mut PgConnection, statement: &'static str) -> Result<i64, StoreError> {
    sqlx::query_scalar(statement).fetch_one(connection).await.map_err(StoreError::query("read the sequence"))
}

async fn move_rows(connection: &mut PgConnection, statement: &'static str, handler: &str) -> Result<u64, StoreError> {
    let moved: i64 = sqlx::query_scalar(statement)
        .bind(handler)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("move what is recorded into its partition"))?;
    Ok(moved.unsigned_abs())
}

async fn execute(
    connection: &mut PgConnection,
    statement: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
) -> Result<(), StoreError> {
    statement.execute(connection).await.map(drop).map_err(StoreError::query("place the partitions of the handler"))
}
