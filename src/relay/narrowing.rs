//! Narrowing: if a page cannot be read because of one of its events, the reader halves the page until that event is found, reads
//! up to before it, and reports it as unreadable. The loop makes it a dead letter.
//!
//! A page without any sequence number is tried first. If that fails, the statement is at fault and no event, and the loop ends
//! with the error. After 200 unreadable events in a row a handler stops (`MOST_UNREADABLE` in `relay`), because so many point to
//! the server, the schema or outboxd.
//!
//! This is the last line of defence. The statements themselves read around data that is known to make trouble
//! (`store::unreadable`).

use sqlx::PgPool;

use crate::store::{self, OpenedPage, PAGE_SPAN, Page, StoreError};

/// Reads a page that has just failed with `cause`: everything before the first event that makes it fail, and that event as unreadable.
/// Fails itself if no event is to blame, but the statement.
pub async fn read_around(pool: &PgPool, opened: &OpenedPage<'_>, cause: StoreError) -> Result<Page, StoreError> {
    let from = opened.window.seq;
    // The numbers behind `from`: up to `readable` they can be read, up to `failing` they cannot.
    let (mut readable, mut failing, mut cause) = (0, PAGE_SPAN.min(opened.window.high_seq - from), cause);
    // Of no number at all: what fails even then has been asked for wrongly, and no event must become a dead letter for that.
    let mut page = store::read_page(pool, opened, 0).await?;
    while failing - readable > 1 {
        let span = readable + (failing - readable) / 2;
        match store::read_page(pool, opened, span).await {
            // The room was full before the event.
            Ok(read) if read.read_to < from + span => return Ok(read),
            Ok(read) => {
                readable = read.read_to - from;
                page = read;
            }
            Err(error) if error.is_about_data() => (failing, cause) = (span, error),
            Err(error) => return Err(error),
        }
    }
    let seq = from + failing;
    page.unreadable.extend(store::read_unreadable(pool, seq, opened, &cause).await?);
    page.read_to = seq;
    Ok(page)
}
