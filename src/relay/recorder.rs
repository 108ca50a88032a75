//! The recorder: loops that flush at the same moment do so in one statement and one commit (`record_together.sql`). A hundred
//! handlers that want the same event cost one transaction.
//!
//! The recorder takes flushes in which every event succeeded at the first attempt: a position behind its own fence, and markers.
//! Nothing in that statement can be refused because of a text that others wrote, and it waits for no lock of a subscription: it
//! skips a row that another session has locked.
//!
//! - A subscription that was skipped, and one whose lease is lost, flush alone; that flush finds out which of the two it was.
//! - If the server refuses the statement, every loop flushes alone.
//! - If it is unknown whether the statement was committed, every loop in it ends and begins again from what is stored.
//! - Outcomes with a text, and outcomes of deliveries that have a row, are always written by the loop itself (`store::ledger`),
//!   so a handler in trouble does not hold up its neighbours.
//!
//! No promise depends on the recorder: without it, every loop flushes alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::store::{self, Fence, Reached, StoreError, Successes};

/// Loops in one statement, and rows that are enough for one.
const MOST_LOOPS: usize = 1_024;
const FULL: usize = 16_384;

/// Shared between its task and the loops.
pub struct Recorder {
    state: Mutex<State>,
    /// A loop waits.
    asked: Notify,
}

#[derive(Default)]
struct State {
    is_served: bool,
    queue: Vec<Request>,
}

struct Request {
    flush: Successes,
    answer: oneshot::Sender<Result<Answer, StoreError>>,
}

/// The result of a flush.
#[derive(Debug)]
pub enum Answer {
    Written,
    /// Nothing was written: it was the only one, or was left out.
    Alone(Reached, Vec<i64>),
}

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), asked: Notify::new() })
    }

    /// Records together with the loops that flush at this moment. An error: it is unknown whether it was written.
    pub async fn record(&self, fence: Fence, reached: Reached, delivered: Vec<i64>) -> Result<Answer, StoreError> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.state();
            if !state.is_served {
                return Ok(Answer::Alone(reached, delivered));
            }
            state.queue.push(Request { flush: Successes { fence, reached, delivered }, answer });
        }
        self.asked.notify_one();
        answered.await.unwrap_or_else(|_| Err(StoreError::Refused("the recorder ended before it had answered".to_owned())))
    }

    /// The loops for the next statement, once there are any; without those that have gone meanwhile.
    async fn next(&self) -> Vec<Request> {
        loop {
            self.asked.notified().await;
            // Loops that flush at the same moment are a little apart.
            tokio::task::yield_now().await;
            let requests = self.take();
            if !requests.is_empty() {
                return requests;
            }
        }
    }

    fn take(&self) -> Vec<Request> {
        let mut state = self.state();
        state.queue.retain(|request| !request.answer.is_closed());
        let mut rows = 0;
        let is_enough = |request: &Request| {
            let is_enough = rows >= FULL;
            rows += request.flush.delivered.len();
            is_enough
        };
        let enough = state.queue.iter().take(MOST_LOOPS).position(is_enough);
        let count = enough.unwrap_or_else(|| state.queue.len().min(MOST_LOOPS));
        let taken = state.queue.drain(..count).collect();
        if !state.queue.is_empty() {
            self.asked.notify_one();
        }
        taken
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one step: there is no half of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The recorder while its task runs. Dropped, it leaves no loop waiting.
struct Served<'r>(&'r Recorder);

impl<'r> Served<'r> {
    fn begin(recorder: &'r Recorder) -> Self {
        recorder.state().is_served = true;
        Self(recorder)
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.0.state();
            state.is_served = false;
            std::mem::take(&mut state.queue)
        };
        left.into_iter().for_each(|request| alone(request.flush, request.answer));
    }
}

/// Records until `stop`; a statement under way is waited for.
pub async fn serve(shared: Arc<Shared>, stop: CancellationToken) {
    let served = Served::begin(&shared.recorder);
    while let Some(requests) = stop.run_until_cancelled(served.0.next()).await {
        record(&shared, requests).await;
    }
}

async fn record(shared: &Shared, requests: Vec<Request>) {
    let (flushes, answers): (Vec<_>, Vec<_>) = requests.into_iter().map(|request| (request.flush, request.answer)).unzip();
    if flushes.len() < 2 {
        return flushes.into_iter().zip(answers).for_each(|(flush, answer)| alone(flush, answer));
    }
    let recording = store::record_together(&shared.connections.ledger, &flushes);
    match shared.answered(recording).await {
        Ok(written) => {
            for (flush, answer) in flushes.into_iter().zip(answers) {
                if written.contains(&flush.fence.subscription) {
                    answer.send(Ok(Answer::Written)).ok(); // a loop that has gone remembers nothing either
                } else {
                    alone(flush, answer);
                }
            }
        }
        // The statement was refused, so nothing of it is written. Whose fault it was shows when each is alone.
        Err(error) if error.is_refusal() => flushes.into_iter().zip(answers).for_each(|(flush, answer)| alone(flush, answer)),
        Err(error) => {
            let error = Arc::new(error);
            answers.into_iter().for_each(|answer| drop(answer.send(Err(StoreError::Together(Arc::clone(&error))))));
        }
    }
}

fn alone(flush: Successes, answer: oneshot::Sender<Result<Answer, StoreError>>) {
    answer.send(Ok(Answer::Alone(flush.reached, flush.delivered))).ok(); // a loop that has gone remembers nothing either
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;
    use crate::domain::Position;
    use crate::store::Done;

    fn record(recorder: &Recorder, subscription: i32, rows: usize) -> impl Future<Output = Result<Answer, StoreError>> {
        let reached = Reached { position: Position::beginning(), done: Done::AsStored };
        recorder.record(Fence { subscription, epoch: 1 }, reached, vec![7; rows])
    }

    fn subscriptions(taken: &[Request]) -> Vec<i32> {
        taken.iter().map(|request| request.flush.fence.subscription).collect()
    }

    #[tokio::test]
    async fn without_anybody_who_records_each_does_so_alone() {
        let recorder = Recorder::new();
        let Ok(Answer::Alone(_, delivered)) = record(&recorder, 1, 3).await else { panic!("nobody serves it") };
        assert_eq!(delivered, [7; 3]);
    }

    #[tokio::test]
    async fn those_who_wait_are_taken_together_and_who_has_gone_is_not() {
        let recorder = Recorder::new();
        let served = Served::begin(&recorder);
        let (mut first, mut third) = (pin!(record(&recorder, 1, 1)), pin!(record(&recorder, 3, 0)));
        assert!(poll!(&mut first).is_pending());
        {
            let mut second = pin!(record(&recorder, 2, 1));
            assert!(poll!(&mut second).is_pending());
        }
        assert!(poll!(&mut third).is_pending());
        let taken = recorder.next().await;
        assert_eq!(subscriptions(&taken), [1, 3]);
        for Request { flush, answer } in taken {
            alone(flush, answer);
        }
        assert!(matches!(first.await, Ok(Answer::Alone(_, delivered)) if delivered == [7]));
        assert!(matches!(third.await, Ok(Answer::Alone(_, delivered)) if delivered.is_empty()));
        drop(served);
    }

    #[tokio::test]
    async fn one_statement_holds_no_more_than_it_may_and_the_rest_follows() {
        let recorder = Recorder::new();
        let _served = Served::begin(&recorder);
        let mut waiting = futures_util::stream::FuturesUnordered::new();
        for subscription in 1..=5 {
            waiting.push(Box::pin(record(&recorder, subscription, FULL / 2)));
        }
        assert!(poll!(futures_util::StreamExt::next(&mut waiting)).is_pending());
        assert_eq!(subscriptions(&recorder.next().await), [1, 2]);
        assert_eq!(subscriptions(&recorder.next().await), [3, 4]);
        assert_eq!(subscriptions(&recorder.next().await), [5]);
    }

    /// A task that has ended delays no loop; whether its last statement was written is unknown.
    #[tokio::test]
    async fn whoever_waits_for_a_recorder_that_ends_is_told() {
        let recorder = Recorder::new();
        let served = Served::begin(&recorder);
        let (mut taken, mut left) = (pin!(record(&recorder, 1, 1)), pin!(record(&recorder, 2, 1)));
        assert!(poll!(&mut taken).is_pending());
        let under_way = recorder.next().await;
        assert!(poll!(&mut left).is_pending());
        drop((under_way, served));
        assert!(taken.await.is_err(), "it may be written");
        assert!(matches!(left.await, Ok(Answer::Alone(..))), "it is not");
        assert!(matches!(record(&recorder, 3, 1).await, Ok(Answer::Alone(..))));
    }
}
