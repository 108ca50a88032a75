//! Health: whether the relay does its work. The loops report, and `/readyz` reads. Readiness depends on the time of the last reports, so
//! a loop that hangs without an error also turns it red. Never acts on its knowledge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::progress::{Failing, Failure, Progress, is_stuck};

/// The answer to "is it ready?".
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    pub ready: bool,
    /// Why not, for display; empty if ready.
    pub reasons: Vec<String>,
}

/// What the loops have reported. Shared; every method takes a short lock and never waits for anything else.
#[derive(Debug)]
pub struct Health {
    stall_after: Duration,
    state: Mutex<State>,
}

/// The progress of one subscription.
#[derive(Debug, Clone)]
pub struct Report {
    pub name: String,
    /// Since the last read and the last flush that succeeded; `None`: none has since this instance took it over.
    pub read: Option<Duration>,
    pub flushed: Option<Duration>,
    /// The error that prevents progress, also if it happened only once.
    pub failing: Option<Failing>,
}

#[derive(Debug, Clone, Default)]
struct State {
    database: Database,
    lease_round: Option<Instant>,
    /// Subscriptions owned since the last lease round, and the reports of the loop of each.
    owned: BTreeMap<String, Progress>,
    /// Owned or not: subscriptions whose loop has nothing to do.
    resting: BTreeSet<String>,
    /// Subscriptions that this instance serves and that were deleted from the database.
    vanished: Vec<String>,
    refused: Option<String>,
    /// Since when the relay is refused.
    refused_since: Option<Instant>,
    stopping: bool,
    /// Conditions that can hide committed events from the relay.
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

    /// Whether the loop of this subscription rests: it has nothing to record, and the tail reads the log for it.
    pub fn rests(&self, subscription: &str, rests: bool) {
        let mut state = self.state();
        match rests {
            true => drop(state.resting.insert(subscription.to_owned())),
            false => drop(state.resting.remove(subscription)),
        }
    }

    /// The tail has just read the log for all resting loops. `false`: no loop rests.
    pub fn watched(&self, now: Instant) -> bool {
        let State { owned, resting, .. } = &mut *self.state();
        for (_, progress) in owned.iter_mut().filter(|(name, _)| resting.contains(*name)) {
            progress.read(now);
            progress.flushed(true, now);
        }
        !resting.is_empty()
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

    /// The progress of every subscription that this instance owns.
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

    /// Sets all conditions that can hide committed events from the relay; returns whether they have changed.
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
mod tests;
