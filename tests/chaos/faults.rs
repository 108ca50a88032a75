//! What goes wrong on purpose, by whom and in which order. One file per family; each fault is applied, lasts, and is healed before
//! its turn ends, and the journal knows when. Several turns go on side by side: one for each relay, one for each receiver, one for the
//! server, one for people.

mod failpoints;
mod fleet;
mod network;
mod outages;
mod people;
mod processes;
mod sessions;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::RwLock;
use tokio::task::JoinSet;

use crate::clock::{Clock, Moment};
use crate::database::Database;
use crate::plan::{Plan, RECEIVERS, RELAYS};
use crate::{receivers, relays};

/// The points at which a relay can be told to kill or stop itself.
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub const FAILPOINTS: &[&str] = outboxd::failpoints::NAMES;
#[cfg(not(any(debug_assertions, feature = "failpoints")))]
pub const FAILPOINTS: &[&str] = &[];

/// Whom a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Relay(u8),
    Receiver(u8),
    AllRelays,
    Server,
    /// Nobody: a person did something.
    Nobody,
}

/// What kind of doubt a fault leaves behind, which decides what may happen twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// Nothing may happen twice because of it.
    NoDoubt,
    /// Answers can be lost while it lasts.
    LostAnswers,
    /// Outcomes that were not recorded are forgotten.
    LostOutcomes,
}

/// A fault as it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub name: String,
    pub target: Target,
    pub leaves: Leaves,
    pub began: Moment,
    pub ended: Moment,
}

/// Everything that faults can reach.
pub struct World {
    pub seed: u64,
    /// Handlers of the crowd.
    pub crowd: usize,
    pub clock: Clock,
    pub database: Arc<Database>,
    pub relays: Vec<relays::Place>,
    pub receivers: Vec<receivers::Place>,
    /// Held for reading by a fault of one relay, for writing by one that needs all of them.
    pub fleet: RwLock<()>,
    pub ends: AtomicBool,
    /// Number of the newest event, for people who mend.
    pub newest: Box<dyn Fn() -> u32 + Send + Sync>,
    journal: Mutex<Vec<Fault>>,
    /// Faults that were tried, and did not come about.
    missed: Mutex<BTreeMap<String, usize>>,
}

impl World {
    pub fn new(
        plan: Plan,
        clock: Clock,
        database: Arc<Database>,
        relays: Vec<relays::Place>,
        receivers: Vec<receivers::Place>,
        newest: Box<dyn Fn() -> u32 + Send + Sync>,
    ) -> Self {
        Self {
            seed: plan.seed,
            crowd: plan.crowd,
            clock,
            database,
            relays,
            receivers,
            fleet: RwLock::new(()),
            ends: AtomicBool::new(false),
            newest,
            journal: Mutex::default(),
            missed: Mutex::default(),
        }
    }

    /// Writes a fault down that has just ended.
    pub fn note(&self, name: &str, target: Target, leaves: Leaves, began: Moment) {
        let fault = Fault { name: name.to_owned(), target, leaves, began, ended: self.clock.now() };
        lock(&self.journal).push(fault);
    }

    pub fn miss(&self, name: &str) {
        *lock(&self.missed).entry(name.to_owned()).or_default() += 1;
    }

    pub fn faults(&self) -> Vec<Fault> {
        lock(&self.journal).clone()
    }

    pub fn fault_count(&self) -> usize {
        lock(&self.journal).len()
    }

    pub fn missed(&self) -> BTreeMap<String, usize> {
        lock(&self.missed).clone()
    }

    pub fn has_ended(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }
}

/// One kind of fault, as it stands in a deck.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Process(processes::Act),
    Session(sessions::Which),
    DatabaseLink(network::Trouble),
    Failpoint(&'static str, failpoints::Action),
    ReceiverLink(network::Trouble),
    Outage(outages::Outage),
    Fleet(fleet::Act),
    Person,
}

/// Faults in a random order, each once before any comes again.
struct Deck {
    all: Vec<Kind>,
    left: Vec<Kind>,
    rounds: usize,
    rng: Rng,
}

impl Deck {
    fn new(all: Vec<Kind>, seed: u64) -> Self {
        Self { all, left: Vec::new(), rounds: 0, rng: Rng::with_seed(seed) }
    }

    fn draw(&mut self) -> Kind {
        if self.left.is_empty() {
            self.left = self.all.clone();
            self.rng.shuffle(&mut self.left);
            self.rounds += 1;
        }
        self.left.pop().expect("a deck has faults")
    }

    /// Every fault of it has had its turn.
    fn was_dealt(&self) -> bool {
        self.rounds > 1 || (self.rounds == 1 && self.left.is_empty())
    }
}

/// The turns that go on side by side.
pub struct Faults {
    decks: Vec<Arc<Mutex<Deck>>>,
    turns: JoinSet<()>,
}

impl Faults {
    pub fn begin(world: &Arc<World>, is_long: bool) -> Self {
        let common = [
            processes::Act::ALL.map(Kind::Process).to_vec(),
            sessions::Which::ALL.map(Kind::Session).to_vec(),
            network::Trouble::ALL.map(Kind::DatabaseLink).to_vec(),
        ];
        // There are many more points than other faults: between two rounds of them the others come several times.
        let relays = [common.concat().repeat(if is_long { 5 } else { 1 }), failpoints::choose(FAILPOINTS, world.seed, is_long)];
        let receivers = [network::Trouble::ALL.map(Kind::ReceiverLink).to_vec(), outages::Outage::ALL.map(Kind::Outage).to_vec()];
        // As many turns as there are relays deal from the first deck, and so on.
        let decks = [
            (relays.concat(), RELAYS, 2_000..6_000),
            (receivers.concat(), RECEIVERS, 3_000..9_000),
            (fleet::Act::ALL.map(Kind::Fleet).to_vec(), 1, 6_000..12_000),
            (vec![Kind::Person], 1, 4_000..8_000),
        ];
        let mut faults = Self { decks: Vec::new(), turns: JoinSet::new() };
        for (number, (kinds, turns, pause)) in decks.into_iter().enumerate() {
            let deck = Arc::new(Mutex::new(Deck::new(kinds, world.seed ^ (number as u64 + 1) << 40)));
            for turn in 0..turns {
                let rng = Rng::with_seed(world.seed ^ ((number * 8 + turn) as u64 + 1) << 32);
                faults.turns.spawn(take_turns(Arc::clone(world), Arc::clone(&deck), turn, rng, pause.clone()));
            }
            faults.decks.push(deck);
        }
        faults
    }

    pub fn have_all_happened(&self) -> bool {
        self.decks.iter().all(|deck| lock(deck).was_dealt())
    }

    /// A turn that ends before its time has failed.
    pub fn assert_that_all_go_on(&mut self) {
        if let Some(ended) = self.turns.try_join_next() {
            panic!("a fault could not be applied or healed: {ended:?}");
        }
    }

    /// Waits until every fault that is under way is healed.
    pub async fn end(mut self, world: &World) {
        world.ends.store(true, Ordering::Relaxed);
        while let Some(ended) = self.turns.join_next().await {
            ended.expect("a fault is applied and healed");
        }
    }
}

async fn take_turns(world: Arc<World>, deck: Arc<Mutex<Deck>>, turn: usize, mut rng: Rng, pauses: std::ops::Range<u64>) {
    // The first one comes when there is something to disturb.
    pause(&world, &mut rng, 1_500..3_000).await;
    while !world.has_ended() {
        let kind = lock(&deck).draw();
        match kind {
            Kind::Process(act) => processes::apply(&world, turn, act, &mut rng).await,
            Kind::Session(which) => sessions::apply(&world, turn, which, &mut rng).await,
            Kind::DatabaseLink(trouble) => network::trouble_database(&world, turn, trouble, &mut rng).await,
            Kind::Failpoint(name, action) => failpoints::apply(&world, turn, name, action, &mut rng).await,
            Kind::ReceiverLink(trouble) => network::trouble_receiver(&world, turn, trouble, &mut rng).await,
            Kind::Outage(outage) => outages::apply(&world, turn, outage, &mut rng).await,
            Kind::Fleet(act) => fleet::apply(&world, act, &mut rng).await,
            Kind::Person => people::replay(&world, &mut rng).await,
        }
        pause(&world, &mut rng, pauses.clone()).await;
    }
}

/// A pause that ends with the run.
async fn pause(world: &World, rng: &mut Rng, millis: std::ops::Range<u64>) {
    let until = world.clock.now() + Moment::try_from(rng.u64(millis)).expect("a short pause");
    while !world.has_ended() && world.clock.now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How long a fault lasts, whatever the run does.
async fn last(rng: &mut Rng, millis: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rng.u64(millis))).await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}
