//! What readiness says of what the loops reported.

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

#[test]
fn what_rests_is_no_stall_while_somebody_looks_for_it_and_one_as_soon_as_nobody_does() {
    let health = Health::new(STALL);
    let names = ["billing/0", "search/0"];
    health.owns(names);
    let start = Instant::now();
    let at = |second: u64| start + Duration::from_secs(second);
    let stuck = |second| health.progress(at(second)).into_iter().map(|one| one.failing.is_some()).collect::<Vec<_>>();
    assert!(!health.watched(at(20)), "nobody rests, so nobody has to look");
    health.rests("billing/0", true);
    assert!(health.watched(at(25)));
    assert_eq!(stuck(50), [false, true], "the one that does not rest has to read by itself");
    assert_eq!(stuck(56), [true, true], "nobody has looked for too long");
    health.rests("billing/0", false);
    assert!(!health.watched(at(60)), "nobody rests any more");
    assert_eq!(stuck(60), [true, true]);
}
