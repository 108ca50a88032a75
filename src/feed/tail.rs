//! The tail of the feed: the newest events, read once by one task for all clients of this process. A cache of reads: a client
//! that falls behind it reads pages and comes back, and so do all clients after an error or a lost connection. While no client
//! waits for events, the task reads nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::cursor::{Cursor, Ground};
use super::reader::{Source, ground_of, lacks_epoch};
use super::render::{Rendered, Renderer};
use crate::store::StoreError;
use crate::store::feed::{self, PageQuery};
use crate::telemetry::{FeedTailMetrics, chain};

/// The room of one read of the tail.
const EVENTS: i64 = 1_000;
const BYTES: i64 = 4 << 20;
/// Places that one read looks at: dense, so rarely more than there are events.
const SPAN: i64 = 10_000;
/// Between looks at the feed while clients wait: what an event costs that another instance has published.
const LOOK: Duration = Duration::from_millis(50);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Shared between its reader and the clients.
pub struct Tail {
    ring: Mutex<Ring>,
    /// Rises with every event and with every new beginning.
    moved: watch::Sender<u64>,
    waiting: AtomicUsize,
    awaited: Notify,
    most_bytes: usize,
    metrics: FeedTailMetrics,
}

/// The events behind `start`, up to `end`.
#[derive(Default)]
struct Ring {
    /// Of this stretch without a break; `None`: nothing is held.
    number: Option<u64>,
    next_number: u64,
    start: i64,
    end: Option<Cursor>,
    events: VecDeque<Arc<Rendered>>,
    bytes: usize,
}

/// The content of the tail for a client.
pub enum Taken {
    /// The place is not in this stretch: read a page.
    Elsewhere,
    /// Everything behind the place, or as much of it as was asked for, and where that ends; unfiltered.
    Events { events: Vec<Arc<Rendered>>, reached: Cursor },
}

/// A client that waits for events. The tail is read while there is one.
pub struct Waiting(Arc<Tail>);

impl Tail {
    pub fn new(most_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            ring: Mutex::default(),
            moved: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            awaited: Notify::new(),
            most_bytes,
            metrics: FeedTailMetrics::new(),
        })
    }

    /// Has the tail read until the guard is dropped.
    pub fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.awaited.notify_one();
        Waiting(Arc::clone(self))
    }

    /// The stretch that is held now. To be asked before a page is read: who comes to its end from a page of an older history does not
    /// go on in a newer one.
    pub fn stretch(&self) -> Option<u64> {
        self.ring().number
    }

    /// Told of every change from now on.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Up to `most` events behind a place of this stretch.
    pub fn take(&self, stretch: u64, after: Cursor, most: usize) -> Taken {
        let ring = self.ring();
        let (Some(end), true) = (ring.end, ring.number == Some(stretch) && after.place() >= ring.start) else {
            return Taken::Elsewhere;
        };
        let first = ring.events.partition_point(|event| event.place <= after.place());
        let events: Vec<_> = ring.events.iter().skip(first).take(most).cloned().collect();
        let is_all = first + events.len() == ring.events.len();
        let last = events.last().map(|event| event.cursor);
        // A page may have come further than the tail.
        let reached = if is_all { if end.place() > after.place() { end } else { after } } else { last.unwrap_or(after) };
        Taken::Events { events, reached }
    }

    fn begin(&self, end: Option<Cursor>) {
        let mut ring = self.ring();
        let number = ring.next_number;
        *ring = Ring {
            number: end.map(|_| number),
            next_number: number + 1,
            start: end.map_or(0, Cursor::place),
            end,
            ..Ring::default()
        };
        drop(ring);
        self.metrics.holds(0);
        self.moved.send_modify(|moves| *moves += 1);
    }

    fn push(&self, events: Vec<Rendered>, end: Cursor) {
        let mut ring = self.ring();
        let is_news = !events.is_empty();
        for event in events {
            ring.bytes += event.bytes();
            ring.events.push_back(Arc::new(event));
        }
        ring.end = Some(end);
        while ring.bytes > self.most_bytes
            && let Some(oldest) = ring.events.pop_front()
        {
            ring.bytes -= oldest.bytes();
            ring.start = oldest.place;
        }
        self.metrics.holds(ring.bytes);
        drop(ring);
        if is_news {
            self.moved.send_modify(|moves| *moves += 1);
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    async fn until_awaited(&self) {
        while !self.is_awaited() {
            self.awaited.notified().await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Reads the tail while a client waits, until `stop`, over lost connections. `published`: the last place of the publisher of this process.
pub async fn serve(source: Arc<Source>, published: watch::Receiver<i64>, stop: CancellationToken) {
    let tail = &source.tail;
    let (mut pause, mut is_failing) = (RETRY_MIN, false);
    let serving = async {
        loop {
            tail.until_awaited().await;
            let ended = attend(&source, published.clone()).await;
            tail.begin(None);
            match ended {
                Ok(()) => (pause, is_failing) = (RETRY_MIN, false),
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        warn!(error = %chain(&error), "could not read the end of the feed, clients read pages meanwhile");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    };
    tokio::select! {
        () = serving => {}
        () = stop.cancelled() => {}
    }
}

/// One stretch, from the end of the feed as it is now until no client waits or the history is another one.
async fn attend(source: &Source, mut published: watch::Receiver<i64>) -> Result<(), StoreError> {
    let Source { pool, tail, renderer, .. } = source;
    let beginning = async {
        let head = feed::read_head(pool).await?;
        Ok((head, ground_of(feed::read_ground(pool, head).await?)))
    };
    let (head, mut ground) = source.answered(beginning, |silent| silent).await?;
    if ground.epochs.is_empty() {
        // No place was ever given. A waiting client learns it from the page that it reads.
        tokio::time::sleep(LOOK).await;
        return Ok(());
    }
    let mut end = ground.cursor(head);
    tail.begin(Some(end));
    while tail.is_awaited() {
        published.mark_unchanged();
        let reading = read(tail, pool, renderer, end, &mut ground);
        if let Some(read) = source.answered(reading, |silent| silent).await? {
            let has_more = read.has_more;
            end = read.end;
            tail.push(read.events, end);
            if has_more {
                continue;
            }
        } else {
            info!("the places of the feed belong to another history than before");
            return Ok(());
        }
        tokio::select! {
            changed = published.changed() => if changed.is_err() { tokio::time::sleep(LOOK).await },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    Ok(())
}

struct Read {
    events: Vec<Rendered>,
    end: Cursor,
    has_more: bool,
}

/// The events behind `end`. `None`: this is another history.
async fn read(
    tail: &Tail,
    pool: &PgPool,
    renderer: &Renderer,
    end: Cursor,
    ground: &mut Ground,
) -> Result<Option<Read>, StoreError> {
    let nothing = Read { events: Vec::new(), end, has_more: false };
    let head = feed::read_head(pool).await?;
    if head == end.place() {
        return Ok(Some(nothing));
    }
    let began = Instant::now();
    let query = PageQuery {
        after: end.place(),
        span: SPAN,
        lookups: EVENTS,
        events: EVENTS,
        bytes: BYTES,
        types: [None, None, None],
        headers: None,
        aggregate_id: None,
    };
    let page = feed::read_page_around_damage(pool, &query).await?;
    if page.head < end.place() || page.removed_place > end.place() || lacks_epoch(ground, &page) {
        return Ok(None);
    }
    tail.metrics.read(began.elapsed());
    let (reached, has_more) = (page.reached, page.reached < page.head);
    let events: Vec<_> = page.events.into_iter().map(|event| renderer.render(ground, event)).collect();
    let end = match events.last() {
        Some(last) if last.place == reached => last.cursor,
        _ if reached == end.place() => end,
        // The places at the end have no event any more.
        _ => {
            let found = ground_of(feed::read_ground(pool, reached).await?);
            found.cursor(reached)
        }
    };
    Ok(Some(Read { events, end, has_more }))
}

#[cfg(test)]
mod tests {
    use super::super::render::tests::{ground, rendered};
    use super::*;

    fn cursor(place: i64) -> Cursor {
        ground().cursor(place)
    }

    fn places(taken: Taken) -> Option<(Vec<i64>, i64)> {
        match taken {
            Taken::Elsewhere => None,
            Taken::Events { events, reached } => Some((events.iter().map(|event| event.place).collect(), reached.place())),
        }
    }

    fn push(tail: &Tail, places: std::ops::RangeInclusive<i64>) {
        let end = *places.end();
        tail.push(places.map(|place| rendered(place, "t", "{}")).collect(), cursor(end));
    }

    #[test]
    fn a_client_gets_what_lies_behind_its_place_and_reads_a_page_where_the_tail_does_not_reach() {
        let tail = Tail::new(usize::MAX);
        assert_eq!(tail.stretch(), None);
        tail.begin(Some(cursor(10)));
        let stretch = tail.stretch().expect("a stretch");
        push(&tail, 11..=14);
        assert_eq!(places(tail.take(stretch, cursor(10), 9)), Some((vec![11, 12, 13, 14], 14)));
        assert_eq!(places(tail.take(stretch, cursor(12), 1)), Some((vec![13], 13)));
        assert_eq!(places(tail.take(stretch, cursor(14), 9)), Some((vec![], 14)));
        assert_eq!(places(tail.take(stretch, cursor(20), 9)), Some((vec![], 20)), "a page came further");
        assert_eq!(places(tail.take(stretch, cursor(9), 9)), None);
        assert_eq!(places(tail.take(stretch + 1, cursor(12), 9)), None);
        tail.begin(Some(cursor(10)));
        assert_eq!(places(tail.take(stretch, cursor(12), 9)), None, "another stretch may be another history");
    }

    #[test]
    fn what_the_tail_holds_is_bounded_and_who_falls_off_reads_a_page() {
        let one = rendered(11, "t", "{}").bytes();
        let tail = Tail::new(3 * one);
        tail.begin(Some(cursor(10)));
        let stretch = tail.stretch().expect("a stretch");
        push(&tail, 11..=20);
        assert_eq!(places(tail.take(stretch, cursor(17), 9)), Some((vec![18, 19, 20], 20)));
        assert_eq!(places(tail.take(stretch, cursor(16), 9)), None);
    }
}
