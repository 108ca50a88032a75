//! Events that cannot be read out, or whose ordering key cannot be taken: what is known of them, for their dead letters. Decides
//! nothing; the loop that reads one makes it a dead letter.
//!
//! Data that producers and receivers wrote can make a statement fail (SQLSTATE classes 22, 23 and 54), and repeating the
//! statement would fail for ever. So bad data must end as a dead letter and not as an outage:
//!
//! - Keys. The SQL function `quick_key` fails on a payload with `\u0000` or with half of a surrogate pair. It costs nothing, so a
//!   loop reads with it first. If the read fails, the loop reads again with `ordering_key`, which never fails and takes the key
//!   wherever there is one. An event whose key cannot be taken becomes a dead letter (`unreadable`). `bounded_key` makes every
//!   key short enough for an index, in the one place where keys are read.
//! - Reading. If that read fails, too, `relay::narrowing` finds the event.
//! - Recording. `store::text` removes NUL from the texts of others and bounds them. If Postgres refuses a flush all the same,
//!   `store::refused` writes it in parts.

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::{OpenedPage, StoreError, windows::Selection};
use crate::domain::Notification;

/// An event that a handler cannot be given, and why.
#[derive(Debug)]
pub struct Unreadable {
    /// As far as the event could be read; see [`Notification::unread`].
    pub notification: Box<Notification>,
    /// The cause, for display.
    pub cause: String,
    /// The row itself shows what is wrong. Otherwise a statement failed, and this event is what it was narrowed down to.
    pub is_certain: bool,
}

impl Unreadable {
    /// An event of whose row the driver could not understand something; `at` is the column of its number. Fails where not even its number
    /// and id can be understood.
    pub(super) fn undecoded(row: &PgRow, at: usize, cause: &sqlx::Error) -> Result<Self, sqlx::Error> {
        let notification = Notification::unread(row.try_get(at)?, row.try_get(at + 1)?);
        Ok(Self {
            notification: Box::new(notification),
            cause: format!("its row could not be understood: {cause}"),
            is_certain: false,
        })
    }

    /// An event with a key that no text can hold.
    pub(super) fn without_key(notification: Box<Notification>, selection: &Selection) -> Self {
        let cause = format!(
            "its ordering key, {}, cannot be taken: the value has an escape such as \\u0000 or half of a surrogate pair, which stands for no \
             character, or the payload is nested too deeply",
            selection.describe_key()
        );
        Self { notification, cause, is_certain: true }
    }
}

/// The event that a page could not be read because of. `None`: the handler does not want it, it is another partition's, or it has an outcome.
/// Where that cannot be known with its key, the partition that has events without a key takes it; where it cannot be known at all, every
/// handler takes it to be wanted. Each of these fails for all partitions alike, so that exactly one of them has it.
pub async fn read_unreadable(
    pool: &PgPool,
    seq: i64,
    page: &OpenedPage<'_>,
    cause: &StoreError,
) -> Result<Option<Unreadable>, StoreError> {
    let mut id = find(pool, seq, page, page.selection).await;
    for selection in [page.selection.without_key(), page.selection.of_everything()] {
        if !matches!(&id, Err(error) if error.is_about_data()) {
            break;
        }
        id = find(pool, seq, page, &selection).await;
    }
    let Some(id) = id.map_err(|error| error.at_seq(seq))? else { return Ok(None) };
    let cause = format!("it could not be read: {}", cause.innermost());
    Ok(Some(Unreadable { notification: Box::new(Notification::unread(seq, id)), cause, is_certain: false }))
}

async fn find(pool: &PgPool, seq: i64, page: &OpenedPage<'_>, selection: &Selection) -> Result<Option<Uuid>, StoreError> {
    sqlx::query_scalar(include_str!("sql/read_unreadable.sql"))
        .bind(seq)
        .bind(page.begin.as_str())
        .bind(page.window.snapshot.as_str())
        .bind(selection.type_patterns())
        .bind(selection.aggregate_types())
        .bind(selection.headers())
        .bind(selection.partitions())
        .bind(selection.partition())
        .bind(page.recorded.map(|recorded| recorded.subscription))
        .bind(page.recorded.and_then(|recorded| recorded.done.clone()))
        .bind(selection.key_source())
        .bind(selection.key_path())
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("read an event that cannot be read as a whole"))
}
