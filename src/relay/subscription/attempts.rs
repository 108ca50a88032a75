//! Beginning attempts: as many as may be in flight; one at a time, counted first, after a death of the previous owner; functions
//! in batches.
//!
//! An attempt begins only if all of these allow it: the pause that a receiver requested, the trusted time of the lease, a
//! brownout of its contract, the concurrency, the outcomes that wait for a flush, the rate, and the circuit, in this order. The
//! circuit is last, because a probe that it admits must go out.
//!
//! Settles nothing; the ends of attempts come back through the loop.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Loop, MOST_PENDING, Performer, TurnEnd};
use crate::contracts::Pins;
use crate::domain::{Admission, LaneRef, Notification, Origin, Queued, Timestamp, Verdict};
use crate::failpoints::failpoint;
use crate::handlers::Built;
use crate::relay::dispatch::Dispatch;
use crate::relay::turn::Failed;
use crate::relay::{RelayError, functions, prepare, unix_time};
use crate::store::{self, Argument, Rendered, StoreError};
use crate::telemetry::DatabaseOperation;

impl Loop {
    /// Begins as many attempts as may be in flight.
    pub(super) async fn begin_attempts(&mut self) -> Result<(), RelayError> {
        self.next_token_at = None;
        while self.books.lanes.has_ready() && self.may_begin() {
            // Before the circuit is asked: a probe that it admits must go out.
            let room = self.room_of_rate();
            if room == 0 {
                break;
            }
            let Some(admission) = self.books.admit() else { break };
            if matches!(self.performer, Performer::Functions(_)) {
                self.begin_functions(admission, room).await?;
                break;
            }
            let Some(queued) = self.books.take_next() else {
                self.books.circuit.released(admission);
                break;
            };
            let Some(queued) = self.count_if_careful(queued).await? else {
                self.books.circuit.released(admission);
                continue;
            };
            self.spend(1);
            if let Performer::Attempts(dispatch) = &mut self.performer
                && let Some(finished) = dispatch.begin(queued, admission)
            {
                self.books.settle(finished);
            }
        }
        let is_under_way = match &self.performer {
            Performer::Attempts(dispatch) => dispatch.in_flight() > 0,
            Performer::Functions(_) => !self.batch.is_empty(),
        };
        if self.next_token_at.is_some() {
            self.books.put_off_judgement();
        }
        self.books.judge_suspects(is_under_way);
        Ok(())
    }

    /// How many attempts the rate of the handler lets begin now. Zero: `next_token_at` says when there is room again.
    fn room_of_rate(&mut self) -> usize {
        let now = self.books.clock();
        let Some(allowance) = &mut self.allowance else { return usize::MAX };
        let room = allowance.room(now);
        if room == 0 {
            self.next_token_at = Some(Instant::now() + allowance.wait());
        }
        room
    }

    fn spend(&mut self, attempts: usize) {
        if let Some(allowance) = &mut self.allowance {
            allowance.spend(attempts);
        }
    }

    pub(super) fn may_begin(&mut self) -> bool {
        if let Some(until) = self.books.held_until {
            if Instant::now() < until {
                return false;
            }
            self.books.held_until = None;
        }
        if !self.shared.trust.holds_for(Duration::ZERO) {
            return false;
        }
        // Before anything is attempted: a brownout says nothing about the receiver, so neither attempts nor the circuit learn of it.
        let now = Timestamp::from_micros(i64::try_from(unix_time().as_micros()).unwrap_or(i64::MAX));
        if let Some(brownout) = self.handler.config.contracts.as_ref().and_then(|pins| pins.brownout(now)) {
            self.books.hold(brownout.until.since(now), &format!("brownout of {}@{}", brownout.event_type, brownout.version));
            return false;
        }
        let has_place = match &self.performer {
            // One at a time, and its outcome recorded before the next: a success that the next one's death takes back would
            // count against the event that succeeded.
            // And only between turns: counting waits for the row that a turn has locked, and the turn is not polled meanwhile.
            Performer::Attempts(dispatch) if self.careful > 0 => {
                dispatch.in_flight() == 0 && !self.books.needs_flush() && self.turn.is_none()
            }
            Performer::Attempts(dispatch) => dispatch.in_flight() < self.books.concurrency(),
            Performer::Functions(_) => self.turn.is_none(),
        };
        has_place && self.books.pending() < MOST_PENDING
    }

    /// After a death of the last owner: commits the attempt before it is made. `None`: the event is a dead letter now.
    pub(super) async fn count_if_careful(&mut self, mut queued: Queued) -> Result<Option<Queued>, RelayError> {
        if self.careful == 0 {
            return Ok(Some(queued));
        }
        self.careful -= 1;
        if matches!(queued.origin, Origin::Counted(_)) {
            return Ok(Some(queued));
        }
        let notification = &queued.notification;
        (self.failed_at, self.only_event) = (DatabaseOperation::Flush, Some(notification.id));
        let counting =
            store::count_attempt(&self.shared.connections.ledger, self.fence, notification.seq, notification.key.as_deref());
        let counted = self.shared.answered(counting).await;
        if matches!(&counted, Err(error) if error.is_about_data()) {
            // Postgres refuses a row for it, so no attempt can be counted. Its outcome is refused in the same way, and is recorded as such.
            self.only_event = None;
            return Ok(Some(queued));
        }
        let counted = self.shared.metrics.counted(DatabaseOperation::Flush, counted)?;
        let Some(attempts) = counted else { return Err(StoreError::Refused("the lease is lost".to_owned()).into()) };
        self.only_event = None;
        failpoint!("attempt-counted");
        if let Origin::Log(segment) = queued.origin {
            queued.origin = Origin::Counted(segment);
        }
        if attempts > self.handler.config.retry.max_attempts {
            queued.attempts = attempts - 1;
            self.books.bury_crashed(queued);
            return Ok(None);
        }
        queued.attempts = attempts - 1;
        queued.notification.attempt = attempts;
        Ok(Some(queued))
    }

    pub(super) async fn begin_functions(&mut self, admission: Admission, room: usize) -> Result<(), RelayError> {
        let Performer::Functions(functions) = &self.performer else { return Ok(()) };
        let is_careful = self.careful > 0;
        let limit = if is_careful { 1 } else { functions.limit().min(room) };
        let mut batch = match self.books.circuit.is_closed() {
            true => self.books.lanes.next_batch(limit),
            false => self.books.take_next().into_iter().collect(),
        };
        if is_careful && let Some(queued) = batch.pop() {
            batch.extend(self.count_if_careful(queued).await?);
        }
        self.batch = batch;
        if self.batch.is_empty() {
            self.books.circuit.released(admission);
            return Ok(());
        }
        self.spend(self.batch.len());
        let Performer::Functions(functions) = &self.performer else { return Ok(()) };
        let failed: HashSet<LaneRef<'_>> =
            self.batch.iter().filter(|queued| queued.attempts > 0).map(|queued| LaneRef::of(&queued.notification)).collect();
        let pins = self.handler.config.contracts.as_deref();
        let argument = |queued: &Queued| {
            let (rendered, refused) = rendered(pins, &queued.notification);
            Argument {
                seq: queued.notification.seq,
                key: queued.notification.key.clone(),
                has_failed: failed.contains(&LaneRef::of(&queued.notification)),
                rendered,
                refused,
            }
        };
        let arguments = self.batch.iter().map(argument).collect();
        let pools = (self.shared.connections.calls.clone(), self.shared.connections.ledger.clone());
        let setup = functions.setup(pools, &self.shared.session, self.shared.answer_timeout, self.shared.options().lease);
        let began = Instant::now();
        self.turn = Some(Box::pin(async move {
            let called = functions::call(setup, arguments).await.map_err(Failed::at(DatabaseOperation::Flush))?;
            failpoint!("function-called");
            Ok(TurnEnd::Called(Box::new(called), admission, began.elapsed()))
        }));
        Ok(())
    }

    pub(super) async fn end_attempts(&mut self) {
        if let Performer::Attempts(dispatch) = &mut self.performer {
            dispatch.end().await;
        }
    }

    pub(super) fn abort_attempts(&mut self) {
        if let Performer::Attempts(dispatch) = &mut self.performer
            && let Built::Handler(instance) = &self.handler.built
        {
            let config = &self.handler.config;
            *dispatch = Dispatch::new(Arc::clone(instance), config.timeout, config.concurrency);
        }
    }
}

/// The form that the contract gives an event for a function, if it differs from the log; or why there is none.
fn rendered(pins: Option<&Pins>, notification: &Notification) -> (Option<Arc<Rendered>>, Option<Verdict>) {
    let Some(pins) = pins else { return (None, None) };
    match prepare(pins, notification) {
        Err(verdict) => (None, Some(verdict)),
        Ok(prepared) if prepared.payload == notification.payload && prepared.headers == notification.headers => (None, None),
        Ok(prepared) => (Some(Arc::new(Rendered { payload: prepared.payload.clone(), headers: prepared.headers.clone() })), None),
    }
}
