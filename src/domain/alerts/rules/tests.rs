//! The rules as lives: look after look, what an alert is then; and what holds whatever is measured.

use proptest::prelude::*;

use super::super::tests::{at, policy};
use super::*;

const MINUTE: u64 = 60;

fn dead(count: u64) -> Observation {
    Observation::new("billing", Measure::DeadLetters, count)
}

fn old(seconds: u64) -> Observation {
    Observation::new("billing", Measure::BacklogAge(Some(Duration::from_secs(seconds))), 1)
}

/// Status, severity and revision after each look, at its second.
fn life(looks: &[(u64, Observation)]) -> Vec<String> {
    let mut alert = None;
    let look = |(second, seen): &(u64, Observation)| {
        alert = step(alert.take(), seen, &policy(), at(*second));
        let told = |alert: &Alert| format!("{} {} {}", alert.status, alert.severity, alert.revision);
        alert.as_ref().map_or_else(|| "-".to_owned(), told)
    };
    looks.iter().map(look).collect()
}

#[test]
fn dead_letters_fire_at_once_grow_by_the_factor_and_resolve_at_zero() {
    let looks = [(0, 0), (1, 3), (2, 29), (3, 30), (4, 299), (5, 1_000), (6, 1), (7, 0), (8, 0), (9, 1)];
    assert_eq!(
        life(&looks.map(|(second, count)| (second, dead(count)))),
        [
            "-",
            "firing critical 1",
            "firing critical 1",
            "firing critical 2",
            "firing critical 2",
            "firing critical 3",
            "firing critical 3",
            "resolved critical 4",
            "resolved critical 4",
            "firing critical 5",
        ]
    );
}

#[test]
fn a_client_that_is_behind_is_told_at_its_age_and_over_at_half_of_it_and_never_without_one() {
    let lag = |seconds: Option<u64>| Observation::cursor_lag(("acme", "main"), 3, seconds.map(Duration::from_secs));
    let looks =
        [(0, None), (1, Some(86_399)), (2, Some(86_400)), (3, Some(43_200)), (4, Some(43_199)), (5, Some(86_400)), (6, None)];
    assert_eq!(
        life(&looks.map(|(second, age)| (second, lag(age)))),
        ["-", "-", "firing warning 1", "firing warning 1", "resolved warning 2", "firing warning 3", "resolved warning 4"]
    );
    let never = AlertPolicy { cursor_lag: Duration::ZERO, ..policy() };
    assert_eq!(step(None, &lag(Some(u64::MAX / 2_000_000)), &never, at(0)), None);
}

#[test]
fn dead_letters_that_stay_are_news_every_day() {
    let day = 86_400;
    let looks = [(0, 5), (day - 1, 5), (day, 5), (day + 1, 5), (2 * day, 5)];
    let revisions: Vec<_> = life(&looks.map(|(second, count)| (second, dead(count))));
    assert_eq!(
        revisions,
        ["firing critical 1", "firing critical 1", "firing critical 2", "firing critical 2", "firing critical 3"]
    );
}

#[test]
fn without_an_interval_dead_letters_that_stay_are_no_news() {
    let never = AlertPolicy { dead_letters_again: Duration::ZERO, ..policy() };
    let fired = step(None, &dead(1), &never, at(0)).expect("it fires");
    assert_eq!(step(Some(fired), &dead(1), &never, at(86_400 * 9)).map(|alert| alert.revision), Some(1));
}

#[test]
fn a_backlog_must_be_old_for_a_while_and_young_for_a_while() {
    let looks = [
        (0, old(300)),
        (119, old(400)),
        (120, old(401)),
        (200, old(1_799)),
        (201, old(1_800)),
        (300, old(300)), // worse stays worse
        (310, old(299)),
        (320, old(150)), // between the two thresholds
        (330, old(149)),
        (400, old(150)), // back between them: it was not over
        (410, old(100)),
        (529, old(0)),
        (530, old(0)),
    ];
    assert_eq!(
        life(&looks),
        [
            "pending warning 0",
            "pending warning 0",
            "firing warning 1",
            "firing warning 1",
            "firing critical 2",
            "firing critical 2",
            "firing critical 2",
            "firing critical 2",
            "firing critical 2",
            "firing critical 2",
            "firing critical 2",
            "firing critical 2",
            "resolved critical 3",
        ]
    );
    assert_eq!(life(&[(0, old(300)), (60, old(200)), (61, old(300)), (179, old(300))]).last().unwrap(), "pending warning 0");
}

#[test]
fn what_lasts_fires_when_it_has_lasted_and_resolves_when_it_is_over() {
    let open = |seconds: Option<u64>, is_fault| Measure::CircuitOpen { open: seconds.map(Duration::from_secs), is_fault };
    let lasting = |seconds: u64| Some(Duration::from_secs(seconds));
    let table = [
        (open(Some(299), false), "-"),
        (open(Some(300), false), "firing warning 1"),
        (open(Some(0), true), "firing warning 1"),
        (open(None, false), "-"),
        (Measure::Paused(lasting(4 * 3600 - 1)), "-"),
        (Measure::Paused(lasting(4 * 3600)), "firing info 1"),
        (Measure::Stuck(lasting(59)), "-"),
        (Measure::Stuck(lasting(60)), "firing critical 1"),
        (Measure::NotPolling(lasting(59)), "-"),
        (Measure::NotPolling(lasting(60)), "firing critical 1"),
        (Measure::Database(lasting(59)), "-"),
        (Measure::Database(lasting(60)), "firing critical 1"),
        (Measure::Database(None), "-"),
    ];
    for (measure, want) in table {
        assert_eq!(life(&[(0, Observation::new("x", measure.clone(), 1))]), [want], "{measure:?}");
    }
    // An open circuit that is probed again stays what it is until it closes.
    let looks = [open(Some(300), false), open(Some(1), false), open(None, false)];
    let looks = looks.map(|measure| (1, Observation::new("x", measure, 1)));
    assert_eq!(life(&looks), ["firing warning 1", "firing warning 1", "resolved warning 2"]);
}

#[test]
fn a_channel_fails_after_several_failures_and_recovers_with_the_next_success() {
    let failed = |count| (0, Observation::new("slack", Measure::ChannelFailed, count));
    assert_eq!(
        life(&[failed(1), failed(2), failed(5), failed(1), failed(0)]),
        ["-", "-", "firing warning 1", "firing warning 1", "resolved warning 2"]
    );
}

#[test]
fn what_is_gone_is_over() {
    for kind in AlertKind::ALL {
        let alert = Alert { kind: *kind, ..super::super::tests::alert() };
        let gone = Observation::gone(&alert);
        assert_eq!((gone.kind(), gone.key()), (*kind, alert.key()));
        let first = step(Some(alert), &gone, &policy(), at(200));
        let last = step(first, &gone, &policy(), at(320)).expect("it is remembered");
        assert_eq!(last.status, AlertStatus::Resolved, "{kind}");
    }
}

#[test]
fn a_refused_configuration_is_told_until_one_is_taken() {
    let refused = Observation::config_reload(Some("handlers.x: unknown key".to_owned()));
    let fired = step(None, &refused, &policy(), at(0)).expect("it fires");
    assert_eq!((fired.key().as_str(), fired.detail.as_deref()), ("config_reload_failed", Some("handlers.x: unknown key")));
    let over = step(Some(fired), &Observation::config_reload(None), &policy(), at(1)).expect("it is remembered");
    assert_eq!(over.status, AlertStatus::Resolved);
}

#[test]
fn what_was_acknowledged_stays_so_until_it_grows_worse() {
    let fired = step(None, &dead(1), &policy(), at(0)).expect("it fires");
    let known = Alert { status: AlertStatus::Acknowledged, acknowledged_by: Some("ann".to_owned()), ..fired };
    let same = step(Some(known.clone()), &dead(9), &policy(), at(86_400 * 2)).expect("it lasts");
    assert_eq!((same.status, same.revision), (AlertStatus::Acknowledged, known.revision));
    let worse = step(Some(same), &dead(10), &policy(), at(86_400 * 2)).expect("it lasts");
    assert_eq!((worse.status, worse.acknowledged_by, worse.revision), (AlertStatus::Firing, None, known.revision + 1));
}

#[test]
fn since_when_is_told_by_the_measure_if_it_knows() {
    let paused = Observation::new("x", Measure::Paused(Some(Duration::from_secs(5 * 3600))), 0);
    let fired = step(None, &paused, &policy(), at(100_000)).expect("it fires");
    assert_eq!(fired.started_at, at(100_000 - 5 * 3600));
    assert_eq!(step(None, &dead(1), &policy(), at(7)).map(|alert| alert.started_at), Some(at(7)));
}

fn looks() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
    proptest::collection::vec((0u64..200, 0u64..50, 0u64..2_500), 1..60)
}

proptest! {
    /// Whatever is measured: a revision never falls, it moves by one, and only together with the moment of the change.
    #[test]
    fn a_change_is_told_once(looks in looks()) {
        let (mut second, mut dead_one, mut old_one) = (0, None::<Alert>, None::<Alert>);
        for (pause, count, age) in looks {
            second += pause;
            for (alert, seen) in [(&mut dead_one, dead(count)), (&mut old_one, old(age))] {
                let before = alert.clone();
                *alert = step(alert.take(), &seen, &policy(), at(second));
                let (was, is) = (before.as_ref().map_or(0, |a| a.revision), alert.as_ref().map_or(0, |a| a.revision));
                prop_assert!(is == was || is == was + 1);
                if is == was + 1 {
                    prop_assert_eq!(alert.as_ref().map(|a| a.changed_at), Some(at(second)));
                }
                let active = |a: &Option<Alert>| a.as_ref().is_some_and(|a| a.status.is_active());
                prop_assert!(active(&before) == active(alert) || is == was + 1, "it began or ended untold");
            }
            prop_assert_eq!(dead_one.as_ref().is_some_and(|a| a.status.is_active()), count > 0);
        }
    }

    /// A backlog that never stays old for long enough calls nobody.
    #[test]
    fn a_flapping_backlog_is_silent(flaps in proptest::collection::vec(1u64..119, 1..50)) {
        let (mut second, mut alert) = (0, None);
        for held in flaps {
            alert = step(alert, &old(400), &policy(), at(second));
            second += held;
            alert = step(alert, &old(400), &policy(), at(second));
            second += 1;
            alert = step(alert, &old(3 * MINUTE), &policy(), at(second));
            prop_assert!(alert.is_none());
            second += 1;
        }
    }
}
