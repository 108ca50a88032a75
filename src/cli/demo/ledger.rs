//! The demo's own memory of what it recorded and what arrived, kept beside the relay so that the two can be compared.
//! Knows nothing of the outbox: if the relay lost, repeated or reordered an event, it would show here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// What became of the transaction of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not known yet; stays so if the connection broke during the commit.
    Open,
    Committed,
    RolledBack,
}

/// One event that the application recorded.
#[derive(Debug, Clone)]
pub struct Entry {
    pub event_type: &'static str,
    pub order: i64,
    /// Place of the event in the life of its order, from 1.
    pub step: i32,
    pub fate: Fate,
    /// How often the receiver accepted it.
    pub accepted: u32,
    /// The relay has given up on it.
    pub is_dead: bool,
}

/// How an accepted event relates to those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    InOrder,
    /// An earlier event of the same order should have come first.
    OutOfOrder,
    /// Accepted before.
    Again,
    /// It was never recorded.
    Unknown,
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub recorded: u64,
    pub delivered: u64,
    pub rolled_back_transactions: u64,
    pub rolled_back_events: u64,
    /// Accepted events of rolled-back transactions, and accepted events that were never recorded.
    pub delivered_by_mistake: u64,
    pub retried: u64,
    pub duplicates: u64,
    pub order_violations: u64,
    /// Dead letters that were accepted after all, because a person replayed them.
    pub replayed: u64,
    pub bad_signatures: u64,
}

#[derive(Debug, Default)]
struct Pages {
    entries: HashMap<Uuid, Entry>,
    orders: HashMap<i64, BTreeMap<i32, Vec<Uuid>>>,
    counts: Counts,
}

/// The memory, shared by the application, the receiver and the story.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Pages>);

impl Ledger {
    /// Before the commit, because the relay can be faster than the answer to it.
    pub fn announce(&self, id: Uuid, event_type: &'static str, order: i64, step: i32) {
        let mut pages = self.pages();
        pages.entries.insert(id, Entry { event_type, order, step, fate: Fate::Open, accepted: 0, is_dead: false });
        pages.orders.entry(order).or_default().entry(step).or_default().push(id);
    }

    /// After the commit or the rollback of a transaction with these events.
    pub fn decide(&self, ids: &[Uuid], fate: Fate) {
        let mut pages = self.pages();
        for id in ids {
            if let Some(entry) = pages.entries.get_mut(id) {
                entry.fate = fate;
            }
        }
        match fate {
            Fate::Open => {}
            Fate::Committed => pages.counts.recorded += ids.len() as u64,
            Fate::RolledBack => {
                pages.counts.rolled_back_transactions += 1;
                pages.counts.rolled_back_events += ids.len() as u64;
            }
        }
    }

    /// The receiver accepts an event.
    pub fn accept(&self, id: Uuid) -> Arrival {
        let mut pages = self.pages();
        let arrival = pages.judge(id);
        let Some(entry) = pages.entries.get_mut(&id) else {
            pages.counts.delivered_by_mistake += 1;
            return arrival;
        };
        let was_dead = std::mem::take(&mut entry.is_dead);
        entry.accepted += 1;
        let counts = &mut pages.counts;
        match arrival {
            Arrival::Again => counts.duplicates += 1,
            Arrival::InOrder | Arrival::OutOfOrder | Arrival::Unknown => {
                counts.delivered += 1;
                counts.order_violations += u64::from(arrival == Arrival::OutOfOrder);
                counts.replayed += u64::from(was_dead);
            }
        }
        arrival
    }

    /// The relay will try again.
    pub fn retried(&self) {
        self.pages().counts.retried += 1;
    }

    /// The relay has given up.
    pub fn died(&self, id: Uuid) {
        if let Some(entry) = self.pages().entries.get_mut(&id) {
            entry.is_dead = true;
        }
    }

    pub fn bad_signature(&self) {
        self.pages().counts.bad_signatures += 1;
    }

    pub fn entry(&self, id: Uuid) -> Option<Entry> {
        self.pages().entries.get(&id).cloned()
    }

    pub fn counts(&self) -> Counts {
        let pages = self.pages();
        let by_mistake = pages.entries.values().filter(|entry| entry.fate == Fate::RolledBack && entry.accepted > 0).count();
        Counts { delivered_by_mistake: pages.counts.delivered_by_mistake + by_mistake as u64, ..pages.counts }
    }

    /// Ids of the committed events; of those the receiver has accepted.
    pub fn committed(&self) -> Vec<Uuid> {
        self.ids(|entry| entry.fate == Fate::Committed)
    }

    pub fn accepted(&self) -> Vec<Uuid> {
        self.ids(|entry| entry.accepted > 0)
    }

    fn ids(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<Uuid> {
        self.pages().entries.iter().filter(|(_, entry)| wanted(entry)).map(|(id, _)| *id).collect()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn judge(&self, id: Uuid) -> Arrival {
        let Some(entry) = self.entries.get(&id) else { return Arrival::Unknown };
        if entry.accepted > 0 {
            return Arrival::Again;
        }
        // A dead letter does not hold up its order (`on_dead_letter = "continue"`), so it may be missing.
        let is_missing = |id: &Uuid| {
            self.entries.get(id).is_some_and(|entry| entry.fate != Fate::RolledBack && entry.accepted == 0 && !entry.is_dead)
        };
        let earlier = self.orders.get(&entry.order).into_iter().flat_map(|steps| steps.range(..entry.step));
        if earlier.flat_map(|(_, ids)| ids).any(is_missing) { Arrival::OutOfOrder } else { Arrival::InOrder }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_order(steps: i32) -> (Ledger, Vec<Uuid>) {
        let (ledger, ids) = (Ledger::default(), (0..steps).map(|_| Uuid::new_v4()).collect::<Vec<_>>());
        for (step, id) in (1..).zip(&ids) {
            ledger.announce(*id, "order.placed", 7, step);
        }
        ledger.decide(&ids, Fate::Committed);
        (ledger, ids)
    }

    #[test]
    fn a_later_event_before_an_earlier_one_is_a_violation() {
        let (ledger, ids) = with_order(3);
        assert_eq!(ledger.accept(ids[0]), Arrival::InOrder);
        assert_eq!(ledger.accept(ids[2]), Arrival::OutOfOrder);
        assert_eq!(ledger.counts().order_violations, 1);
    }

    #[test]
    fn a_dead_letter_may_be_missing_and_may_come_late() {
        let (ledger, ids) = with_order(2);
        ledger.died(ids[0]);
        assert_eq!(ledger.accept(ids[1]), Arrival::InOrder);
        assert_eq!(ledger.accept(ids[0]), Arrival::InOrder);
        assert_eq!((ledger.counts().replayed, ledger.counts().order_violations), (1, 0));
    }

    #[test]
    fn an_event_of_a_rolled_back_transaction_must_not_arrive_and_holds_up_nothing() {
        let (ledger, ids) = with_order(2);
        ledger.decide(&ids[..1], Fate::RolledBack);
        assert_eq!(ledger.accept(ids[1]), Arrival::InOrder);
        assert_eq!(ledger.counts().delivered_by_mistake, 0);
        ledger.accept(ids[0]);
        assert_eq!(ledger.counts().delivered_by_mistake, 1);
    }

    #[test]
    fn the_same_id_twice_is_a_duplicate() {
        let (ledger, ids) = with_order(1);
        ledger.accept(ids[0]);
        assert_eq!(ledger.accept(ids[0]), Arrival::Again);
        assert_eq!((ledger.counts().delivered, ledger.counts().duplicates), (1, 1));
        assert_eq!(ledger.accept(Uuid::new_v4()), Arrival::Unknown);
    }
}
