//! Attempts in flight: each in a task of its own, bounded in time, a panic being an outcome like any other.
//! Never retries and never writes; dropping it aborts what is in flight, uncounted.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinSet;

use crate::domain::{Notification, Queued, Reason, Verdict};
use crate::failpoints::failpoint;
use crate::handlers::Handler;

/// An attempt that came to an end.
#[derive(Debug)]
pub struct Finished {
    pub queued: Queued,
    pub verdict: Verdict,
    pub took: Duration,
}

/// The attempts of one subscription.
pub struct Dispatch {
    handler: Arc<dyn Handler>,
    timeout: Duration,
    in_flight: JoinSet<Finished>,
}

impl Dispatch {
    pub fn new(handler: Arc<dyn Handler>, timeout: Duration) -> Self {
        Self { handler, timeout, in_flight: JoinSet::new() }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Begins an attempt. A handler that only computes is asked on the spot: a task would cost more than the attempt.
    pub fn begin(&mut self, queued: Queued) -> Option<Finished> {
        failpoint!("attempt-begun");
        failpoint!("retry-begun", queued.origin == crate::domain::Origin::Recorded);
        let began = Instant::now();
        if self.handler.is_immediate() {
            let answer = AssertUnwindSafe(self.handler.deliver(&queued.notification)).catch_unwind().now_or_never();
            let verdict = answer.map_or_else(unanswered, |verdict| verdict.unwrap_or_else(|panic| panicked(&*panic)));
            return Some(Finished { queued, verdict, took: began.elapsed() });
        }
        let (handler, timeout) = (Arc::clone(&self.handler), self.timeout);
        self.in_flight.spawn(async move {
            let verdict = attempt(&*handler, &queued.notification, timeout).await;
            failpoint!("answer-received");
            Finished { queued, verdict, took: began.elapsed() }
        });
        None
    }

    /// The next attempt to end; waits for ever if none is in flight.
    pub async fn next(&mut self) -> Finished {
        match self.in_flight.join_next().await {
            Some(finished) => finished.expect("an attempt catches its panics and is aborted with its set only"),
            None => std::future::pending().await,
        }
    }

    /// Aborts what is in flight, uncounted, and waits until none of it runs any more.
    pub async fn end(&mut self) {
        self.in_flight.shutdown().await;
    }

    /// An attempt that has ended already, without waiting.
    pub fn try_next(&mut self) -> Option<Finished> {
        self.in_flight
            .try_join_next()
            .map(|finished| finished.expect("an attempt catches its panics and is aborted with its set only"))
    }
}

/// One attempt, bounded in time; a panic is a verdict like any other.
pub async fn attempt(handler: &dyn Handler, notification: &Notification, timeout: Duration) -> Verdict {
    let attempt = AssertUnwindSafe(handler.deliver(notification)).catch_unwind();
    match tokio::time::timeout(timeout, attempt).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(panic)) => panicked(&*panic),
        Err(_) => Verdict::retry(Reason::Timeout, format!("no verdict within {timeout:?}")).ambiguous(),
    }
}

fn unanswered() -> Verdict {
    Verdict::handler_fault(Reason::Misconfigured, "the handler says that it answers immediately, and did not")
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Verdict {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    Verdict::retry(Reason::Panicked, text.unwrap_or_else(|| "the handler panicked".to_owned())).ambiguous()
}
