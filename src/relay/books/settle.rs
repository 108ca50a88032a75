//! Settling: what the verdict of an attempt changes in memory: the lane, the circuit, the segment, the rows to write, the
//! counters, the log. `domain::policy` decides.
//!
//! Back-pressure. A 429, or a 503 with `Retry-After`, pauses the handler for as long as the receiver requests (one second if it
//! does not say, at most an hour), and halves the concurrency (`slow_down`). Each success raises the concurrency again, by one
//! after as many successes as attempts may be in flight (`deliver`). The event returns to its lane, and no attempt is spent.
//!
//! While the circuit is not closed, a `Retry` verdict spends nothing either. A `Permanent` verdict still makes a dead letter,
//! because the receiver answered about this event.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::{Books, local_micros};
use crate::domain::{
    Admission, CircuitState, DeliveryState, ErrorGroup, LaneKey, LaneRef, Next, Notification, OnDeadLetter, Origin, Outcome,
    Queued, Reach, Reason, Record, Verdict, decide,
};
use crate::failpoints::failpoint;
use crate::relay::attempt::Finished;
use crate::store::{RecordedAttempt, RecordedOutcome, Unreadable, Unstorable};
use crate::telemetry::{ReplayOutcome, TraceContext};

impl Books {
    /// Enters the end of an attempt: one verdict, one consequence.
    pub fn settle(&mut self, finished: Finished) {
        if let Some(queued) = self.settle_one(finished) {
            self.lanes.returned(queued);
        }
        failpoint!("outcome-settled");
    }

    /// Enters the ends of a batch of function calls, in order of `seq`. No verdict: an earlier event of the key failed.
    pub fn settle_batch(&mut self, batch: Vec<Queued>, admission: Admission, verdicts: Vec<Option<Verdict>>, took: Duration) {
        let keys: HashSet<LaneKey> = batch.iter().map(|queued| LaneRef::of(&queued.notification).owned()).collect();
        let mut back = Vec::new();
        for (queued, verdict) in batch.into_iter().zip(verdicts) {
            match verdict {
                Some(verdict) => back.extend(self.settle_one(Finished { queued, admission, verdict, took })),
                None if self.lanes.is_blocked(LaneRef::of(&queued.notification)) => {
                    if let Some(follower) = self.lanes.parked_within_batch(queued) {
                        self.park(follower);
                    }
                }
                None => back.push(queued),
            }
        }
        // Backwards, because each goes to the front of its lane. Behind a suspect they wait with it.
        for queued in back.into_iter().rev() {
            let is_behind_suspect = self.is_suspect(LaneRef::of(&queued.notification));
            if is_behind_suspect { self.lanes.put_back(queued) } else { self.lanes.returned(queued) }
        }
        for key in keys.iter().map(LaneKey::borrowed) {
            if !self.is_suspect(key) {
                self.lanes.release(key);
            }
        }
    }

    /// Gives an event up because it was in flight at too many deaths of the relay. Its attempts are counted already.
    pub fn bury_crashed(&mut self, queued: Queued) {
        let verdict = Verdict::retry(
            Reason::Crashed,
            "the relay, or the session of its function, died again and again while this event was in flight",
        );
        self.handler.metrics.failed(verdict.reason);
        self.bury(&queued, &verdict, Reason::Crashed, queued.attempts, 0);
    }

    /// Gives up an event that could not be read out, and that no lane holds. Nothing was attempted.
    pub(super) fn bury_unreadable(&mut self, unreadable: Unreadable, origin: Origin, attempts: u32) {
        let Unreadable { notification, cause, .. } = unreadable;
        let verdict = Verdict::permanent(Reason::Unreadable, cause);
        self.handler.metrics.failed(verdict.reason);
        let queued = Queued { notification, origin, attempts, age_micros: 0 };
        self.tell_dead(&queued, &verdict, Reason::Unreadable, attempts);
        self.write(&queued, DeliveryState::Dead, attempts, None, Some(&verdict), None);
    }

    /// Enters outcomes that Postgres refused to store as they were. A key that it should have moved or held is looked up with the other lanes.
    pub fn enter_unstorable(&mut self, unstorable: &[Unstorable]) {
        for one in unstorable {
            let handler = self.handler.config.name.as_str();
            let event_id = one.event.map(tracing::field::display);
            error!(event_id, seq = one.seq, handler, state = %one.state, cause = one.cause, "an outcome could not be stored");
            // One that was to be a dead letter anyway is counted already.
            if one.is_dead && one.state != DeliveryState::Dead {
                self.count_dead();
                self.handler.metrics.buried(Reason::Unstorable);
            }
            if matches!(one.state, DeliveryState::Retrying | DeliveryState::Waiting) {
                self.unfinished = self.unfinished.saturating_sub(1);
            }
        }
    }

    /// The verdict's consequence. Gives the event back if nothing was spent on it.
    fn settle_one(&mut self, finished: Finished) -> Option<Queued> {
        self.handler.metrics.delivered(finished.verdict.outcome, finished.took);
        if !finished.verdict.is_delivered() {
            self.handler.metrics.failed(finished.verdict.reason);
            self.handler.tell_answer(self.partition, finished.queued.notification.id, &finished.verdict);
        }
        if finished.verdict.reach == Reach::Another && self.excuse(finished.queued.notification.seq) {
            self.circuit.released(finished.admission);
            return Some(finished.queued);
        }
        let finished = match self.settle_at_destination(finished) {
            Ok(back) => return back,
            Err(finished) => finished,
        };
        self.tell_destination(finished.admission, &finished.queued.notification, &finished.verdict);
        let was_closed = self.circuit.is_closed();
        if was_closed && finished.verdict.may_be_of_the_event() {
            return self.doubt(finished);
        }
        let Finished { queued, admission, verdict, took } = finished;
        let (attempt, age) = (queued.attempts + 1, age(&queued, took));
        self.judge_circuit(admission, &queued.notification, &verdict);
        if verdict.speaks_for_handler() && self.circuit.is_closed() {
            self.contradict(admission, &queued);
        }
        match decide(&self.handler.config.retry, &verdict, attempt, age, fastrand::f64()) {
            Next::Done => self.deliver(&queued, &verdict, attempt, took),
            Next::SlowDown(after) => {
                self.slow_down(after, &verdict);
                return Some(queued);
            }
            Next::OpenCircuit => return Some(queued),
            // While the circuit is not closed the receiver is known to be down: its failures say nothing about the event.
            Next::RetryIn(_) | Next::Bury(Reason::Exhausted | Reason::Expired | Reason::Crashed) if !was_closed => {
                return Some(queued);
            }
            Next::RetryIn(delay) => self.retry(&queued, &verdict, attempt, took, delay),
            Next::Bury(reason) => self.bury(&queued, &verdict, reason, attempt, millis(took)),
        }
        None
    }

    fn deliver(&mut self, queued: &Queued, verdict: &Verdict, attempt: u32, took: Duration) {
        let notification = &*queued.notification;
        let (bound, limit) = (self.handler.config.concurrency as f64, self.limit);
        self.limit = (limit + 1.0 / limit.max(1.0)).min(bound);
        // Saturating: an application may say that it happened at `-infinity`.
        let age_micros = (local_micros() + self.clock_offset).saturating_sub(notification.occurred_at.as_micros()).max(0);
        self.handler.metrics.end_to_end(age_micros as f64 / 1e6);
        self.handler.contract_use.sent(&notification.event_type);
        match queued.origin {
            Origin::Log(segment) => {
                let has_row = self.handler.config.record == Record::All;
                if has_row {
                    self.entries.delivered.push(notification.seq);
                }
                self.progress.settle(segment, notification.seq, has_row);
                // Without a row only the position records it, so the position must be written soon, not with the next idle flush.
                self.has_moved = true;
            }
            Origin::Recorded | Origin::Counted(_) => {
                self.write(queued, DeliveryState::Delivered, attempt, None, Some(verdict), Some(took));
                self.unfinished = self.unfinished.saturating_sub(1);
            }
        }
        if notification.is_replay {
            self.handler.metrics.replayed(ReplayOutcome::Delivered);
        }
        self.lanes.finished(notification);
    }

    pub(super) fn retry(&mut self, queued: &Queued, verdict: &Verdict, attempt: u32, took: Duration, delay: Duration) {
        let notification = &*queued.notification;
        warn!(
            event_id = %notification.id, handler = self.handler.config.name, attempt, reason = %verdict.reason,
            status = verdict.status, trace_id = TraceContext::of(&notification.headers).trace_id(), retry_in = ?delay,
            "delivery failed"
        );
        self.remember(queued, verdict, attempt, millis(took));
        let due_in = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
        self.write(queued, DeliveryState::Retrying, attempt, Some(due_in), Some(verdict), Some(took));
        if queued.origin.segment().is_some() {
            self.grow_unfinished(1);
        }
        self.block(notification);
    }

    fn count_dead(&mut self) {
        self.dead += 1;
        self.died_at = Some(Instant::now());
    }

    /// Counts and logs a dead letter.
    fn tell_dead(&mut self, queued: &Queued, verdict: &Verdict, reason: Reason, attempt: u32) {
        let notification = &*queued.notification;
        let handler = self.handler.config.name.as_str();
        self.handler.metrics.buried(reason);
        let look = format!("outboxd dead-letters show {}", notification.id);
        let trace = TraceContext::of(&notification.headers);
        let (status, trace_id) = (verdict.status, trace.trace_id());
        if self.dead == 0 {
            // The first one is for an operator: this is where an alert begins.
            error!(event_id = %notification.id, handler, attempt, %reason, cause = %verdict.reason, status, trace_id, look, "dead letter");
        } else {
            warn!(event_id = %notification.id, handler, attempt, %reason, cause = %verdict.reason, status, trace_id, look, "another dead letter");
        }
        self.count_dead();
        if notification.is_replay {
            self.handler.metrics.replayed(ReplayOutcome::DeadAgain);
        }
        if queued.origin == Origin::Recorded {
            self.unfinished = self.unfinished.saturating_sub(1);
        }
    }

    pub(super) fn bury(&mut self, queued: &Queued, verdict: &Verdict, reason: Reason, attempt: u32, took_ms: i32) {
        let notification = &*queued.notification;
        self.tell_dead(queued, verdict, reason, attempt);
        self.remember(queued, verdict, attempt, took_ms);
        let verdict = Verdict { reason, detail: explain(reason, verdict), ..verdict.clone() };
        self.write(
            queued,
            DeliveryState::Dead,
            attempt,
            None,
            Some(&verdict),
            Some(Duration::from_millis(took_ms.unsigned_abs().into())),
        );
        match self.handler.config.on_dead_letter {
            OnDeadLetter::HoldKey if notification.key.is_some() => self.block(notification),
            OnDeadLetter::HoldKey | OnDeadLetter::Continue => self.lanes.finished(notification),
        }
    }

    /// The key waits for a row; what stands behind it in memory is recorded as waiting.
    pub(super) fn block(&mut self, notification: &Notification) {
        for follower in self.lanes.blocked(notification) {
            self.park(follower);
        }
    }

    pub(super) fn park(&mut self, queued: Queued) {
        if let Some(key) = &queued.notification.key {
            *self.unrecorded_waiting.entry(key.clone()).or_default() += 1;
        }
        self.grow_unfinished(1);
        self.write(&queued, DeliveryState::Waiting, queued.attempts, None, None, None);
    }

    fn slow_down(&mut self, after: Option<Duration>, verdict: &Verdict) {
        let pause = after.unwrap_or(DEFAULT_PAUSE).min(LONGEST_PAUSE);
        self.limit = (self.limit / 2.0).max(1.0);
        self.handler.show(self.partition, |figure| figure.concurrency = self.concurrency());
        let until = Instant::now() + pause;
        if self.held_until.is_none_or(|held| held < until) {
            self.held_until = Some(until);
            let status = verdict.status.map(|status| format!(" ({status})")).unwrap_or_default();
            let reason = format!("{}{status}", verdict.reason);
            self.handler.show(self.partition, |figure| (figure.held_until, figure.held_reason) = (Some(until), reason));
            info!(handler = self.handler.config.name, pause = ?pause, concurrency = self.concurrency(), reason = %verdict.reason, "handler slowed down");
        }
    }

    /// Begins nothing for so long, and logs why. Nothing is spent, and the concurrency stays.
    pub fn hold(&mut self, pause: Duration, reason: &str) {
        let until = Instant::now() + pause.min(LONGEST_PAUSE);
        self.held_until = Some(until);
        self.handler.show(self.partition, |figure| (figure.held_until, figure.held_reason) = (Some(until), reason.to_owned()));
        info!(handler = self.handler.config.name, ?pause, reason, "handler held");
    }

    fn judge_circuit(&mut self, admission: Admission, notification: &Notification, verdict: &Verdict) {
        let (before, now) = (self.circuit.state(), self.clock());
        let is_probe = before != CircuitState::Closed && !self.circuit.is_late(admission);
        match verdict.outcome {
            Outcome::Delivered | Outcome::Duplicate | Outcome::Permanent | Outcome::BackPressure => {
                self.circuit.answered(admission, now);
                if is_probe {
                    self.acquit(verdict);
                }
            }
            Outcome::Retry => self.circuit.failed(admission, verdict.reason, now),
            Outcome::HandlerFault => {
                self.circuit.fault(admission, verdict.reason, now);
                if is_probe {
                    self.confirm(notification);
                }
            }
        }
        let after = self.circuit.state();
        if before == after {
            return;
        }
        self.circuit_news = true;
        self.show_circuit();
        let handler = self.handler.config.name.as_str();
        match after {
            CircuitState::Closed => self.tell_closed(),
            CircuitState::Open | CircuitState::HalfOpen => warn!(
                handler, reason = %verdict.reason, status = verdict.status, detail = verdict.detail,
                probe_in = ?self.circuit.wait(now).unwrap_or_default(), "circuit open, events are held"
            ),
        }
    }

    fn remember(&mut self, queued: &Queued, verdict: &Verdict, attempt: u32, duration_ms: i32) {
        self.entries.attempts.push(RecordedAttempt {
            seq: queued.notification.seq,
            attempt,
            duration_ms,
            status: verdict.status,
            ambiguous: verdict.ambiguous,
            outcome: verdict.outcome,
            reason: verdict.reason,
            detail: verdict.detail.clone(),
        });
    }

    /// A delivery that waits for its destination; nothing is spent.
    pub(super) fn write_waiting_for(
        &mut self,
        queued: &Queued,
        state: DeliveryState,
        due_in: i64,
        why: Option<&Verdict>,
        destination: String,
    ) {
        self.write(queued, state, queued.attempts, Some(due_in), why, why.map(|_| Duration::ZERO));
        if let Some(outcome) = self.entries.outcomes.last_mut() {
            // There was no attempt that counts.
            outcome.age_micros = None;
            outcome.destination = Some(destination);
        }
    }

    fn write(
        &mut self,
        queued: &Queued,
        state: DeliveryState,
        attempts: u32,
        due_in: Option<i64>,
        verdict: Option<&Verdict>,
        took: Option<Duration>,
    ) {
        let notification = &*queued.notification;
        self.forget_due_of(notification);
        if let Some(segment) = queued.origin.segment() {
            self.progress.settle(segment, notification.seq, true);
        }
        self.unrecorded.insert(notification.seq);
        self.unrecorded_keys.extend(notification.key.clone());
        self.entries.outcomes.push(RecordedOutcome {
            seq: notification.seq,
            event: notification.id,
            key: notification.key.clone(),
            state,
            attempts,
            due_in_micros: due_in,
            status: verdict.and_then(|verdict| verdict.status),
            reason: verdict.map(|verdict| verdict.reason),
            detail: verdict.map(|verdict| verdict.detail.clone()).unwrap_or_default(),
            age_micros: took.map(|took| i64::try_from(took.as_micros()).unwrap_or(i64::MAX)),
            group: verdict
                .filter(|_| state == DeliveryState::Dead)
                .map(|verdict| ErrorGroup::of(verdict.reason, verdict.status, &verdict.detail)),
            holds_key: state == DeliveryState::Dead
                && self.handler.config.on_dead_letter == OnDeadLetter::HoldKey
                && notification.key.is_some(),
            is_replay: notification.is_replay,
            destination: None,
        });
    }
}

/// Back-pressure without a word for how long.
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);
/// A longer pause that a receiver requests is cut to this: a typing error there must not stop a handler for a year.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

fn explain(reason: Reason, verdict: &Verdict) -> String {
    match reason {
        Reason::Exhausted | Reason::Expired => format!("{}: {}", verdict.reason, verdict.detail),
        _ => verdict.detail.clone(),
    }
}

/// Time since the first attempt.
pub(super) fn age(queued: &Queued, took: Duration) -> Duration {
    Duration::from_micros(queued.age_micros.unsigned_abs()) + if queued.age_micros > 0 { took } else { Duration::ZERO }
}

pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
