//! Reading the log: windows between snapshots, whole or in pages. Reads only; `relay::reader` decides what a window means for the
//! position. `domain::position` explains why positions are snapshots, with the proof.
//!
//! - One statement. A window's snapshot and its rows come from one statement in autocommit (`read_window.sql`). Two statements
//!   would see two snapshots, and an event committed between them would be lost.
//! - Two arms: new transactions as a range of the index `(tx, seq)`, stragglers one by one through the same index.
//! - Large windows (after downtime, or one huge transaction) are frozen: `open_window.sql` fixes the end snapshot, and
//!   `read_page.sql` reads by `seq`. A page looks at 50,000 sequence numbers at most, so a selective filter cannot make it long.
//! - Below the bound. Rows of a window usually have a `seq` above `low_seq` of the position. Two kinds of rows may have a lower
//!   one, and `open_window.sql` looks for both: rows of transactions that the snapshot lists as running, and rows of transactions
//!   that ran at or above its `xmax`. `xmax` is one past the highest transaction id that had *completed*; the snapshot does not
//!   list the running transactions above it. There are no more of them than the server can run at once.
//!
//! Keys: the statements read with `quick_key`, which fails on some payloads, and again with `ordering_key` if it does
//! (`store::unreadable`). A long file: the statements of windows and pages, and what their rows mean, stand together.

use std::sync::LazyLock;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, PgPool, Row};

use super::{StoreError, Unreadable, types};
use crate::domain::{EventFilter, Notification, OpenWindow, Ordering, Position, Snapshot, Timestamp};

/// The filter, the key and the partition of a subscription, as the statements take them.
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

    /// Where the key comes from, as the configuration writes it.
    pub(super) fn describe_key(&self) -> String {
        match self.key_path.is_empty() {
            true => self.key_source.to_owned(),
            false => format!("{}:{}", self.key_source, self.key_path.join(".")),
        }
    }

    /// The same without looking at keys: the partition is that of events which have none.
    pub(super) fn without_key(&self) -> Self {
        Self { key_source: "none", key_path: Vec::new(), ..self.clone() }
    }

    /// The same partition, with nothing that looks into an event.
    pub(super) fn of_everything(&self) -> Self {
        Self { type_patterns: None, aggregate_types: None, headers: None, ..self.without_key() }
    }
}

/// How the key of an event is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// For nothing; the statement fails on a payload with an escape for no character.
    Quick,
    /// Takes the key of every event that has one, and reports the others.
    Certain,
}

/// A reading statement for either way.
struct Statement {
    quick: &'static str,
    certain: LazyLock<String>,
}

impl Statement {
    fn text(&'static self, keys: Keys) -> &'static str {
        match keys {
            Keys::Quick => self.quick,
            Keys::Certain => &self.certain,
        }
    }
}

static READ_WINDOW: Statement = Statement {
    quick: include_str!("sql/read_window.sql"),
    certain: LazyLock::new(|| certain(include_str!("sql/read_window.sql"), "$7", "$8")),
};
static READ_PAGE: Statement = Statement {
    quick: include_str!("sql/read_page.sql"),
    certain: LazyLock::new(|| certain(include_str!("sql/read_page.sql"), "$11", "$12")),
};

/// The statement with the key that never fails. Of what has none it asks whether there is one that no text can hold.
fn certain(quick: &str, source: &str, path: &str) -> String {
    let told = format!(
        "case when e.key is null and {source} = 'payload' then (readable_key(e.payload, {path})).is_unreadable else false end as is_unreadable"
    );
    quick.replace("quick_key(", "ordering_key(").replace("false as is_unreadable", &told)
}

/// The moment of a read.
#[derive(Debug, Clone)]
pub struct Moment {
    pub snapshot: Snapshot,
    /// The sequence after the snapshot was taken.
    pub high_seq: i64,
    /// Rows that are visible in the snapshot are durable once the server has flushed up to here.
    pub insert_lsn: i64,
    pub flush_lsn: i64,
    pub now: Timestamp,
}

/// The room of one read.
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
    /// Of the same window, in order.
    pub unreadable: Vec<Unreadable>,
    /// There is more than the room allowed: page it, and drop what came.
    pub is_larger: bool,
}

/// The bounds of a window.
#[derive(Debug, Clone, Copy)]
pub struct WindowBounds<'a> {
    pub begin: &'a Snapshot,
    /// A snapshot that contains `begin`; `None`: now.
    pub end: Option<&'a Snapshot>,
}

/// Reads everything between two moments, in one statement. The moment that it gives is that of the end.
pub async fn read_window(
    connection: &mut PgConnection,
    bounds: WindowBounds<'_>,
    room: Room,
    selection: &Selection,
) -> Result<WindowRead, StoreError> {
    match try_window(connection, bounds, room, selection, Keys::Quick).await {
        Err(error) if error.is_about_data() => try_window(connection, bounds, room, selection, Keys::Certain).await,
        read => read,
    }
}

async fn try_window(
    connection: &mut PgConnection,
    WindowBounds { begin, end }: WindowBounds<'_>,
    room: Room,
    selection: &Selection,
    keys: Keys,
) -> Result<WindowRead, StoreError> {
    let rows = sqlx::query(READ_WINDOW.text(keys))
        .bind(begin.as_str())
        .bind(room.rows)
        .bind(room.bytes)
        .bind(&selection.type_patterns)
        .bind(&selection.aggregate_types)
        .bind(&selection.headers)
        .bind(selection.key_source)
        .bind(&selection.key_path)
        .bind(selection.partitions)
        .bind(selection.partition)
        .bind(end.map(Snapshot::as_str))
        .fetch_all(connection)
        .await
        .map_err(StoreError::query("read the log"))?;
    decode_window(&rows, room, selection).map_err(StoreError::query("understand the log"))
}

fn decode_window(rows: &[PgRow], room: Room, selection: &Selection) -> Result<WindowRead, sqlx::Error> {
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (moment, events_at) = moment(first)?;
    let is_empty = first.try_get::<Option<i64>, _>(events_at)?.is_none();
    let decoded = decode_events(if is_empty { &[] } else { rows }, events_at, selection)?;
    let is_larger = decoded.rows > room.rows || decoded.bytes >= room.bytes;
    Ok(WindowRead { moment, notifications: decoded.notifications, unreadable: decoded.unreadable, is_larger })
}

/// Events as a reading statement returns them.
struct Decoded {
    notifications: Vec<Box<Notification>>,
    unreadable: Vec<Unreadable>,
    rows: i64,
    bytes: i64,
    last_seq: Option<i64>,
}

fn decode_events(rows: &[PgRow], at: usize, selection: &Selection) -> Result<Decoded, sqlx::Error> {
    let (mut notifications, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        match types::notification(row, at) {
            Ok((notification, next)) if row.try_get(next + 1)? => unreadable.push(Unreadable::without_key(notification, selection)),
            Ok((notification, _)) => notifications.push(notification),
            Err(error) => unreadable.push(Unreadable::undecoded(row, at, &error)?),
        }
    }
    let last = rows.last();
    let bytes = last.map(|row| row.try_get(at + types::EVENT_COLUMNS)).transpose()?.unwrap_or(0);
    let last_seq = last.map(|row| row.try_get(at)).transpose()?;
    Ok(Decoded { notifications, unreadable, rows: rows.len() as i64, bytes, last_seq })
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

/// This moment, as a position after everything that is visible now.
pub async fn read_end(connection: &mut PgConnection) -> Result<Position, StoreError> {
    let low_seq: i64 = sqlx::query_scalar(include_str!("sql/read_last_seq.sql"))
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::query("read the sequence"))?;
    let row = sqlx::query(include_str!("sql/read_end.sql"))
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("read the end of the log"))?;
    let (Moment { snapshot, high_seq, .. }, _) = moment(&row).map_err(StoreError::query("understand the end of the log"))?;
    Ok(Position { snapshot, low_seq, high_seq, window: None })
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
    /// Of the same page, in order.
    pub unreadable: Vec<Unreadable>,
    /// Everything of the window up to and including this `seq` is in this or an earlier page.
    pub read_to: i64,
}

/// How many numbers one page looks at, at most: bounds the time of a page whatever the filter leaves.
pub const PAGE_SPAN: i64 = 50_000;

/// The window and the bounds of a page.
#[derive(Debug, Clone, Copy)]
pub struct OpenedPage<'a> {
    /// Rows that are visible in it were read before the window.
    pub begin: &'a Snapshot,
    pub window: &'a OpenWindow,
    pub room: Room,
    pub selection: &'a Selection,
    pub recorded: Option<&'a Recorded>,
}

/// Reads the next page of an open window, of the next `span` numbers at most.
pub async fn read_page(pool: &PgPool, page: &OpenedPage<'_>, span: i64) -> Result<Page, StoreError> {
    match try_page(pool, page, span, Keys::Quick).await {
        Err(error) if error.is_about_data() => try_page(pool, page, span, Keys::Certain).await,
        read => read,
    }
}

async fn try_page(pool: &PgPool, page: &OpenedPage<'_>, span: i64, keys: Keys) -> Result<Page, StoreError> {
    let OpenedPage { begin, window, room, selection, recorded } = page;
    // A backlog is one large window, and most of it lies beyond whatever the last owner can have reached.
    let recorded = recorded.filter(|recorded| window.seq < recorded.up_to);
    let rows = sqlx::query(READ_PAGE.text(keys))
        .bind(begin.as_str())
        .bind(window.snapshot.as_str())
        .bind(window.seq)
        .bind(window.high_seq)
        .bind(span)
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
    let decoded = decode_events(&rows, 0, selection).map_err(StoreError::query("understand the log"))?;
    let mut read_to = window.high_seq.min(window.seq + span);
    // A page that exactly fills the room may have been the last one: the next page shows it.
    let is_cut = decoded.rows >= room.rows || decoded.bytes >= room.bytes;
    match decoded.last_seq {
        Some(last) if is_cut => read_to = last,
        // A stretch without rows may be a jump of the sequence: one probe instead of a thousand empty pages.
        None if read_to < window.high_seq => read_to = skip_gap(pool, read_to, window.high_seq).await?,
        _ => {}
    }
    Ok(Page { notifications: decoded.notifications, unreadable: decoded.unreadable, read_to })
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
