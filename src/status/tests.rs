//! The judgement, as tables.

use super::*;
use crate::domain::Timestamp;
use crate::store::ReloadReport;
use crate::store::status::{OpenCircuit, Paused, WaitingUntil};

fn relay(silent: u64) -> RelayStats {
    let at = Timestamp::from_micros(0);
    let (id, host, version) = ("r1".to_owned(), "h".to_owned(), "1".to_owned());
    RelayStats {
        id,
        host,
        pid: 1,
        version,
        started_at: at,
        seen_at: at,
        silent: Duration::from_secs(silent),
        reloaded_at: None,
        reload: None,
    }
}

fn handler(change: impl FnOnce(&mut HandlerStats)) -> HandlerStats {
    let mut handler = HandlerStats {
        handler: "billing".to_owned(),
        kind: "webhook".to_owned(),
        partitions: 1,
        pending: 0,
        pending_is_exact: true,
        retrying: 0,
        waiting: 0,
        dead: 0,
        oldest_unfinished: None,
        last_failure: None,
        paused: None,
        destinations: 0,
        oldest_destination: None,
        circuit: None,
        owners: vec!["r1".to_owned()],
        unowned: None,
        deliveries_are_exact: true,
        uncounted: None,
        owned: 1,
        live_owners: vec!["r1".to_owned()],
        open_circuits: 0,
        dead_at_rest: None,
        follows: false,
        last_read_at: None,
        last_flush_at: None,
        unrecorded: Some(Duration::from_secs(5)),
        failing: None,
        waiting_until: None,
    };
    change(&mut handler);
    handler
}

fn unowned(handler: &mut HandlerStats, seconds: u64) {
    handler.unowned = Some(Duration::from_secs(seconds));
}

fn pause(handler: &mut HandlerStats) {
    handler.paused =
        Some(Paused { since: Timestamp::from_micros(0), by: Some("ann".to_owned()), reason: Some("moving".to_owned()) });
}

fn fail(handler: &mut HandlerStats, failures: u64, seconds: u64) {
    handler.failing = Some(Failing {
        since: Timestamp::from_micros(0),
        lasted: Duration::from_secs(seconds),
        last_at: None,
        failures,
        operation: "flush".to_owned(),
        sqlstate: Some("54000".to_owned()),
        error: "could not record outcomes: index row size exceeds maximum".to_owned(),
        event: Some(uuid::Uuid::nil()),
    });
}

fn wait(handler: &mut HandlerStats, seconds: u64) {
    let (until, reason) = (Timestamp::from_micros(0), Some("throttled (429)".to_owned()));
    handler.waiting_until = Some(WaitingUntil { until, left: Duration::from_secs(seconds), reason });
}

fn open_circuit(handler: &mut HandlerStats) {
    let (state, reason) = ("half_open".to_owned(), Some("unauthorized".to_owned()));
    handler.circuit = Some(OpenCircuit { state, since: None, reason, probe_in: None, only_witness: None });
}

#[test]
fn the_worst_complaint_decides() {
    use HandlerState as State;
    use Level::{Critical, Ok, Warning};
    let lag = |seconds| move |handler: &mut HandlerStats| handler.oldest_unfinished = Some(Duration::from_secs(seconds));
    type Case = (&'static str, HandlerStats, u64, State, Level, Vec<&'static str>);
    let table: Vec<Case> = vec![
        ("all is well", handler(|_| ()), 1, State::Ok, Ok, vec![]),
        ("busy, not behind", handler(|h| h.pending = 9_000), 1, State::Ok, Ok, vec![]),
        ("retrying is normal", handler(|h| h.retrying = 3), 1, State::Ok, Ok, vec![]),
        ("changing hands", handler(|h| unowned(h, 60)), 1, State::NoOwner, Ok, vec![]),
        (
            "abandoned",
            handler(|h| unowned(h, 61)),
            1,
            State::NoOwner,
            Critical,
            vec!["no relay has owned it for 1m 1s -> outboxd check"],
        ),
        (
            "paused and unowned is a person's will",
            handler(|h| {
                unowned(h, 600);
                pause(h);
            }),
            1,
            State::Paused,
            Warning,
            vec!["paused by ann since 1970-01-01T00:00:00.000000Z: moving -> outboxd handlers resume billing"],
        ),
        ("no relay", handler(|_| ()), 61, State::Ok, Critical, vec!["no relay is running: nothing is delivered -> outboxd run"]),
        (
            "no relay, and dead letters: the worst comes first",
            handler(|h| {
                h.dead = 1;
                unowned(h, 100);
            }),
            100,
            State::NoOwner,
            Critical,
            vec![
                "no relay is running: nothing is delivered -> outboxd run",
                "no relay has owned it for 1m 40s -> outboxd run",
                "1 dead letter -> outboxd dead-letters list --handler billing",
            ],
        ),
        (
            "dead letters",
            handler(|h| h.dead = 2),
            1,
            State::Ok,
            Warning,
            vec!["2 dead letters -> outboxd dead-letters list --handler billing"],
        ),
        (
            "circuit open",
            handler(open_circuit),
            1,
            State::CircuitOpen,
            Warning,
            vec!["its circuit is open: unauthorized -> outboxd handlers test billing"],
        ),
        ("one bad moment", handler(|h| fail(h, 2, 9)), 1, State::Ok, Ok, vec![]),
        (
            "failing again and again",
            handler(|h| fail(h, 3, 9)),
            1,
            State::Stuck,
            Critical,
            vec![
                "failing since 1970-01-01T00:00:00.000000Z, for 9s, at the flush: could not record outcomes: index row size exceeds \
                 maximum (SQLSTATE 54000, event 00000000-0000-0000-0000-000000000000) -> outboxd doctor",
            ],
        ),
        (
            "nothing is recorded and nobody says why",
            handler(|h| h.unrecorded = Some(Duration::from_secs(61))),
            1,
            State::Stuck,
            Critical,
            vec!["its owner has recorded nothing for 1m 1s, not even its position -> outboxd doctor"],
        ),
        ("throttled for a moment", handler(|h| wait(h, 29)), 1, State::Waiting, Ok, vec![]),
        (
            "asked to wait for an hour",
            handler(|h| wait(h, 3600)),
            1,
            State::Waiting,
            Warning,
            vec![
                "waits until 1970-01-01T00:00:00.000000Z because its receiver asked for it: throttled (429) -> outboxd handlers \
                 test billing",
            ],
        ),
        ("five minutes are no lag yet", handler(lag(300)), 1, State::Ok, Ok, vec![]),
        (
            "lagging",
            handler(lag(301)),
            1,
            State::Lagging,
            Warning,
            vec!["its oldest unfinished event is 5m 1s old -> outboxd status --watch"],
        ),
    ];
    for (name, handler, silent, state, level, reasons) in table {
        assert_eq!(handler_state(&handler), state, "{name}");
        let verdict = judge(&Stats { handlers: vec![handler], relays: vec![relay(silent)], vanished: vec![] });
        let told: Vec<_> = verdict.reasons.iter().map(|reason| format!("{} -> {}", reason.text, reason.command)).collect();
        assert_eq!((verdict.level, told), (level, reasons.into_iter().map(str::to_owned).collect()), "{name}");
    }
}

#[test]
fn a_relay_that_refused_its_new_configuration_is_a_warning_while_it_lives() {
    let refused = |silent| RelayStats {
        reload: Some(ReloadReport::refused(vec!["a.url: got 7".to_owned(), "b: unknown key".to_owned()])),
        ..relay(silent)
    };
    let judged = |relays| judge(&Stats { handlers: vec![], relays, vanished: vec![] });
    let told = judged(vec![refused(1)]);
    assert_eq!(
        (told.level, told.reasons[0].text.as_str()),
        (Level::Warning, "relay h/1 keeps its old configuration: a.url: got 7 (and 1 more)")
    );
    assert_eq!(judged(vec![relay(1), refused(61)]).level, Level::Ok, "the dead have no configuration");
}

#[test]
fn a_subscription_that_vanished_and_a_log_that_cannot_be_counted_are_critical() {
    let judged = |handlers, vanished| judge(&Stats { handlers, relays: vec![relay(1)], vanished });
    assert_eq!(judged(vec![], vec!["billing".to_owned()]).level, Level::Critical);
    let told = judged(vec![handler(|h| h.uncounted = Some("lock timeout".to_owned()))], vec![]);
    assert_eq!(told.level, Level::Critical);
    assert!(told.reasons[0].text.ends_with("could not be counted: lock timeout"), "{told:?}");
}

#[test]
fn an_outbox_without_relays_is_critical_even_without_handlers() {
    assert_eq!(judge(&Stats { handlers: vec![], relays: vec![], vanished: vec![] }).level, Level::Critical);
    assert_eq!(judge(&Stats { handlers: vec![], relays: vec![relay(5)], vanished: vec![] }).level, Level::Ok);
    assert_eq!(StatusVerdict::unreachable("nobody answers".to_owned()).level, Level::Critical);
}
