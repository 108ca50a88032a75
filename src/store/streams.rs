//! Streams as operators and clients read them: heads, pages of events, and faults. Changes nothing.
//!
//! An event of a stream is a row of `events` like any other; `streams`, `stream_events` and `stream_states` (migration 5) stand
//! beside the log. `append_events` moves the head of the stream first and inserts after that. The row lock on the head therefore
//! orders the writers of a stream, and its sequence numbers rise with its versions. A sequence number that changes in a rebase
//! changes in `stream_events`, too (`number_anew.sql`).

use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Row};

use super::audit::lift_statement_timeout;
use super::remains::Remains;
use super::{StoreError, begin, types};
use crate::domain::{Notification, Timestamp};

/// A stream, without its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHead {
    pub id: i64,
    pub version: i64,
    pub archived_at: Option<Timestamp>,
    pub states: Vec<KeptState>,
}

/// A folded state that an application keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptState {
    pub shape: i32,
    pub version: i64,
}

/// A part of a stream.
#[derive(Debug, Clone, Copy)]
pub struct StreamPage {
    /// The version before the first that is wanted.
    pub after: i64,
    pub up_to: i64,
    pub versions: i64,
    /// Bytes of payloads; the first event may be larger.
    pub bytes: i64,
}

/// One version of a stream; without an event if it was erased.
#[derive(Debug)]
pub struct StreamEvent {
    pub version: i64,
    pub event: Option<Box<Notification>>,
    /// Why the server cannot read the event out as a whole. Payload, headers or aggregate are missing then.
    pub damage: Option<String>,
}

/// A fault of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamFault {
    /// Number of the stream in the tables.
    pub stream: i64,
    /// `None`: there is no such stream.
    #[serde(rename = "type")]
    pub stream_type: Option<String>,
    pub key: Option<String>,
    /// `gap`, `no_event`, `other_event`, `head`, `no_stream` or `state`.
    pub fault: String,
    /// The first version that it concerns.
    pub version: i64,
    pub count: i64,
}

/// All streams, looked through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedStreams {
    pub streams: i64,
    pub versions: i64,
    /// At most as many as were asked for.
    pub faults: Vec<StreamFault>,
}

/// Reads where a stream stands. `None`: there is no such stream.
pub async fn read_stream_head(
    executor: impl PgExecutor<'_>,
    stream_type: &str,
    key: &str,
) -> Result<Option<StreamHead>, StoreError> {
    let row = sqlx::query(include_str!("sql/read_stream_head.sql"))
        .bind(stream_type)
        .bind(key)
        .fetch_optional(executor)
        .await
        .map_err(StoreError::query("read where a stream stands"))?;
    row.as_ref().map(head).transpose().map_err(StoreError::query("understand where a stream stands"))
}

fn head(row: &PgRow) -> Result<StreamHead, sqlx::Error> {
    let (shapes, versions): (Vec<i32>, Vec<i64>) = (row.try_get("shapes")?, row.try_get("state_versions")?);
    Ok(StreamHead {
        id: row.try_get("id")?,
        version: row.try_get("version")?,
        archived_at: row.try_get("archived_at")?,
        states: shapes.into_iter().zip(versions).map(|(shape, version)| KeptState { shape, version }).collect(),
    })
}

/// Reads a page of a stream. If one of its events is damaged, the page ends before it, or has what is left of it alone.
pub async fn read_stream_events(pool: &PgPool, stream: i64, page: StreamPage) -> Result<Vec<StreamEvent>, StoreError> {
    let mut page = page;
    loop {
        match try_stream_events(pool, stream, page, &Remains::default()).await {
            Err(error) if error.is_about_data() && page.versions > 1 => page.versions /= 2,
            Err(error) if error.is_about_data() => return read_stream_remains(pool, stream, page).await,
            read => return read,
        }
    }
}

async fn read_stream_remains(pool: &PgPool, stream: i64, page: StreamPage) -> Result<Vec<StreamEvent>, StoreError> {
    let mut remains = Remains::default();
    loop {
        match try_stream_events(pool, stream, page, &remains).await {
            Ok(events) => {
                return Ok(events.into_iter().map(|event| StreamEvent { damage: remains.damage.clone(), ..event }).collect());
            }
            Err(error) => remains.leave_out_more(error)?,
        }
    }
}

async fn try_stream_events(
    pool: &PgPool,
    stream: i64,
    page: StreamPage,
    remains: &Remains,
) -> Result<Vec<StreamEvent>, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_stream_events.sql"))
        .bind(stream)
        .bind(page.after)
        .bind(page.up_to)
        .bind(page.versions)
        .bind(page.bytes)
        .bind(remains.left_out())
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read a page of a stream"))?;
    rows.iter().map(event).collect::<Result<_, _>>().map_err(StoreError::query("understand a page of a stream"))
}

fn event(row: &PgRow) -> Result<StreamEvent, sqlx::Error> {
    let is_there = row.try_get::<Option<i64>, _>(1)?.is_some();
    let event = is_there.then(|| types::notification(row, 1)).transpose()?;
    Ok(StreamEvent { version: row.try_get(0)?, event: event.map(|(event, _)| event), damage: None })
}

/// Examines all streams. Reports at most so many faults.
pub async fn verify_streams(pool: &PgPool, limit: u32) -> Result<VerifiedStreams, StoreError> {
    let error = || StoreError::query("verify the streams");
    let mut transaction = begin(pool).await?;
    // All of them are looked at.
    lift_statement_timeout(&mut transaction).await?;
    let counted = sqlx::query(include_str!("sql/count_streams.sql")).fetch_one(&mut *transaction).await.map_err(error())?;
    let rows = sqlx::query(include_str!("sql/verify_streams.sql")).bind(i64::from(limit)).fetch_all(&mut *transaction).await;
    let verified = || {
        Ok(VerifiedStreams {
            streams: counted.try_get("streams")?,
            versions: counted.try_get("versions")?,
            faults: rows?.iter().map(fault).collect::<Result<_, _>>()?,
        })
    };
    verified().map_err(error())
}

fn fault(row: &PgRow) -> Result<StreamFault, sqlx::Error> {
    Ok(StreamFault {
        stream: row.try_get("stream")?,
        stream_type: row.try_get("type")?,
        key: row.try_get("key")?,
        fault: row.try_get("fault")?,
        version: row.try_get("version")?,
        count: row.try_get("count")?,
    })
}
