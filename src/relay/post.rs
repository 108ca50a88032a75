//! The post of a loop that reads the log by statements of its own: that of the feed and those of projections. It holds the lease, hears the
//! orders, and decides when the loop looks at the log again and whether it rests until the bell rings. What a look does is the loop's own.
//! The loops of handlers do without it, because they also wait for deliveries (`subscription`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::subscription::{Assignment, End, describe_failure};
use super::wake_up::Seat;
use super::{Control, HandlerShared, Order, RelayError, Shared, subscription_name, unix_time};
use crate::domain::Position;
use crate::store::{Fence, subscriptions};
use crate::telemetry::{DatabaseOperation, WakeUpSource};

/// Longest pause between looks before the linger is over.
const AWAKE_POLL: Duration = Duration::from_millis(20);
/// Without events the position is stored this often, while the loop does not rest.
const IDLE_FLUSH: Duration = Duration::from_secs(5);
/// Between looks at rest, while the listening session looks at the log.
const REST_INTERVAL: Duration = Duration::from_secs(300);
/// Between reports of a loop that is paused.
const HELD_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Post {
    pub shared: Arc<Shared>,
    pub handler: Arc<HandlerShared>,
    pub name: String,
    pub partition: u16,
    pub fence: Fence,
    control: watch::Receiver<Control>,
    seat: Seat,
    server_generation: u64,
    last_event: Instant,
    last_flush: Instant,
    pause: Duration,
    rests: bool,
}

/// What the loop has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ordered {
    Look,
    /// An operator has paused it.
    Hold,
    Release,
    Abandon,
}

/// The result of one look at the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Nothing,
    /// Everything that was there is done.
    Done,
    /// There is more.
    Partly,
    /// There is more, and it may be read or tried after so long.
    Later(Duration),
    LeaseLost,
}

/// What a loop waits for between two looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// It has not read its window to the end.
    pub has_window: bool,
    /// The bell rings when that happens. A loop that follows another one hears nothing and looks.
    pub is_rung: bool,
    pub may_rest: bool,
}

impl Post {
    /// Takes up the subscription and its position. `None`: the lease is lost.
    pub async fn take(assignment: Assignment) -> Result<Option<(Self, Position)>, RelayError> {
        let Assignment { shared, handler, subscription, partition, mut control, .. } = assignment;
        let server_generation = shared.server.generation();
        let taking = shared.answered(subscriptions::take_up(&shared.connections.ledger, subscription, &shared.instance.id)).await;
        let Some(taken) = shared.metrics.counted(DatabaseOperation::Lease, taking)? else { return Ok(None) };
        handler.take_measure(partition); // of an earlier owner
        control.mark_changed();
        let (now, seat, name) = (Instant::now(), shared.wake_up.seat(), subscription_name(&handler.config, partition));
        let (pause, rests, fence) = (Duration::ZERO, false, taken.fence);
        let (last_event, last_flush) = (now, now);
        let post = Self {
            shared,
            handler,
            name,
            partition,
            fence,
            control,
            seat,
            server_generation,
            last_event,
            last_flush,
            pause,
            rests,
        };
        Ok(Some((post, taken.position)))
    }

    /// What it is to do now.
    pub fn ordered(&mut self) -> Ordered {
        let control = *self.control.borrow_and_update();
        self.handler.show(self.partition, |figure| figure.is_paused = control.is_paused);
        match control.order {
            Order::Abandon => Ordered::Abandon,
            Order::Release | Order::Drain => Ordered::Release,
            Order::Work if control.is_paused => Ordered::Hold,
            Order::Work => Ordered::Look,
        }
    }

    /// Waits until it is time for the next step. Whether there is one: the supervisor may be gone. `hears`: new events are a reason to look.
    pub async fn wait(&mut self, hears: bool) -> bool {
        tokio::select! {
            biased;
            changed = self.control.changed() => {
                self.pause = Duration::ZERO;
                return changed.is_ok();
            }
            // It was rung or armed, perhaps during the look: what it is about may have come after that.
            () = self.seat.changed(), if hears => self.pause = Duration::ZERO,
            () = tokio::time::sleep(self.pause) => {
                if self.pause >= self.shared.options().idle_poll_interval && !self.control.borrow().is_paused {
                    self.shared.metrics.woken(WakeUpSource::Poll);
                }
            }
        }
        true
    }

    /// Gives the lease back. Nothing is under way: every look has ended before this.
    pub async fn release(&self) -> Result<End, RelayError> {
        let released = self.shared.answered(subscriptions::release(&self.shared.connections.ledger, self.fence)).await;
        self.shared.metrics.counted(DatabaseOperation::Lease, released)?;
        Ok(End::Released)
    }

    /// An operator has paused the loop. The events wait in the log.
    pub fn hold(&mut self) {
        self.shared.health.held(&self.name);
        self.shared.metrics.read_at(unix_time());
        self.rest(false);
        self.seat.set_idle(true);
        self.pause = HELD_INTERVAL;
    }

    /// Refuses to go on beside another server than that on which the position was taken up.
    pub fn check_server(&self) -> Result<(), RelayError> {
        if self.shared.server.generation() == self.server_generation { Ok(()) } else { Err(RelayError::ServerChanged) }
    }

    /// The log was read.
    pub fn has_read(&self) {
        self.shared.health.read_ok(&self.name);
        self.shared.metrics.read_at(unix_time());
    }

    /// So many events were read that the loop wants.
    pub fn has_fetched(&mut self, count: u64) {
        self.handler.metrics.fetched(count);
        if count > 0 {
            self.last_event = Instant::now();
        }
    }

    /// The position was stored by a statement that began then.
    pub fn has_flushed(&mut self, began: Instant) {
        self.last_flush = Instant::now();
        self.shared.metrics.flushed(began.elapsed());
        self.shared.health.flushed(&self.name, true);
    }

    /// Whether the position is to be stored although nothing has come.
    pub fn is_flush_due(&self) -> bool {
        self.last_flush.elapsed() >= IDLE_FLUSH
    }

    /// Sets the pause until the next look, and reports to the bell whether there is work.
    pub fn plan_next(&mut self, look: Look, waiting: Waiting) {
        let Waiting { has_window, is_rung, may_rest } = waiting;
        let options = self.shared.options();
        let is_quiet = !has_window && self.last_event.elapsed() >= options.linger;
        self.seat.set_idle(is_quiet || matches!(look, Look::Later(_)) || (!is_rung && look == Look::Nothing));
        let rests = look == Look::Nothing && is_quiet && is_rung && may_rest && self.seat.is_armed();
        self.pause = match look {
            Look::Partly => Duration::ZERO,
            Look::Later(wait) => wait,
            Look::Done => options.poll_interval,
            _ if rests => REST_INTERVAL,
            _ if is_quiet || !is_rung => options.idle_poll_interval,
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

impl Drop for Post {
    fn drop(&mut self) {
        self.shared.health.rests(&self.name, false);
        self.handler.rests(self.partition, false);
        self.handler.show(self.partition, |figure| figure.is_paused = false);
    }
}

/// Begins a loop, a bounded number of them at a time, and reports why it could not.
pub(super) async fn begin<T>(
    assignment: Assignment,
    begin: impl AsyncFnOnce(Assignment) -> Result<Option<T>, RelayError>,
) -> Result<Option<T>, RelayError> {
    let shared = Arc::clone(&assignment.shared);
    let name = subscription_name(&assignment.handler.config, assignment.partition);
    let _place = shared.beginners.acquire().await;
    begin(assignment).await.inspect_err(|failure| {
        shared.health.failed(&name, describe_failure(failure, DatabaseOperation::Lease, None));
    })
}
