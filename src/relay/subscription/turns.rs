//! Turns: when the loop exchanges with the database, what it writes and requests, and what the answers change. `relay::turn` has
//! the sequence.
//!
//! Loops flush at common moments, at each multiple of `flush_interval` since the relay started, so that the recorder can write
//! their flushes together. A loop flushes earlier when 4,096 outcomes wait, while it counts carefully, and when it stops. An idle
//! loop records its position every five seconds, so that a restart has little to read and retention can follow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::{
    DUE_INTERVAL, DUE_PAUSE, End, FULL_FLUSH, HELD_PAUSE, IDLE_FLUSH, LANES_INTERVAL, Loop, Performer, RELEASE_PAUSE,
    REST_INTERVAL, TurnEnd,
};
use crate::domain::{Admission, OnDeadLetter};
use crate::relay::functions::{Called, find_server};
use crate::relay::turn::{self, Answer, Ask, Failed};
use crate::relay::{Order, RelayError};
use crate::store::{self, Released, Room};
use crate::telemetry::DatabaseOperation;

impl Loop {
    /// Begins a turn if there is something to write or to read.
    pub(super) fn begin_turn(&mut self, may_take_work: bool) {
        if self.turn.is_some() {
            return;
        }
        let now = Instant::now();
        let since_flush = now.duration_since(self.last_flush);
        let stops = self.control.borrow().order != Order::Work;
        let flush_is_due = self.books.needs_flush()
            && (stops || self.careful > 0 || now >= self.next_flush() || self.books.pending() >= FULL_FLUSH);
        let refills = if may_take_work && self.has_room_for_recorded() { self.books.lanes.take_refills(64) } else { Vec::new() };
        if self.books.take_due_news() {
            self.due_at = self.due_at.min(now + DUE_PAUSE);
        }
        let is_due = may_take_work && now >= self.due_at && self.may_look_for_due();
        let is_released = may_take_work && now >= self.release_at && self.may_release();
        let ask = Ask {
            known_due: self.books.known_due(),
            due: is_due || (is_released && self.may_look_for_due()),
            release: is_released.then(|| (Arc::clone(&self.selection), self.room_for_replays())),
            room: self.recorded_room(),
            lanes: (now >= self.lanes_at).then(|| self.handler.config.on_dead_letter == OnDeadLetter::HoldKey),
            circuit: self.books.take_circuit_news(),
            destinations: self.books.take_destination_news(),
            flush: None,
            refills,
        };
        let idle_flush = self.idle_flush();
        let asks = ask.due || ask.lanes.is_some() || ask.circuit.is_some() || ask.destinations.is_some() || !ask.refills.is_empty();
        if !asks && !flush_is_due && since_flush < idle_flush {
            return;
        }
        // Every read follows a flush of the known outcomes: rows with an outcome in memory must not be read as open.
        let flush = (self.books.needs_flush() || since_flush >= idle_flush).then(|| {
            let flush = self.books.take_flush();
            self.flushed_to = Some(flush.0.position.snapshot.clone());
            // A flush that writes outcomes, or has none to write, proves that recording works.
            self.flush_is_proof = !flush.1.is_empty() || self.books.outstanding() == 0;
            self.writing = flush.1.outcomes.iter().map(|outcome| outcome.seq).collect();
            self.last_flush = now;
            flush
        });
        let (pool, recorder) = (self.shared.connections.ledger.clone(), Arc::clone(&self.shared.recorder));
        let answer = turn::take(pool, recorder, self.fence, self.shared.instance.id.clone(), Ask { flush, ..ask });
        self.turn = Some(self.bounded(DatabaseOperation::Flush, async move { Ok(TurnEnd::Answered(answer.await?)) }));
    }

    /// The first moment after the last flush at which all loops of this relay flush, so that they can do it together.
    pub(super) fn next_flush(&self) -> Instant {
        let interval = self.shared.options().flush_interval.as_nanos().max(1);
        let passed = self.last_flush.saturating_duration_since(self.shared.began).as_nanos();
        let next = (passed / interval + 1) * interval;
        self.shared.began + Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX))
    }

    /// Between flushes that write nothing but the position.
    pub(super) fn idle_flush(&self) -> Duration {
        let has_moved = self.flushed_to.as_ref() != Some(self.books.reached());
        if has_moved { IDLE_FLUSH } else { self.pause(IDLE_FLUSH) }
    }

    /// Between looks of one kind, for a loop at work; one at rest is woken by each change.
    pub(super) fn pause(&self, at_work: Duration) -> Duration {
        if self.rests { self.spread(REST_INTERVAL) } else { at_work }
    }

    /// A little different for each loop, so that a thousand do not look at the same moment.
    pub(super) fn spread(&self, interval: Duration) -> Duration {
        interval.mul_f64(0.75 + f64::from(self.fence.subscription % 64) / 128.0)
    }

    pub(super) fn may_look_for_due(&self) -> bool {
        // Deliveries that cannot be attempted yet, because the receiver requested a pause, cost nothing while it lasts.
        let is_held = self.books.held_until.is_some_and(|until| Instant::now() < until);
        self.has_room_for_recorded() && self.books.circuit_would_admit() && !is_held
    }

    /// Whether more of a replay may leave. While the circuit is open only its probe may, and only if nothing else is ready to be one:
    /// otherwise a replay would wait for ever when the receiver works again and no new event comes.
    pub(super) fn may_release(&self) -> bool {
        self.books.circuit_would_admit() && self.room_for_replays() > 0
    }

    /// Not so much that live events, which are not read above `max_parked`, would have to wait for a replay that fails.
    fn room_for_replays(&self) -> u64 {
        let room = self.handler.config.max_parked.div_ceil(2).saturating_sub(self.books.unfinished());
        if self.books.circuit.is_closed() { room } else { room.min(1) }
    }

    pub(super) fn has_room_for_recorded(&self) -> bool {
        self.books.lanes.held() < self.room && self.books.lanes.held_bytes() < self.shared.memory_per_loop()
    }

    pub(super) fn recorded_room(&self) -> Room {
        let rows = if self.books.circuit.is_closed() { self.books.concurrency().max(16) * 4 } else { 1 };
        Room { rows: i64::try_from(rows).unwrap_or(i64::MAX), ..self.read_room() }
    }

    pub(super) fn finish_turn(&mut self, end: TurnEnd) -> Result<Option<End>, RelayError> {
        if self.shared.server.generation() != self.server_generation {
            return Err(RelayError::ServerChanged);
        }
        match end {
            TurnEnd::Called(called, admission, took) => {
                self.finish_calls(*called, admission, took);
                Ok(None)
            }
            TurnEnd::Unrecorded(cause) => {
                self.failed_at = DatabaseOperation::Flush;
                Err(RelayError::Unrecorded(cause))
            }
            TurnEnd::Answered(answer) if answer.lease_is_lost => Ok(Some(End::LeaseLost)),
            TurnEnd::Answered(answer) => {
                if answer.flushed {
                    self.shared.metrics.flushed(self.last_flush.elapsed());
                    self.shared.health.flushed(&self.name, self.flush_is_proof);
                }
                if let Some(measure) = self.handler.take_measure(self.partition) {
                    self.books.take_measure(measure);
                }
                self.enter_answer(answer);
                Ok(None)
            }
        }
    }

    /// Settles what functions were called for, and begins to record it in their transaction. Without one the next turn records it.
    fn finish_calls(&mut self, mut called: Called, admission: Admission, took: Duration) {
        let batch = std::mem::take(&mut self.batch);
        self.only_event = (batch.len() == 1).then(|| batch[0].notification.id);
        let Performer::Functions(functions) = &mut self.performer else { return };
        let first = functions.learn(&batch, &called);
        if let Some(allowance) = &mut self.allowance {
            allowance.give_back(called.uncalled());
        }
        if called.verdicts.iter().all(Option::is_none) {
            self.books.circuit.released(admission);
        }
        self.books.settle_batch(batch, admission, std::mem::take(&mut called.verdicts), took);
        if self.books.lanes.held() == 0 {
            functions.forget();
        } else if !first.is_empty() {
            self.books.lanes.hurry(&first);
        }
        let Some(transaction) = called.transaction else { return };
        let (reached, entries) = self.books.take_flush();
        self.flush_is_proof = true;
        self.writing = entries.outcomes.iter().map(|outcome| outcome.seq).collect();
        self.last_flush = Instant::now();
        let (fence, instance) = (self.fence, self.shared.instance.id.clone());
        let commit = turn::commit_functions(transaction, fence, instance, reached, entries);
        let commit = store::answered(self.shared.answer_timeout, commit, |silent| silent);
        let (pool, start) = (self.shared.connections.ledger.clone(), functions.server_start().to_owned());
        self.turn = Some(Box::pin(async move {
            match commit.await {
                Ok(answer) => Ok(TurnEnd::Answered(answer)),
                // The server is there, and did not take it: perhaps for something that a function has left behind.
                Err(cause)
                    if !cause.is_end_of_server()
                        && !cause.is_silence()
                        && find_server(&pool).await.is_some_and(|now| now == start) =>
                {
                    Ok(TurnEnd::Unrecorded(cause))
                }
                Err(cause) => Err(Failed::at(DatabaseOperation::Flush)(cause)),
            }
        }));
    }

    pub(super) fn enter_answer(&mut self, mut answer: Answer) {
        let now = Instant::now();
        self.only_event = None;
        self.books.flushed(&std::mem::take(&mut self.writing));
        self.books.enter_unstorable(&answer.unstorable);
        let is_clear = self.books.take_waiting(std::mem::take(&mut answer.refills), std::mem::take(&mut answer.waiting));
        let has_due = answer.due.as_ref().is_some_and(|rows| !rows.is_empty());
        if let Some(rows) = answer.due.take() {
            self.books.take_due(rows);
        }
        if answer.asked {
            // Where nothing is recorded that will be attempted, only an operator can make something due, and rings.
            let idle = if self.books.unfinished() == 0 { LANES_INTERVAL } else { DUE_INTERVAL };
            let next = answer.next_due.map_or(self.pause(idle), |wait| wait.clamp(DUE_PAUSE, DUE_INTERVAL));
            self.due_at = now + next;
        }
        if answer.lanes.is_some() {
            self.lanes_at = now + self.pause(LANES_INTERVAL);
            // Operators change rows while the loop runs.
            self.books.forget_due();
        }
        if answer.orphans > 0 {
            let handler = self.handler.config.name.as_str();
            warn!(
                handler,
                deliveries = answer.orphans,
                "events of deliveries that were owed are gone from the log; they are discarded"
            );
        }
        if !is_clear || answer.orphans > 0 || !answer.unstorable.is_empty() {
            self.lanes_at = now;
        }
        if !answer.unreadable.is_empty() {
            self.lanes_at = now;
            self.books.take_unreadable(std::mem::take(&mut answer.unreadable));
        }
        if let Some(released) = answer.released {
            let next = next_release(released);
            self.release_at = now + if released.has_held { next } else { self.pause(next) };
        }
        self.books.take_answer(&mut answer);
        // A careful time ends when nothing is left that the last owner can have had in flight.
        if self.careful > 0 && self.recovery.is_none() && self.books.lanes.held() == 0 && !has_due {
            self.careful = 0;
        }
    }

    /// Shows what only the loop knows, at most once a second.
    pub(super) fn show_figures(&mut self) {
        let now = Instant::now();
        if now < self.shown_at {
            return;
        }
        self.shown_at = now + DUE_INTERVAL;
        let in_flight = match &self.performer {
            Performer::Attempts(dispatch) => dispatch.in_flight(),
            Performer::Functions(_) => self.batch.len(),
        };
        self.handler.show(self.partition, |figure| {
            figure.backlog.in_flight = in_flight as u64;
            figure.is_paused = self.control.borrow().is_paused;
            figure.concurrency = self.books.concurrency();
            // After a reload the loops of the old settings end one by one, and the last to end overwrites the figures of the new ones.
            figure.circuit = Some(self.books.circuit.state());
        });
    }
}

/// When to look at the replays again: soon while something leaves or the rate alone holds it, later while keys do, seldom else. A
/// command that starts or resumes one rings.
fn next_release(released: Released) -> Duration {
    match released {
        Released { has_held: false, .. } => LANES_INTERVAL,
        Released { released: 0, dropped: 0, has_tokens: true, .. } => HELD_PAUSE,
        _ => RELEASE_PAUSE,
    }
}
