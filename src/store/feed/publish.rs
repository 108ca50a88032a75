//! Publishing: one statement reads a window or a page of it, gives the events their places and moves the position. No payload
//! leaves Postgres. A lost lease writes nothing.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgExecutor, Row};

use crate::domain::{OpenWindow, Snapshot};
use crate::store::{Fence, PAGE_SPAN, StoreError};

/// The result of [`begin_epoch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// That of the server, as eight hexadecimal digits.
    pub timeline: String,
    /// The places belong to another history from now on.
    pub has_begun: bool,
}

/// Begins a new history of the places if the server is another one than before. Called before the first place is given.
pub async fn begin_epoch(executor: impl PgExecutor<'_>, fence: Fence) -> Result<Epoch, StoreError> {
    begin(executor, Some(fence), None).await
}

/// The same in a rebase, where the server may be the same and the history is another one. An outbox without a feed stays without one.
pub(in crate::store) async fn begin_epoch_of_rebase(executor: impl PgExecutor<'_>) -> Result<Epoch, StoreError> {
    begin(executor, None, Some("rebase")).await
}

async fn begin(executor: impl PgExecutor<'_>, fence: Option<Fence>, why: Option<&str>) -> Result<Epoch, StoreError> {
    let row = sqlx::query(include_str!("../sql/begin_feed_epoch.sql"))
        .bind(fence.map(|fence| fence.subscription))
        .bind(fence.map(|fence| fence.epoch))
        .bind(why)
        .fetch_one(executor)
        .await
        .map_err(StoreError::query("begin an epoch of the feed"))?;
    let epoch = || Ok(Epoch { timeline: row.try_get(0)?, has_begun: row.try_get(1)? });
    epoch().map_err(StoreError::query("understand an epoch of the feed"))
}

/// The result of publishing a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedWindow {
    /// Events in the window, wanted or not. More than were allowed: nothing was written, read it by pages.
    pub rows: i64,
    /// Events that have a place now.
    pub places: u64,
    /// False: the window was empty or larger than allowed, or the fence did not hold.
    pub is_moved: bool,
    /// False: the server is on another timeline than when the publisher began. Nothing was written.
    pub is_same_timeline: bool,
    /// The sequence after the end of the window was taken.
    pub high_seq: i64,
    pub end: Snapshot,
    /// The last place that was given by this statement.
    pub last_place: Option<i64>,
}

/// Publishes everything between `begin` and now, at most `rows` events. `moves_over_nothing`: store the position of an empty window, too.
pub async fn publish_window(
    connection: &mut PgConnection,
    fence: Fence,
    begin: &Snapshot,
    rows: i64,
    type_patterns: Option<&[String]>,
    timeline: &str,
    moves_over_nothing: bool,
) -> Result<PublishedWindow, StoreError> {
    let row = sqlx::query(include_str!("../sql/publish_window.sql"))
        .bind(fence.subscription)
        .bind(fence.epoch)
        .bind(begin.as_str())
        .bind(rows)
        .bind(type_patterns)
        .bind(timeline)
        .bind(moves_over_nothing)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("publish a window of the feed"))?;
    window(&row).map_err(StoreError::query("understand what was published"))
}

fn window(row: &PgRow) -> Result<PublishedWindow, sqlx::Error> {
    let end: String = row.try_get("snapshot")?;
    Ok(PublishedWindow {
        rows: row.try_get("rows")?,
        places: row.try_get::<i64, _>("places")?.unsigned_abs(),
        is_moved: row.try_get("is_moved")?,
        is_same_timeline: row.try_get("is_same_timeline")?,
        high_seq: row.try_get("high_seq")?,
        end: end.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        last_place: row.try_get("last_place")?,
    })
}

/// A page to publish.
#[derive(Debug, Clone, Copy)]
pub struct PublishingPage<'a> {
    /// Events that are visible in it were published before the window.
    pub begin: &'a Snapshot,
    pub window: &'a OpenWindow,
    /// The window was opened now and is not part of the stored position yet.
    pub is_new: bool,
    pub rows: i64,
    /// The headers of its events can be read. Otherwise a correction gets a place like any other event.
    pub reads_headers: bool,
}

/// The result of publishing a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPage {
    pub places: u64,
    /// False: the fence did not hold, and nothing was written.
    pub is_moved: bool,
    pub is_same_timeline: bool,
    /// Everything of the window up to and including this `seq` has its place.
    pub read_to: i64,
    pub last_place: Option<i64>,
}

/// Publishes the next page of an open window.
pub async fn publish_page(
    connection: &mut PgConnection,
    fence: Fence,
    page: &PublishingPage<'_>,
    type_patterns: Option<&[String]>,
    timeline: &str,
) -> Result<PublishedPage, StoreError> {
    let PublishingPage { begin, window, is_new, rows, reads_headers } = page;
    let row = sqlx::query(include_str!("../sql/publish_page.sql"))
        .bind(fence.subscription)
        .bind(fence.epoch)
        .bind(begin.as_str())
        .bind(window.snapshot.as_str())
        .bind(window.seq)
        .bind(window.high_seq)
        .bind(window.low_seq)
        .bind(PAGE_SPAN)
        .bind(rows)
        .bind(type_patterns)
        .bind(timeline)
        .bind(is_new)
        .bind(reads_headers)
        .fetch_one(connection)
        .await
        .map_err(StoreError::query("publish a page of the feed"))?;
    page_of(&row).map_err(StoreError::query("understand what was published"))
}

fn page_of(row: &PgRow) -> Result<PublishedPage, sqlx::Error> {
    Ok(PublishedPage {
        places: row.try_get::<i64, _>("places")?.unsigned_abs(),
        is_moved: row.try_get("is_moved")?,
        is_same_timeline: row.try_get("is_same_timeline")?,
        read_to: row.try_get("read_to")?,
        last_place: row.try_get("last_place")?,
    })
}
