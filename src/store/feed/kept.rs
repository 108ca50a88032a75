//! Cursors that clients leave to the server: one row for each client and name, changed by compare-and-set. What a cursor means is decided by
//! `feed`.

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::store::StoreError;

/// A cursor as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCursor {
    /// In the plain form.
    pub cursor: String,
    /// Another one with each change.
    pub revision: Uuid,
    pub moved_at: Timestamp,
}

/// The cursor of one client under one name.
#[derive(Debug, Clone, Copy)]
pub struct CursorKey<'a> {
    pub client: &'a str,
    pub name: &'a str,
}

/// Where a stored cursor is to go.
#[derive(Debug, Clone, Copy)]
pub struct CursorMove<'a> {
    pub place: i64,
    /// In the plain form.
    pub cursor: &'a str,
    /// The revision that the client has seen; `None`: any.
    pub seen: Option<Uuid>,
    pub may_go_back: bool,
}

/// A stored cursor as an operator looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCursor {
    pub client: String,
    pub name: String,
    pub cursor: String,
    pub moved_at: Timestamp,
    /// Places of the feed behind it.
    pub behind: u64,
    /// Time since the first event behind it happened; `None`: there is none.
    pub oldest: Option<std::time::Duration>,
}

/// The stored cursor and its place; `None`: there is none.
pub async fn read_client_cursor(pool: &PgPool, key: CursorKey<'_>) -> Result<Option<(StoredCursor, i64)>, StoreError> {
    let row = sqlx::query(include_str!("../sql/read_client_cursor.sql"))
        .bind(key.client)
        .bind(key.name)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("read the cursor of a client"))?;
    let decode = |row: &PgRow| Ok((stored(row)?, row.try_get("place")?));
    row.as_ref().map(decode).transpose().map_err(StoreError::query("understand the cursor of a client"))
}

/// Stores the first cursor under a name. `None`: there is one already.
pub async fn insert_client_cursor(
    pool: &PgPool,
    key: CursorKey<'_>,
    (place, cursor): (i64, &str),
) -> Result<Option<StoredCursor>, StoreError> {
    let row = sqlx::query(include_str!("../sql/insert_client_cursor.sql"))
        .bind(key.client)
        .bind(key.name)
        .bind(place)
        .bind(cursor)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("store the cursor of a client"))?;
    row.as_ref().map(stored).transpose().map_err(StoreError::query("understand the cursor of a client"))
}

/// Moves a cursor that is stored. `None`: there is none, it has another revision, or it would go back and may not.
pub async fn move_client_cursor(pool: &PgPool, key: CursorKey<'_>, to: CursorMove<'_>) -> Result<Option<StoredCursor>, StoreError> {
    let row = sqlx::query(include_str!("../sql/move_client_cursor.sql"))
        .bind(key.client)
        .bind(key.name)
        .bind(to.place)
        .bind(to.cursor)
        .bind(to.seen)
        .bind(to.may_go_back)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("move the cursor of a client"))?;
    row.as_ref().map(stored).transpose().map_err(StoreError::query("understand the cursor of a client"))
}

/// Removes a stored cursor. `false`: there is none, or it has another revision.
pub async fn remove_client_cursor(pool: &PgPool, key: CursorKey<'_>, seen: Option<Uuid>) -> Result<bool, StoreError> {
    let row = sqlx::query(include_str!("../sql/remove_client_cursor.sql"))
        .bind(key.client)
        .bind(key.name)
        .bind(seen)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("remove the cursor of a client"))?;
    Ok(row.is_some())
}

/// All stored cursors, by client and name.
pub async fn list_client_cursors(pool: &PgPool) -> Result<Vec<ListedCursor>, StoreError> {
    let rows = sqlx::query(include_str!("../sql/list_client_cursors.sql"))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("list the cursors of clients"))?;
    rows.iter().map(decode_listed).collect::<Result<_, _>>().map_err(StoreError::query("understand the cursors of clients"))
}

fn stored(row: &PgRow) -> Result<StoredCursor, sqlx::Error> {
    Ok(StoredCursor { cursor: row.try_get("cursor")?, revision: row.try_get("revision")?, moved_at: row.try_get("moved_at")? })
}

/// A row of `list_client_cursors`.
pub(in crate::store) fn decode_listed(row: &PgRow) -> Result<ListedCursor, sqlx::Error> {
    let oldest: Option<i64> = row.try_get(5)?;
    Ok(ListedCursor {
        client: row.try_get(0)?,
        name: row.try_get(1)?,
        cursor: row.try_get(2)?,
        moved_at: Timestamp::from_micros(row.try_get(3)?),
        behind: row.try_get::<i64, _>(4)?.unsigned_abs(),
        oldest: oldest.map(|micros| std::time::Duration::from_micros(micros.unsigned_abs())),
    })
}
