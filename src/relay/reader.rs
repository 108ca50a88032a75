//! Reading ahead: the next segment of the log after the reading head, durable before it is dispatched.
//! Remembers nothing: the head is an argument, and what comes back says where the segment ends.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use super::narrowing;
use crate::domain::{Notification, OpenWindow, Position, Timestamp};
use crate::failpoints::failpoint;
use crate::store::{self, Moment, OpenedPage, PAGE_SPAN, Recorded, Room, Selection, StoreError, Unreadable};

/// How to read.
#[derive(Debug, Clone)]
pub struct Plan {
    pub head: Position,
    pub room: Room,
    /// Leave out what is recorded already: after a take-over.
    pub recorded: Option<Recorded>,
    /// The last window was large: do not try to read the next one whole.
    pub expects_large: bool,
    pub durability_gate: bool,
}

/// What was read.
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
    /// The clock of the database, where the read told it.
    pub now: Option<Timestamp>,
}

/// Reads the next segment.
pub async fn read_segment(pool: PgPool, selection: std::sync::Arc<Selection>, plan: Plan) -> Result<Segment, StoreError> {
    if plan.head.window.is_some() {
        return read_page(&pool, &selection, &plan, plan.head.clone(), false, None).await;
    }
    // One connection for the read and for the wait that follows it: it ends when the server does. Another one, to the server as it is
    // after a crash, would tell of a log that has grown past the moment of the read again, without what was read.
    let mut connection = pool.acquire().await.map_err(StoreError::query("read the log"))?;
    if !plan.expects_large && plan.recorded.is_none() {
        let read = match store::read_window(&mut connection, &plan.head.snapshot, plan.room, &selection).await {
            // One of its events cannot be read. Pages can be made as small as it takes to find out which.
            Err(error) if error.is_about_data() => None,
            read => Some(read?),
        };
        failpoint!("window-read");
        if let Some(read) = &read {
            check_numbers(&plan, &read.moment)?;
        }
        let read = read.filter(|read| !read.is_larger);
        if let Some(read) = read {
            let moment = read.moment;
            let is_durable = !plan.durability_gate || moment.flush_lsn >= moment.insert_lsn;
            if read.notifications.is_empty() && read.unreadable.is_empty() && !is_durable {
                // Nothing to dispatch and nothing to gain by waiting. The head stays, because a snapshot that a crash of the
                // server can take back must not become a position.
                return Ok(Segment {
                    notifications: Vec::new(),
                    unreadable: Vec::new(),
                    end: plan.head,
                    has_more: false,
                    opened_now: false,
                    now: Some(moment.now),
                });
            }
            pass_gate(&mut connection, &plan, &moment).await?;
            let end = plan.head.after(moment.snapshot, moment.high_seq);
            return Ok(Segment {
                notifications: read.notifications,
                unreadable: read.unreadable,
                end,
                has_more: false,
                opened_now: false,
                now: Some(moment.now),
            });
        }
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

async fn read_page(
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
