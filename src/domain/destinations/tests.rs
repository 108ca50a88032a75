//! Whose events wait, which is the probe, and when it is given up.

use proptest::prelude::*;

use super::*;
use crate::domain::Backoff;

fn destinations(on_bad: OnBadDestination) -> Destinations {
    let seconds = Duration::from_secs;
    let backoff = Backoff::exponential(seconds(5), 2.0, seconds(60), 0.0).expect("valid");
    let retry = RetryPolicy { backoff, max_attempts: 3, max_age: None };
    Destinations::new(DestinationPolicy { retry, on_bad, max_probe: seconds(600) })
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn unroutable() -> Verdict {
    Verdict::handler_fault(Reason::Unroutable, "no stream").of_destination()
}

fn full() -> Verdict {
    Verdict::back_pressure(Reason::Nacked, None, "full").of_destination()
}

#[test]
fn its_events_wait_one_probe_goes_out_and_others_flow() {
    let mut all = destinations(OnBadDestination::ByReason);
    assert_eq!(all.failed("a", 1, &unroutable(), at(0), 0.5), Sentence::Wait { wait: at(5), is_news: true });
    assert_eq!(all.access("a", 2, at(1)), Access::Wait(at(4)));
    assert_eq!(all.access("b", 3, at(1)), Access::Go);
    assert_eq!(all.access("a", 2, at(5)), Access::Go, "it is the probe");
    assert!(matches!(all.access("a", 1, at(5)), Access::Wait(_)), "one at a time");
    assert!(!all.succeeded("a", 9, false), "a success that was in flight ends no trouble");
    assert!(all.succeeded("a", 2, false));
    assert_eq!(all.access("a", 1, at(6)), Access::Go);
}

#[test]
fn an_unknown_one_is_given_up_after_its_probes_and_then_each_event_is_tried_once() {
    let mut all = destinations(OnBadDestination::ByReason);
    all.failed("a", 1, &unroutable(), at(0), 0.5);
    all.succeeded("b", 7, false);
    assert_eq!(all.access("a", 1, at(5)), Access::Go);
    assert_eq!(all.failed("a", 1, &unroutable(), at(5), 0.5), Sentence::Wait { wait: at(10), is_news: false });
    assert_eq!(all.access("a", 1, at(15)), Access::Go);
    assert_eq!(all.failed("a", 1, &unroutable(), at(15), 0.5), Sentence::Bury);
    assert_eq!(all.access("a", 2, at(15)), Access::Go);
    assert_eq!(all.failed("a", 2, &unroutable(), at(15), 0.5), Sentence::Bury);
}

#[test]
fn an_unknown_one_is_not_given_up_while_nobody_else_is_served() {
    let mut all = destinations(OnBadDestination::DeadLetter);
    let mut now = at(0);
    for _ in 0..20 {
        let sentence = all.failed("a", 1, &unroutable(), now, 0.5);
        let Sentence::Wait { wait, .. } = sentence else { panic!("{sentence:?}") };
        now += wait;
        assert_eq!(all.access("a", 1, now), Access::Go);
    }
}

#[test]
fn a_full_one_is_held_for_as_long_as_it_is_full() {
    let mut all = destinations(OnBadDestination::ByReason);
    let (mut now, mut waits) = (at(0), Vec::new());
    for _ in 0..12 {
        let Sentence::Wait { wait, .. } = all.failed("a", 1, &full(), now, 0.5) else { panic!("it is held") };
        waits.push(wait.as_secs());
        now += wait;
        assert_eq!(all.access("a", 1, now), Access::Go);
    }
    assert_eq!(waits[..4], [1, 2, 4, 8]);
    assert_eq!(waits[11], 600);
}

#[test]
fn when_many_fail_and_none_succeeds_it_is_the_handlers_trouble() {
    let mut all = destinations(OnBadDestination::ByReason);
    all.failed("a", 1, &unroutable(), at(0), 0.5);
    all.failed("b", 2, &unroutable(), at(0), 0.5);
    assert!(!all.is_everywhere(4, true, at(9)), "others are under way");
    assert!(!all.is_everywhere(4, false, at(0)), "others may still come");
    assert!(all.is_everywhere(4, false, at(1)));
    all.failed("c", 3, &unroutable(), at(0), 0.5);
    all.succeeded("d", 4, false);
    assert!(!all.is_everywhere(4, false, at(9)));
    for n in 0..20 {
        all.failed(&n.to_string(), n, &unroutable(), at(0), 0.5);
    }
    assert!(all.is_everywhere(4, true, at(0)));
    all.failed("7", 7, &unroutable(), at(9), 0.5);
    assert!(!all.is_everywhere(4, false, at(99)), "it was in trouble before");
}

#[test]
fn a_name_can_be_stored_and_no_two_long_ones_are_one() {
    assert_eq!(Destinations::name("orders.eu"), "orders.eu");
    let (a, b) = (Destinations::name(&"ä".repeat(4_000)), Destinations::name(&"ä".repeat(4_001)));
    assert!(a != b && a.len() <= LONGEST_NAME && !Destinations::name("\0").contains('\0'));
}

proptest! {
    /// Whatever happens in whatever order, at most one event of a destination in trouble is under way, and their number is bounded.
    #[test]
    fn one_probe_at_a_time(steps in prop::collection::vec((0u8..3, 0i64..6, 0u8..4), 1..200)) {
        let mut all = destinations(OnBadDestination::ByReason);
        let (mut now, mut flying) = (Duration::ZERO, std::collections::BTreeMap::<String, i64>::new());
        for (name, seq, step) in steps {
            let name = name.to_string();
            now += at(4);
            let is_flying = flying.get(&name) == Some(&seq);
            match step {
                0 if all.trouble(&name).is_some() => {
                    if all.access(&name, seq, now) == Access::Go {
                        prop_assert!(flying.get(&name).is_none_or(|probe| *probe == seq), "one probe at a time");
                        flying.insert(name, seq);
                    }
                }
                1 if is_flying => {
                    prop_assert!(all.succeeded(&name, seq, false));
                    flying.remove(&name);
                }
                2 if is_flying => {
                    all.failed(&name, seq, &unroutable(), now, 0.5);
                    flying.remove(&name);
                }
                _ => _ = all.failed(&name, 100 + seq, &unroutable(), now, 0.5),
            }
            prop_assert!(all.len() <= 3);
        }
    }
}
