//! Reading the log: windows between snapshots, whole or page by page.
//! Reads only; what a window means for the position is decided by the reader.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, PgPool, Row};

use super::{StoreError, types};
use crate::domain::{EventFilter, Notification, OpenWindow, Ordering, Position, Snapshot, Timestamp};

/// What a subscription wants from the log, as the statements take it.
#[derive(Debug, Clone)]
pub struct Selection {
    type_patterns: Option<Vec<String>>,
    aggregate_types: Option<Vec<String>>,
    headers: Option<serde_json::Value>,
    key_source: &'static str,
    key_path: Vec<String>,
    partitions: i32,
    partition: i32,
}

impl Selection {
    pub fn new(filter: &EventFilter, ordering: &Ordering, partitions: u16, partition: u16) -> Self {
        let (key_source, key_path) = match ordering {
            Ordering::Aggregate => ("aggregate", Vec::new()),
            Ordering::Header(name) => ("header", vec![name.clone()]),
            Ordering::Payload(path) => ("payload", path.clone()),
            Ordering::None => ("none", Vec::new()),
        };
        Self {
            type_patterns: filter.type_patterns(),
            aggregate_types: filter.aggregate_types(),
            headers: filter.required_headers(),
            key_source,
            key_path,
            partitions: partitions.into(),
            partition: partition.into(),
        }
    }

    pub(super) fn type_patterns(&self) -> &Option<Vec<String>> {
        &self.type_patterns
    }

    pub(super) fn aggregate_types(&self) -> &Option<Vec<String>> {
        &self.aggregate_types
    }

    pub(super) fn headers(&self) -> &Option<serde_json::Value> {
        &self.headers
    }

    pub(super) fn key_source(&self) -> &'static str {
        self.key_source
    }

    pub(super) fn key_path(&self) -> &[String] {
        &self.key_path
    }

    pub(super) fn partitions(&self) -> i32 {
        self.partitions
    }

    pub(super) fn partition(&self) -> i32 {
        self.partition
    }
}

/// The moment of a read.
#[derive(Debug, Clone)]
pub struct Moment {
    pub snapshot: Snapshot,
    /// The sequence after the snapshot was taken.
    pub high_seq: i64,
    /// What is visible in the snapshot is durable once the server has flushed up to here.
    pub insert_lsn: i64,
    pub flush_lsn: i64,
    pub now: Timestamp,
}

/// What one read may take.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    pub rows: i64,
    pub bytes: i64,
}

/// A window, or as much of it as fits.
#[derive(Debug)]
pub struct WindowRead {
    pub moment: Moment,
    pub notifications: Vec<Box<Notification>>,
    /// There is more than the room allowed: page it, and drop what came.
    pub is_larger: bool,
}

/// Reads everything between `position` and now, in one statement.
pub async fn read_window(
    executor: impl PgExecutor<'_>,
    snapshot: &Snapshot,
    room: Room,
    selection: &Selection,
) -> Result<WindowRead, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_window.sql"))
        .bind(snapshot.as_str())
        .bind(room.rows)
        .bind(room.bytes)
        .bind(&selection.type_patterns)
        .bind(&selection.aggregate_types)
        .bind(&selection.headers)
        .bind(selection.key_source)
        .bind(&selection.key_path)
        .bind(selection.partitions)
        .bind(selection.partition)
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("read the log"))?;
    decode_window(&rows, room).map_err(StoreError::query("understand the log"))
}

fn decode_window(rows: &[PgRow], room: Room) -> Result<WindowRead, sqlx::Error> {
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (moment, events_at) = moment(first)?;
    let mut notifications = Vec::with_capacity(rows.len());
    let mut bytes: i64 = 0;
    for row in rows {
        if row.try_get::<Option<i64>, _>(events_at)?.is_some() {
            let (notification, next) = types::notification(row, events_at)?;
            bytes = row.try_get(next)?;
            notifications.push(notification);
        }
    }
    let is_larger = notifications.len() as i64 > room.rows || bytes >= room.bytes;
    Ok(WindowRead { moment, notifications, is_larger })
}

/// A frozen end of a window, and where its first row may be.
#[derive(Debug)]
pub struct OpenedWindow {
    pub moment: Moment,
    pub window: OpenWindow,
}

/// Freezes the end of the window that begins at `position`.
pub async fn open_window(connection: &mut PgConnection, position: &Position) -> Result<OpenedWindow, StoreError> {
    // Its own statement on purpose: a bound for what comes after the snapshot must be older than the snapshot.
    let low_seq: i64 = sqlx::query_scalar(include_str!("sql/read_last_seq.sql"))
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::query("read the sequence"))?;
    let row = sqlx::query(include_str!("sql/open_window.sql"))
        .bind(position.snapshot.as_str())
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("open a window of the log"))?;
    decode_opened(&row, position, low_seq).map_err(StoreError::query("understand the log"))
}

fn decode_opened(row: &PgRow, position: &Position, low_seq: i64) -> Result<OpenedWindow, sqlx::Error> {
    let (moment, next) = moment(row)?;
    let first_straggler: Option<i64> = row.try_get(next)?;
    let seq = first_straggler.map_or(position.low_seq, |seq| (seq - 1).min(position.low_seq));
    let window = OpenWindow { snapshot: moment.snapshot.clone(), low_seq, high_seq: moment.high_seq, seq };
    Ok(OpenedWindow { moment, window })
}

fn moment(row: &PgRow) -> Result<(Moment, usize), sqlx::Error> {
    let snapshot: String = row.try_get(0)?;
    let snapshot = snapshot.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let moment = Moment {
        snapshot,
        high_seq: row.try_get(1)?,
        insert_lsn: row.try_get(2)?,
        flush_lsn: row.try_get(3)?,
        now: row.try_get(4)?,
    };
    Ok((moment, 5))
}

/// Leaves out what is recorded already: in the first window after a take-over.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub subscription: i32,
    /// Settled without a row: an `int8multirange`.
    pub done: Option<String>,
    /// Nothing with a higher `seq` is settled.
    pub up_to: i64,
}

/// One page.
#[derive(Debug)]
pub struct Page {
    pub notifications: Vec<Box<Notification>>,
    /// Everything of the window up to and including this `seq` is in this or an earlier page.
    pub read_to: i64,
}

/// How many numbers one page looks at, at most: bounds the time of a page whatever the filter leaves.
const PAGE_SPAN: i64 = 50_000;

/// Reads the next page of an open window.
pub async fn read_page(
    pool: &PgPool,
    begin: &Snapshot,
    window: &OpenWindow,
    room: Room,
    selection: &Selection,
    recorded: Option<&Recorded>,
) -> Result<Page, StoreError> {
    // A backlog is one large window, and most of it lies beyond whatever the last owner can have reached.
    let recorded = recorded.filter(|recorded| window.seq < recorded.up_to);
    let rows = sqlx::query(include_str!("sql/read_page.sql"))
        .bind(begin.as_str())
        .bind(window.snapshot.as_str())
        .bind(window.seq)
        .bind(window.high_seq)
        .bind(PAGE_SPAN)
        .bind(room.rows)
        .bind(room.bytes)
        .bind(&selection.type_patterns)
        .bind(&selection.aggregate_types)
        .bind(&selection.headers)
        .bind(selection.key_source)
        .bind(&selection.key_path)
        .bind(selection.partitions)
        .bind(selection.partition)
        .bind(recorded.map(|recorded| recorded.subscription))
        .bind(recorded.and_then(|recorded| recorded.done.clone()))
        .fetch_all(pool)
        .await
        .map_err(StoreError::query("read a page of the log"))?;
    let mut page = Page { notifications: Vec::with_capacity(rows.len()), read_to: window.high_seq.min(window.seq + PAGE_SPAN) };
    let mut bytes: i64 = 0;
    for row in &rows {
        let (notification, next) = types::notification(row, 0).map_err(StoreError::query("understand the log"))?;
        bytes = row.try_get(next).map_err(StoreError::query("understand the log"))?;
        page.notifications.push(notification);
    }
    // What exactly fills the room may have been all there was: the next page will tell.
    let is_cut = rows.len() as i64 >= room.rows || bytes >= room.bytes;
    match page.notifications.last() {
        Some(last) if is_cut => page.read_to = last.seq,
        // A stretch without rows may be a jump of the sequence: one probe instead of a thousand empty pages.
        None if page.read_to < window.high_seq => page.read_to = skip_gap(pool, page.read_to, window.high_seq).await?,
        _ => {}
    }
    Ok(page)
}

async fn skip_gap(pool: &PgPool, after: i64, up_to: i64) -> Result<i64, StoreError> {
    let next: Option<i64> = sqlx::query_scalar(include_str!("sql/find_next_seq.sql"))
        .bind(after)
        .bind(up_to)
        .fetch_one(pool)
        .await
        .map_err(StoreError::query("find the next event"))?;
    Ok(next.map_or(up_to, |seq| seq - 1))
}

/// Waits for nothing: how far the server has flushed its log now.
pub async fn read_flush_lsn(executor: impl PgExecutor<'_>) -> Result<i64, StoreError> {
    sqlx::query_scalar(include_str!("sql/read_flush_lsn.sql"))
        .fetch_one(executor)
        .await
        .map_err(StoreError::query("read the flushed position"))
}

/// Makes the server flush its log, by a commit of our own.
pub async fn nudge_flush(executor: impl PgExecutor<'_>) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/nudge_flush.sql")).execute(executor).await.map_err(StoreError::query("flush the log"))?;
    Ok(())
}
