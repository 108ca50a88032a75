//! A client's way through the feed: by pages until it reaches the tail of the feed, from the tail after that. Never moves a
//! cursor beyond what was looked at.
//!
//! A page (`read_feed_page.sql`) is bounded in places, lookups and bytes, and at most four reads of the database run at once, so
//! no filter and no number of clients makes the feed expensive for the relay.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Semaphore;

use super::access::Client;
use super::cursor::{Cursor, EpochOfPlaces, Ground, Refusal, Removed, Start, judge};
use super::filter::Filter;
use super::render::{Form, Rendered, Renderer};
use super::seal::Cursors;
use super::tail::{Tail, Taken};
use crate::contracts::Pins;
use crate::store::feed::{self, FeedPage, GroundRow, PageQuery};
use crate::store::{self, StoreError};

/// Reads of the database at once.
const ROOM: usize = 4;
/// Places that one read looks at, so that a filter which lets nothing through cannot make it long.
const SPAN: i64 = 50_000;
/// Places whose events one read looks up for the sake of headers or a subject.
const LOOKUPS: i64 = 5_000;
/// Bytes of payloads in one read.
const BYTES: i64 = 4 << 20;
/// Events that are taken from the tail at once.
const FROM_TAIL: usize = 1_000;
/// Reads of one page, in case that retention or a new epoch comes between its two statements.
const TRIES: usize = 4;

/// Why a client gets no events.
#[derive(Debug)]
pub enum Trouble {
    /// It cannot go on from its cursor. With the cursor from which it can.
    Refused(Refusal, Option<Cursor>),
    /// There is no such event, or none any more, or it is not for this client. With the cursor of the earliest event.
    UnknownEvent(Cursor),
    /// No place was ever given.
    NotBegun,
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The source that every client of a process reads from.
pub struct Source {
    pub pool: PgPool,
    /// Longest that an answer of the database is waited for; `None`: for ever.
    patience: Option<Duration>,
    /// How many may ask the database at once.
    room: Semaphore,
    pub renderer: Arc<Renderer>,
    pub tail: Arc<Tail>,
    /// The form of the cursors.
    pub cursors: Arc<Cursors>,
}

/// Where one client stands.
pub struct Reader {
    source: Arc<Source>,
    filter: Filter,
    pins: Option<Arc<Pins>>,
    cursor: Cursor,
    /// The stretch of the tail that it follows; `None`: it reads pages.
    stretch: Option<u64>,
}

/// An event as this client reads it.
#[derive(Debug)]
pub struct Shown {
    pub cursor: Cursor,
    /// The event itself, for what is told of its type.
    pub event: Arc<Rendered>,
    pub form: Arc<Form>,
}

/// Some events.
#[derive(Debug)]
pub struct Batch {
    pub events: Vec<Shown>,
    /// There was nothing more when this was read.
    pub is_up_to_date: bool,
}

impl Source {
    pub fn new(pool: PgPool, patience: Option<Duration>, renderer: Renderer, tail: Arc<Tail>) -> Self {
        Self { pool, patience, room: Semaphore::new(ROOM), cursors: renderer.cursors(), renderer: Arc::new(renderer), tail }
    }

    /// Waits for some statements, no longer than a server that is there takes: clients rely on one another's reads, and a connection that has
    /// fallen silent would keep events from all of them.
    pub async fn answered<T, E>(
        &self,
        statements: impl Future<Output = Result<T, E>>,
        silent: impl FnOnce(StoreError) -> E,
    ) -> Result<T, E> {
        let silent = |error| {
            store::forget_idle(&self.pool);
            silent(error)
        };
        let in_turn = async {
            let _turn = self.room.acquire().await; // never closed
            statements.await
        };
        store::answered(self.patience, in_turn, silent).await
    }
}

impl Reader {
    /// Finds where a client begins.
    pub async fn open(source: Arc<Source>, client: &Client, filter: Filter, start: Start) -> Result<Self, Trouble> {
        let cursor = source.answered(begin(&source.pool, client, start), Trouble::Store).await?;
        Ok(Self { source, filter, pins: client.pins().cloned(), cursor, stretch: None })
    }

    /// Everything up to here was read.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Where it reads from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Leaves out what lies before a place of the same feed.
    pub fn go_on_from(&mut self, cursor: Cursor) {
        (self.cursor, self.stretch) = (cursor, None);
    }

    /// The events that come next, at most so many. Does not wait for any. An empty batch may have come further all the same.
    pub async fn read(&mut self, most: usize) -> Result<Batch, Trouble> {
        if let Some(stretch) = self.stretch {
            if let Taken::Events { events, reached } = self.source.tail.take(stretch, self.cursor, FROM_TAIL) {
                return Ok(self.enter_taken(events, reached, most));
            }
            self.stretch = None;
        }
        let source = Arc::clone(&self.source);
        // Apart from the rest: a client that waits at the tail should not hold the memory of a page.
        Box::pin(source.answered(self.read_page(most), Trouble::Store)).await
    }

    fn enter_taken(&mut self, events: Vec<Arc<Rendered>>, reached: Cursor, most: usize) -> Batch {
        let taken = events.len();
        let mut wanted: Vec<_> = events.into_iter().filter(|event| self.filter.passes(event)).collect();
        let is_cut = wanted.len() > most;
        wanted.truncate(most);
        self.cursor = if is_cut { wanted.last().map_or(self.cursor, |event| event.cursor) } else { reached };
        Batch { events: self.show(&wanted), is_up_to_date: !is_cut && taken < FROM_TAIL }
    }

    fn show(&self, events: &[Arc<Rendered>]) -> Vec<Shown> {
        let form = |event: &Arc<Rendered>| event.form(&self.source.renderer, self.pins.as_deref());
        events.iter().map(|event| Shown { cursor: event.cursor, form: form(event), event: Arc::clone(event) }).collect()
    }

    async fn read_page(&mut self, most: usize) -> Result<Batch, Trouble> {
        let Source { pool, renderer, tail, .. } = &*self.source;
        let stretch = tail.stretch();
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        for _ in 0..TRIES {
            let ground = ground_of(feed::read_ground(pool, self.cursor.place()).await?);
            check(pool, self.cursor, &ground).await?;
            let lookups = if self.filter.looks_inside() { LOOKUPS } else { most };
            let query = PageQuery {
                after: self.cursor.place(),
                span: SPAN,
                lookups,
                events: most,
                bytes: BYTES,
                types: self.filter.patterns(),
                headers: self.filter.required_headers(),
                aggregate_id: self.filter.subject(),
            };
            let page = feed::read_page_around_damage(pool, &query).await?;
            if page.removed_place > self.cursor.place() || lacks_epoch(&ground, &page) || page.head < self.cursor.place() {
                continue; // look again at what is known: the two statements saw different moments
            }
            let (reached, is_up_to_date) = (page.reached, page.reached >= page.head);
            let events: Vec<_> = page.events.into_iter().map(|event| Arc::new(renderer.render(&ground, event))).collect();
            self.cursor = match events.last() {
                Some(last) if last.place == reached => last.cursor,
                _ if reached == self.cursor.place() => self.cursor,
                _ => ground_of(feed::read_ground(pool, reached).await?).cursor(reached),
            };
            self.stretch = stretch.filter(|_| is_up_to_date);
            return Ok(Batch { events: self.show(&events), is_up_to_date });
        }
        Err(StoreError::Refused("the feed changes faster than it can be read".to_owned()).into())
    }
}

/// The place from which a client goes on.
async fn begin(pool: &PgPool, client: &Client, start: Start) -> Result<Cursor, Trouble> {
    let place = match start {
        Start::At(cursor) => {
            let ground = ground_of(feed::read_ground(pool, cursor.place()).await?);
            return check(pool, cursor, &ground).await.map(|()| cursor);
        }
        Start::Foreign => return Err(Trouble::Refused(Refusal::AnotherHistory, None)),
        Start::Earliest => None,
        Start::Latest => Some(feed::read_head(pool).await?),
        Start::Event(id) => {
            let [feed_types, client_types, _] = client.filter().patterns();
            match feed::find_event(pool, id, [feed_types, client_types], client.filter().required_headers()).await {
                Ok(Some(place)) => Some(place),
                // Where its headers cannot be read, it is unknown whether the event is for this client.
                Err(error) if !error.is_about_data() => return Err(error.into()),
                Ok(None) | Err(_) => return Err(Trouble::UnknownEvent(earliest(pool).await?)),
            }
        }
        Start::Time(time) => Some(feed::find_time(pool, time).await?),
    };
    let removed = feed::read_ground(pool, 0).await?.removed_place;
    let place = place.unwrap_or(0).max(removed);
    cursor_at(pool, place).await
}

async fn earliest(pool: &PgPool) -> Result<Cursor, Trouble> {
    let removed = feed::read_ground(pool, 0).await?.removed_place;
    cursor_at(pool, removed).await
}

async fn cursor_at(pool: &PgPool, place: i64) -> Result<Cursor, Trouble> {
    let ground = ground_of(feed::read_ground(pool, place).await?);
    if ground.epochs.is_empty() { Err(Trouble::NotBegun) } else { Ok(ground.cursor(place)) }
}

/// Whether a client can go on from a cursor. `Err`: why not, and from where.
pub async fn check_cursor(pool: &PgPool, cursor: Cursor) -> Result<(), Trouble> {
    check(pool, cursor, &ground_of(feed::read_ground(pool, cursor.place()).await?)).await
}

/// Whether a client can go on from its cursor, and if not, from where.
async fn check(pool: &PgPool, cursor: Cursor, ground: &Ground) -> Result<(), Trouble> {
    if ground.epochs.is_empty() {
        return Err(Trouble::NotBegun);
    }
    let Err(refusal) = judge(cursor, ground) else { return Ok(()) };
    let from = match refusal {
        Refusal::Diverged { branch, .. } => Some(cursor_at(pool, branch).await?),
        Refusal::Expired { earliest, .. } => Some(cursor_at(pool, earliest).await?),
        Refusal::AnotherHistory => None,
    };
    Err(Trouble::Refused(refusal, from))
}

/// As the cursors know it.
pub fn ground_of(row: GroundRow) -> Ground {
    Ground {
        epochs: row.epochs.into_iter().map(|(id, began_after)| EpochOfPlaces { id, began_after }).collect(),
        head: row.head,
        removed: Removed { place: row.removed_place, event: row.removed_event, occurred_at: row.removed_at },
        event: row.event,
    }
}

/// The page was read in an epoch that this ground does not know: its cursors would name the wrong one.
pub fn lacks_epoch(ground: &Ground, page: &FeedPage) -> bool {
    ground.epochs.last().map(|epoch| epoch.id) != page.epoch
}
