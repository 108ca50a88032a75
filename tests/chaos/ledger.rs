//! What writers and receivers write down while it happens. Compact, because a run has a million events and several times as many
//! receipts; nothing is judged here.

use std::sync::{Mutex, MutexGuard};

use uuid::Uuid;

use crate::clock::Moment;
use crate::plan::fingerprint;

/// Number of an event in the ledger; its id follows from it and the seed.
pub type EventNumber = u32;

/// What became of an event's transaction, as its writer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing is known: the answer to the commit was lost. The database is asked in the end.
    Unknown,
    Committed,
    /// Committed without waiting for the disk: a crash of the server may take it back.
    Unflushed,
    RolledBack,
}

/// An event as its writer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The counter that it changed; 0: none.
    pub key: u16,
    /// Value of that counter.
    pub version: u32,
    pub fate: Fate,
    /// Hash of the payload.
    pub body: u32,
    /// When its transaction ended.
    pub at: Moment,
}

/// What was answered to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Given {
    Accepted,
    /// Accepted, but said so after the relay's patience, or never.
    AcceptedUnsaid,
    /// Refused for good: a dead letter.
    Poison,
    Refused,
    /// 404: the receiver does not know the key, or says so of every key while it is out of order.
    NotFound,
    Throttled,
    /// Nothing, and the connection was closed.
    Dropped,
}

impl Given {
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted | Self::AcceptedUnsaid)
    }

    /// The relay owes the receiver nothing more, if it has heard it.
    pub fn is_final(self) -> bool {
        self.is_accepted() || self == Self::Poison
    }
}

/// One request at a receiver, or one effect of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// `None`: the id is none of ours.
    pub event: Option<EventNumber>,
    pub handler: u8,
    /// Place of the relay that sent it.
    pub relay: u8,
    pub attempt: u16,
    pub body: u32,
    pub given: Given,
    pub at: Moment,
    /// A replay, by its own word.
    pub is_replay: bool,
}

/// The ledger of the writers.
pub struct Ledger {
    seed: u64,
    events: Mutex<Vec<Event>>,
}

impl Ledger {
    pub fn new(seed: u64) -> Self {
        Self { seed, events: Mutex::default() }
    }

    /// Numbers for events whose fate is open.
    pub fn draw(&self, count: u32) -> EventNumber {
        let mut events = self.lock();
        let first = EventNumber::try_from(events.len()).expect("fewer events than numbers");
        let open = Event { key: 0, version: 0, fate: Fate::RolledBack, body: 0, at: 0 };
        events.resize((first + count) as usize, open);
        first
    }

    pub fn enter(&self, number: EventNumber, event: Event) {
        self.lock()[number as usize] = event;
    }

    /// How many events there are.
    pub fn len(&self) -> EventNumber {
        EventNumber::try_from(self.lock().len()).expect("fewer events than numbers")
    }

    pub fn id(&self, number: EventNumber) -> Uuid {
        id_of(self.seed, number)
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().expect("nobody panics with the ledger")
    }
}

/// The id: a hash that proves it, and the number.
pub fn id_of(seed: u64, number: EventNumber) -> Uuid {
    Uuid::from_u64_pair(fingerprint(&(seed, number, "id")), u64::from(number))
}

/// The number in an id; `None`: it is none of ours.
pub fn number_of(seed: u64, id: Uuid) -> Option<EventNumber> {
    let number = EventNumber::try_from(id.as_u64_pair().1).ok()?;
    (id_of(seed, number) == id).then_some(number)
}

/// Hash of a payload.
pub fn hash(body: &[u8]) -> u32 {
    (fingerprint(&body) >> 32) as u32
}

#[test]
fn an_id_tells_its_number_and_whose_it_is() {
    assert_eq!(number_of(7, id_of(7, 123_456)), Some(123_456));
    assert_eq!(number_of(8, id_of(7, 123_456)), None);
    assert_eq!(number_of(7, Uuid::new_v4()), None);
}
