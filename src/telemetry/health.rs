//! Whether the relay does its work: told by the loops, asked by `/readyz`.
//! Readiness is judged from what was last reported, so that a loop that hangs without an error turns it red, too.
//! Never acts on what it knows.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::progress::{Failing, Failure, Progress, is_stuck};

/// The answer to "is it ready?".
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    pub ready: bool,
    /// Why not, for people; empty if ready.
    pub reasons: Vec<String>,
}

/// What the loops have reported. Shared; every method takes a short lock and never waits for anything else.
#[derive(Debug)]
pub struct Health {
    stall_after: Duration,
    state: Mutex<State>,
}

/// How one subscription gets on.
#[derive(Debug, Clone)]
pub struct Report {
    pub name: String,
    /// Since the last read and the last flush that succeeded; `None`: none has since this instance took it over.
    pub read: Option<Duration>,
    pub flushed: Option<Duration>,
    /// What keeps it from going on, one bad moment included.
    pub failing: Option<Failing>,
}

#[derive(Debug, Clone, Default)]
struct State {
    database: Database,
    lease_round: Option<Instant>,
    /// Subscriptions owned since the last lease round, and what the loop of each has told.
    owned: BTreeMap<String, Progress>,
    /// Subscriptions that this instance serves and that somebody has deleted.
    vanished: Vec<String>,
    refused: Option<String>,
    /// Since when the relay is refused.
    refused_since: Option<Instant>,
    stopping: bool,
    /// What can hide committed events from the relay.
    blind_spots: Vec<String>,
}

#[derive(Debug, Clone, Default)]
enum Database {
    #[default]
    Untried,
    Reached,
    Failed {
        text: String,
        since: Instant,
    },
}

impl Health {
    /// `stall_after`: how long a loop may be silent. Must be longer than a lease round and than an idle poll.
    pub fn new(stall_after: Duration) -> Self {
        Self { stall_after, state: Mutex::default() }
    }

    /// A lease round succeeded and these are all subscriptions that this instance owns now, by name.
    /// One that is new has until `stall_after` for its first read; one that is missing is forgotten.
    pub fn owns<S: AsRef<str>>(&self, subscriptions: impl IntoIterator<Item = S>) {
        let now = Instant::now();
        let mut state = self.state();
        let heard = |name: S| {
            let name = name.as_ref();
            (name.to_owned(), state.owned.get(name).cloned().unwrap_or_else(|| Progress::new(now)))
        };
        let owned = subscriptions.into_iter().map(heard).collect();
        state.owned = owned;
        state.lease_round = Some(now);
        state.database = Database::Reached;
    }

    /// A read of this subscription succeeded, with events or without.
    pub fn read_ok(&self, subscription: &str) {
        let mut state = self.state();
        state.database = Database::Reached;
        change(&mut state, subscription, |progress| progress.read(Instant::now()));
    }

    /// The loop of this subscription lives and does not read on purpose: its handler is paused, its circuit is open, or it
    /// has as much in hand as it may hold. To be repeated while that lasts.
    pub fn held(&self, subscription: &str) {
        change(&mut self.state(), subscription, |progress| progress.read(Instant::now()));
    }

    /// The loop of this subscription rests: it has nothing to record, and somebody else looks at the log for it. To be repeated while that lasts.
    pub fn rests(&self, subscription: &str) {
        let now = Instant::now();
        change(&mut self.state(), subscription, |progress| {
            progress.read(now);
            progress.flushed(true, now);
        });
    }

    /// A flush of this subscription succeeded. `is_proof`: it wrote outcomes, or there were none to write.
    pub fn flushed(&self, subscription: &str, is_proof: bool) {
        change(&mut self.state(), subscription, |progress| progress.flushed(is_proof, Instant::now()));
    }

    /// The loop of this subscription ended with an error; it will be started again.
    pub fn failed(&self, subscription: &str, failure: Failure) {
        change(&mut self.state(), subscription, |progress| progress.failed(failure, Instant::now()));
    }

    /// Subscriptions that this instance serves and that are not in the database any more; none: all are there.
    pub fn vanished(&self, subscriptions: Vec<String>) {
        self.state().vanished = subscriptions;
    }

    /// How every subscription that this instance owns gets on.
    pub fn progress(&self, now: Instant) -> Vec<Report> {
        let report = |(name, progress): (&String, &Progress)| {
            let (read, flushed) = progress.successes(now);
            Report { name: name.clone(), read, flushed, failing: progress.failing(self.stall_after, now) }
        };
        self.state().owned.iter().map(report).collect()
    }

    /// The database could not be reached. Holds until the next success; `text` must be free of secrets.
    pub fn database_failed(&self, text: impl Into<String>) {
        let mut state = self.state();
        let since = match &state.database {
            Database::Failed { since, .. } => *since,
            Database::Untried | Database::Reached => Instant::now(),
        };
        state.database = Database::Failed { text: text.into(), since };
    }

    /// The relay will not work against this database: a standby, another incarnation. Holds until `accepted`.
    pub fn refused(&self, reason: impl Into<String>) {
        let mut state = self.state();
        state.refused = Some(reason.into());
        state.refused_since.get_or_insert_with(Instant::now);
    }

    /// The cause of `refused` is gone.
    pub fn accepted(&self) {
        let mut state = self.state();
        (state.refused, state.refused_since) = (None, None);
    }

    /// What can hide committed events from the relay, all of it; whether that is news.
    pub fn blinded(&self, blind_spots: Vec<String>) -> bool {
        let mut state = self.state();
        let is_news = state.blind_spots != blind_spots;
        state.blind_spots = blind_spots;
        is_news
    }

    /// The relay has begun to stop; there is no way back.
    pub fn stopping(&self) {
        self.state().stopping = true;
    }

    /// For how long the database has been of no use, and why; `None`: it is.
    pub fn database_trouble(&self, now: Instant) -> Option<(Duration, String)> {
        let state = self.state();
        let refused = state.refused.clone().zip(state.refused_since).map(|(text, since)| (since, text));
        let failed = match &state.database {
            Database::Failed { text, since } => Some((*since, text.clone())),
            Database::Untried | Database::Reached => None,
        };
        let (since, text) = [refused, failed].into_iter().flatten().min_by_key(|(since, _)| *since)?;
        Some((now.saturating_duration_since(since), text))
    }

    /// Whether this server is one that the relay will not work against.
    pub fn is_refused(&self) -> bool {
        self.state().refused.is_some()
    }

    pub fn report(&self, now: Instant) -> HealthReport {
        evaluate(&self.state(), self.stall_after, now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment, so a panic elsewhere cannot have left it half made.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A loop that has just lost its lease may still report; that must not make its subscription ours again.
fn change(state: &mut State, subscription: &str, change: impl FnOnce(&mut Progress)) {
    if let Some(progress) = state.owned.get_mut(subscription) {
        change(progress);
    }
}

fn evaluate(state: &State, stall_after: Duration, now: Instant) -> HealthReport {
    let mut reasons = Vec::new();
    if state.stopping {
        reasons.push("the relay is stopping".to_owned());
    }
    reasons.extend(state.refused.as_ref().map(|reason| format!("refused to relay: {reason}")));
    reasons.extend(database_trouble(&state.database));
    reasons.extend(state.blind_spots.iter().map(|spot| format!("events may be passed over: {spot}")));
    reasons.extend(stalls(state, stall_after, now));
    HealthReport { ready: reasons.is_empty(), reasons }
}

fn database_trouble(database: &Database) -> Option<String> {
    match database {
        Database::Reached => None,
        Database::Untried => Some("the database has not been reached yet".to_owned()),
        Database::Failed { text, .. } => Some(format!("database: {text}")),
    }
}

fn stalls(state: &State, stall_after: Duration, now: Instant) -> Vec<String> {
    let silence = |heard: Instant| {
        let silent = now.saturating_duration_since(heard);
        (silent > stall_after).then(|| format!("for {} s", silent.as_secs()))
    };
    let round = match state.lease_round {
        None => Some("no lease round has succeeded yet".to_owned()),
        Some(at) => silence(at).map(|long| format!("no lease round has succeeded {long}")),
    };
    let loops = state.owned.iter().filter_map(|(name, progress)| {
        let failing = progress.failing(stall_after, now)?;
        let lasted = now.saturating_duration_since(failing.since);
        let is_told = is_stuck(failing.failures, lasted);
        is_told.then(|| format!("subscription {name} is stuck for {} s: {}", lasted.as_secs(), failing.failure.text))
    });
    let gone = state.vanished.iter().map(|name| format!("subscription {name} is gone from the database: its row was deleted"));
    round.into_iter().chain(gone).chain(loops).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    fn heard(at: Instant) -> Progress {
        let mut progress = Progress::new(at);
        progress.read(at);
        progress.flushed(true, at);
        progress
    }

    #[test]
    fn readiness_follows_from_what_was_reported() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let healthy = State {
            database: Database::Reached,
            lease_round: Some(at(100)),
            owned: BTreeMap::from([("billing/0".to_owned(), heard(at(100))), ("search/0".to_owned(), heard(at(90)))]),
            ..State::default()
        };
        let table: [(&str, State, u64, &[&str]); 11] = [
            ("healthy", healthy.clone(), 110, &[]),
            ("exactly at the bound", healthy.clone(), 120, &[]),
            (
                "one loop hangs",
                healthy.clone(),
                121,
                &["subscription search/0 is stuck for 31 s: the log has not been read for 31 s, and no error has been reported"],
            ),
            (
                "a subscription was deleted",
                State { vanished: vec!["billing/0".to_owned()], ..healthy.clone() },
                110,
                &["subscription billing/0 is gone from the database: its row was deleted"],
            ),
            (
                "everything hangs",
                healthy.clone(),
                140,
                &[
                    "no lease round has succeeded for 40 s",
                    "subscription billing/0 is stuck for 40 s: the log has not been read for 40 s, and no error has been reported",
                    "subscription search/0 is stuck for 50 s: the log has not been read for 50 s, and no error has been reported",
                ],
            ),
            ("others own all", State { owned: BTreeMap::new(), ..healthy.clone() }, 130, &[]),
            (
                "others own all and the round hangs",
                State { owned: BTreeMap::new(), ..healthy.clone() },
                131,
                &["no lease round has succeeded for 31 s"],
            ),
            (
                "the database is away",
                State { database: Database::Failed { text: "connection refused".into(), since: start }, ..healthy.clone() },
                110,
                &["database: connection refused"],
            ),
            (
                "a standby",
                State { refused: Some("the server is in recovery".into()), ..healthy.clone() },
                110,
                &["refused to relay: the server is in recovery"],
            ),
            ("stopping", State { stopping: true, ..healthy }, 110, &["the relay is stopping"]),
            ("just started", State::default(), 0, &["the database has not been reached yet", "no lease round has succeeded yet"]),
        ];
        for (name, state, second, reasons) in table {
            let report = evaluate(&state, STALL, at(second));
            assert_eq!(report.reasons, reasons, "{name}");
            assert_eq!(report.ready, reasons.is_empty(), "{name}");
        }
    }

    fn ready(health: &Health, later: Duration) -> bool {
        health.report(Instant::now() + later).ready
    }

    #[test]
    fn a_relay_is_ready_once_it_owns_and_until_it_stops() {
        let health = Health::new(STALL);
        assert!(!ready(&health, Duration::ZERO));
        health.owns(["billing/0"]);
        assert!(ready(&health, Duration::ZERO));
        health.stopping();
        assert!(!ready(&health, Duration::ZERO));
    }

    #[test]
    fn the_next_success_clears_a_failure_of_the_database() {
        let health = Health::new(STALL);
        health.owns(["billing/0"]);
        health.database_failed("connection reset");
        assert!(!ready(&health, Duration::ZERO));
        health.read_ok("billing/0");
        assert!(ready(&health, Duration::ZERO));
    }

    #[test]
    fn trouble_is_counted_from_its_beginning_and_ends_with_the_next_success() {
        let health = Health::new(STALL);
        health.owns(["billing/0"]);
        assert_eq!(health.database_trouble(Instant::now()), None);
        health.database_failed("connection reset");
        let first = Instant::now();
        health.database_failed("connection refused");
        let (lasted, text) = health.database_trouble(first + STALL).expect("it cannot be used");
        assert!(lasted >= STALL && text == "connection refused", "{lasted:?} {text}");
        health.read_ok("billing/0");
        assert_eq!(health.database_trouble(Instant::now()), None);
        health.refused("the server is a standby");
        assert!(health.database_trouble(Instant::now()).is_some() && health.is_refused());
        health.accepted();
        assert_eq!(health.database_trouble(Instant::now()), None);
        let failing = |later| health.progress(Instant::now() + later).iter().filter(|report| report.failing.is_some()).count();
        assert_eq!((failing(Duration::ZERO), failing(STALL * 2)), (0, 1));
    }

    #[test]
    fn a_loop_that_keeps_failing_turns_readiness_red_with_its_error() {
        let health = Health::new(STALL);
        health.owns(["billing/0"]);
        let failure = || Failure {
            operation: crate::telemetry::DatabaseOperation::Flush,
            sqlstate: Some("54000".to_owned()),
            event: None,
            text: "could not record outcomes".to_owned(),
        };
        health.failed("billing/0", failure());
        assert!(ready(&health, Duration::ZERO), "one failure is a bad moment");
        health.failed("billing/0", failure());
        health.failed("billing/0", failure());
        let report = health.report(Instant::now());
        assert_eq!(report.reasons, ["subscription billing/0 is stuck for 0 s: could not record outcomes"]);
        health.read_ok("billing/0");
        health.flushed("billing/0", true);
        assert!(ready(&health, Duration::from_secs(3)));
    }

    #[test]
    fn a_refusal_outlives_reads_and_ends_by_acceptance() {
        let health = Health::new(STALL);
        health.owns(["billing/0"]);
        health.refused("the server is in recovery");
        health.read_ok("billing/0");
        assert!(!ready(&health, Duration::ZERO));
        health.accepted();
        assert!(ready(&health, Duration::ZERO));
    }

    #[test]
    fn a_lease_round_neither_excuses_a_silent_loop_nor_keeps_what_was_lost() {
        let (health, late) = (Health::new(STALL), Instant::now() + STALL);
        health.owns(["billing/0", "search/0"]);
        health.read_ok("billing/0");
        let heard = |name: &str| health.state().owned.get(name).map(|progress| progress.successes(late).0);
        let first = heard("billing/0");
        health.owns(["billing/0"]);
        assert_eq!(heard("billing/0"), first);
        assert_eq!(heard("search/0"), None);
        health.read_ok("search/0");
        assert_eq!(heard("search/0"), None, "a late report does not bring it back");
        health.held("billing/0");
        assert!(heard("billing/0") <= first && first.flatten().is_some());
    }
}
