//! A link: the one connection that all deliveries of a handler share.
//!
//! The first delivery that needs the connection dials, and the others wait for it. A delivery that doubts the connection gives it
//! up; what else was in flight on it is an ambiguous retry. After a failed dial the link does not try again at once: every
//! delivery that comes in between gets the same answer.
//!
//! Never retries by itself; the relay decides whether and when to try again.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{Reason, Verdict};

/// Between two tries to connect, at first; doubles with every failure up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A shared connection of the type `C`.
pub struct Link<C> {
    /// Longest wait for a connection, everything included.
    timeout: Duration,
    /// `host:port`, for display.
    target: String,
    current: Mutex<Current<C>>,
    connecting: tokio::sync::Mutex<Failures>,
}

struct Current<C> {
    number: u64,
    connection: Option<Arc<C>>,
    riders: Arc<Riders>,
}

/// Attempts that share a connection.
#[derive(Debug, Default)]
struct Riders {
    now: AtomicUsize,
    /// How many there were when the first of them saw that the connection was over; 0: none has.
    at_the_end: AtomicUsize,
}

/// One of them, for as long as it lives.
#[derive(Debug)]
struct Ride(Arc<Riders>);

impl Ride {
    fn begin(riders: &Arc<Riders>) -> Self {
        riders.now.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(riders))
    }
}

impl Drop for Ride {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Failures {
    last: Option<(Instant, Verdict)>,
    in_a_row: u32,
}

/// A connection, and which one it is.
#[derive(Debug)]
pub struct Held<C> {
    number: u64,
    pub connection: Arc<C>,
    ride: Ride,
}

impl<C> Held<C> {
    /// For an attempt that the end of the connection has ended: whether others were on it, and may have been the reason. All that shared it
    /// get the same answer, regardless of their order.
    pub fn had_company(&self) -> bool {
        let Riders { now, at_the_end } = &*self.ride.0;
        let now = now.load(Ordering::SeqCst);
        at_the_end.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst).map_or_else(|first| first, |_| now) > 1
    }
}

/// Something was sent and its answer is to come. Dropped before it is settled, it gives the connection up: a delivery that the relay
/// breaks off at its timeout must not leave a silent connection to all that follow.
pub struct Doubt<'l, C> {
    link: &'l Link<C>,
    held: &'l Held<C>,
    is_settled: bool,
}

impl<C> Doubt<'_, C> {
    /// The answer came, and the connection is good.
    pub fn settle(mut self) {
        self.is_settled = true;
    }
}

impl<C> Drop for Doubt<'_, C> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.link.give_up(self.held);
        }
    }
}

impl<C> Link<C> {
    pub fn new(target: impl Into<String>, timeout: Duration) -> Self {
        let current = Mutex::new(Current { number: 0, connection: None, riders: Arc::default() });
        Self { timeout, target: target.into(), current, connecting: tokio::sync::Mutex::default() }
    }

    pub fn target(&self) -> &str {
        &self.target
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The connection, made by `connect` if there is none that `is_alive`. One caller connects, the others wait for it.
    /// The verdict of a failure must reveal nothing of credentials.
    pub async fn get<F>(&self, is_alive: impl Fn(&C) -> bool, connect: impl FnOnce() -> F) -> Result<Held<C>, Verdict>
    where
        F: Future<Output = Result<C, Verdict>>,
    {
        if let Some(held) = self.current(&is_alive) {
            return Ok(held);
        }
        let mut failures = self.connecting.lock().await;
        if let Some(held) = self.current(&is_alive) {
            return Ok(held);
        }
        if let Some((at, verdict)) = &failures.last
            && at.elapsed() < pause(failures.in_a_row)
        {
            return Err(verdict.clone());
        }
        match tokio::time::timeout(self.timeout, connect()).await.unwrap_or_else(|_| Err(self.too_slow())) {
            Ok(connection) => {
                *failures = Failures::default();
                Ok(self.put(connection))
            }
            Err(verdict) => {
                // Met before any event was looked at.
                let verdict = verdict.of_everyone();
                *failures = Failures { last: Some((Instant::now(), verdict.clone())), in_a_row: failures.in_a_row + 1 };
                Err(verdict)
            }
        }
    }

    /// From now on the connection is in doubt.
    pub fn doubt<'l>(&'l self, held: &'l Held<C>) -> Doubt<'l, C> {
        Doubt { link: self, held, is_settled: false }
    }

    /// The connection is in doubt: no delivery gets it any more. Says nothing about a later one.
    pub fn give_up(&self, held: &Held<C>) {
        let mut current = self.lock();
        if current.number == held.number {
            current.connection = None;
        }
    }

    fn current(&self, is_alive: &impl Fn(&C) -> bool) -> Option<Held<C>> {
        let current = self.lock();
        let connection = current.connection.as_ref().filter(|connection| is_alive(connection))?;
        Some(Held { number: current.number, connection: Arc::clone(connection), ride: Ride::begin(&current.riders) })
    }

    fn put(&self, connection: C) -> Held<C> {
        let connection = Arc::new(connection);
        let mut current = self.lock();
        *current = Current { number: current.number + 1, connection: Some(Arc::clone(&connection)), riders: Arc::default() };
        Held { number: current.number, connection, ride: Ride::begin(&current.riders) }
    }

    fn too_slow(&self) -> Verdict {
        Verdict::retry(Reason::ConnectTimeout, format!("no connection to {} within {:?}", self.target, self.timeout))
    }

    // Nothing can panic while it is held; and if it could, the connection would still be one.
    fn lock(&self) -> std::sync::MutexGuard<'_, Current<C>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long not to try again after so many failures in a row.
pub fn pause(failures: u32) -> Duration {
    (FIRST_PAUSE * 2_u32.saturating_pow(failures.saturating_sub(1).min(16))).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Dialer(AtomicU32);

    impl Dialer {
        async fn works(&self) -> Result<u32, Verdict> {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok(self.0.fetch_add(1, Ordering::SeqCst) + 1)
        }

        async fn fails(&self) -> Result<u32, Verdict> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Err(Verdict::retry(Reason::ConnectionRefused, "nobody listens"))
        }

        fn calls(&self) -> u32 {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn link() -> Link<u32> {
        Link::new("broker:1", Duration::from_secs(5))
    }

    #[tokio::test(start_paused = true)]
    async fn all_share_one_connection() {
        let (link, dialer) = (Arc::new(link()), Arc::new(Dialer::default()));
        let asked = (0..50).map(|_| {
            let (link, dialer) = (Arc::clone(&link), Arc::clone(&dialer));
            tokio::spawn(async move { link.get(|_| true, || dialer.works()).await.map(|held| *held.connection) })
        });
        for answer in futures_util::future::join_all(asked).await {
            assert_eq!(answer.expect("no panic"), Ok(1));
        }
        assert_eq!(dialer.calls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_is_not_handed_out_again_and_a_late_doubt_harms_no_successor() {
        let (link, dialer) = (link(), Dialer::default());
        let get = || link.get(|_| true, || dialer.works());
        let first = get().await.expect("connected");
        link.give_up(&first);
        let second = get().await.expect("connected");
        link.give_up(&first);
        assert_eq!((*second.connection, *get().await.expect("connected").connection), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubt_that_is_dropped_gives_the_connection_up_and_a_settled_one_does_not() {
        let (link, dialer) = (link(), Dialer::default());
        let first = link.get(|_| true, || dialer.works()).await.expect("connected");
        link.doubt(&first).settle();
        let same = link.get(|_| true, || dialer.works()).await.expect("connected");
        drop(link.doubt(&same));
        let second = link.get(|_| true, || dialer.works()).await.expect("connected");
        assert_eq!((*first.connection, *same.connection, *second.connection), (1, 1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_died_by_itself_is_replaced() {
        let (link, dialer) = (link(), Dialer::default());
        link.get(|_| true, || dialer.works()).await.expect("connected");
        let next = link.get(|number| *number > 1, || dialer.works()).await.expect("connected");
        assert_eq!(*next.connection, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_nobody_dials_again_at_once() {
        let (link, dialer) = (link(), Dialer::default());
        for _ in 0..100 {
            assert!(link.get(|_| true, || dialer.fails()).await.is_err());
        }
        assert_eq!(dialer.calls(), 1);
        tokio::time::sleep(FIRST_PAUSE).await;
        assert!(link.get(|_| true, || dialer.fails()).await.is_err());
        tokio::time::sleep(FIRST_PAUSE).await;
        assert!(link.get(|_| true, || dialer.fails()).await.is_err());
        assert_eq!(dialer.calls(), 2, "the pause doubles");
        tokio::time::sleep(LONGEST_PAUSE).await;
        assert!(link.get(|_| true, || dialer.works()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_alone_when_a_connection_ended_had_no_company_and_all_others_had() {
        let (link, dialer) = (link(), Dialer::default());
        let get = || link.get(|_| true, || dialer.works());
        let (alone, gone) = (get().await.expect("connected"), get().await.expect("connected"));
        drop(gone);
        assert!(!alone.had_company());
        link.give_up(&alone);
        let (first, second) = (get().await.expect("connected"), get().await.expect("connected"));
        assert!(first.had_company());
        drop(first);
        assert!(second.had_company(), "the last to see it was not alone");
    }

    #[tokio::test(start_paused = true)]
    async fn connecting_is_bounded_in_time() {
        let answer = link().get(|_| true, std::future::pending).await.map(|held| held.connection);
        let verdict = answer.expect_err("it never connects");
        assert_eq!((verdict.reason, verdict.ambiguous), (Reason::ConnectTimeout, false));
        assert_eq!(verdict.detail, "no connection to broker:1 within 5s");
    }
}
