//! The observer: measures what each subscription has left to do, and stores how each gets on. One task for the whole relay. No
//! loop waits for it and none fails with it; a measurement that fails is logged and made again, and meanwhile the age that the
//! gauge shows goes on growing.
//!
//! A *look* is a statement that measures and changes nothing: for gauges, for `status`, for alerts. The cost of a look is
//! bounded:
//!
//! - In time: a look uses the pool `aside`, and no statement works or waits for longer than two seconds (`store::progress`). Each
//!   subscription is measured every five seconds, at rest every minute.
//! - In rows: a look reads at most 10,000 events per arm and 100,000 recorded deliveries per state. Beyond that a count is "at
//!   least".
//! - In plan: looks run with one plan for any arguments (`bound_statement.sql`), because that is the plan whose rows
//!   `tests/it/rows_read.rs` counts, on a log of a million events, with statistics and without. `read_backlog.sql` reads recorded
//!   deliveries as a range of one subscription in the order of its index. With `subscription = $1` the planner may choose an
//!   index over all handlers, and then the look costs what other handlers have parked.
//! - A time in a condition is a scalar subquery, `due_at <= (select clock_timestamp())`, because Postgres searches no index for a
//!   volatile function.
//!
//! Ages count from the commit. `occurred_at` is whatever the application says, so the observer stores a *moment* every ten
//! seconds: the time and the snapshot. The SQL function `committed_at()` bounds `occurred_at` by the last moment that does not
//! see the event and the first one that does. `outboxd_end_to_end_seconds` is the exception: it counts from `occurred_at`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::wake_up::WakeUp;
use super::{Figure, HandlerShared, Measure, unix_time};
use crate::store::progress::{self, AnsweredRow, FailingRow, ProgressRow};
use crate::store::{self, StoreError, subscriptions};
use crate::telemetry::{Backlog, DatabaseOperation, Health, RelayMetrics, Report, chain, is_stuck};

/// How often everything is looked at. A loop that fails is looked at at once.
const INTERVAL: Duration = Duration::from_secs(5);
/// One that rests is measured again after this, and stored again after that: others look whether anything happens.
const REST_INTERVAL: Duration = Duration::from_secs(60);
const REST_STORE: Duration = Duration::from_secs(25);
/// Not more often than this, however often loops fail.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// How often it is noted which transactions are finished: the precision of ages.
const MOMENT_INTERVAL: Duration = Duration::from_secs(10);

/// A subscription that this relay serves, as the supervisor knows it.
#[derive(Clone)]
pub(super) struct Served {
    pub subscription: i32,
    pub name: String,
    pub handler: Arc<HandlerShared>,
    pub partition: u16,
    pub is_owned: bool,
}

impl Served {
    fn is_same(&self, other: &Self) -> bool {
        self.subscription == other.subscription && Arc::ptr_eq(&self.handler, &other.handler)
    }
}

/// Whether two lists say the same.
pub(super) fn is_same(one: &[Served], other: &[Served]) -> bool {
    let same = |(one, other): (&Served, &Served)| one.is_same(other) && one.is_owned == other.is_owned;
    one.len() == other.len() && one.iter().zip(other).all(same)
}

/// The observer and its inputs.
pub(super) struct Observer {
    pub pool: PgPool,
    pub instance: String,
    pub health: Arc<Health>,
    pub metrics: RelayMetrics,
    pub served: watch::Receiver<Vec<Served>>,
    /// A loop has failed: store it now.
    pub wake: Arc<Notify>,
    pub wake_up: Arc<WakeUp>,
    /// Longest that an answer is waited for; `None`: for ever.
    pub patience: Option<Duration>,
}

/// The last measurement of one subscription.
struct Look {
    at: Instant,
    oldest: f64,
    /// As [`HandlerShared::rest`] returned before it.
    rest: Option<u64>,
    /// When its progress was stored, and whether as one at rest.
    stored: (Instant, bool),
    dead: u64,
}

impl Look {
    /// Whether what was seen holds: the loop has rested since before that look, and was not stirred.
    fn holds(&self, rest: Option<u64>, since: Instant, bound: Duration) -> bool {
        rest.is_some() && self.rest == rest && since.elapsed() < bound
    }
}

/// Looks until `stop`.
pub(super) async fn serve(mut observer: Observer, stop: CancellationToken) {
    let (mut looks, mut shown, mut is_failing) = (HashMap::new(), Vec::new(), false);
    loop {
        let served = observer.served.borrow_and_update().clone();
        forget_gone(&shown, &served, &mut looks);
        shown.clone_from(&served);
        tokio::select! {
            failed = observer.round(&served, &mut looks) => {
                if let Some(error) = &failed {
                    observer.metrics.database_error(DatabaseOperation::Observe);
                    match is_failing {
                        false => warn!(error = %chain(error), "could not measure or store how the handlers get on, trying again"),
                        true => debug!(error = %chain(error), "could not measure or store how the handlers get on"),
                    }
                }
                is_failing = failed.is_some();
            }
            () = stop.cancelled() => return,
        }
        let pause = async {
            tokio::time::sleep(SHORTEST_PAUSE).await;
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = observer.wake.notified() => {}
                changed = observer.served.changed() => if changed.is_err() { std::future::pending::<()>().await },
            }
        };
        tokio::select! {
            () = pause => {}
            () = stop.cancelled() => return,
        }
    }
}

/// A subscription that this instance does not own has no figures here.
fn forget_gone(before: &[Served], now: &[Served], looks: &mut HashMap<i32, Look>) {
    let is_kept = |old: &&Served| now.iter().any(|new| new.is_owned && new.is_same(old));
    for gone in before.iter().filter(|old| old.is_owned && !is_kept(old)) {
        gone.handler.show(gone.partition, |figure| {
            // The figures of its loop go when the loop ends.
            let Figure { circuit, is_paused, concurrency, held_until, rests, stirs, backlog: Backlog { in_flight, .. }, .. } =
                *figure;
            let (held_reason, answered) = (std::mem::take(&mut figure.held_reason), figure.answered.take());
            let backlog = Backlog { in_flight, ..Backlog::default() };
            *figure = Figure {
                backlog,
                circuit,
                is_paused,
                concurrency,
                held_until,
                held_reason,
                answered,
                rests,
                stirs,
                ..Figure::default()
            };
        });
        looks.remove(&gone.subscription);
    }
}

impl Observer {
    /// One look at everything. Each part is tried even where another has failed; the first failure is given back.
    async fn round(&self, served: &[Served], looks: &mut HashMap<i32, Look>) -> Option<StoreError> {
        let now = Instant::now();
        let reports: HashMap<String, Report> =
            self.health.progress(now).into_iter().map(|report| (report.name.clone(), report)).collect();
        // From memory first: it must be reported even when the database does not answer.
        for one in served.iter().filter(|one| one.is_owned) {
            show_progress(one, reports.get(&one.name), looks.get(&one.subscription), now);
        }
        let found = self.find_vanished(served).await;
        let mut failures = Vec::new();
        let vanished = found.unwrap_or_else(|error| {
            failures.push(error);
            Vec::new()
        });
        let is_failing = |one: &Served| reports.get(&one.name).is_some_and(|report| report.failing.is_some());
        let is_news = |one: &&Served| {
            let look = looks.get(&one.subscription).filter(|_| !is_failing(one) && !vanished.contains(&one.name));
            let rest = one.handler.rest(one.partition);
            !look.is_some_and(|look| look.stored.1 && look.holds(rest, look.stored.0, REST_STORE))
        };
        let dead = |one: &Served| {
            let look = looks.get(&one.subscription)?;
            let holds = look.holds(one.handler.rest(one.partition), look.at, REST_INTERVAL * 2);
            (holds && look.oldest <= 0.0).then_some(look.dead)
        };
        let rows = served.iter().filter(|one| one.is_owned || vanished.contains(&one.name)).filter(is_news);
        let rows: Vec<ProgressRow> = rows
            .filter_map(|one| Some(ProgressRow { dead_at_rest: dead(one), ..row(one, reports.get(&one.name), &vanished, now)? }))
            .collect();
        let stored = self.bounded(progress::record_progress(&self.pool, &self.instance, &rows)).await;
        if stored.is_ok() {
            for row in &rows {
                if let Some(look) = looks.get_mut(&row.subscription) {
                    look.stored = (now, row.dead_at_rest.is_some());
                }
            }
        }
        let noted = self.bounded(progress::record_moment(&self.pool, MOMENT_INTERVAL)).await;
        failures.extend([stored.err(), noted.err()].into_iter().flatten());
        // The loops whose deliveries end a replay may rest by now.
        failures.extend(self.bounded(store::finish_replays(&self.pool)).await.err());
        // Operators change rows without the loop: a resting loop with a row to attempt is stirred.
        let resting: Vec<i32> = served
            .iter()
            .filter(|one| one.is_owned && one.handler.rest(one.partition).is_some())
            .map(|one| one.subscription)
            .collect();
        let parked = self.bounded(progress::find_parked(&self.pool, &resting)).await.unwrap_or_else(|error| {
            failures.push(error);
            Vec::new()
        });
        for one in served.iter().filter(|one| parked.contains(&one.subscription)) {
            one.handler.stir(one.partition);
        }
        for one in served.iter().filter(|one| one.is_owned && !vanished.contains(&one.name)) {
            let (rest, look) = (one.handler.rest(one.partition), looks.get(&one.subscription));
            if look.is_some_and(|look| look.holds(rest, look.at, REST_INTERVAL)) {
                continue;
            }
            let stored = look.map_or((now, false), |look| look.stored);
            match self.measure(one).await {
                Ok((oldest, dead)) => {
                    looks.insert(one.subscription, Look { at: Instant::now(), oldest, rest, stored, dead });
                }
                Err(error) => failures.push(error),
            }
            show_progress(one, reports.get(&one.name), looks.get(&one.subscription), Instant::now());
        }
        if !parked.is_empty() {
            // With what was just measured their loops know that they have something to do.
            self.wake_up.stir();
        }
        failures.into_iter().next()
    }

    /// Subscriptions that we serve and that were deleted. Their loops cannot know: to them the lease is lost.
    async fn find_vanished(&self, served: &[Served]) -> Result<Vec<String>, StoreError> {
        let ids: Vec<i32> = served.iter().map(|one| one.subscription).collect();
        let existing = self.bounded(progress::find_existing(&self.pool, &ids)).await?;
        let gone = served.iter().filter(|one| !existing.contains(&one.subscription));
        let names: Vec<String> = gone.map(|one| one.name.clone()).collect();
        self.health.vanished(names.clone());
        Ok(names)
    }

    /// Measures one subscription, and gives the age of its oldest unfinished event in seconds, and the number of its dead letters.
    async fn measure(&self, one: &Served) -> Result<(f64, u64), StoreError> {
        let began = Instant::now();
        let selection = &one.handler.selections[usize::from(one.partition)];
        let most_parked = one.handler.config.max_parked;
        let measured = self.bounded(subscriptions::read_backlog(&self.pool, one.subscription, selection, most_parked)).await?;
        let oldest = measured.oldest.unwrap_or_default().as_secs_f64();
        one.handler.show(one.partition, |figure| {
            figure.backlog = Backlog {
                ready: measured.unread,
                retrying: measured.retrying,
                waiting: measured.waiting,
                in_flight: figure.backlog.in_flight,
                dead: measured.dead,
                oldest_seconds: oldest,
            };
            figure.measure = Some(Measure { began, unfinished: measured.retrying + measured.waiting, dead: measured.dead });
        });
        Ok((oldest, measured.dead))
    }

    async fn bounded<T>(&self, look: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        store::answered(self.patience, look, |silent| silent).await
    }
}

/// The metrics of a subscription that may be stuck: an age that could not be measured goes on growing.
fn show_progress(one: &Served, report: Option<&Report>, look: Option<&Look>, now: Instant) {
    let failing = report.and_then(|report| report.failing.as_ref());
    let stuck = failing.map(|failing| (failing, now.saturating_duration_since(failing.since)));
    let stuck = stuck.filter(|(failing, lasted)| is_stuck(failing.failures, *lasted));
    let measured = look.filter(|look| look.oldest > 0.0).map(|look| look.oldest + (now - look.at).as_secs_f64());
    let at_least = stuck.map(|(_, lasted)| lasted.as_secs_f64());
    let unix = |since: Option<Duration>| since.map(|since| unix_time().saturating_sub(since).as_secs_f64());
    one.handler.show(one.partition, |figure| {
        figure.is_owned = true;
        figure.is_stuck = stuck.is_some();
        figure.last_read = report.and_then(|report| unix(report.read)).or(figure.last_read);
        figure.last_flush = report.and_then(|report| unix(report.flushed)).or(figure.last_flush);
        figure.backlog.oldest_seconds = [measured, at_least].into_iter().flatten().fold(0.0, f64::max);
    });
}

fn row(one: &Served, report: Option<&Report>, vanished: &[String], now: Instant) -> Option<ProgressRow> {
    let since = |moment: Instant| now.saturating_duration_since(moment);
    let gone = vanished.contains(&one.name).then(|| FailingRow {
        since: Duration::ZERO,
        last: Duration::ZERO,
        failures: 0,
        operation: DatabaseOperation::Lease.as_str(),
        sqlstate: None,
        error: "its subscription was deleted".to_owned(),
        event: None,
    });
    let failing = report.and_then(|report| report.failing.as_ref()).map(|failing| FailingRow {
        since: since(failing.since),
        last: since(failing.last),
        failures: failing.failures,
        operation: failing.failure.operation.as_str(),
        sqlstate: failing.failure.sqlstate.clone(),
        error: failing.failure.text.clone(),
        event: failing.failure.event,
    });
    // Of what was just taken over, nothing is known yet.
    if report.is_none() && gone.is_none() {
        return None;
    }
    let (held_until, reason) = one.handler.holds(one.partition);
    let left = held_until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero());
    let answered = one.handler.last_answer(one.partition).map(|answer| AnsweredRow {
        since: since(answer.at),
        event: answer.event,
        reason: answer.reason.as_str(),
        status: answer.status,
        detail: answer.detail,
    });
    Some(ProgressRow {
        subscription: one.subscription,
        name: one.name.clone(),
        read: report.and_then(|report| report.read),
        flushed: report.and_then(|report| report.flushed),
        failing: gone.or(failing),
        waiting: left.map(|left| (left, reason)),
        answered,
        dead_at_rest: None,
    })
}
