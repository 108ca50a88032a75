//! Use of contracts: which receiver gets which version, counted in memory when an event was really sent (by the books of a
//! handler, and by the answers of the feed), for the metrics and for the table `contract_use`. Counting waits for nothing and
//! cannot fail; `relay::contract_use` writes the counts.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::Counter;
use tokio::sync::Notify;

use super::metrics as list;

/// A version of a contract and a receiver of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UseKey {
    pub event_type: String,
    pub version: u32,
    /// `handler:NAME` or `client:NAME`, by the name in the configuration.
    pub receiver: String,
}

/// The events of one version that a receiver got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    pub key: UseKey,
    pub events: u64,
    /// Since the first and since the last of these events, at the moment of [`ContractUse::take`].
    pub first: Duration,
    pub last: Duration,
}

/// Counts of this process. A clone counts into the same.
#[derive(Clone, Default)]
pub struct ContractUse(Arc<Counts>);

#[derive(Default)]
struct Counts {
    all: Mutex<BTreeMap<UseKey, Arc<Count>>>,
    /// A receiver got a version for the first time in the life of this process.
    first_use: Notify,
}

struct Count {
    metric: Counter,
    sent: Mutex<Sent>,
}

#[derive(Default)]
struct Sent {
    was_used: bool,
    /// Not taken yet: how many, and the moments of the first and of the last.
    open: Option<(u64, Instant, Instant)>,
}

/// Counts the events that one receiver gets. A receiver without contracts counts nothing and costs nothing.
#[derive(Clone, Default)]
pub struct ReceiverUse {
    versions: HashMap<String, Arc<Count>>,
    counts: Option<Arc<Counts>>,
}

impl ContractUse {
    /// The counter of a handler. `versions`: the event types with the version that it is sent. Creates the series at zero.
    pub fn of_handler<'v>(&self, name: &str, versions: impl Iterator<Item = (&'v str, u32)>) -> ReceiverUse {
        self.of(&format!("handler:{name}"), versions)
    }

    /// The counter of a client of the feed.
    pub fn of_client<'v>(&self, name: &str, versions: impl Iterator<Item = (&'v str, u32)>) -> ReceiverUse {
        self.of(&format!("client:{name}"), versions)
    }

    fn of<'v>(&self, receiver: &str, versions: impl Iterator<Item = (&'v str, u32)>) -> ReceiverUse {
        let mut all = self.all();
        let one = |(event_type, version): (&'v str, u32)| {
            let key = UseKey { event_type: event_type.to_owned(), version, receiver: receiver.to_owned() };
            let count = all.entry(key.clone()).or_insert_with(|| Arc::new(Count::new(&key)));
            (key.event_type, Arc::clone(count))
        };
        ReceiverUse { versions: versions.map(one).collect(), counts: Some(Arc::clone(&self.0)) }
    }

    /// Returns once a receiver was sent a version for the first time; at once if that happened before it was asked.
    pub async fn first_use(&self) {
        self.0.first_use.notified().await;
    }

    /// Everything that was counted since the last time, in the order of the keys. Forgets receivers that are gone.
    pub fn take(&self) -> Vec<Used> {
        let now = Instant::now();
        let mut used = Vec::new();
        self.all().retain(|key, count| {
            if let Some((events, first, last)) = count.sent().open.take() {
                let (first, last) = (now.saturating_duration_since(first), now.saturating_duration_since(last));
                used.push(Used { key: key.clone(), events, first, last });
            }
            Arc::strong_count(count) > 1
        });
        used
    }

    /// Takes back what could not be written. It was taken `ago`.
    pub fn put_back(&self, used: Vec<Used>, ago: Duration) {
        let now = Instant::now();
        // A process that has run for less than that cannot have sent anything earlier.
        let moment = |before: Duration| now.checked_sub(before + ago).unwrap_or(now);
        let mut all = self.all();
        for Used { key, events, first, last } in used {
            let count = all.entry(key.clone()).or_insert_with(|| Arc::new(Count::new(&key)));
            count.sent().add(events, moment(first), moment(last));
        }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<UseKey, Arc<Count>>> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReceiverUse {
    /// The receiver was sent an event of this type, in its version.
    pub fn sent(&self, event_type: &str) {
        let Some(count) = self.versions.get(event_type) else { return };
        count.metric.increment(1);
        let now = Instant::now();
        let is_first = {
            let mut sent = count.sent();
            sent.add(1, now, now);
            !std::mem::replace(&mut sent.was_used, true)
        };
        if let Some(counts) = self.counts.as_ref().filter(|_| is_first) {
            counts.first_use.notify_one();
        }
    }
}

impl Count {
    fn new(key: &UseKey) -> Self {
        let labels = [key.event_type.as_str(), &key.version.to_string(), key.receiver.as_str()];
        Self { metric: list::CONTRACT_DELIVERIES.counter(&labels), sent: Mutex::default() }
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sent {
    fn add(&mut self, events: u64, first: Instant, last: Instant) {
        let (known, from, to) = self.open.unwrap_or((0, first, last));
        self.open = Some((known.saturating_add(events), from.min(first), to.max(last)));
    }
}

impl fmt::Debug for ContractUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.all().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(used: &[Used]) -> Vec<(String, u64)> {
        used.iter()
            .map(|used| (format!("{}@{} {}", used.key.event_type, used.key.version, used.key.receiver), used.events))
            .collect()
    }

    #[tokio::test]
    async fn what_was_sent_is_taken_once_and_the_first_use_is_told() {
        let counts = ContractUse::default();
        let partner = counts.of_handler("partner", [("order.placed", 1), ("order.paid", 2)].into_iter());
        let acme = counts.of_client("acme", [("order.placed", 1)].into_iter());
        assert!(counts.take().is_empty());
        partner.sent("order.placed");
        partner.sent("order.placed");
        partner.sent("unknown");
        counts.first_use().await;
        acme.sent("order.placed");
        counts.first_use().await;
        partner.sent("order.paid");
        let used = counts.take();
        assert_eq!(
            keys(&used),
            [
                ("order.paid@2 handler:partner".to_owned(), 1),
                ("order.placed@1 client:acme".to_owned(), 1),
                ("order.placed@1 handler:partner".to_owned(), 2)
            ]
        );
        assert!(used.iter().all(|used| used.first >= used.last));
        assert!(counts.take().is_empty());
    }

    #[test]
    fn what_could_not_be_written_is_taken_again_although_its_receiver_is_gone() {
        let counts = ContractUse::default();
        let partner = counts.of_handler("partner", [("order.placed", 1)].into_iter());
        partner.sent("order.placed");
        let used = counts.take();
        partner.sent("order.placed");
        drop(partner);
        counts.put_back(used, Duration::from_millis(1));
        assert_eq!(keys(&counts.take()), [("order.placed@1 handler:partner".to_owned(), 2)]);
        assert_eq!(format!("{counts:?}"), "{}", "nobody is left who counts");
    }
}
