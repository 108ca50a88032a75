//! Dispatch: attempts in flight, handed to a few workers (at most one for each processor) and returned as they end.
//!
//! The workers are spawned here and not by the supervisor, because they belong to one loop and end with it (`tests/tidy` lists
//! every place that may spawn). A handler that only computes is called at once, because handing over would cost more than the
//! attempt.
//!
//! Never retries and never writes. Dropping it aborts the attempts in flight, uncounted.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::attempt::{Begun, Finished};
use super::worker::{Means, caught, work};
use crate::domain::{Admission, Queued, Reason, Verdict};
use crate::failpoints::failpoint;
use crate::handlers::Handler;

/// Workers of one subscription; more would not make a loop faster that itself is one task.
const MOST_WORKERS: usize = 8;

/// The attempts of one subscription.
pub struct Dispatch {
    means: Arc<Means>,
    workers: Vec<UnboundedSender<Begun>>,
    tasks: JoinSet<()>,
    /// So many attempts have been handed to workers.
    begun: usize,
    in_flight: usize,
    ended: UnboundedReceiver<Finished>,
}

impl Dispatch {
    /// Attempts with this handler, each no longer than `timeout`, `concurrency` of them at once.
    pub fn new(handler: Arc<dyn Handler>, timeout: Duration, concurrency: usize) -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        let count = if handler.is_immediate() { 0 } else { processors.min(concurrency).min(MOST_WORKERS) };
        let (tell_ended, ended) = unbounded_channel();
        let means = Arc::new(Means::new(handler, timeout, tell_ended));
        let mut tasks = JoinSet::new();
        let workers = (0..count).map(|_| {
            let (begin, begun) = unbounded_channel();
            tasks.spawn(work(Arc::clone(&means), begun));
            begin
        });
        Self { workers: workers.collect(), means, tasks, begun: 0, in_flight: 0, ended }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Begins an attempt. A handler that only computes is asked on the spot: handing it over would cost more than the attempt.
    pub fn begin(&mut self, queued: Queued, admission: Admission) -> Option<Finished> {
        failpoint!("attempt-begun");
        failpoint!("retry-begun", queued.origin == crate::domain::Origin::Recorded);
        let begun = Begun { queued, admission };
        if self.workers.is_empty() {
            return Some(self.make_at_once(begun));
        }
        // To one worker as many as it can send off together, and then to the next.
        let worker = self.begun / self.means.handler.largest_group().max(1) % self.workers.len();
        self.begun = self.begun.wrapping_add(1);
        self.workers[worker].send(begun).expect("a worker goes on for as long as it can be told to begin");
        self.in_flight += 1;
        None
    }

    /// The next attempt to end; waits for ever if none is in flight.
    pub async fn next(&mut self) -> Finished {
        let finished = self.ended.recv().await.expect("we hold a sender ourselves");
        self.came_back(finished)
    }

    /// An attempt that has ended already, without waiting.
    pub fn try_next(&mut self) -> Option<Finished> {
        self.ended.try_recv().ok().map(|finished| self.came_back(finished))
    }

    /// Aborts what is in flight, uncounted, and waits until none of it runs any more.
    pub async fn end(&mut self) {
        self.tasks.shutdown().await;
    }

    fn came_back(&mut self, finished: Finished) -> Finished {
        self.in_flight -= 1;
        finished
    }

    fn make_at_once(&self, begun: Begun) -> Finished {
        let began = Instant::now();
        let verdict = caught(&*self.means.handler, &begun.queued.notification).now_or_never().unwrap_or_else(unanswered);
        begun.ended(verdict, began.elapsed())
    }
}

fn unanswered() -> Verdict {
    Verdict::handler_fault(Reason::Misconfigured, "the handler says that it answers immediately, and did not")
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use futures_util::future::{BoxFuture, ready};

    use super::*;
    use crate::domain::{Circuit, CircuitPolicy, Notification, Origin};

    /// Notes how many arrive together.
    #[derive(Default)]
    struct Counting(Mutex<Vec<usize>>);

    impl Handler for Counting {
        fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
            Box::pin(async { self.deliver_all(vec![notification]).await.remove(0) })
        }

        fn largest_group(&self) -> usize {
            4
        }

        fn deliver_all<'a>(&'a self, notifications: Vec<&'a Notification>) -> BoxFuture<'a, Vec<Verdict>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(notifications.len());
            Box::pin(ready(vec![Verdict::delivered(); notifications.len()]))
        }
    }

    #[tokio::test]
    async fn what_begins_together_leaves_together() {
        let handler = Arc::new(Counting::default());
        let mut dispatch = Dispatch::new(Arc::<Counting>::clone(&handler), Duration::from_secs(60), 64);
        let mut circuit = Circuit::new(CircuitPolicy::default());
        for _ in 0..8 {
            let notification = Box::new(Notification::sample("order.placed", "{}"));
            let queued = Queued { notification, origin: Origin::Recorded, attempts: 0, age_micros: 0 };
            let admission = circuit.admit(Duration::ZERO).expect("it is closed");
            assert!(dispatch.begin(queued, admission).is_none());
            if dispatch.in_flight() == 4 {
                for _ in 0..4 {
                    assert!(dispatch.next().await.verdict.is_delivered());
                }
            }
        }
        assert_eq!(*handler.0.lock().expect("nobody panics with it"), [4, 4], "seen: two workers had two each");
    }
}
