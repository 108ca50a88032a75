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

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use super::subscription::{Assignment, End, describe_failure};
use super::wake_up::Seat;
use super::{Control, HandlerShared, Order, RelayError, Shared, subscription_name, unix_time};
use crate::domain::{OpenWindow, Position};
use crate::store::feed::{self, PublishingPage};
use crate::store::{self, Fence, StoreError, subscriptions};
use crate::telemetry::{DatabaseOperation, FeedMetrics, WakeUpSource};

/// Events that one statement takes. A larger window is published by pages, in order of seq.
const MOST_ROWS: i64 = 10_000;
/// Longest pause between looks before the linger is over.
const AWAKE_POLL: Duration = Duration::from_millis(20);
/// The position of a window without events is stored this often, while the loop does not rest.
const IDLE_FLUSH: Duration = Duration::from_secs(5);
/// Between looks at rest, while the listening session looks at the log.
const REST_INTERVAL: Duration = Duration::from_secs(300);
/// Between reports of a loop that is paused.
const HELD_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the subscription of the feed until it is ordered to stop, loses its lease, or fails.
pub(super) async fn run(assignment: Assignment) -> Result<End, RelayError> {
    let shared = Arc::clone(&assignment.shared);
    let name = subscription_name(&assignment.handler.config, assignment.partition);
    let fail = |failure: &RelayError, operation| shared.health.failed(&name, describe_failure(failure, operation, None));
    let place = shared.beginners.acquire().await;
    let begun = Publisher::begin(assignment).await.inspect_err(|failure| fail(failure, DatabaseOperation::Lease))?;
    drop(place);
    let Some(mut publisher) = begun else { return Ok(End::LeaseLost) };
    publisher.run().await.inspect_err(|failure| fail(failure, DatabaseOperation::Flush))
}

struct Publisher {
    shared: Arc<Shared>,
    handler: Arc<HandlerShared>,
    control: watch::Receiver<Control>,
    seat: Seat,
    metrics: FeedMetrics,
    name: String,
    partition: u16,
    fence: Fence,
    type_patterns: Option<Vec<String>>,
    server_generation: u64,
    /// Of the server that the epoch of the places belongs to.
    timeline: String,
    position: Position,
    /// The open window is part of the stored position.
    is_window_stored: bool,
    /// The last window was large: the next one is opened and read by pages at once.
    expects_large: bool,
    last_event: Instant,
    last_flush: Instant,
    pause: Duration,
    rests: bool,
}

/// The result of one look at the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Nothing,
    /// Everything that was there has its place.
    Published,
    /// There is more.
    Partly,
    LeaseLost,
}

impl Publisher {
    async fn begin(assignment: Assignment) -> Result<Option<Self>, RelayError> {
        let Assignment { shared, handler, subscription, partition, mut control, .. } = assignment;
        let server_generation = shared.server.generation();
        let pool = &shared.connections.ledger;
        let taking = shared.answered(subscriptions::take_up(pool, subscription, &shared.instance.id)).await;
        let Some(taken) = shared.metrics.counted(DatabaseOperation::Lease, taking)? else { return Ok(None) };
        let beginning = shared.answered(feed::begin_epoch(pool, taken.fence)).await;
        let epoch = shared.metrics.counted(DatabaseOperation::Flush, beginning)?;
        if epoch.has_begun {
            info!(timeline = epoch.timeline, "a new epoch of the feed has begun");
        }
        handler.take_measure(partition); // of an earlier owner
        control.mark_changed();
        let now = Instant::now();
        Ok(Some(Self {
            seat: shared.wake_up.seat(),
            metrics: FeedMetrics::new(),
            name: subscription_name(&handler.config, partition),
            type_patterns: handler.config.filter.type_patterns(),
            is_window_stored: taken.position.window.is_some(),
            position: taken.position,
            fence: taken.fence,
            timeline: epoch.timeline,
            shared,
            handler,
            control,
            partition,
            server_generation,
            // Pages lose the order in which transactions stay together, so they are for what is known to be large.
            expects_large: false,
            last_event: now,
            last_flush: now,
            pause: Duration::ZERO,
            rests: false,
        }))
    }

    async fn run(&mut self) -> Result<End, RelayError> {
        loop {
            let control = *self.control.borrow_and_update();
            match control.order {
                Order::Abandon => return Ok(End::LeaseLost),
                Order::Release | Order::Drain => return self.release().await,
                Order::Work => {}
            }
            self.handler.show(self.partition, |figure| figure.is_paused = control.is_paused);
            if control.is_paused {
                self.hold();
            } else {
                match self.look().await? {
                    Look::LeaseLost => return Ok(End::LeaseLost),
                    look => self.plan_next(look),
                }
            }
            tokio::select! {
                biased;
                changed = self.control.changed() => {
                    if changed.is_err() {
                        return Ok(End::LeaseLost); // the supervisor is gone
                    }
                    self.pause = Duration::ZERO;
                }
                // It was rung or armed, perhaps during the look: what it is about may have come after that.
                () = self.seat.changed() => self.pause = Duration::ZERO,
                () = tokio::time::sleep(self.pause) => {
                    if self.pause >= self.shared.options().idle_poll_interval && !control.is_paused {
                        self.shared.metrics.woken(WakeUpSource::Poll);
                    }
                }
            }
        }
    }

    /// Gives the lease back. Nothing is under way: every look has ended before this.
    async fn release(&self) -> Result<End, RelayError> {
        let released = self.shared.answered(subscriptions::release(&self.shared.connections.ledger, self.fence)).await;
        self.shared.metrics.counted(DatabaseOperation::Lease, released)?;
        Ok(End::Released)
    }

    /// An operator has paused the feed. The events wait in the log.
    fn hold(&mut self) {
        self.shared.health.held(&self.name);
        self.shared.metrics.read_at(unix_time());
        self.rest(false);
        self.seat.set_idle(true);
        self.pause = HELD_INTERVAL;
    }

    /// Looks at the log once and publishes what is there.
    async fn look(&mut self) -> Result<Look, RelayError> {
        let began = Instant::now();
        if self.shared.server.generation() != self.server_generation {
            return Err(RelayError::ServerChanged);
        }
        let looking = async {
            let acquiring = self.shared.connections.log.acquire().await;
            let mut connection = acquiring.map_err(StoreError::query("publish events of the feed"))?;
            if self.position.window.is_none() && !self.expects_large {
                let moves_over_nothing = self.last_flush.elapsed() >= IDLE_FLUSH;
                let (begin, patterns) = (&self.position.snapshot, self.type_patterns.as_deref());
                let published = feed::publish_window(
                    &mut connection,
                    self.fence,
                    begin,
                    MOST_ROWS,
                    patterns,
                    &self.timeline,
                    moves_over_nothing,
                );
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
            let page = PublishingPage { begin: &self.position.snapshot, window: &window, is_new, rows: MOST_ROWS };
            let patterns = self.type_patterns.as_deref();
            let published = feed::publish_page(&mut connection, self.fence, &page, patterns, &self.timeline).await?;
            Ok((None, Some((window, published))))
        };
        let looked = self.shared.answered(looking).await;
        let looked = self.shared.metrics.counted(DatabaseOperation::Flush, looked)?;
        let look = match looked {
            (Some(window), _) => self.enter_window(window)?,
            (_, Some((window, page))) => self.enter_page(window, page)?,
            (None, None) => Look::Nothing,
        };
        if look != Look::LeaseLost {
            self.shared.health.read_ok(&self.name);
            self.shared.metrics.read_at(unix_time());
            if self.last_flush >= began {
                self.shared.metrics.flushed(began.elapsed());
                self.shared.health.flushed(&self.name, true);
            }
        }
        Ok(look)
    }

    fn enter_window(&mut self, window: feed::PublishedWindow) -> Result<Look, RelayError> {
        self.check_server(window.is_same_timeline)?;
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
        self.last_flush = Instant::now();
        self.position = self.position.after(window.end, window.high_seq);
        self.count(window.rows.unsigned_abs(), window.places, window.last_place);
        Ok(if window.rows > 0 { Look::Published } else { Look::Nothing })
    }

    fn enter_page(&mut self, window: OpenWindow, page: feed::PublishedPage) -> Result<Look, RelayError> {
        self.check_server(page.is_same_timeline)?;
        if !page.is_moved {
            return Ok(Look::LeaseLost);
        }
        self.last_flush = Instant::now();
        self.count(page.places, page.places, page.last_place);
        let has_more = page.read_to < window.high_seq;
        self.position = match has_more {
            true => self.position.inside(OpenWindow { seq: page.read_to, ..window }),
            false => self.position.after(window.snapshot, window.high_seq),
        };
        self.is_window_stored = has_more;
        // After one window in pages the next is large, too, as long as the pages are.
        self.expects_large = has_more || page.places >= MOST_ROWS.unsigned_abs();
        Ok(if has_more || self.expects_large { Look::Partly } else { Look::Published })
    }

    /// The places of another timeline belong to another epoch, which the next beginning makes.
    fn check_server(&self, is_same_timeline: bool) -> Result<(), RelayError> {
        if is_same_timeline { Ok(()) } else { Err(RelayError::ServerChanged) }
    }

    fn count(&mut self, read: u64, places: u64, last_place: Option<i64>) {
        if read > 0 {
            self.last_event = Instant::now();
            self.handler.metrics.fetched(read);
        }
        self.metrics.published(places, last_place);
        if let Some(place) = last_place {
            self.shared.published.send_replace(place);
        }
    }

    /// Sets the pause until the next look, and reports to the bell whether there is work.
    fn plan_next(&mut self, look: Look) {
        let options = self.shared.options();
        let is_quiet = self.position.window.is_none() && self.last_event.elapsed() >= options.linger;
        self.seat.set_idle(is_quiet);
        let rests = look == Look::Nothing && is_quiet && self.seat.is_armed();
        self.pause = match look {
            Look::Partly => Duration::ZERO,
            Look::Published => options.poll_interval,
            _ if rests => REST_INTERVAL,
            _ if is_quiet => options.idle_poll_interval,
            _ => (self.pause * 3 / 2).clamp(options.poll_interval, AWAKE_POLL.max(options.poll_interval)),
        };
        self.rest(rests);
    }

    /// At rest the listening session looks at the log for this loop, and rings.
    fn rest(&mut self, rests: bool) {
        if self.rests != rests {
            self.rests = rests;
            self.shared.health.rests(&self.name, rests);
            self.handler.rests(self.partition, rests);
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.health.rests(&self.name, false);
        self.handler.rests(self.partition, false);
        self.handler.show(self.partition, |figure| figure.is_paused = false);
    }
}
