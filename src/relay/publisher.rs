//! The publisher: the loop of the feed's subscription (kind `feed`). It gives each event its place in the feed and delivers
//! nothing. Leases, epochs, wake-up, status and retention are those of every handler.
//!
//! For each window the publisher runs one statement (`publish_window.sql`). The statement reads the window, gives its events the
//! next dense places, and moves the position. No payload leaves Postgres. The head of that file explains the order of the places,
//! the fence, and why the statement's own transaction lies in the future of the position.
//!
//! - A window of more than 10,000 events is frozen and published in pages in the order of sequence numbers (`publish_page.sql`).
//!   Pages leave out events that have a place already, so a rewind and a rebase are harmless.
//! - Both statements commit synchronously, whatever the server's setting. A client sees a place only when its commit, and that of
//!   the event, is on disk.
//! - `feed_epochs` has a row for each server that has given places. The publisher compares the server with the last row before
//!   its first place, and every statement checks the timeline. A cursor names the epoch of its place: places above the beginning
//!   of the next epoch were lost with a server.
//!
//! The publisher holds nothing in memory that is not stored. After a death the next owner goes on from the stored position; a
//! statement commits as a whole or not at all, so no event gets two places.

use std::time::Instant;

use tracing::{info, warn};

use super::RelayError;
use super::post::{self, Look, Ordered, Post, Waiting};
use super::subscription::{Assignment, End, describe_failure};
use crate::domain::{OpenWindow, Position};
use crate::store::feed::{self, PublishingPage};
use crate::store::{self, StoreError};
use crate::telemetry::{DatabaseOperation, FeedMetrics};

/// Events that one statement takes. A larger window is published by pages, in order of seq.
const MOST_ROWS: i64 = 10_000;

/// Runs the subscription of the feed until it is ordered to stop, loses its lease, or fails.
pub(super) async fn run(assignment: Assignment) -> Result<End, RelayError> {
    let Some(mut publisher) = post::begin(assignment, Publisher::begin).await? else { return Ok(End::LeaseLost) };
    publisher.run().await.inspect_err(|failure| {
        let post = &publisher.post;
        post.shared.health.failed(&post.name, describe_failure(failure, DatabaseOperation::Flush, None));
    })
}

struct Publisher {
    post: Post,
    metrics: FeedMetrics,
    type_patterns: Option<Vec<String>>,
    /// Of the server that the epoch of the places belongs to.
    timeline: String,
    position: Position,
    /// The open window is part of the stored position.
    is_window_stored: bool,
    /// The last window was large: the next one is opened and read by pages at once.
    expects_large: bool,
}

impl Publisher {
    async fn begin(assignment: Assignment) -> Result<Option<Self>, RelayError> {
        let Some((post, position)) = Post::take(assignment).await? else { return Ok(None) };
        let beginning = post.shared.answered(feed::begin_epoch(&post.shared.connections.ledger, post.fence)).await;
        let epoch = post.shared.metrics.counted(DatabaseOperation::Flush, beginning)?;
        if epoch.has_begun {
            info!(timeline = epoch.timeline, "a new epoch of the feed has begun");
        }
        Ok(Some(Self {
            metrics: FeedMetrics::new(),
            type_patterns: post.handler.config.filter.type_patterns(),
            is_window_stored: position.window.is_some(),
            position,
            timeline: epoch.timeline,
            post,
            // Pages lose the order in which transactions stay together, so they are for what is known to be large.
            expects_large: false,
        }))
    }

    async fn run(&mut self) -> Result<End, RelayError> {
        loop {
            match self.post.ordered() {
                Ordered::Abandon => return Ok(End::LeaseLost),
                Ordered::Release => return self.post.release().await,
                Ordered::Hold => self.post.hold(),
                Ordered::Look => match self.look().await? {
                    Look::LeaseLost => return Ok(End::LeaseLost),
                    look => self.post.plan_next(look, self.waiting()),
                },
            }
            if !self.post.wait(true).await {
                return Ok(End::LeaseLost);
            }
        }
    }

    fn waiting(&self) -> Waiting {
        Waiting { has_window: self.position.window.is_some(), is_rung: true, may_rest: true }
    }

    /// Looks at the log once and publishes what is there.
    async fn look(&mut self) -> Result<Look, RelayError> {
        let began = Instant::now();
        self.post.check_server()?;
        let (shared, fence) = (&self.post.shared, self.post.fence);
        let looking = async {
            let acquiring = shared.connections.log.acquire().await;
            let mut connection = acquiring.map_err(StoreError::query("publish events of the feed"))?;
            if self.position.window.is_none() && !self.expects_large {
                let moves_over_nothing = self.post.is_flush_due();
                let (begin, patterns) = (&self.position.snapshot, self.type_patterns.as_deref());
                let published =
                    feed::publish_window(&mut connection, fence, begin, MOST_ROWS, patterns, &self.timeline, moves_over_nothing);
                match published.await {
                    // An event of the window has a place already. Pages leave it out.
                    Err(error) if error.is_about_data() => {
                        warn!(error = error.innermost(), "could not publish a window as a whole, reading it by pages");
                    }
                    published => return Ok((Some(published?), None)),
                }
            }
            let (window, is_new) = match &self.position.window {
                Some(window) => (window.clone(), !self.is_window_stored),
                None => (store::open_window(&mut connection, &self.position).await?.window, true),
            };
            let page =
                PublishingPage { begin: &self.position.snapshot, window: &window, is_new, rows: MOST_ROWS, reads_headers: true };
            let patterns = self.type_patterns.as_deref();
            let published = match feed::publish_page(&mut connection, fence, &page, patterns, &self.timeline).await {
                // The headers of an event cannot be read. It gets its place, and clients are told that it is damaged.
                Err(error) if error.is_about_data() => {
                    warn!(error = error.innermost(), "could not read the headers of a page, publishing it without them");
                    let page = PublishingPage { reads_headers: false, ..page };
                    feed::publish_page(&mut connection, fence, &page, patterns, &self.timeline).await?
                }
                published => published?,
            };
            Ok((None, Some((window, published))))
        };
        let looked = shared.answered(looking).await;
        let looked = shared.metrics.counted(DatabaseOperation::Flush, looked)?;
        let look = match looked {
            (Some(window), _) => self.enter_window(window, began)?,
            (_, Some((window, page))) => self.enter_page(window, page, began)?,
            (None, None) => Look::Nothing,
        };
        if look != Look::LeaseLost {
            self.post.has_read();
        }
        Ok(look)
    }

    fn enter_window(&mut self, window: feed::PublishedWindow, began: Instant) -> Result<Look, RelayError> {
        self.check_timeline(window.is_same_timeline)?;
        if window.high_seq < self.position.high_seq {
            return Err(StoreError::Refused(format!(
                "the sequence of the events stands at {} and stood at {} before: the events were truncated, or the sequence was set back",
                window.high_seq, self.position.high_seq
            ))
            .into());
        }
        if window.rows > MOST_ROWS {
            self.expects_large = true;
            return Ok(Look::Partly);
        }
        if !window.is_moved {
            return Ok(if window.rows == 0 { Look::Nothing } else { Look::LeaseLost });
        }
        self.post.has_flushed(began);
        self.position = self.position.after(window.end, window.high_seq);
        self.count(window.rows.unsigned_abs(), window.places, window.last_place);
        Ok(if window.rows > 0 { Look::Done } else { Look::Nothing })
    }

    fn enter_page(&mut self, window: OpenWindow, page: feed::PublishedPage, began: Instant) -> Result<Look, RelayError> {
        self.check_timeline(page.is_same_timeline)?;
        if !page.is_moved {
            return Ok(Look::LeaseLost);
        }
        self.post.has_flushed(began);
        self.count(page.places, page.places, page.last_place);
        let has_more = page.read_to < window.high_seq;
        self.position = match has_more {
            true => self.position.inside(OpenWindow { seq: page.read_to, ..window }),
            false => self.position.after(window.snapshot, window.high_seq),
        };
        self.is_window_stored = has_more;
        // After one window in pages the next is large, too, as long as the pages are.
        self.expects_large = has_more || page.places >= MOST_ROWS.unsigned_abs();
        Ok(if has_more || self.expects_large { Look::Partly } else { Look::Done })
    }

    /// The places of another timeline belong to another epoch, which the next beginning makes.
    fn check_timeline(&self, is_same_timeline: bool) -> Result<(), RelayError> {
        if is_same_timeline { Ok(()) } else { Err(RelayError::ServerChanged) }
    }

    fn count(&mut self, read: u64, places: u64, last_place: Option<i64>) {
        self.post.has_fetched(read);
        self.metrics.published(places, last_place);
        if let Some(place) = last_place {
            self.post.shared.published.send_replace(place);
        }
    }
}
