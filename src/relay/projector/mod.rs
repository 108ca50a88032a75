//! The loop of one version of a projection: it reads the log in order, calls the projection, and moves the position in the same transaction.
//! It owns the subscription by a lease as every loop does. A version that is not live reads no further than the live one has come. An event
//! that fails stops this loop, and no other, until it succeeds or a person skips it.
//! A long file: everything that can happen to the loop stands together.

mod calling;
mod reading;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{error, info};

use super::batch_size::BatchSize;
use super::subscription::{Assignment, End, describe_failure};
use super::wake_up::Seat;
use super::{Control, HandlerShared, Order, RelayError, Shared, subscription_name, unix_time};
use crate::domain::{Narrowing, Outcome, Pace, Position, Verdict};
use crate::failpoints::failpoint;
use crate::handlers::{Built, ProjectionSpec};
use crate::store::projections::{self, Recorded, Standing, Stop};
use crate::store::{self, Done, Entries, Fence, Fenced, Reached, Selection, subscriptions};
use crate::telemetry::{DatabaseOperation, Failure, WakeUpSource};

use calling::Called;
use reading::{Ahead, Item};

/// Longest pause between looks before the linger is over.
const AWAKE_POLL: Duration = Duration::from_millis(20);
/// The position is stored this often where nothing is projected, while the loop does not rest.
const IDLE_FLUSH: Duration = Duration::from_secs(5);
/// Between looks at rest, while the listening session looks at the log.
const REST_INTERVAL: Duration = Duration::from_secs(300);
/// Between reports of a loop that is paused.
const HELD_INTERVAL: Duration = Duration::from_secs(1);
/// Between tries at the event at which the projection stands; doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Runs the subscription until it is told to stop, loses its lease, or fails.
pub(super) async fn run(assignment: Assignment) -> Result<End, RelayError> {
    let shared = Arc::clone(&assignment.shared);
    let name = subscription_name(&assignment.handler.config, assignment.partition);
    let fail = |failure: &RelayError, operation| shared.health.failed(&name, describe_failure(failure, operation, None));
    let place = shared.beginners.acquire().await;
    let begun = Projector::begin(assignment).await.inspect_err(|failure| fail(failure, DatabaseOperation::Lease))?;
    drop(place);
    let Some(mut projector) = begun else { return Ok(End::LeaseLost) };
    projector.run().await.inspect_err(|failure| fail(failure, DatabaseOperation::Flush))
}

struct Projector {
    shared: Arc<Shared>,
    handler: Arc<HandlerShared>,
    spec: ProjectionSpec,
    selection: Arc<Selection>,
    control: watch::Receiver<Control>,
    seat: Seat,
    name: String,
    partition: u16,
    fence: Fence,
    server_generation: u64,
    /// Since when the server runs.
    server_start: String,
    /// Behind everything that was projected. Ahead of the stored one by windows without events at most.
    position: Position,
    standing: Standing,
    /// The events that were read and not projected yet.
    ahead: Option<Ahead>,
    /// Bounds how fast history is read, at the rate beside it.
    pace: Option<(u32, Pace)>,
    began: Instant,
    size: BatchSize,
    narrowing: Narrowing,
    /// Tries at the event at which it stands.
    attempts: u32,
    /// The last window was large: the next one is opened and read by pages at once.
    expects_large: bool,
    last_event: Instant,
    last_flush: Instant,
    pause: Duration,
    rests: bool,
}

/// The result of one read of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Nothing,
    /// Everything that was there is projected.
    Projected,
    /// There is more.
    Partly,
    /// There is more, and it may be read or tried after so long.
    Later(Duration),
    LeaseLost,
}

impl Projector {
    async fn begin(assignment: Assignment) -> Result<Option<Self>, RelayError> {
        let Assignment { shared, handler, subscription, partition, mut control, .. } = assignment;
        let Built::Projection(spec) = &handler.built else { unreachable!("the loop of a projection serves one") };
        let server_generation = shared.server.generation();
        let pool = &shared.connections.ledger;
        let taking = shared.answered(subscriptions::take_up(pool, subscription, &shared.instance.id)).await;
        let Some(taken) = shared.metrics.counted(DatabaseOperation::Lease, taking)? else { return Ok(None) };
        let reading = shared.answered(projections::read_standing(pool, subscription)).await;
        let Some(standing) = shared.metrics.counted(DatabaseOperation::Read, reading)? else { return Ok(None) };
        let asking = shared.answered(store::read_server_start(pool)).await;
        let server_start = shared.metrics.counted(DatabaseOperation::Read, asking)?;
        handler.take_measure(partition); // of an earlier owner
        control.mark_changed();
        let now = Instant::now();
        Ok(Some(Self {
            spec: spec.as_ref().clone(),
            selection: Arc::clone(&handler.selections[usize::from(partition)]),
            seat: shared.wake_up.seat(),
            name: subscription_name(&handler.config, partition),
            fence: taken.fence,
            position: taken.position,
            standing,
            server_start,
            shared,
            handler,
            control,
            partition,
            server_generation,
            ahead: None,
            pace: None,
            began: now,
            size: BatchSize::new(),
            narrowing: Narrowing::default(),
            attempts: 0,
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
                // Of a projection that stands, or waits for its rate, new events change nothing.
                () = self.seat.changed(), if self.ahead.is_none() => self.pause = Duration::ZERO,
                () = tokio::time::sleep(self.pause) => {
                    if self.pause >= self.shared.options().idle_poll_interval && !control.is_paused {
                        self.shared.metrics.woken(WakeUpSource::Poll);
                    }
                }
            }
        }
    }

    /// Gives the lease back. Nothing is under way: every look has ended before this.
    async fn release(&mut self) -> Result<End, RelayError> {
        if self.store_position().await? == Fenced::LeaseLost {
            return Ok(End::LeaseLost);
        }
        let released = self.shared.answered(subscriptions::release(&self.shared.connections.ledger, self.fence)).await;
        self.shared.metrics.counted(DatabaseOperation::Lease, released)?;
        Ok(End::Released)
    }

    /// An operator has paused the projection. The events wait in the log.
    fn hold(&mut self) {
        self.shared.health.held(&self.name);
        self.shared.metrics.read_at(unix_time());
        self.rest(false);
        self.seat.set_idle(true);
        self.pause = HELD_INTERVAL;
    }

    /// Projects what was read, or reads the next stretch of the log.
    async fn look(&mut self) -> Result<Look, RelayError> {
        if self.shared.server.generation() != self.server_generation {
            return Err(RelayError::ServerChanged);
        }
        if self.ahead.is_none() {
            let pool = &self.shared.connections.ledger;
            let reading = self.shared.answered(projections::read_standing(pool, self.fence.subscription)).await;
            match self.shared.metrics.counted(DatabaseOperation::Read, reading)? {
                Some(standing) => self.standing = standing,
                None => return Ok(Look::LeaseLost), // it was dropped
            }
            let rows = match self.allowed_rows() {
                Ok(rows) => rows,
                Err(wait) => return Ok(Look::Later(wait)),
            };
            let reading = self.shared.answered(self.read_ahead(rows)).await;
            let Some(ahead) = self.shared.metrics.counted(DatabaseOperation::Read, reading)? else { return self.idle().await };
            self.enter_ahead(ahead);
            if self.keep_history().await? == Fenced::LeaseLost {
                return Ok(Look::LeaseLost);
            }
        }
        match self.ahead.take() {
            Some(ahead) if ahead.items.is_empty() => self.pass_over(&ahead).await,
            Some(ahead) => self.project(ahead).await,
            None => Ok(Look::Nothing),
        }
    }

    fn enter_ahead(&mut self, ahead: Ahead) {
        self.shared.health.read_ok(&self.name);
        self.shared.metrics.read_at(unix_time());
        self.handler.metrics.fetched(ahead.items.len() as u64);
        if let Some((_, pace)) = &mut self.pace {
            pace.spend(ahead.items.len());
        }
        self.expects_large = ahead.has_more;
        if !ahead.items.is_empty() {
            self.last_event = Instant::now();
        }
        self.ahead = Some(ahead);
    }

    /// Stores where history ends before any of it is projected: after a death it must not reach further than before.
    async fn keep_history(&mut self) -> Result<Fenced, RelayError> {
        let is_new = self.position.is_in_history() && self.position.window.is_none();
        match self.ahead.as_ref().filter(|ahead| is_new && !ahead.items.is_empty()) {
            Some(ahead) => self.position = ahead.position_before_first(),
            None => return Ok(Fenced::Written),
        }
        self.store_position().await
    }

    /// Moves over a stretch without events that it wants.
    async fn pass_over(&mut self, ahead: &Ahead) -> Result<Look, RelayError> {
        let was_history = self.position.is_in_history();
        self.position = ahead.end.clone();
        // Other versions follow or compare with the stored position; and after a restart the history must not be longer than before.
        let is_watched = was_history || !self.standing.is_live || ahead.has_more;
        if (is_watched || self.last_flush.elapsed() >= IDLE_FLUSH) && self.store_position().await? == Fenced::LeaseLost {
            return Ok(Look::LeaseLost);
        }
        Ok(if ahead.has_more || !self.standing.is_live { Look::Partly } else { Look::Nothing })
    }

    /// There is nothing that it may read.
    async fn idle(&mut self) -> Result<Look, RelayError> {
        self.shared.health.read_ok(&self.name);
        self.shared.metrics.read_at(unix_time());
        // Rows that are not durable yet end no window. The commit makes them durable, and then the history has an end.
        let is_due = self.last_flush.elapsed() >= IDLE_FLUSH || self.position.is_in_history();
        if is_due && self.store_position().await? == Fenced::LeaseLost {
            return Ok(Look::LeaseLost);
        }
        Ok(Look::Nothing)
    }

    async fn store_position(&mut self) -> Result<Fenced, RelayError> {
        let began = Instant::now();
        let reached = Reached { position: self.position.clone(), done: Done::AsStored };
        let (pool, entries) = (&self.shared.connections.ledger, Entries::default());
        let recording = self.shared.answered(store::record(pool, self.fence, &self.shared.instance.id, &reached, &entries)).await;
        let recorded = self.shared.metrics.counted(DatabaseOperation::Flush, recording)?;
        self.enter_flush(began);
        Ok(recorded.fenced)
    }

    fn enter_flush(&mut self, began: Instant) {
        self.last_flush = Instant::now();
        self.shared.metrics.flushed(began.elapsed());
        self.shared.health.flushed(&self.name, true);
    }

    /// Projects the first events of what was read: as many as succeed together.
    async fn project(&mut self, mut ahead: Ahead) -> Result<Look, RelayError> {
        let wanted = self.narrowing.take(ahead.items.iter().map(Item::seq), self.size.limit()).min(ahead.items.len());
        let is_replaying = self.is_replaying();
        let began = Instant::now();
        let (count, called) = self.call(&ahead.items[..wanted], is_replaying).await?;
        let verdict = match called {
            Called::Done(mut transaction) => {
                let reached = ahead.position_behind(count);
                let recording = projections::record(&mut transaction, self.fence, &reached, count);
                let recorded = self.shared.answered(recording).await;
                match self.shared.metrics.counted(DatabaseOperation::Flush, recorded)? {
                    Recorded::LeaseLost => return Ok(Look::LeaseLost),
                    // A switch came in between, and what the functions were told is not true any more. All of it is rolled back.
                    Recorded::Written { is_live } if is_live != self.standing.is_live => return Ok(Look::Partly),
                    Recorded::Written { .. } => {}
                }
                let committing = self.shared.answered(store::commit(transaction)).await;
                self.shared.metrics.counted(DatabaseOperation::Flush, committing)?;
                failpoint!("projection-committed");
                self.enter_projected(&ahead.items[..count], began);
                self.position = reached;
                ahead.items.drain(..count);
                let is_over = ahead.items.is_empty();
                let look = if !is_over || ahead.has_more || !self.standing.is_live { Look::Partly } else { Look::Projected };
                self.ahead = (!is_over).then_some(ahead);
                return Ok(look);
            }
            Called::Failed(verdict) => verdict,
        };
        self.handler.metrics.delivered(verdict.outcome, began.elapsed());
        self.handler.metrics.failed(verdict.reason);
        if count > 1 {
            self.narrowing.failed(ahead.items[count - 1].seq());
            self.size.ran_out_of_time();
            self.ahead = Some(ahead);
            return Ok(Look::Partly);
        }
        self.stand(ahead, &verdict).await
    }

    fn enter_projected(&mut self, items: &[Item], began: Instant) {
        let took = began.elapsed();
        self.size.measured(items.len(), took, self.budget() / 2);
        self.enter_flush(began);
        if self.attempts > 0 {
            info!(handler = self.name, "the projection goes on");
            self.attempts = 0;
        }
        let each = took / u32::try_from(items.len()).unwrap_or(u32::MAX).max(1);
        for item in items {
            self.handler.metrics.delivered(Outcome::Delivered, each);
            self.handler.contract_use.sent(&item.notification().event_type);
        }
    }

    /// The first event of what was read fails: the projection stands, and says so, until it succeeds or is skipped.
    async fn stand(&mut self, ahead: Ahead, verdict: &Verdict) -> Result<Look, RelayError> {
        let before = ahead.position_before_first();
        let notification = ahead.items[0].notification();
        let stop = Stop {
            seq: notification.seq,
            event: notification.id,
            event_type: notification.event_type.clone(),
            reason: verdict.reason.as_str(),
            detail: verdict.detail.clone(),
        };
        let noting = projections::record_stop(&self.shared.connections.ledger, self.fence, &before, &stop);
        let noted = self.shared.answered(noting).await;
        if self.shared.metrics.counted(DatabaseOperation::Flush, noted)? == Fenced::LeaseLost {
            return Ok(Look::LeaseLost);
        }
        failpoint!("projection-stopped");
        self.position = before;
        let pause = FIRST_RETRY.saturating_mul(1 << self.attempts.min(10)).min(LONGEST_RETRY);
        self.attempts += 1;
        if self.attempts == 1 {
            error!(
                handler = self.name,
                event_id = %stop.event,
                event_type = stop.event_type,
                reason = stop.reason,
                detail = stop.detail,
                "the projection stands at this event; mend the function, or skip the event with \"outboxd projections skip\""
            );
        }
        let text = format!("stands at event {} ({}): {}: {}", stop.event, stop.event_type, stop.reason, stop.detail);
        let failure = Failure { operation: DatabaseOperation::Flush, sqlstate: None, event: Some(stop.event), text };
        self.shared.health.failed(&self.name, failure);
        self.shared.observe.notify_one();
        self.narrowing.failed(stop.seq);
        self.ahead = Some(ahead);
        Ok(Look::Later(pause))
    }

    /// History, or the live version has its effects already: nothing may happen but in the read table.
    fn is_replaying(&self) -> bool {
        !self.standing.is_live || self.position.is_in_history()
    }

    /// How long one transaction with several events may last: locks are held so long, and vacuum waits.
    fn budget(&self) -> Duration {
        (self.shared.options().lease / 5).min(Duration::from_secs(5))
    }

    /// How many events the rate lets be read now, or how long until it lets some be read.
    fn allowed_rows(&mut self) -> Result<i64, Duration> {
        let Some(rate) = self.standing.rate.or(self.handler.config.backfill).filter(|_| self.is_replaying()) else {
            self.pace = None;
            return Ok(reading::MOST_ROWS);
        };
        let (_, mut pace) = self.pace.take().filter(|(known, _)| *known == rate).unwrap_or_else(|| (rate, Pace::new(rate)));
        let (room, wait) = (pace.room(self.began.elapsed()), pace.wait());
        self.pace = Some((rate, pace));
        if room == 0 { Err(wait.max(Duration::from_millis(1))) } else { Ok(i64::from(room).min(reading::MOST_ROWS)) }
    }

    /// Sets the pause until the next look, and tells the bell whether there is work.
    fn plan_next(&mut self, look: Look) {
        let options = self.shared.options();
        let is_quiet = self.position.window.is_none() && self.last_event.elapsed() >= options.linger;
        let follows = !self.standing.is_live;
        self.seat.set_idle(is_quiet || matches!(look, Look::Later(_)) || (follows && look == Look::Nothing));
        // No notification announces the position of the live version, so a following version polls it.
        let rests = look == Look::Nothing && is_quiet && !follows && !self.position.is_in_history() && self.seat.is_armed();
        self.pause = match look {
            Look::Partly => Duration::ZERO,
            Look::Later(wait) => wait,
            Look::Projected => options.poll_interval,
            _ if rests => REST_INTERVAL,
            _ if is_quiet || follows => options.idle_poll_interval,
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

impl Drop for Projector {
    fn drop(&mut self) {
        self.shared.health.rests(&self.name, false);
        self.handler.rests(self.partition, false);
        self.handler.show(self.partition, |figure| figure.is_paused = false);
    }
}
