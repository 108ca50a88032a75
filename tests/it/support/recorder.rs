//! A handler that records what it gets and answers as the test says, and a relay with short intervals to run it in.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use outboxd::config::{Config, HandlerConfig};
use outboxd::domain::Backoff;
use outboxd::{Handler, Notification, RelayBuilder, Verdict, handler_fn};
use tokio::sync::Notify;
use uuid::Uuid;

use super::database::TestDatabase;
use super::waiting::deadline;

type Answering = Pin<Box<dyn Future<Output = Verdict> + Send>>;
type Script = Box<dyn Fn(&Notification, u32) -> Answering + Send + Sync>;

/// The recorder; its clones share what they record.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    script: Script,
    log: Mutex<Log>,
    changed: Notify,
}

#[derive(Default)]
struct Log {
    calls: Vec<Notification>,
    calls_of: HashMap<Uuid, u32>,
    delivered: Vec<Notification>,
}

impl Recorder {
    /// Takes everything.
    pub fn new() -> Self {
        Self::answering(|_, _| Verdict::delivered())
    }

    /// With a script, which gets the notification and how often this recorder has seen it, from 1.
    pub fn answering(script: impl Fn(&Notification, u32) -> Verdict + Send + Sync + 'static) -> Self {
        Self::answering_later(move |notification, call| {
            let verdict = script(notification, call);
            async move { verdict }
        })
    }

    /// With a script that takes its time.
    pub fn answering_later<F>(script: impl Fn(&Notification, u32) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Verdict> + Send + 'static,
    {
        let script: Script = Box::new(move |notification, call| Box::pin(script(notification, call)));
        Self(Arc::new(Shared { script, log: Mutex::default(), changed: Notify::new() }))
    }

    /// As the relay wants it.
    pub fn handler(&self) -> Arc<dyn Handler> {
        let shared = Arc::clone(&self.0);
        handler_fn(move |notification| {
            let shared = Arc::clone(&shared);
            async move {
                let call = shared.arrive(&notification);
                let verdict = (shared.script)(&notification, call).await;
                if verdict.is_delivered() {
                    shared.log().delivered.push(notification);
                    shared.changed.notify_waiters();
                }
                verdict
            }
        })
    }

    /// Every call so far, in order.
    pub fn calls(&self) -> Vec<Notification> {
        self.0.log().calls.clone()
    }

    /// What was answered with success, in the order of the answers.
    pub fn delivered(&self) -> Vec<Notification> {
        self.0.log().delivered.clone()
    }

    /// The numbers `n` in the payloads of what was answered with success, in order.
    pub fn numbers(&self) -> Vec<i64> {
        self.0.log().delivered.iter().map(number).collect()
    }

    /// The numbers that one key got, in order.
    pub fn numbers_of(&self, key: &str) -> Vec<i64> {
        self.0.log().delivered.iter().filter(|notification| notification.aggregate_id.as_deref() == Some(key)).map(number).collect()
    }

    /// Waits until so many calls were made, and gives all.
    pub async fn wait_for_calls(&self, count: usize) -> Vec<Notification> {
        self.wait(&format!("{count} calls"), |log| log.calls.len() >= count).await;
        self.calls()
    }

    /// Waits until so many were answered with success, and gives all.
    pub async fn wait_for(&self, count: usize) -> Vec<Notification> {
        self.wait(&format!("{count} deliveries"), |log| log.delivered.len() >= count).await;
        self.delivered()
    }

    /// Waits until so many different events were answered with success.
    pub async fn wait_for_ids(&self, count: usize) {
        let distinct =
            |log: &Log| log.delivered.iter().map(|notification| notification.id).collect::<std::collections::HashSet<_>>().len();
        // Counting ids costs; that many calls must have been made first.
        self.wait(&format!("{count} events"), |log| log.delivered.len() >= count && distinct(log) >= count).await;
    }

    async fn wait(&self, what: &str, condition: impl Fn(&Log) -> bool) {
        let waiting = async {
            loop {
                let mut changed = std::pin::pin!(self.0.changed.notified());
                // Registered before looking, so that a change in between is not missed.
                changed.as_mut().enable();
                if condition(&self.0.log()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(deadline(), waiting).await.is_err() {
            let log = self.0.log();
            panic!("waited for {what}; there were {} calls and {} deliveries", log.calls.len(), log.delivered.len());
        }
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn arrive(&self, notification: &Notification) -> u32 {
        let mut log = self.log();
        log.calls.push(notification.clone());
        let calls = log.calls_of.entry(notification.id).or_default();
        *calls += 1;
        let call = *calls;
        drop(log);
        self.changed.notify_waiters();
        call
    }
}

/// The number `n` in a payload.
pub fn number(notification: &Notification) -> i64 {
    let payload: serde_json::Value = serde_json::from_str(&notification.payload).expect("a payload is JSON");
    payload["n"].as_i64().expect("the payloads of this test have a number")
}

/// A relay for the outbox of this database, with short intervals.
pub fn relay(database: &TestDatabase) -> RelayBuilder {
    RelayBuilder::new(database.url()).configure(quick)
}

/// Settings with which a test need not wait.
pub fn quick(config: &mut Config) {
    config.relay.lease = Duration::from_secs(3);
    config.relay.flush_interval = Duration::from_millis(20);
}

/// Settings of a handler with which a test need not wait: 50 ms, then 100, 200 ... up to a second between attempts.
pub fn quick_handler(config: &mut HandlerConfig) {
    config.retry.backoff =
        Backoff::exponential(Duration::from_millis(50), 2.0, Duration::from_secs(1), 0.0).expect("a valid backoff");
}
