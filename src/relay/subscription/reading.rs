//! Reading ahead: when the loop reads, how much, and what the end of a read means for the head and for the rest of the loop.
//! Never touches the stored position, which moves with settled events only.
//!
//! The loop does not read while half of its room is held, while 100,000 events are read and unsettled, or while `max_parked`
//! deliveries have a row that will be attempted again. Above these bounds events wait in the log, where they cost nothing.
//!
//! At rest. A loop *rests* when nothing is under way, recorded or due, its own last read began after the bell was taken, and the
//! log is watched for it: by the tail that it follows, or by the listening session. A resting loop reads about every five
//! minutes, writes no position that has not moved, and keeps the figures that the observer measured. An event, a command or its
//! own work ends the rest. So an idle relay sends the same dozen statements a second with one handler and with a thousand
//! (`tests/it/idle.rs`).

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::debug;

use super::{
    ARMED_POLL, AWAKE_POLL, DUE_INTERVAL, FOLLOW_INTERVAL, LANES_INTERVAL, Loop, MOST_OUTSTANDING, MOST_PENDING, Performer,
    REST_INTERVAL, STALE_LOOK,
};
use crate::failpoints::failpoint;
use crate::relay::reader::{self, Plan, Segment};
use crate::relay::tail::Follower;
use crate::relay::turn::Failed;
use crate::relay::{Control, Order, RelayError};
use crate::store::Room;
use crate::telemetry::{DatabaseOperation, WakeUpSource};

impl Loop {
    /// Takes what the tail has read for this loop, or reads for itself.
    pub(super) fn read_on(&mut self) -> Result<(), RelayError> {
        if self.reading.is_some() || !self.may_read() {
            return Ok(());
        }
        match self.follow() {
            Some(segment) => self.enter_segment(segment)?,
            None => self.begin_reading(),
        }
        Ok(())
    }

    /// The events that the tail has read since the last call. A loop that stands at the end of the tail follows it from then on.
    fn follow(&mut self) -> Option<Segment> {
        let follower = self.follower.as_ref()?;
        let may_join = self.recovery.is_none() && self.careful == 0;
        self.follows = self.follows || (may_join && follower.join(&self.head, self.server_generation));
        let taken = self.follows.then(|| follower.take()).flatten();
        self.follow_at = Instant::now() + self.spread(FOLLOW_INTERVAL);
        let recently = STALE_LOOK.max(self.shared.options().idle_poll_interval * 2);
        match &taken {
            Some(_) if self.seat.is_armed() || follower.is_read_within(recently) => self.shared.health.read_ok(&self.name),
            Some(_) => {}
            None => self.read_alone(),
        }
        taken
    }

    /// Whether this loop will follow as soon as it has come to where the tail is.
    fn could_follow(&self) -> bool {
        let may_join = self.recovery.is_none() && self.careful == 0 && !self.follows;
        may_join && self.follower.as_ref().is_some_and(Follower::has_company)
    }

    pub(super) fn stop_following(&mut self) {
        if let Some(follower) = self.follower.as_ref().filter(|_| self.follows) {
            follower.leave();
            self.read_alone();
        }
    }

    /// Goes on from its own head; whatever was left in the inbox is read again.
    fn read_alone(&mut self) {
        if std::mem::take(&mut self.follows) {
            self.read_at = Instant::now();
            self.has_looked = false;
        }
    }

    fn begin_reading(&mut self) {
        if Instant::now() < self.read_at {
            return;
        }
        let Some(room) = self.paced_room() else { return };
        if std::mem::take(&mut self.sleeps) {
            self.shared.metrics.woken(WakeUpSource::Poll);
        }
        let plan = Plan {
            head: self.head.clone(),
            until: self.follower.as_ref().and_then(|follower| follower.meeting(&self.head, self.server_generation)),
            room,
            recorded: self.recovery.as_ref().map(|recovery| recovery.recorded.clone()),
            expects_large: self.expects_large,
            durability_gate: self.shared.options().durability_gate,
        };
        let segment = reader::read_segment(self.shared.connections.log.clone(), Arc::clone(&self.selection), plan);
        self.reading =
            Some(self.bounded(DatabaseOperation::Read, async move { segment.await.map_err(Failed::at(DatabaseOperation::Read)) }));
    }

    /// Whether more may be held in memory, in rows, and between the position and the head.
    pub(super) fn may_read(&self) -> bool {
        let has_room = !self.books.lanes.is_full();
        let is_bounded = self.books.outstanding() < MOST_OUTSTANDING && self.books.unfinished() < self.handler.config.max_parked;
        has_room && is_bounded && self.books.pending() < MOST_PENDING
    }

    /// Attempts could begin, and what is held are the queues of a few keys that wait for an answer: they make room for others, in rows.
    pub(super) fn relieve(&mut self) {
        self.books.lanes.set_room_bytes(self.shared.memory_per_loop());
        let Performer::Attempts(dispatch) = &self.performer else { return };
        let lanes = &self.books.lanes;
        let is_stuck = lanes.is_full() && !lanes.has_ready() && dispatch.in_flight() < self.books.concurrency();
        let may_begin = self.careful == 0 && self.books.circuit.is_closed() && self.books.held_until.is_none();
        let now = Instant::now();
        if is_stuck && may_begin && self.books.pending() < MOST_PENDING && now >= self.relief_at {
            self.relief_at = now + AWAKE_POLL;
            self.books.relieve();
        }
    }

    pub(super) fn read_room(&self) -> Room {
        let bytes = self.shared.memory_per_loop().saturating_sub(self.books.lanes.held_bytes()) / 2;
        Room { rows: i64::try_from(self.room / 2).unwrap_or(i64::MAX), bytes: i64::try_from(bytes).unwrap_or(i64::MAX).max(1) }
    }

    /// The room of a read; `None`: history may not be read on yet, and `read_at` says when.
    fn paced_room(&mut self) -> Option<Room> {
        let (room, now) = (self.read_room(), self.books.clock());
        let Some(pace) = self.pace.as_mut().filter(|_| self.head.is_in_history()) else { return Some(room) };
        match pace.room(now) {
            0 => {
                self.read_at = Instant::now() + pace.wait();
                None
            }
            allowed => Some(Room { rows: room.rows.min(allowed.into()), ..room }),
        }
    }

    pub(super) fn finish_reading(&mut self, segment: Segment) -> Result<(), RelayError> {
        self.shared.health.read_ok(&self.name);
        self.shared.metrics.read_at(unix_time());
        self.enter_segment(segment)
    }

    fn enter_segment(&mut self, segment: Segment) -> Result<(), RelayError> {
        if self.shared.server.generation() != self.server_generation {
            return Err(RelayError::ServerChanged);
        }
        self.handler.count_unreadable(&segment).inspect_err(|_| self.failed_at = DatabaseOperation::Read)?;
        let now = Instant::now();
        let (has_events, has_more) = (!segment.notifications.is_empty() || !segment.unreadable.is_empty(), segment.has_more);
        self.pass_recovery(&segment);
        if let Some(pace) = self.pace.as_mut().filter(|_| self.head.is_in_history()) {
            pace.spend(segment.notifications.len());
        }
        // After one window in pages the next is large, too, as long as the pages are.
        self.expects_large = has_more || (self.head.window.is_some() && has_events);
        self.head = segment.end.clone();
        self.books.take_segment(segment);
        failpoint!("segment-taken");
        if has_events {
            self.last_event = now;
        }
        self.read_pause = if has_more || (has_events && self.expects_large) {
            Duration::ZERO
        } else if has_events {
            self.shared.options().poll_interval
        } else {
            (self.read_pause * 3 / 2)
                .clamp(self.shared.options().poll_interval, AWAKE_POLL.max(self.shared.options().poll_interval))
        };
        self.has_looked = !self.reads_again;
        if std::mem::take(&mut self.reads_again) {
            self.read_pause = Duration::ZERO; // or resting would put the read off
        }
        self.read_at = now + self.read_pause;
        Ok(())
    }

    /// Whether what the last owner may have settled lies behind us now.
    pub(super) fn pass_recovery(&mut self, segment: &Segment) {
        let Some(recovery) = &mut self.recovery else { return };
        recovery.covers_all |= segment.opened_now;
        if recovery.covers_all && !segment.has_more {
            debug!(handler = self.name, "caught up with what was stored");
            self.recovery = None;
            self.books.recovered();
        }
    }

    /// Tells the bell whether this loop has work, and sets the next read accordingly. A read under way is no work: only what it finds is.
    /// If it were, several loops would never be idle at the same moment, and the bell would be armed and disarmed for ever.
    pub(super) fn rest_or_stir(&mut self) {
        let now = Instant::now();
        let is_quiet = self.head.window.is_none() && now.duration_since(self.last_event) >= self.shared.options().linger;
        let is_held = self.control.borrow().is_paused || (self.reading.is_none() && !self.may_read());
        if is_held {
            self.shared.health.held(&self.name); // not reading on purpose is no stall
            self.shared.metrics.read_at(unix_time());
        }
        // A room that is full for a moment is no rest: arming and disarming the bell costs the database two statements each time.
        self.held_since = is_held.then(|| self.held_since.unwrap_or(now));
        let is_held_for_long = self.held_since.is_some_and(|since| now.duration_since(since) >= self.shared.options().linger);
        self.seat.set_idle(is_quiet || is_held_for_long);
        // One that could follow does so first: then a busy neighbour is no reason to wake up.
        let is_watched = self.seat.is_armed() && self.has_looked && !self.could_follow();
        self.rest(is_quiet && (self.follows || is_watched));
        if is_quiet && self.read_pause > Duration::ZERO {
            let pause = match self.seat.is_armed() {
                // Only a loop at rest: for a loop that still holds an event nothing else shows that the log is watched.
                true if self.rests => self.spread(REST_INTERVAL),
                true => ARMED_POLL,
                false => self.shared.options().idle_poll_interval,
            };
            if self.read_pause != pause {
                self.read_pause = pause;
                self.read_at = now + pause;
                self.sleeps = true;
            }
        }
    }
}

impl Loop {
    /// Rests or goes on; a look that is under way is no work, only what it finds is. At rest others look: the tail or the
    /// listening session at the log, the observer at the deliveries, each for all loops together; and an operator's command rings.
    fn rest(&mut self, may_rest: bool) {
        if let Some(measure) = self.handler.take_measure(self.partition) {
            self.books.take_measure(measure);
        }
        let Control { order, is_paused, .. } = *self.control.borrow();
        let is_idle = order == Order::Work && !is_paused && self.careful == 0;
        let rests = may_rest && is_idle && self.recovery.is_none() && self.books.is_at_rest();
        if self.rests == rests {
            return;
        }
        self.rests = rests;
        self.shared.health.rests(&self.name, rests);
        self.handler.rests(self.partition, rests);
        let now = Instant::now();
        let (at_most, lanes) = (now + DUE_INTERVAL, now + LANES_INTERVAL);
        if !rests {
            (self.due_at, self.release_at, self.lanes_at) =
                (self.due_at.min(at_most), self.release_at.min(lanes), self.lanes_at.min(lanes));
        }
    }
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
