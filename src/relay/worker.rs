//! A worker: one task that makes many attempts at once. Each attempt is bounded in time, and a panic or a timeout is a verdict
//! like any other.
//!
//! A task and a timer for each attempt would cost as much as a quick receiver does. All attempts of a handler have the same time,
//! so one timer per worker is enough: it is set for the oldest attempt, and attempts look at the clock only after it has fired.
//!
//! Attempts that begin at the same moment can leave in one exchange, if the kind takes groups (`largest_group`: `redis` up to 64,
//! `nats` and `rabbitmq` up to 32, `webhook` as configured). Each event of a group has its own verdict. The lanes know nothing of
//! groups, because the events of a group have different keys.
//!
//! A worker knows nothing of order: its caller never hands it two events of one key at the same time.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_util::future::Either;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use pin_project_lite::pin_project;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, Sleep, sleep_until};

use super::attempt::{Begun, Finished};
use crate::domain::{Notification, Reason, Verdict};
use crate::failpoints::failpoint;
use crate::handlers::Handler;

/// The means by which a worker makes the attempts of a handler.
pub struct Means {
    pub handler: Arc<dyn Handler>,
    /// Longest that an attempt may take.
    timeout: Duration,
    ended: UnboundedSender<Finished>,
    /// Some attempt has taken too long. Until then no attempt looks at the clock.
    is_any_late: AtomicBool,
}

impl Means {
    /// `ended`: where attempts go that have come to an end.
    pub fn new(handler: Arc<dyn Handler>, timeout: Duration, ended: UnboundedSender<Finished>) -> Self {
        Self { handler, timeout, ended, is_any_late: AtomicBool::new(false) }
    }
}

impl Means {
    /// `None`: it took too long.
    async fn in_time<T>(&self, attempt: impl Future<Output = T>, began: Instant) -> Option<T> {
        let mut attempt = pin!(attempt);
        poll_fn(|cx| match attempt.as_mut().poll(cx) {
            Poll::Pending if self.is_any_late.load(Ordering::Relaxed) && began.elapsed() >= self.timeout => Poll::Ready(None),
            answer => answer.map(Some),
        })
        .await
    }

    fn tell(&self, finished: Finished) {
        failpoint!("answer-received");
        // A loop that does not listen any more has given these attempts up.
        let _ = self.ended.send(finished);
    }
}

/// Makes the attempts that are begun, until the dispatch is dropped. Dropping the worker aborts those in flight.
pub async fn work(means: Arc<Means>, mut begun: UnboundedReceiver<Begun>) {
    let (largest_group, patience) = (means.handler.largest_group(), means.handler.gather_for());
    let mut attempts = FuturesUnordered::new();
    let (mut alarm, mut gathered) = (Alarm::default(), Alarm::default());
    let mut fresh = Vec::new();
    poll_fn(|cx| {
        loop {
            let room = largest_group - fresh.len();
            match begun.poll_recv_many(cx, &mut fresh, room) {
                Poll::Ready(0) => return Poll::Ready(()),
                Poll::Ready(_) if fresh.len() < largest_group && !patience.is_zero() => {
                    gathered.set(Instant::now() + patience);
                    continue;
                }
                Poll::Ready(_) => {}
                // Of those that wait for others, the first has waited long enough.
                Poll::Pending if !fresh.is_empty() && gathered.poll(cx).is_ready() => {}
                Poll::Pending => break,
            }
            gathered.unset();
            let began = Instant::now();
            let deadline = began + means.timeout;
            alarm.set(deadline);
            let attempt = match fresh.len() {
                1 => Either::Left(make(Arc::clone(&means), fresh.remove(0), began)),
                _ => Either::Right(make_all(Arc::clone(&means), std::mem::take(&mut fresh), began)),
            };
            attempts.push(InFlight { deadline, waker: None, attempt });
        }
        loop {
            while let Poll::Ready(Some(())) = attempts.poll_next_unpin(cx) {}
            ready!(alarm.poll(cx));
            means.is_any_late.store(true, Ordering::Relaxed);
            let now = Instant::now();
            let next = Pin::new(&mut attempts).iter_pin_mut().filter_map(|attempt| attempt.look_at_clock(now)).min();
            next.into_iter().for_each(|deadline| alarm.set(deadline));
        }
    })
    .await;
}

/// Makes an attempt and says what came of it.
async fn make(means: Arc<Means>, begun: Begun, began: Instant) {
    let attempt = caught(&*means.handler, &begun.queued.notification);
    let verdict = means.in_time(attempt, began).await.unwrap_or_else(|| too_late(means.timeout));
    means.tell(begun.ended(verdict, began.elapsed()));
}

/// Makes an attempt at each of them in one exchange with the receiver.
async fn make_all(means: Arc<Means>, group: Vec<Begun>, began: Instant) {
    let verdicts = {
        let notifications = group.iter().map(|begun| &*begun.queued.notification).collect();
        let attempt = AssertUnwindSafe(async { means.handler.deliver_all(notifications).await }).catch_unwind();
        match means.in_time(attempt, began).await {
            // It is unknown whose verdict is missing, and a guess could count an event as delivered that is not.
            Some(Ok(verdicts)) if verdicts.len() != group.len() => vec![miscounted(); group.len()],
            Some(Ok(verdicts)) => verdicts,
            Some(Err(panic)) => vec![panicked(&*panic); group.len()],
            None => vec![too_late(means.timeout); group.len()],
        }
    };
    let took = began.elapsed();
    group.into_iter().zip(verdicts).for_each(|(begun, verdict)| means.tell(begun.ended(verdict, took)));
}

/// A single attempt, bounded in time.
pub async fn attempt(handler: &dyn Handler, notification: &Notification, timeout: Duration) -> Verdict {
    tokio::time::timeout(timeout, caught(handler, notification)).await.unwrap_or_else(|_| too_late(timeout))
}

/// A panic is a verdict like any other.
pub fn caught<'a>(handler: &'a dyn Handler, notification: &'a Notification) -> impl Future<Output = Verdict> + use<'a> {
    let attempt = AssertUnwindSafe(async { handler.deliver(notification).await }).catch_unwind();
    attempt.map(|answer| answer.unwrap_or_else(|panic| panicked(&*panic)))
}

fn too_late(timeout: Duration) -> Verdict {
    Verdict::retry(Reason::Timeout, format!("no verdict within {timeout:?}")).ambiguous()
}

fn miscounted() -> Verdict {
    Verdict::handler_fault(Reason::Misconfigured, "the handler has not one verdict for each event").ambiguous()
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Verdict {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    Verdict::retry(Reason::Panicked, text.unwrap_or_else(|| "the handler panicked".to_owned())).ambiguous()
}

pin_project! {
    /// An attempt that can be made to look at the clock.
    struct InFlight<F> {
        deadline: Instant,
        waker: Option<Waker>,
        #[pin]
        attempt: F,
    }
}

impl<F> InFlight<F> {
    /// Wakes it if its time is over; otherwise says when it will be.
    fn look_at_clock(self: Pin<&mut Self>, now: Instant) -> Option<Instant> {
        let this = self.project();
        if *this.deadline > now {
            return Some(*this.deadline);
        }
        this.waker.iter().for_each(Waker::wake_by_ref);
        None
    }
}

impl<F: Future> Future for InFlight<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = this.attempt.poll(cx);
        if answer.is_pending() && !this.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *this.waker = Some(cx.waker().clone());
        }
        answer
    }
}

/// One timer for all: set for the first of them to be late, and then for the next.
#[derive(Default)]
struct Alarm {
    is_set: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// All attempts have the same time, so an attempt that begins later is not late before.
    fn set(&mut self, deadline: Instant) {
        if self.is_set {
            return;
        }
        self.is_set = true;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(deadline),
            None => self.timer = Some(Box::pin(sleep_until(deadline))),
        }
    }

    fn unset(&mut self) {
        self.is_set = false;
    }

    /// Ready once it has rung.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = self.timer.as_mut().filter(|_| self.is_set) else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        self.is_set = false;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::domain::{Circuit, CircuitPolicy, Origin, Outcome, Queued};

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// The payload of an event says how the handler treats it.
    struct Scripted {
        group: usize,
        wait: Duration,
    }

    impl Handler for Scripted {
        fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
            Box::pin(async move {
                match notification.payload.as_str() {
                    "panics" => panic!("on purpose"),
                    "hangs" => std::future::pending().await,
                    seconds => tokio::time::sleep(Duration::from_secs(seconds.parse().expect("seconds"))).await,
                }
                Verdict::delivered()
            })
        }

        fn largest_group(&self) -> usize {
            self.group
        }

        fn gather_for(&self) -> Duration {
            self.wait
        }

        fn deliver_all<'a>(&'a self, notifications: Vec<&'a Notification>) -> BoxFuture<'a, Vec<Verdict>> {
            Box::pin(async move {
                let mut verdicts = Vec::new();
                for notification in notifications.into_iter().filter(|notification| notification.payload != "forgotten") {
                    verdicts.push(self.deliver(notification).await);
                }
                verdicts
            })
        }
    }

    fn begun(payload: &str) -> Begun {
        let notification = Box::new(Notification::sample("order.placed", payload));
        let queued = Queued { notification, origin: Origin::Recorded, attempts: 0, age_micros: 0 };
        Begun { queued, admission: Circuit::new(CircuitPolicy::default()).admit(Duration::ZERO).expect("it is closed") }
    }

    fn start(group: usize, payloads: &[&str]) -> (UnboundedSender<Begun>, UnboundedReceiver<Finished>, JoinHandle<()>) {
        start_gathering(group, Duration::ZERO, payloads)
    }

    fn start_gathering(
        group: usize,
        wait: Duration,
        payloads: &[&str],
    ) -> (UnboundedSender<Begun>, UnboundedReceiver<Finished>, JoinHandle<()>) {
        let (begin, to_make) = unbounded_channel();
        let (tell, ended) = unbounded_channel();
        payloads.iter().for_each(|payload| begin.send(begun(payload)).expect("it listens"));
        let means = Arc::new(Means::new(Arc::new(Scripted { group, wait }), TIMEOUT, tell));
        (begin, ended, tokio::spawn(work(means, to_make)))
    }

    async fn told(ended: &mut UnboundedReceiver<Finished>, count: usize) -> Vec<(String, Outcome, Reason, u64)> {
        let mut told = Vec::new();
        for _ in 0..count {
            let Finished { queued, verdict, took, .. } = ended.recv().await.expect("it goes on");
            told.push((queued.notification.payload.clone(), verdict.outcome, verdict.reason, took.as_secs()));
        }
        told
    }

    #[tokio::test(start_paused = true)]
    async fn each_attempt_has_its_own_time_and_a_slow_one_holds_up_nobody() {
        let (begin, mut ended, _work) = start(1, &["hangs", "29", "1", "panics"]);
        let first = told(&mut ended, 2).await;
        assert_eq!(first[0], ("panics".to_owned(), Outcome::Retry, Reason::Panicked, 0));
        assert_eq!(first[1].0, "1");
        begin.send(begun("hangs")).expect("it listens");
        let rest = told(&mut ended, 3).await;
        assert_eq!((rest[0].0.as_str(), rest[0].1), ("29", Outcome::Delivered));
        let late = |took| ("hangs".to_owned(), Outcome::Retry, Reason::Timeout, took);
        assert_eq!(rest[1..], [late(30), late(30)], "the second began a second later and ends a second later");
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_is_not_full_waits_for_others_and_one_that_is_does_not() {
        let began = Instant::now();
        let (begin, mut ended, _work) = start_gathering(3, Duration::from_secs(5), &["0", "0"]);
        tokio::time::sleep(Duration::from_secs(4)).await;
        begin.send(begun("0")).expect("it listens");
        told(&mut ended, 3).await;
        assert_eq!(began.elapsed().as_secs(), 4, "it is full");
        begin.send(begun("0")).expect("it listens");
        tokio::time::sleep(Duration::from_secs(2)).await;
        begin.send(begun("0")).expect("it listens");
        told(&mut ended, 2).await;
        assert_eq!(began.elapsed().as_secs(), 4 + 5, "the first has waited long enough, and takes the second with it");
        for _ in 0..4 {
            begin.send(begun("0")).expect("it listens");
        }
        told(&mut ended, 3).await;
        assert_eq!(began.elapsed().as_secs(), 9);
        told(&mut ended, 1).await;
        assert_eq!(began.elapsed().as_secs(), 9 + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_is_too_late_was_made_perhaps() {
        let (_begin, mut ended, _work) = start(1, &["hangs"]);
        assert!(ended.recv().await.expect("it ends").verdict.ambiguous);
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_has_one_end_and_each_of_it_a_verdict() {
        let (_begin, mut ended, _work) = start(3, &["1", "2", "3", "forgotten", "4", "5"]);
        let told = told(&mut ended, 6).await;
        assert!(told[..3].iter().all(|told| (told.1, told.3) == (Outcome::Delivered, 6)), "{told:?}");
        assert!(told[3..].iter().all(|told| told.1 == Outcome::HandlerFault), "nobody knows whose verdict is missing: {told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_and_a_hang_are_the_verdict_of_a_whole_group() {
        for (what, reason) in [("panics", Reason::Panicked), ("hangs", Reason::Timeout)] {
            let (_begin, mut ended, _work) = start(2, &["0", what]);
            assert!(told(&mut ended, 2).await.iter().all(|told| told.2 == reason), "{what}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_nobody_can_begin_any_more() {
        let (begin, _ended, work) = start(1, &["hangs"]);
        drop(begin);
        work.await.expect("it ends without a panic");
    }
}
