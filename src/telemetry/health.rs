//! Whether the relay does its work: told by the loops, asked by `/readyz`.
//! Readiness is judged from what was last reported, so that a loop that hangs without an error turns it red, too.
//! Never acts on what it knows.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

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

#[derive(Debug, Clone, Default)]
struct State {
    database: Database,
    lease_round: Option<Instant>,
    /// Subscriptions owned since the last lease round, and when the loop of each was last heard of.
    owned: BTreeMap<String, Instant>,
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
            (name.to_owned(), state.owned.get(name).copied().unwrap_or(now))
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
        heard_of(&mut state, subscription);
    }

    /// The loop of this subscription lives and does not read on purpose: its handler is paused, its circuit is open, or it
    /// has as much in hand as it may hold. To be repeated while that lasts.
    pub fn held(&self, subscription: &str) {
        heard_of(&mut self.state(), subscription);
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

    /// Which of our subscriptions have not been read for longer than they may, and for how long.
    pub fn silent_subscriptions(&self, now: Instant) -> Vec<(String, Duration)> {
        let state = self.state();
        let silence = |(name, heard): (&String, &Instant)| (name.clone(), now.saturating_duration_since(*heard));
        state.owned.iter().map(silence).filter(|(_, silence)| *silence > self.stall_after).collect()
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
fn heard_of(state: &mut State, subscription: &str) {
    if let Some(heard) = state.owned.get_mut(subscription) {
        *heard = Instant::now();
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
    let loops =
        state.owned.iter().filter_map(|(name, heard)| Some(format!("subscription {name} has not been read {}", silence(*heard)?)));
    round.into_iter().chain(loops).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    #[test]
    fn readiness_follows_from_what_was_reported() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let healthy = State {
            database: Database::Reached,
            lease_round: Some(at(100)),
            owned: BTreeMap::from([("billing/0".to_owned(), at(100)), ("search/0".to_owned(), at(90))]),
            ..State::default()
        };
        let table: [(&str, State, u64, &[&str]); 10] = [
            ("healthy", healthy.clone(), 110, &[]),
            ("exactly at the bound", healthy.clone(), 120, &[]),
            ("one loop hangs", healthy.clone(), 121, &["subscription search/0 has not been read for 31 s"]),
            (
                "everything hangs",
                healthy.clone(),
                140,
                &[
                    "no lease round has succeeded for 40 s",
                    "subscription billing/0 has not been read for 40 s",
                    "subscription search/0 has not been read for 50 s",
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
        assert_eq!(health.silent_subscriptions(Instant::now()), []);
        assert_eq!(health.silent_subscriptions(Instant::now() + STALL * 2).len(), 1);
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
        let health = Health::new(STALL);
        let long_ago = Instant::now();
        health.owns(["billing/0", "search/0"]);
        let heard = |name: &str| health.state().owned.get(name).copied();
        let first = heard("billing/0");
        health.owns(["billing/0"]);
        assert_eq!(heard("billing/0"), first);
        assert_eq!(heard("search/0"), None);
        health.read_ok("search/0");
        assert_eq!(heard("search/0"), None, "a late report does not bring it back");
        health.held("billing/0");
        assert!(heard("billing/0") >= first && first >= Some(long_ago));
    }
}
