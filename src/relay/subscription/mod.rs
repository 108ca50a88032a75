//! One subscription's loop: reads ahead, begins attempts, settles their ends, records the outcomes. `Loop::run` and
//! `Loop::next_event` show everything that can happen to it. The loop owns its subscription by a lease and forgets everything
//! with it; only the database is authoritative.
//!
//! Recovery. Every loop begins as after a crash: it takes a new epoch (`take_up`) and reads on from the stored position. The
//! previous owner may have settled events beyond that position. Until the loop has read through one window that it opened itself,
//! it reads pages and leaves out events that have a row or are in `done`. Pages beyond the highest sequence number that was
//! settled then, which is most of a backlog, are not compared. Attempts whose outcome the previous owner could not record are
//! made again with the same event ids; these are the only duplicates that outboxd produces without a retry or a command. Waiting
//! rows beyond the position are removed at the take-over (`take_up_subscription.sql`): the log brings these events again, behind
//! those of their key that were only in memory. Rows that belong to a replay stay, because the log does not bring them.
//!
//! Careful counting. An event may have killed the process. Its attempt was never counted, so it would kill every new owner as
//! well. A lease that its owner did *not give back* shows such a death (a mark per window would cost a write per window to show
//! the same). Then the loop counts each attempt in a committed statement *before* it makes the attempt, one at a time. It does so
//! for as many events as its predecessor can have held in memory, or until the window is through and nothing is left in memory.
//! An event that is in flight at one death after the other uses up its attempts and becomes a dead letter, `crashed`. A relay
//! that only lost its connection for longer than its lease looks like a crash and is treated as one.
//!
//! The kind `sql` does not need this after a death, because its attempts are rolled back with their transaction. It counts
//! carefully after a transaction that could not be recorded although the server was there (`relay::functions`).
//!
//! A long file: the state of a loop and the list of its steps stand together, so that everything that can happen to it is seen at
//! once.

mod attempts;
mod reading;
mod turns;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tracing::info;
use uuid::Uuid;

use super::books::Books;
use super::dispatch::Dispatch;
use super::functions::{Called, Functions};
use super::reader::Segment;
use super::tail::Follower;
use super::turn::{Answer, Failed};
use super::wake_up::Seat;
use super::{Control, HandlerShared, Order, RelayError, Shared, projector, publisher, subscription_name};
use crate::domain::{Admission, Allowance, Pace, Position, Queued, Snapshot};
use crate::failpoints::failpoint;
use crate::handlers::Built;
use crate::store::{self, Fence, Recorded, Selection, StoreError, subscriptions};
use crate::telemetry::{DatabaseOperation, Failure, chain};

/// How a loop ended, when nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Drained, recorded, lease given back.
    Released,
    /// Another owner has it, or the lease is in doubt.
    LeaseLost,
}

/// The assignment of the supervisor to a loop.
pub struct Assignment {
    pub shared: Arc<Shared>,
    pub handler: Arc<HandlerShared>,
    pub subscription: i32,
    pub partition: u16,
    /// The last owner died: events may have killed it.
    pub was_abandoned: bool,
    /// This loop has ended because what functions did could not be recorded.
    pub was_unrecorded: bool,
    pub control: watch::Receiver<Control>,
}

/// Runs a subscription until it is ordered to stop, loses its lease, or fails.
pub async fn run(assignment: Assignment) -> Result<End, RelayError> {
    if matches!(assignment.handler.built, Built::Publisher) {
        return publisher::run(assignment).await;
    }
    if matches!(assignment.handler.built, Built::Projection(_)) {
        return projector::run(assignment).await;
    }
    let shared = Arc::clone(&assignment.shared);
    let name = subscription_name(&assignment.handler.config, assignment.partition);
    let fail = |failure: &RelayError, operation, event| shared.health.failed(&name, describe_failure(failure, operation, event));
    let place = shared.beginners.acquire().await;
    let begun = Loop::begin(assignment).await.inspect_err(|failure| fail(failure, DatabaseOperation::Lease, None))?;
    drop(place);
    let Some(mut state) = begun else { return Ok(End::LeaseLost) };
    let ended = state.run().await.inspect_err(|failure| fail(failure, state.failed_at, state.event_in_question()));
    // The next owner may be this process itself: no attempt of this loop may still be under way then.
    state.end_attempts().await;
    ended
}

/// Why a loop ended, for health, status and alerts.
pub(super) fn describe_failure(failure: &RelayError, operation: DatabaseOperation, event: Option<Uuid>) -> Failure {
    let (sqlstate, event) = match failure {
        RelayError::Store(cause) | RelayError::Unrecorded(cause) => (cause.sqlstate(), event),
        RelayError::Unreadable { event, .. } => (None, Some(*event)),
        _ => (None, None),
    };
    Failure { operation, sqlstate, event, text: chain(failure) }
}

/// Outcomes above which nothing new begins until a flush has taken them.
const MOST_PENDING: usize = 20_000;
/// Outcomes that make a flush worthwhile before its time.
const FULL_FLUSH: usize = 4_096;
/// Events read and unsettled above which nothing is read: bounds what a restart reads again.
const MOST_OUTSTANDING: usize = 100_000;
/// A position without events is stored this often, so that a restart has little to read and retention can follow.
const IDLE_FLUSH: Duration = Duration::from_secs(5);
/// Longest wait between looks at the recorded deliveries.
const DUE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait between reads while producers ring: what a lost ring costs.
const ARMED_POLL: Duration = Duration::from_secs(1);
/// Between looks of a loop at rest at how far the tail is: its own position must not fall so far behind that it looks like a backlog.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(15);
/// Between comparisons of the lanes with the database.
const LANES_INTERVAL: Duration = Duration::from_secs(5);
/// Between flushes and looks of a loop at rest, for which the tail or the session looks: in case of a change that neither sees.
const REST_INTERVAL: Duration = Duration::from_secs(300);

/// A look by the tail that is older says nothing any more.
const STALE_LOOK: Duration = Duration::from_secs(5);

/// Between releases of a replay.
const RELEASE_PAUSE: Duration = Duration::from_millis(50);
/// The same while nothing can leave because its keys are not free.
const HELD_PAUSE: Duration = Duration::from_millis(250);

enum Performer {
    Attempts(Dispatch),
    Functions(Functions),
}

enum TurnEnd {
    Answered(Answer),
    Called(Box<Called>, Admission, Duration),
    /// The functions have run, and nothing of it is recorded.
    Unrecorded(StoreError),
}

type Task<T> = Option<BoxFuture<'static, Result<T, Failed>>>;

struct Loop {
    shared: Arc<Shared>,
    handler: Arc<HandlerShared>,
    selection: Arc<Selection>,
    fence: Fence,
    control: watch::Receiver<Control>,
    seat: Seat,
    server_generation: u64,
    name: String,
    partition: u16,

    circuit_closings: i32,
    books: Books,
    performer: Performer,
    /// Where reading goes on; ahead of the books' position.
    head: Position,
    reading: Task<Segment>,
    /// Its place at the tail; `None`: only the database can find its events.
    follower: Option<Follower>,
    /// The tail reads for this loop.
    follows: bool,
    /// When to look at how far the tail is, at rest.
    follow_at: Instant,
    /// Bounds how fast history is read.
    pace: Option<Pace>,
    /// Bounds how fast attempts begin.
    allowance: Option<Allowance>,
    /// When the rate lets the next attempt begin; `None` unless the rate alone holds one back.
    next_token_at: Option<Instant>,
    turn: Task<TurnEnd>,
    /// Events of the functions that a turn is calling.
    batch: Vec<Queued>,
    /// Recorded deliveries whose outcome the turn under way writes.
    writing: Vec<i64>,

    recovery: Option<Recovery>,
    /// Events still to be counted before their dispatch, one in flight at a time.
    careful: usize,
    room: usize,
    /// Not before are the queues of slow keys looked at again.
    relief_at: Instant,
    expects_large: bool,

    read_at: Instant,
    read_pause: Duration,
    /// The next read ends a sleep, unless the bell is faster.
    sleeps: bool,
    /// The bell rang while a read was under way, which may be older than what it rang for.
    reads_again: bool,
    last_event: Instant,
    /// Since when it does not read on purpose.
    held_since: Option<Instant>,
    last_flush: Instant,
    due_at: Instant,
    release_at: Instant,
    lanes_at: Instant,
    /// When to show the figures again.
    shown_at: Instant,
    /// The flush under way writes outcomes, or there are none to write.
    flush_is_proof: bool,
    /// The database operation that failed last.
    failed_at: DatabaseOperation,
    /// The event that is counted, or was called and is recorded now, where it is only one.
    only_event: Option<Uuid>,
    /// Where the last flush stood.
    flushed_to: Option<Snapshot>,
    /// A read has ended that began after the bell last rang or was armed: what comes rings.
    has_looked: bool,
    /// Nothing is under way, recorded or due, and the log is looked at for all loops together.
    rests: bool,
    /// Bytes that the metrics count for this loop.
    shown_bytes: usize,
    /// The pause as the metrics show it: after a resume it must not raise an alert.
    shows_paused: bool,
}

/// The first windows after a take-over, in which the previous owner may have settled events beyond the position.
struct Recovery {
    recorded: Recorded,
    /// The window being read was opened by us, so it covers everything the last owner can have settled.
    covers_all: bool,
}

impl Loop {
    async fn begin(assignment: Assignment) -> Result<Option<Self>, RelayError> {
        let Assignment { shared, handler, subscription, partition, was_abandoned, was_unrecorded, mut control } = assignment;
        let server_generation = shared.server.generation();
        let taking = shared.answered(subscriptions::take_up(&shared.connections.ledger, subscription, &shared.instance.id)).await;
        let Some(taken) = shared.metrics.counted(DatabaseOperation::Lease, taking)? else { return Ok(None) };
        failpoint!("subscription-taken-up");
        let config = &handler.config;
        let performer = match &handler.built {
            Built::Handler(instance) => {
                Performer::Attempts(Dispatch::new(Arc::clone(instance), config.timeout, config.concurrency))
            }
            Built::Function(function) => {
                let start = shared.answered(store::read_server_start(&shared.connections.ledger)).await;
                Performer::Functions(Functions::new(function.clone(), shared.metrics.counted(DatabaseOperation::Read, start)?))
            }
            Built::Publisher | Built::Projection(_) => unreachable!("the feed and projections have loops of their own"),
        };
        let room = match &handler.built {
            Built::Handler(instance) if !instance.is_immediate() => (config.concurrency * 32).clamp(512, 8_192),
            _ => 8_192,
        };
        let mut books = Books::open(Arc::clone(&handler), partition, taken.position.clone(), taken.done.clone(), room);
        let holds = config.on_dead_letter == crate::domain::OnDeadLetter::HoldKey;
        let lanes = shared.answered(store::read_lanes(&shared.connections.ledger, subscription, holds)).await;
        for lane in shared.metrics.counted(DatabaseOperation::Read, lanes)? {
            books.lanes.restore(lane.key, lane.waiting, lane.is_blocked);
        }
        let stored = shared.answered(store::read_destinations(&shared.connections.ledger, subscription, books.clock())).await;
        books.restore_destinations(shared.metrics.counted(DatabaseOperation::Read, stored)?);
        let counting = store::count_unfinished(&shared.connections.ledger, subscription, config.max_parked.saturating_add(1));
        let unfinished = shared.metrics.counted(DatabaseOperation::Read, shared.answered(counting).await)?;
        handler.take_measure(partition); // of an earlier owner
        books.begin_with(unfinished);
        if let Some(wait) = taken.open_circuit {
            books.reopen_circuit(wait);
        }
        // The effects of functions are rolled back when the relay dies, and so are their attempts.
        let is_careful = match performer {
            Performer::Attempts(_) => was_abandoned,
            Performer::Functions(_) => was_unrecorded,
        };
        if is_careful && was_abandoned {
            info!(
                handler = config.name,
                partition, "the last owner died, counting attempts before they are made until its window is through"
            );
        }
        control.mark_changed();
        let circuit_closings = control.borrow().circuit_closings;
        let now = Instant::now();
        Ok(Some(Self {
            pace: config.backfill.map(Pace::new),
            allowance: config.rate.map(|rate| Allowance::new(rate.share(config.partitions), books.clock())),
            next_token_at: None,
            selection: Arc::clone(&handler.selections[usize::from(partition)]),
            name: subscription_name(config, partition),
            partition,
            seat: shared.wake_up.seat(),
            fence: taken.fence,
            head: taken.position,
            recovery: Some(Recovery {
                recorded: Recorded { subscription, done: taken.done, up_to: taken.settled_to },
                covers_all: false,
            }),
            careful: if is_careful { room } else { 0 },
            follower: shared.tail.follower(config, partition, room / 2),
            shared,
            handler,
            control,
            server_generation,
            circuit_closings,
            books,
            performer,
            reading: None,
            follows: false,
            follow_at: now,
            turn: None,
            batch: Vec::new(),
            writing: Vec::new(),
            room,
            relief_at: now,
            expects_large: true,
            read_at: now,
            read_pause: Duration::ZERO,
            sleeps: false,
            reads_again: false,
            last_event: now,
            held_since: None,
            last_flush: now,
            due_at: now,
            release_at: now,
            lanes_at: now + LANES_INTERVAL,
            shown_at: now,
            flush_is_proof: false,
            failed_at: DatabaseOperation::Lease,
            only_event: None,
            flushed_to: None,
            has_looked: false,
            rests: false,
            shown_bytes: 0,
            shows_paused: false,
        }))
    }

    async fn run(&mut self) -> Result<End, RelayError> {
        loop {
            let control = *self.control.borrow_and_update();
            match control.order {
                Order::Abandon => return Ok(End::LeaseLost),
                Order::Release => self.abort_attempts(),
                Order::Work | Order::Drain => {}
            }
            if control.circuit_closings != self.circuit_closings {
                self.circuit_closings = control.circuit_closings;
                self.books.close_circuit();
            }
            if self.shows_paused != control.is_paused {
                self.shows_paused = control.is_paused;
                self.handler.show(self.partition, |figure| figure.is_paused = control.is_paused);
            }
            let works = control.order == Order::Work;
            if works && !control.is_paused {
                self.begin_attempts().await?;
                self.relieve();
                self.read_on()?;
            } else {
                self.stop_following();
            }
            self.begin_turn(works && !control.is_paused);
            if !works && self.is_drained() {
                let released = self.shared.answered(subscriptions::release(&self.shared.connections.ledger, self.fence)).await;
                self.shared.metrics.counted(DatabaseOperation::Lease, released)?;
                failpoint!("lease-released");
                return Ok(End::Released);
            }
            self.rest_or_stir();
            self.show_memory();
            self.show_figures();
            if let Some(end) = self.next_event(control).await? {
                return Ok(end);
            }
        }
    }

    /// Waits for whatever comes first, and enters it.
    async fn next_event(&mut self, control: Control) -> Result<Option<End>, RelayError> {
        let timer = tokio::time::Instant::from_std(self.next_timer(control));
        tokio::select! {
            biased;
            changed = self.control.changed() => match changed {
                Ok(()) => {
                    self.due_at = Instant::now(); // a person's command may be why
                    self.lanes_at = self.due_at;
                    self.books.forget_due();
                    self.release_at = self.due_at;
                    self.handler.stir(self.partition);
                }
                Err(_) => return Ok(Some(End::LeaseLost)), // the supervisor is gone
            },
            end = ended(&mut self.turn) => {
                self.turn = None;
                let end = self.counted(end)?;
                return self.finish_turn(end);
            }
            segment = ended(&mut self.reading) => {
                self.reading = None;
                let segment = self.counted(segment)?;
                self.finish_reading(segment)?;
            }
            finished = next_finished(&mut self.performer) => {
                self.books.settle(finished);
                self.settle_ended_attempts();
            }
            () = rung(&mut self.seat, self.follows) => {
                self.read_at = Instant::now();
                self.sleeps = false;
                self.reads_again = self.reading.is_some();
                self.has_looked = false;
            }
            () = called(self.follower.as_ref()) => {}
            () = tokio::time::sleep_until(timer) => {}
        }
        Ok(None)
    }

    /// A task at the database that fails when no answer comes.
    fn bounded<T: Send + 'static>(
        &self,
        operation: DatabaseOperation,
        task: impl Future<Output = Result<T, Failed>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Failed>> {
        Box::pin(store::answered(self.shared.answer_timeout, task, Failed::at(operation)))
    }

    fn counted<T>(&mut self, result: Result<T, Failed>) -> Result<T, RelayError> {
        result.map_err(|failed| {
            self.failed_at = failed.operation;
            self.shared.metrics.database_error(failed.operation);
            self.shared.heard(&failed.cause);
            failed.cause.into()
        })
    }

    /// The event at which a flush or a call has failed, where it was about one event only.
    fn event_in_question(&self) -> Option<Uuid> {
        let called = match self.batch.as_slice() {
            [only] => Some(only.notification.id),
            _ => None,
        };
        self.only_event.or(called).filter(|_| self.failed_at == DatabaseOperation::Flush)
    }

    /// Tells how much this loop holds.
    fn show_memory(&mut self) {
        let held = self.books.lanes.held_bytes();
        if held != self.shown_bytes {
            self.shared.metrics.memory(self.shown_bytes, held);
            self.shown_bytes = held;
        }
    }

    fn settle_ended_attempts(&mut self) {
        if let Performer::Attempts(dispatch) = &mut self.performer {
            while let Some(finished) = dispatch.try_next() {
                self.books.settle(finished);
            }
        }
    }

    fn is_drained(&self) -> bool {
        let in_flight = match &self.performer {
            Performer::Attempts(dispatch) => dispatch.in_flight(),
            Performer::Functions(_) => 0,
        };
        in_flight == 0 && self.turn.is_none() && !self.books.needs_flush()
    }

    /// When to look again if nothing happens. Only what this loop could then do counts, or it would spin.
    fn next_timer(&self, control: Control) -> Instant {
        let now = Instant::now();
        let mut timers = vec![now + self.pause(DUE_INTERVAL)];
        if self.turn.is_none() {
            timers.extend([self.lanes_at, self.last_flush + self.idle_flush()]);
            timers.extend(self.books.needs_flush().then(|| self.next_flush()));
        }
        if control.order == Order::Work && !control.is_paused {
            timers.extend((self.reading.is_none() && !self.follows && self.may_read()).then_some(self.read_at));
            timers.extend((self.follows && self.rests && self.may_read()).then_some(self.follow_at));
            timers.extend((self.turn.is_none() && self.may_look_for_due()).then_some(self.due_at));
            timers.extend((self.turn.is_none() && self.may_release()).then_some(self.release_at));
            let circuit = self.books.circuit.wait(self.books.clock()).map(|wait| now + wait);
            let rest = self.held_since.unwrap_or(self.last_event) + self.shared.options().linger;
            let judgement = self.books.judge_in().map(|wait| now + wait);
            timers.extend(
                [self.books.held_until, circuit, judgement, Some(rest)].into_iter().flatten().filter(|moment| *moment > now),
            );
            timers.extend(self.next_token_at);
        }
        timers.into_iter().min().unwrap_or(now).max(now + SHORTEST_WAIT)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // The next owner shows its own figures; ours would stay there for ever. Values that the observer has measured stay:
        // a loop that fails and is started again has no less to do.
        self.shared.health.rests(&self.name, false);
        self.handler.rests(self.partition, false);
        self.handler.show(self.partition, |figure| {
            figure.backlog.in_flight = 0;
            (figure.circuit, figure.is_paused, figure.concurrency, figure.held_until) = (None, false, 0, None);
        });
        self.shared.metrics.memory(self.shown_bytes, 0);
    }
}

/// Shortest sleep: the timer of the runtime is no finer.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// Longest pause between reads before the linger is over.
const AWAKE_POLL: Duration = Duration::from_millis(20);
/// Shortest pause between looks at recorded deliveries.
const DUE_PAUSE: Duration = Duration::from_millis(20);

async fn next_finished(performer: &mut Performer) -> super::attempt::Finished {
    match performer {
        Performer::Attempts(dispatch) => dispatch.next().await,
        Performer::Functions(_) => std::future::pending().await,
    }
}

/// A loop that follows is not woken by what others have rung for.
async fn rung(seat: &mut Seat, follows: bool) {
    if follows { seat.stirred().await } else { seat.changed().await }
}

async fn called(follower: Option<&Follower>) {
    match follower {
        Some(follower) => follower.called().await,
        None => std::future::pending().await,
    }
}

/// The end of a task under way; waits for ever if there is none.
async fn ended<T>(task: &mut Task<T>) -> Result<T, Failed> {
    match task {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
