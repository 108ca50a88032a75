//! Clients of the feed: each reads it in its own way, now at one relay and now at another, and goes on behind its last cursor whatever becomes of a
//! connection. What they saw is written down; nothing is judged here.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use crate::clock::{Clock, Moment};
use crate::faults::World;
use crate::feed_client::{Answer, EventStream, ask};
use crate::ledger::{EventNumber, number_of};
use crate::plan::{AUDITED, TOKEN};

/// How a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientPlan {
    pub name: &'static str,
    /// Over event streams that it cuts every few seconds; otherwise by pages.
    pub is_stream: bool,
    /// Only events of the type `AUDITED`.
    pub is_filtered: bool,
}

pub const CLIENTS: [ClientPlan; 4] = [
    ClientPlan { name: "pages", is_stream: false, is_filtered: false },
    ClientPlan { name: "pages of a type", is_stream: false, is_filtered: true },
    ClientPlan { name: "stream", is_stream: true, is_filtered: false },
    ClientPlan { name: "stream of a type", is_stream: true, is_filtered: true },
];

/// An event at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// `None`: the id is none of ours.
    pub event: Option<EventNumber>,
    pub place: i64,
    pub at: Moment,
}

/// What one client was given, in the order in which it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    pub seen: Vec<Seen>,
    /// Answers that no client of one history should get.
    pub refusals: Vec<String>,
    /// Connections that it had.
    pub connections: u64,
}

/// The clients of a run.
pub struct Clients {
    /// The last place that there will be, once it is known.
    last: Arc<AtomicI64>,
    readings: Vec<Arc<Mutex<Reading>>>,
    tasks: Vec<JoinHandle<()>>,
}

/// Longest wait for one answer: longer than a page may wait, shorter than a frozen relay stays so.
const PATIENCE: Duration = Duration::from_secs(4);
/// After the last place was given.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(120);

pub fn start(world: &Arc<World>) -> Clients {
    let last = Arc::new(AtomicI64::new(i64::MAX));
    let readings: Vec<Arc<Mutex<Reading>>> = CLIENTS.iter().map(|_| Arc::default()).collect();
    let tasks = CLIENTS.iter().zip(&readings).zip(0..).map(|((plan, reading), number)| {
        let client = Client {
            plan: *plan,
            addresses: world.relays.iter().map(|relay| relay.feed.clone()).collect(),
            seed: world.seed,
            clock: world.clock,
            rng: Rng::with_seed(world.seed ^ (0x_C11E_4700 + number)),
            cursor: None,
            place: 0,
            reading: Arc::clone(reading),
            last: Arc::clone(&last),
        };
        tokio::spawn(client.run())
    });
    Clients { tasks: tasks.collect(), last, readings }
}

impl Clients {
    /// Waits until every client has come to the last place. What a client has not seen by then it does not see.
    pub async fn finish(self, last: i64) -> Vec<Reading> {
        self.last.store(last, Ordering::Relaxed);
        let end = Instant::now() + CATCHES_UP_WITHIN;
        for task in self.tasks {
            let abort = task.abort_handle();
            if timeout_at(end, task).await.is_err() {
                abort.abort();
            }
        }
        self.readings.iter().map(|reading| lock(reading).clone()).collect()
    }
}

fn lock(reading: &Mutex<Reading>) -> MutexGuard<'_, Reading> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is looked at of a CloudEvent. Payloads are skipped: some are what no parser can keep, such as half of a surrogate pair.
#[derive(serde::Deserialize)]
struct Attributes {
    id: Uuid,
    cursor: String,
}

struct Client {
    plan: ClientPlan,
    addresses: Vec<String>,
    seed: u64,
    clock: Clock,
    rng: Rng,
    cursor: Option<String>,
    place: i64,
    reading: Arc<Mutex<Reading>>,
    last: Arc<AtomicI64>,
}

impl Client {
    async fn run(mut self) {
        while self.place < self.last.load(Ordering::Relaxed) {
            let address = self.rng.choice(&self.addresses).expect("there are relays").clone();
            lock(&self.reading).connections += 1;
            let read = if self.plan.is_stream { self.stream(&address).await } else { self.page(&address).await };
            if read.is_err() {
                tokio::time::sleep(Duration::from_millis(self.rng.u64(50..300))).await;
            }
        }
    }

    async fn page(&mut self, address: &str) -> io::Result<()> {
        let after = self.cursor.as_deref().unwrap_or("earliest");
        let path = format!("/v1/feed?limit={}&wait=1s&after={after}{}", self.rng.u32(1..400), self.filter());
        let bearer = format!("Bearer {TOKEN}");
        let answer = timeout(PATIENCE, ask(address, &path, &[("authorization", &bearer)])).await??;
        if answer.status != 200 {
            return self.refused(&answer);
        }
        // All of it or nothing: an answer that was cut off has no closing bracket.
        let events: Vec<Attributes> = serde_json::from_str(&answer.body)?;
        let next = answer.header("stream-next-offset").ok_or(io::ErrorKind::InvalidData)?.to_owned();
        for event in &events {
            self.see(event);
        }
        self.go_on_behind(next);
        Ok(())
    }

    async fn stream(&mut self, address: &str) -> io::Result<()> {
        let (bearer, path) = (format!("Bearer {TOKEN}"), format!("/v1/feed?after=earliest{}", self.filter()));
        let last = self.cursor.clone();
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(last.as_deref().map(|cursor| ("last-event-id", cursor)));
        let mut events = match timeout(PATIENCE, EventStream::open_with(address, &path, headers)).await?? {
            Ok(events) => events,
            Err(answer) => return self.refused(&answer),
        };
        let cut_at = Instant::now() + Duration::from_millis(self.rng.u64(300..5_000));
        while let Ok(Some(event)) = timeout_at(cut_at, events.next()).await {
            if event.event.as_deref() == Some("gap") {
                self.complain(format!("a gap: {}", event.data));
            }
            let Some(cursor) = event.id else { continue };
            if !event.data.is_empty() {
                self.see(&serde_json::from_str(&event.data)?);
            }
            self.go_on_behind(cursor);
        }
        Ok(())
    }

    fn filter(&self) -> String {
        if self.plan.is_filtered { format!("&type={AUDITED}") } else { String::new() }
    }

    fn see(&self, event: &Attributes) {
        let seen = Seen { event: number_of(self.seed, event.id), place: place_of(&event.cursor), at: self.clock.now() };
        lock(&self.reading).seen.push(seen);
    }

    fn go_on_behind(&mut self, cursor: String) {
        self.place = place_of(&cursor);
        self.cursor = Some(cursor);
    }

    /// A relay that is stopping or has no database says so; whatever else it says is wrong.
    fn refused(&self, answer: &Answer) -> io::Result<()> {
        if !matches!(answer.status, 429 | 503) {
            self.complain(format!("answered {} behind {:?}: {}", answer.status, self.cursor, answer.body));
        }
        Err(io::ErrorKind::Other.into())
    }

    fn complain(&self, text: String) {
        lock(&self.reading).refusals.push(text);
    }
}

/// The place in a cursor: what stands before the dot, in hexadecimal digits.
fn place_of(cursor: &str) -> i64 {
    cursor.split('.').next().and_then(|digits| i64::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

#[test]
fn a_cursor_begins_with_its_place() {
    assert_eq!(place_of("00000000000000ff.239e4be31ff077e4"), 255);
}
