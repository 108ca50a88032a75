//! Transactions by their id: how a unit of work commits, and how to find out the outcome of a commit whose answer was lost.

use std::fmt;
use std::time::{Duration, Instant};

use sqlx::{PgConnection, PgPool, Postgres, Row, Transaction};

use super::{Error, RecordError};

/// The number of a transaction, as `pg_current_xact_id()` gives it. It is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub(super) u64);

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Between two looks at a transaction that is still being committed or undone by its server process.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long is asked in all.
const LOOK_FOR: Duration = Duration::from_secs(30);

/// Why the outcome of a transaction cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum Unknowable {
    /// The server has forgotten how it ended; it remembers the newest two thousand million or so.
    #[error("transaction {0} is too long ago for the server to remember")]
    Forgotten(TransactionId),
    /// It has not ended.
    #[error("transaction {0} has not ended: its server process still runs, or it is prepared")]
    Unfinished(TransactionId),
    /// The database did not answer.
    #[error("could not ask what became of transaction {transaction}: {reason}")]
    Unreachable {
        /// Which one.
        transaction: TransactionId,
        /// The error instead of an answer.
        reason: String,
    },
}

/// Whether a transaction was committed: the answer to a commit that [`Error::CommitUnknown`] says was lost. Asks for half a minute: what
/// lost the answer may still be there, and the server process may not have noticed yet that its client is gone.
pub async fn was_committed(pool: &PgPool, transaction: TransactionId) -> Result<bool, Unknowable> {
    let began = Instant::now();
    loop {
        let unknown = match status(pool, transaction).await.as_ref().map(Option::as_deref) {
            Ok(Some("committed")) => return Ok(true),
            Ok(Some("in progress")) => Unknowable::Unfinished(transaction),
            Ok(Some(_)) => return Ok(false),
            Ok(None) => return Err(Unknowable::Forgotten(transaction)),
            Err(cause) => Unknowable::Unreachable { transaction, reason: cause.to_string() },
        };
        if began.elapsed() > LOOK_FOR {
            return Err(unknown);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn status(pool: &PgPool, transaction: TransactionId) -> Result<Option<String>, sqlx::Error> {
    let asked = sqlx::query_scalar(include_str!("../store/sql/read_transaction_status.sql")).bind(transaction.to_string());
    match asked.fetch_one(pool).await {
        // A server that has never given out this number was promoted without having heard of it.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("22023") => Ok(Some("aborted".to_owned())),
        answer => answer,
    }
}

/// Name of a setting that no server has, so that asking for it fails, and says why: see `read_marked_transaction.sql`.
const ENDED: &str = "outboxd.the_transaction_of_the_unit_of_work_has_ended";

/// Marks a transaction as that of a unit of work; see [`current`].
pub(super) async fn mark(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::raw_sql(super::options::MARK).execute(connection).await.map(drop).map_err(Error::Begin)
}

/// The refusal of a statement that found the mark gone.
pub(super) fn explain(error: RecordError) -> Error {
    let has_ended = error.cause.as_database_error().is_some_and(|refusal| refusal.message().contains(ENDED));
    if has_ended { Error::Ended } else { error.into() }
}

/// The same, of any statement of the unit of work that asks for the mark.
pub(super) fn explain_statement(error: sqlx::Error) -> Error {
    let has_ended = error.as_database_error().is_some_and(|refusal| refusal.message().contains(ENDED));
    if has_ended { Error::Ended } else { error.into() }
}

/// The number of the running transaction; `None` if it has written nothing. Fails if it is not the one that was marked: a handler that says
/// COMMIT or ROLLBACK by itself ends the transaction, and what follows runs outside of it, or in another one.
pub(super) async fn current(connection: &mut PgConnection) -> Result<Option<TransactionId>, Error> {
    let row = sqlx::query(include_str!("../store/sql/read_transaction_id.sql")).fetch_one(connection).await?;
    if row.try_get::<Option<String>, _>(1)?.as_deref() != Some("open") {
        return Err(Error::Ended);
    }
    let id: Option<String> = row.try_get(0)?;
    id.map(|id| parse(&id)).transpose()
}

pub(super) fn parse(id: &str) -> Result<TransactionId, Error> {
    id.parse().map(TransactionId).map_err(|error| Error::Statement(sqlx::Error::Decode(Box::new(error))))
}

/// Commits. `Err`: the transaction was undone. `Ok(Some(_))`: the answer was lost, and the outcome is unknown.
pub(super) async fn commit(running: Transaction<'static, Postgres>) -> Result<Option<sqlx::Error>, Error> {
    match running.commit().await {
        Ok(()) => Ok(None),
        Err(refusal) if is_refusal(&refusal) => Err(Error::Commit(refusal)),
        Err(lost) => Ok(Some(lost)),
    }
}

/// The server itself said that it did not commit. A terminated server process may say so after it has committed.
fn is_refusal(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().is_none_or(|code| !code.starts_with("57P")))
}
