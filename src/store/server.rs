//! Properties of a server, for `check --connect`. Reads catalogues; changes nothing.

use sqlx::{PgExecutor, PgPool};

use super::StoreError;
use crate::domain::Timestamp;

/// A server as it presents itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Major version, for example 16.
    pub major: i32,
    pub version: String,
    /// A standby: its snapshots do not name the transactions in progress, so it cannot be read from.
    pub is_in_recovery: bool,
    pub database: String,
    pub encoding: String,
    /// Whether the schema holds an outbox.
    pub has_outbox: bool,
}

/// Asks the server about itself and about the outbox in `schema`.
pub async fn describe_server(pool: &PgPool, schema: &str) -> Result<Server, StoreError> {
    let query = sqlx::query_as(include_str!("sql/describe_server.sql")).bind(schema);
    let row = query.fetch_one(pool).await;
    let (major, version, is_in_recovery, database, encoding, has_outbox) =
        row.map_err(StoreError::query("read what the server is"))?;
    Ok(Server { major, version, is_in_recovery, database, encoding, has_outbox })
}

/// Whether a function of the `sql` kind exists with the arguments it is called with.
pub async fn has_function(pool: &PgPool, name: &str) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar(include_str!("sql/has_function.sql")).bind(name);
    query.fetch_one(pool).await.map_err(StoreError::query("look up a function"))
}

/// The moment by the clock of the database, which is the one for everything that is stored.
pub async fn read_now(pool: &PgPool) -> Result<Timestamp, StoreError> {
    let query = sqlx::query_scalar(include_str!("sql/read_now.sql"));
    query.fetch_one(pool).await.map_err(StoreError::query("read the clock of the database"))
}

/// When the server began to run, as it says. Another answer than before: it was restarted in between.
pub async fn read_server_start(executor: impl PgExecutor<'_>) -> Result<String, StoreError> {
    let query = sqlx::query_scalar(include_str!("sql/read_server_start.sql"));
    query.fetch_one(executor).await.map_err(StoreError::query("ask the server since when it runs"))
}
