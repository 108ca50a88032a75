//! The tail: one reader at the end of the log for all loops of this relay that have caught up. It reads each event once and gives
//! it to the loops whose filter it passes. A loop for which nothing comes is not woken and sends the database no statement, even while
//! its neighbours are busy.
//!
//! The tail is a cache of reads and stores no position. `domain::tail` has the rule by which a loop joins and what its inbox then
//! holds. A loop that is behind reads for itself up to the end of the tail (`read_window.sql` takes an end) and joins there.
//!
//! - Bounds: the tail remembers at most 1,024 windows or 8 MiB, and none for longer than five seconds, because an event that an
//!   operator erases must not be delivered from memory hours later.
//! - The tail drops a follower that is paused or whose inbox is full. It drops all followers, and begins again at the current end
//!   of the log, when a window is larger than one read takes, when an event cannot be read, and when the connection is lost.
//! - Some loops never follow. Ordering keys that come from a header or the payload, and required headers that are numbers, are
//!   computed by the database. Partitions follow only if the server hashes keys as `domain::share` does.
//! - With one loop there is no tail: that loop reads better for itself, because the server leaves out the events that it does not
//!   want.
//! - The tail requests the event types that its followers want if these are at most 64, and every event otherwise.
//!
//! No promise depends on the tail. A loop that cannot follow, or that is dropped, reads on from its own head.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::reader::{self, Plan, Segment};
use super::wake_up::Seat;
use super::{RelayError, Shared};
use crate::config::HandlerConfig;
use crate::domain::{self, EventFilter, Ordering, Position, Share, TailBounds, Taken, Timestamp, is_routable};
use crate::store::{self, Room, Selection};
use crate::telemetry::{DatabaseOperation, RelayMetrics, chain};

/// How much is remembered for loops that catch up, and the first bound of an inbox, above which its follower is dropped.
const BOUNDS: TailBounds = TailBounds { windows: 1_024, bytes: 8 << 20, time: Duration::from_secs(5), inbox_bytes: 1 << 20 };
/// The room of one read. A larger window is read by each loop for itself, in pages.
const ROOM: Room = Room { rows: 8_192, bytes: 4 << 20 };
/// Types that are asked for by name; more of them, and everything is read.
const MOST_TYPES: usize = 64;
/// A single loop reads better without the tail: the server leaves out what it does not want.
const COMPANY: usize = 2;
/// Longest pause between reads before the linger is over.
const AWAKE_POLL: Duration = Duration::from_millis(20);
/// While the bell is armed: others look, and ring.
const REST: Duration = Duration::from_secs(300);
/// Between signs of life for those who rest.
const WATCH: Duration = Duration::from_secs(1);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Shared between its reader and the loops.
pub struct Tail {
    state: Mutex<State>,
    /// A follower came, went or waits.
    changed: Notify,
}

struct State {
    /// The moment from which its times are counted.
    began: Instant,
    tail: domain::Tail,
    bells: HashMap<u32, Arc<Notify>>,
    /// Its task runs.
    is_served: bool,
    /// Of the server that was read.
    generation: u64,
    /// A loop is beyond the end, and cannot follow before the end has moved.
    is_awaited: bool,
    /// When it was read last, and what the clock of the database said.
    read: Option<(Instant, Timestamp)>,
    /// Bytes that the metrics count.
    shown_bytes: usize,
}

/// The place of one loop.
pub struct Follower {
    tail: Arc<Tail>,
    number: u32,
    bell: Arc<Notify>,
    has_keys: bool,
}

impl Tail {
    pub fn new() -> Arc<Self> {
        let state = State {
            began: Instant::now(),
            tail: domain::Tail::new(BOUNDS),
            bells: HashMap::new(),
            is_served: false,
            generation: 0,
            is_awaited: false,
            read: None,
            shown_bytes: 0,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    /// A place for the loop of this partition of a handler, which takes so many events at once, until it is dropped; `None`: its events can only
    /// be found by the database.
    pub fn follower(self: &Arc<Self>, config: &HandlerConfig, partition: u16, room: usize) -> Option<Follower> {
        let has_keys = match config.ordering {
            Ordering::Aggregate => true,
            Ordering::None => false,
            Ordering::Header(_) | Ordering::Payload(_) => return None,
        };
        if !is_routable(&config.filter) {
            return None;
        }
        let bell = Arc::new(Notify::new());
        let mut state = self.state();
        let number = state.tail.add(config.filter.clone(), Share::of(config.partitions, partition, has_keys), room);
        state.bells.insert(number, Arc::clone(&bell));
        drop(state);
        self.changed.notify_one();
        Some(Follower { tail: Arc::clone(self), number, bell, has_keys })
    }

    /// Begins anew at `end`, or ends: every loop that followed reads for itself.
    /// `splits`: the server splits events into partitions as we do.
    fn begin(&self, end: Option<Position>, splits: bool, generation: u64) {
        let mut state = self.state();
        (state.generation, state.read) = (generation, None);
        let left = state.tail.begin(end, splits);
        state.ring(&left);
    }

    fn push(&self, segment: Segment, asked: u64, inbox_bytes: usize) {
        let mut state = self.state();
        state.tail.bound_inboxes(inbox_bytes);
        state.is_awaited = false;
        state.read = segment.now.map(|now| (Instant::now(), now));
        let events = segment.notifications.into_iter().map(Arc::from).collect();
        let now = state.began.elapsed();
        let concerned = state.tail.push(events, segment.end, asked, now);
        state.ring(&concerned);
    }

    /// Whether a follower or a loop beyond the end needs reads; `None`: there are too few loops.
    fn has_readers(&self) -> Option<bool> {
        let state = self.state();
        (state.tail.count() >= COMPANY).then(|| state.is_awaited || state.tail.is_followed())
    }

    /// Returns when a loop is beyond the end.
    async fn awaited(&self) {
        while !self.state().is_awaited {
            self.changed.notified().await;
        }
    }

    /// Tells how much is remembered.
    fn show_memory(&self, metrics: &RelayMetrics) {
        let mut state = self.state();
        let bytes = state.tail.bytes();
        metrics.memory(std::mem::replace(&mut state.shown_bytes, bytes), bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic half way could leave a loop without its events; then every follower is dropped.
        self.state.lock().unwrap_or_else(|poisoned| {
            self.state.clear_poison();
            let mut state = PoisonError::into_inner(poisoned);
            let left = state.tail.begin(None, false);
            state.ring(&left);
            state
        })
    }
}

impl State {
    fn ring(&self, numbers: &[u32]) {
        numbers.iter().filter_map(|number| self.bells.get(number)).for_each(|bell| bell.notify_one());
    }
}

impl Follower {
    /// Returns when something has come, or when this loop was left.
    pub async fn called(&self) {
        self.bell.notified().await;
    }

    /// Follows from now on, if the tail stands where this loop does, at the same server.
    pub fn join(&self, head: &Position, generation: u64) -> bool {
        let mut state = self.tail.state();
        let now = state.began.elapsed();
        let is_there = state.generation == generation && head.window.is_none();
        let joined = is_there && state.tail.join(self.number, &head.snapshot, now);
        drop(state);
        if joined {
            self.tail.changed.notify_one();
        }
        joined
    }

    pub fn leave(&self) {
        self.tail.state().tail.leave(self.number);
    }

    /// Where to read to, to meet the tail there.
    pub fn meeting(&self, head: &Position, generation: u64) -> Option<Position> {
        let mut state = self.tail.state();
        let end = state.tail.end().filter(|end| state.generation == generation && end.snapshot != head.snapshot)?.clone();
        if end.snapshot.contains(&head.snapshot) {
            return Some(end);
        }
        state.is_awaited = true;
        drop(state);
        self.tail.changed.notify_one();
        None
    }

    /// Whether there is a tail to follow.
    pub fn has_company(&self) -> bool {
        let state = self.tail.state();
        state.is_served && state.tail.count() >= COMPANY
    }

    /// The events since the last call; `None`: the loop reads for itself.
    pub fn take(&self) -> Option<Segment> {
        let mut state = self.tail.state();
        let Taken::Read { events, end } = state.tail.take(self.number) else { return None };
        let now = state.read.map(|(at, now)| Timestamp::from_micros(now.as_micros() + at.elapsed().as_micros() as i64));
        drop(state);
        let own = |event: Arc<domain::Notification>| {
            let mut event = Box::new(Arc::unwrap_or_clone(event));
            event.key = event.key.take().filter(|_| self.has_keys);
            event
        };
        let notifications = events.into_iter().map(own).collect();
        Some(Segment { notifications, unreadable: Vec::new(), end, has_more: false, opened_now: false, now })
    }

    /// Whether the tail was read within this time.
    pub fn is_read_within(&self, time: Duration) -> bool {
        self.tail.state().read.is_some_and(|(at, _)| at.elapsed() < time)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.tail.state();
        state.tail.remove(self.number);
        state.bells.remove(&self.number);
        drop(state);
        self.tail.changed.notify_one();
    }
}

/// The tail while its task runs. Dropped, also by a bug that ends its task, it leaves no loop waiting.
struct Served<'s>(&'s Shared);

impl<'s> Served<'s> {
    fn begin(shared: &'s Shared) -> Self {
        shared.tail.state().is_served = true;
        Self(shared)
    }

    /// Every loop that followed reads for itself.
    fn end(&self) {
        self.0.tail.begin(None, false, 0);
        self.0.tail.show_memory(&self.0.metrics);
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.tail.state().is_served = false;
        self.end();
    }
}

/// Reads the tail until `stop`, over lost connections.
pub async fn serve(shared: Arc<Shared>, stop: CancellationToken) {
    let served = Served::begin(&shared);
    let mut seat = shared.wake_up.seat();
    let mut pause = RETRY_MIN;
    loop {
        seat.set_idle(true);
        let ended = tokio::select! {
            ended = attend(&shared, &mut seat) => ended,
            () = stop.cancelled() => return,
        };
        served.end();
        match ended {
            Ok(()) => pause = RETRY_MIN,
            Err(error) => {
                shared.metrics.database_error(DatabaseOperation::Read);
                info!(error = %chain(&error), "could not read the end of the log for all handlers; each handler reads it alone meanwhile");
                seat.set_idle(true);
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

/// One stretch: from a beginning at the end of the log until it has to begin anew.
async fn attend(shared: &Shared, seat: &mut Seat) -> Result<(), RelayError> {
    let tail = &shared.tail;
    while tail.has_readers().is_none() {
        tail.changed.notified().await;
    }
    let generation = shared.server.generation();
    let (mut head, splits) = shared.answered(read_end(shared)).await?;
    tail.begin(Some(head.clone()), splits, generation);
    let (mut asked, mut selection) = (u64::MAX, everything(&EventFilter::default()));
    let (mut last_event, mut watched, mut pause) = (Instant::now(), Instant::now(), Duration::ZERO);
    loop {
        // No read is needed while no loop follows; loops that catch up come to the end of the tail.
        while tail.has_readers() == Some(false) {
            seat.set_idle(true);
            tail.changed.notified().await;
        }
        if tail.has_readers().is_none() {
            return Ok(());
        }
        let options = shared.options();
        let (filter, wanted) = tail.state().tail.wanted(MOST_TYPES);
        if wanted != asked {
            (asked, selection) = (wanted, everything(&filter));
        }
        let plan = Plan {
            head: head.clone(),
            until: None,
            room: ROOM,
            recorded: None,
            expects_large: false,
            durability_gate: options.durability_gate,
        };
        let read = shared.answered(reader::read_tail(&shared.connections.log, &selection, &plan)).await?;
        if shared.server.generation() != generation {
            return Ok(());
        }
        let Some(segment) = read else {
            debug!("the end of the log is read by each handler for itself: it is large, or something in it cannot be read");
            return Ok(());
        };
        let now = Instant::now();
        shared.metrics.read_at(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        if now.duration_since(watched) >= WATCH {
            shared.health.watched(now);
            watched = now;
        }
        let has_events = !segment.notifications.is_empty();
        if has_events {
            last_event = now;
        }
        head = segment.end.clone();
        tail.push(segment, asked, shared.memory_per_loop() / 2);
        tail.show_memory(&shared.metrics);
        let is_quiet = now.duration_since(last_event) >= options.linger;
        seat.set_idle(is_quiet);
        pause = match (has_events, is_quiet) {
            (true, _) => options.poll_interval,
            (false, false) => (pause * 3 / 2).clamp(options.poll_interval, AWAKE_POLL.max(options.poll_interval)),
            (false, true) if seat.is_armed() => REST,
            (false, true) => options.idle_poll_interval,
        };
        tokio::select! {
            biased;
            // It was rung or armed, perhaps during the read: what it is about may have come after that.
            () = seat.changed() => pause = Duration::ZERO,
            () = tail.awaited() => pause = Duration::ZERO,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Where the log ends, and whether the server splits events into partitions as we do.
async fn read_end(shared: &Shared) -> Result<(Position, bool), store::StoreError> {
    let mut connection = shared.connections.log.acquire().await.map_err(store::StoreError::query("read the end of the log"))?;
    let splits = store::splits_alike(&mut *connection).await?;
    Ok((store::read_end(&mut connection).await?, splits))
}

/// All partitions at once, with the key of an aggregate.
fn everything(filter: &EventFilter) -> Selection {
    Selection::new(filter, &Ordering::Aggregate, 1, 0)
}
