//! Reading ahead: the next segment of the log after the reading head, durable before it is dispatched. Remembers nothing: the
//! head is an argument, and the result says where the segment ends. `domain::position` explains windows.
//!
//! A window with room is read whole, in one statement. A larger one is opened and read in pages, and so is every window until a
//! new owner has passed what its predecessor may have settled: pages can leave out recorded events.
//!
//! The durability gate. With `synchronous_commit = off` a row is visible before it is on disk. A crash of the server would take
//! back an event that was already delivered. So the read returns the insert position of the server's write-ahead log at that
//! moment, and nothing is dispatched before the flushed position has passed it. If no other session commits, the reader commits
//! some forty bytes itself to move the flushed position (`nudge_flush`).
//!
//! The read and the wait use one connection, and it ends with the server. Another connection, opened after a crash, could report
//! a log that has grown past that moment again without the rows that were read. The position itself is written later into the
//! same log, so a position that survives a crash knows only transactions that survived it, too.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use super::narrowing;
use crate::domain::{Notification, OpenWindow, Position, Timestamp};
use crate::failpoints::failpoint;
use crate::store::{self, Moment, OpenedPage, PAGE_SPAN, Recorded, Room, Selection, StoreError, Unreadable, WindowBounds};

/// How to read.
#[derive(Debug, Clone)]
pub struct Plan {
    pub head: Position,
    /// Read no further than to this position, of which the head is a part; `None`: to now. Larger windows end where they do.
    pub until: Option<Position>,
    pub room: Room,
    /// Leave out what is recorded already: after a take-over.
    pub recorded: Option<Recorded>,
    /// The last window was large: do not try to read the next one whole.
    pub expects_large: bool,
    pub durability_gate: bool,
}

/// The result of a read.
#[derive(Debug)]
pub struct Segment {
    pub notifications: Vec<Box<Notification>>,
    /// Events of it that cannot be given to a handler.
    pub unreadable: Vec<Unreadable>,
    /// Where the log goes on; equal to the head if nothing may be concluded.
    pub end: Position,
    /// The window goes on behind this segment.
    pub has_more: bool,
    /// A page of a window that was opened now, not before.
    pub opened_now: bool,
    /// The clock of the database, where the read returned it.
    pub now: Option<Timestamp>,
}

/// Reads the next segment.
pub async fn read_segment(pool: PgPool, selection: std::sync::Arc<Selection>, plan: Plan) -> Result<Segment, StoreError> {
    if plan.head.window.is_some() {
        return read_page(&pool, &selection, &plan, plan.head.clone(), false, None).await;
    }
    let mut connection = pool.acquire().await.map_err(StoreError::query("read the log"))?;
    if !plan.expects_large
        && plan.recorded.is_none()
        && let Some(segment) = read_whole(&mut connection, &selection, &plan).await?
    {
        return Ok(segment);
    }
    let opened = store::open_window(&mut connection, &plan.head).await?;
    failpoint!("window-opened");
    check_numbers(&plan, &opened.moment)?;
    pass_gate(&mut connection, &plan, &opened.moment).await?;
    drop(connection);
    let window = opened.window;
    let head = plan.head.inside(window);
    read_page(&pool, &selection, &plan, head, true, Some(opened.moment.now)).await
}

/// Reads the next window for all loops at the end of the log. `None`: it has no room, or a row in it cannot be read, and each loop that
/// wants it has to read it for himself.
pub async fn read_tail(pool: &PgPool, selection: &Selection, plan: &Plan) -> Result<Option<Segment>, StoreError> {
    let mut connection = pool.acquire().await.map_err(StoreError::query("read the log"))?;
    let read = read_whole(&mut connection, selection, plan).await?;
    Ok(read.filter(|segment| segment.unreadable.is_empty()))
}

/// A window in one statement, if it has room. One connection for the read and for the wait that follows it: it ends when the server does.
/// Another one, to the server as it is after a crash, could report a log that has grown past the moment of the read again, without what
/// was read.
async fn read_whole(connection: &mut PgConnection, selection: &Selection, plan: &Plan) -> Result<Option<Segment>, StoreError> {
    let end = plan.until.as_ref().map(|until| &until.snapshot);
    let bounds = WindowBounds { begin: &plan.head.snapshot, end };
    let read = match store::read_window(connection, bounds, plan.room, selection).await {
        // One of its events cannot be read. Pages can be made as small as it takes to find out which.
        Err(error) if error.is_about_data() => None,
        read => Some(read?),
    };
    failpoint!("window-read");
    let Some(read) = read else { return Ok(None) };
    let moment = read.moment;
    check_numbers(plan, &moment)?;
    if read.is_larger {
        return Ok(None);
    }
    let is_durable = !plan.durability_gate || moment.flush_lsn >= moment.insert_lsn;
    let end = if read.notifications.is_empty() && read.unreadable.is_empty() && !is_durable {
        // Nothing to dispatch and nothing to gain by waiting. The head stays, because a snapshot that a crash of the server can take
        // back must not become a position.
        plan.head.clone()
    } else {
        pass_gate(connection, plan, &moment).await?;
        plan.until.clone().unwrap_or_else(|| plan.head.after(moment.snapshot, moment.high_seq))
    };
    let (notifications, unreadable) = (read.notifications, read.unreadable);
    Ok(Some(Segment { notifications, unreadable, end, has_more: false, opened_now: false, now: Some(moment.now) }))
}

/// Reads the next page of the open window of `head`.
pub async fn read_page(
    pool: &PgPool,
    selection: &Selection,
    plan: &Plan,
    head: Position,
    opened_now: bool,
    now: Option<Timestamp>,
) -> Result<Segment, StoreError> {
    let window = head.window.as_ref().expect("a page is read of an open window");
    let opened = OpenedPage { begin: &head.snapshot, window, room: plan.room, selection, recorded: plan.recorded.as_ref() };
    let page = match store::read_page(pool, &opened, PAGE_SPAN).await {
        Err(error) if error.is_about_data() => narrowing::read_around(pool, &opened, error).await?,
        page => page?,
    };
    failpoint!("page-read");
    let has_more = page.read_to < window.high_seq;
    let end = if has_more {
        head.inside(OpenWindow { seq: page.read_to, ..window.clone() })
    } else {
        head.after(window.snapshot.clone(), window.high_seq)
    };
    Ok(Segment { notifications: page.notifications, unreadable: page.unreadable, end, has_more, opened_now, now })
}

/// The sequence never stands lower than it did: an event with a number that was used before would count as one that has an outcome.
fn check_numbers(plan: &Plan, moment: &Moment) -> Result<(), StoreError> {
    if moment.high_seq >= plan.head.high_seq {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "the sequence of the events stands at {} and stood at {} before: the events were truncated, or the sequence was set back",
        moment.high_seq, plan.head.high_seq
    )))
}

/// Lets nothing on that a crash of the server could still take back.
async fn pass_gate(connection: &mut PgConnection, plan: &Plan, moment: &Moment) -> Result<(), StoreError> {
    if plan.durability_gate && moment.flush_lsn < moment.insert_lsn {
        await_durable(connection, moment.insert_lsn).await?;
    }
    failpoint!("gate-passed");
    Ok(())
}

/// Between looks at the flushed position, and after how many of them we commit something ourselves.
const FLUSH_POLL: Duration = Duration::from_micros(500);
const POLLS_BEFORE_NUDGE: u32 = 2;

/// Waits until the server has flushed its log up to `lsn`. A producer with `synchronous_commit = off` shows its rows before they
/// are durable; a crash would take back an event that was already delivered.
async fn await_durable(connection: &mut PgConnection, lsn: i64) -> Result<(), StoreError> {
    for poll in 0.. {
        if store::read_flush_lsn(&mut *connection).await? >= lsn {
            break;
        }
        if poll == POLLS_BEFORE_NUDGE {
            store::nudge_flush(&mut *connection).await?;
        } else {
            tokio::time::sleep(FLUSH_POLL).await;
        }
    }
    Ok(())
}
