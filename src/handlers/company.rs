//! Company: events that share a connection share its end. A receiver that ends a connection over one of several events does not
//! say over which one.
//!
//! An event that has met two such ends goes out alone the next time, and then the answer is about it. One end proves nothing: a
//! connection was cut. Used by `nats`, `rabbitmq` and `redis`. Never judges; decides only which events go out together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::RwLock;
use uuid::Uuid;

use crate::domain::{Notification, Outcome, Reach, Verdict};

/// More than can be in flight; some never come back, because an operator has discarded them.
const MOST: usize = 4_096;
/// Ends of a connection that an event may share before it goes out alone.
const ENOUGH: u8 = 2;

/// Which events go out together, at one handler.
#[derive(Default)]
pub struct Company {
    /// How often each has shared the end of a connection since the last answer about it.
    shared: Mutex<HashMap<Uuid, u8>>,
    /// Its size: nearly always 0, and then nothing is looked up.
    count: AtomicUsize,
    /// Held together by those in company, and alone by one that goes alone.
    road: RwLock<()>,
}

impl Company {
    /// One attempt at each event by `send`: those in doubt each alone, after the others together. The verdict of an end that was shared
    /// must say so by its reach. In order of `notifications`.
    pub async fn send<'n, F>(&self, notifications: Vec<&'n Notification>, send: impl Fn(Vec<&'n Notification>) -> F) -> Vec<Verdict>
    where
        F: Future<Output = Vec<Verdict>>,
    {
        if self.count.load(Ordering::Relaxed) == 0 {
            let _together = self.road.read().await;
            let ids: Vec<Uuid> = notifications.iter().map(|notification| notification.id).collect();
            let verdicts = send(notifications).await;
            ids.iter().zip(&verdicts).for_each(|(id, verdict)| self.learn(*id, verdict));
            return verdicts;
        }
        let (alone, together): (Vec<_>, Vec<_>) =
            notifications.into_iter().enumerate().partition(|(_, notification)| self.is_in_doubt(notification.id));
        let mut verdicts = Vec::with_capacity(alone.len() + together.len());
        if !together.is_empty() {
            let _together = self.road.read().await;
            let (places, notifications): (Vec<usize>, Vec<&Notification>) = together.into_iter().unzip();
            let ids: Vec<Uuid> = notifications.iter().map(|notification| notification.id).collect();
            for ((place, id), verdict) in places.into_iter().zip(ids).zip(send(notifications).await) {
                self.learn(id, &verdict);
                verdicts.push((place, verdict));
            }
        }
        for (place, notification) in alone {
            let _alone = self.road.write().await;
            let verdict = send(vec![notification]).await.remove(0);
            // One that ends the connection stays in doubt, and goes alone the next time as well.
            if verdict.outcome != Outcome::Retry {
                self.clear(notification.id);
            }
            verdicts.push((place, verdict));
        }
        verdicts.sort_by_key(|(place, _)| *place);
        verdicts.into_iter().map(|(_, verdict)| verdict).collect()
    }

    fn is_in_doubt(&self, id: Uuid) -> bool {
        self.lock().get(&id).is_some_and(|times| *times >= ENOUGH)
    }

    fn learn(&self, id: Uuid, verdict: &Verdict) {
        if verdict.reach == Reach::Another {
            let mut shared = self.lock();
            if shared.len() >= MOST {
                shared.clear();
            }
            *shared.entry(id).or_default() += 1;
            self.count.store(shared.len(), Ordering::Relaxed);
        } else if self.count.load(Ordering::Relaxed) > 0 {
            self.clear(id);
        }
    }

    fn clear(&self, id: Uuid) {
        let mut shared = self.lock();
        shared.remove(&id);
        self.count.store(shared.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, u8>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::Reason;

    /// Ends the connection for all events that go out with this one.
    async fn send(poison: Uuid, group: Vec<&Notification>) -> Vec<Verdict> {
        let is_over = group.iter().any(|notification| notification.id == poison);
        let ended = |_: &&Notification| match (is_over, group.len()) {
            (false, _) => Verdict::delivered(),
            (true, 1) => Verdict::retry(Reason::ConnectionReset, "it hung up"),
            (true, _) => Verdict::retry(Reason::ConnectionReset, "it hung up").of_another(),
        };
        group.iter().map(ended).collect()
    }

    #[tokio::test]
    async fn after_two_ends_that_were_shared_each_goes_alone_and_only_one_fails() {
        let (company, sizes) = (Company::default(), Arc::new(Mutex::new(Vec::new())));
        let events: Vec<Notification> =
            (0..4).map(|n| Notification { id: Uuid::from_u128(n), ..Notification::sample("a", "{}") }).collect();
        let poison = events[2].id;
        let attempt = || async {
            let sent = Arc::clone(&sizes);
            let all = company.send(events.iter().collect(), move |group| {
                sent.lock().expect("nobody panics").push(group.len());
                send(poison, group)
            });
            all.await.iter().map(|verdict| (verdict.is_delivered(), verdict.reach == Reach::Another)).collect::<Vec<_>>()
        };
        for _ in 0..2 {
            assert_eq!(attempt().await, [(false, true); 4]);
        }
        for _ in 0..2 {
            assert_eq!(attempt().await, [(true, false), (true, false), (false, false), (true, false)]);
        }
        assert_eq!(*sizes.lock().expect("nobody panics"), [4, 4, 1, 1, 1, 1, 3, 1], "the three are in company again");
    }
}
