//! The inbox: which events a receiver has already processed. Deliveries come at least once; with the mark in the receiver's own
//! transaction, their effect comes exactly once.

use sqlx::{AssertSqlSafe, PgConnection};

use super::Error;

/// Bytes that an index takes of each part of a mark.
const LONGEST: usize = 800;

/// Marks an event as handled by `receiver`, in the transaction of `connection`. `false`: it had been handled before, so do nothing and
/// commit, or roll back. `source` is where ids come from, for example the name of the service; `id` is the event's id as it was received.
///
/// Of concurrent calls for the same event one waits for the other: if that commits, it gets `false`; if it rolls back, `true`. The mark is
/// kept for `outbox.inbox_retention`, which has to be longer than the oldest event that anybody may still deliver.
///
/// ```
/// # use sqlx::PgConnection;
/// # async fn stock(connection: &mut PgConnection, event_id: &str) -> Result<(), outboxd::uow::Error> {
/// if outboxd::uow::inbox::once(connection, "stock", "shop", event_id).await? {
///     sqlx::query("update stock set reserved = reserved + 1 where sku = 'A'").execute(connection).await?;
/// }
/// # Ok(()) }
/// ```
pub async fn once(connection: &mut PgConnection, receiver: &str, source: &str, id: &str) -> Result<bool, Error> {
    once_in(connection, "outbox", receiver, source, id).await
}

/// [`once`] for an inbox that lives in another schema.
pub async fn once_in(connection: &mut PgConnection, schema: &str, receiver: &str, source: &str, id: &str) -> Result<bool, Error> {
    let mut statement = include_str!("../store/sql/mark_handled.sql").replace("outbox.inbox", &super::qualified(schema, "inbox"));
    if [receiver, source, id].iter().any(|part| part.len() > LONGEST) {
        // The function of the schema makes them short enough for an index, as it does for receivers in other languages. Only then, because
        // an application may be newer than its schema.
        let bounded = super::qualified(schema, "bounded_key");
        statement = statement.replace("($1, $2, $3)", &format!("({bounded}($1), {bounded}($2), {bounded}($3))"));
    }
    let marked = sqlx::query(AssertSqlSafe(statement)).bind(receiver).bind(source).bind(id).execute(connection).await?;
    Ok(marked.rows_affected() == 1)
}
