//! Whose fault it is, by what was seen beside and after it.

use proptest::prelude::*;

use super::*;

const CONCURRENCY: usize = 4;

fn of(seq: i64, kind: &str) -> Notification {
    Notification { seq, key: Some(format!("k{seq}")), ..Notification::sample(kind, "{}") }
}

fn suspects() -> Suspects<i64> {
    Suspects::new(Duration::from_secs(30))
}

fn span(began: Tick, ended: Tick) -> Span {
    Span { began, ended, segment: None }
}

fn accuse(suspects: &mut Suspects<i64>, seq: i64, (began, ended): (Tick, Tick)) {
    suspects.accuse(seq, &of(seq, "a"), span(began, ended), Duration::ZERO);
}

#[test]
fn a_success_that_began_after_the_fault_contradicts_it() {
    let mut suspects = suspects();
    accuse(&mut suspects, 1, (1, 3));
    assert_eq!(suspects.succeeded(span(2, 4)), Vec::<i64>::new(), "it was in flight when the fault came");
    assert_eq!(suspects.succeeded(span(5, 6)), [1]);
    assert!(suspects.is_empty());
}

#[test]
fn one_beside_it_contradicts_it_when_nothing_more_can_be_learned() {
    let mut suspects = suspects();
    accuse(&mut suspects, 1, (2, 3));
    suspects.succeeded(span(1, 4));
    assert_eq!(suspects.judge(CONCURRENCY, true, GRACE), Judgement::Undecided);
    assert_eq!(suspects.judge(CONCURRENCY, false, GRACE / 2), Judgement::Undecided, "others may still come");
    assert_eq!(suspects.judge(CONCURRENCY, false, GRACE), Judgement::EventsAtFault(vec![1]));
}

/// Seen: with a rate of a few attempts a minute the circuit opened over one event, although others that would have spoken for the handler
/// only waited for their turn.
#[test]
fn time_in_which_no_other_may_be_tried_does_not_speak_against_the_handler() {
    let mut suspects = suspects();
    accuse(&mut suspects, 1, (1, 2));
    let late = GRACE * LONGEST * 9;
    suspects.put_off(late);
    assert_eq!(suspects.judge(CONCURRENCY, true, late + GRACE), Judgement::Undecided);
    assert_eq!(suspects.succeeded(span(3, 4)), [1]);
}

/// At the slowest rates an outage would otherwise be reported after hours.
#[test]
fn a_few_faults_without_a_success_are_judged_although_others_wait_for_the_rate() {
    let mut suspects = suspects();
    let late = GRACE * LONGEST;
    for (seq, tick) in [(1, 1), (2, 3), (3, 5), (4, 7)] {
        accuse(&mut suspects, seq, (tick, tick + 1));
        suspects.put_off(late);
        assert_eq!(suspects.judge(CONCURRENCY, true, late + GRACE), Judgement::Undecided, "{seq}");
    }
    accuse(&mut suspects, 5, (9, 10));
    suspects.put_off(late + GRACE);
    assert_eq!(suspects.judge(CONCURRENCY, true, late + late), Judgement::HandlerAtFault(vec![1, 2, 3, 4, 5]));
}

/// The second fault of an event that is known for it must not speak against the handler, only because another one is being judged.
#[test]
fn one_that_is_known_for_its_faults_does_not_speak_against_the_handler() {
    let mut suspects = suspects();
    accuse(&mut suspects, 2, (4, 5));
    suspects.prove(&of(1, "a"));
    suspects.succeeded(span(3, 6));
    accuse(&mut suspects, 1, (8, 9));
    assert_eq!(suspects.judge(CONCURRENCY, false, GRACE), Judgement::EventsAtFault(vec![2, 1]));

    suspects.prove(&of(1, "a"));
    accuse(&mut suspects, 3, (10, 11));
    accuse(&mut suspects, 1, (12, 13));
    assert_eq!(suspects.judge(CONCURRENCY, false, GRACE), Judgement::HandlerAtFault(vec![3, 1]), "in an outage nothing is spent");
}

#[test]
fn one_that_had_ended_before_says_nothing() {
    let mut suspects = suspects();
    suspects.succeeded(span(1, 2));
    accuse(&mut suspects, 1, (3, 4));
    assert_eq!(suspects.judge(CONCURRENCY, false, GRACE), Judgement::HandlerAtFault(vec![1]));
}

#[test]
fn enough_faults_without_a_success_are_the_handlers() {
    let mut suspects = suspects();
    for seq in 1..=(CONCURRENCY + ENOUGH) as i64 {
        assert_eq!(suspects.judge(CONCURRENCY, true, Duration::ZERO), Judgement::Undecided);
        accuse(&mut suspects, seq, (1, 2));
    }
    assert!(matches!(suspects.judge(CONCURRENCY, true, Duration::ZERO), Judgement::HandlerAtFault(all) if all.len() == 20));
    assert!(!suspects.may_ask_at_once(), "everybody was asked");
}

#[test]
fn others_that_never_end_do_not_hold_it_for_ever() {
    let mut suspects = suspects();
    accuse(&mut suspects, 1, (1, 2));
    assert_eq!(suspects.judge(CONCURRENCY, true, GRACE * LONGEST), Judgement::HandlerAtFault(vec![1]));
}

#[test]
fn another_type_tells_more_than_another_key_and_both_more_than_the_same() {
    let mut suspects = suspects();
    accuse(&mut suspects, 1, (1, 2));
    assert_eq!([of(2, "b"), of(2, "a"), of(1, "b")].map(|event| suspects.rank(&event)), [0, 1, 2]);
}

#[test]
fn what_the_circuit_was_judged_by_is_at_fault_after_a_probe_has_succeeded() {
    let mut suspects = suspects();
    accuse(&mut suspects, 1, (1, 2));
    suspects.judge(CONCURRENCY, false, GRACE);
    suspects.convict(&of(1, "a"));
    assert!(suspects.is_only_witness(1) && suspects.may_ask_at_once() && !suspects.is_proven(&of(1, "a")));
    suspects.acquitted_handler();
    assert!(suspects.is_proven(&of(1, "a")) && suspects.is_fresh(&of(2, "a")));
    accuse(&mut suspects, 2, (5, 6));
    assert!(!suspects.is_proven(&of(1, "a")), "somebody else has failed: the handler may be down");
}

#[test]
fn one_that_was_read_together_with_it_contradicts_it_as_well() {
    let mut progress = crate::domain::Progress::new(crate::domain::Record::All);
    let ids = [0, 1].map(|_| Some(progress.push(crate::domain::Position::beginning(), 1)));
    for (segment, want) in [(ids[0], Judgement::EventsAtFault(vec![1])), (ids[1], Judgement::HandlerAtFault(vec![1]))] {
        let mut suspects = suspects();
        suspects.succeeded(Span { segment: ids[0], ..span(1, 2) });
        suspects.accuse(1, &of(1, "a"), Span { segment, ..span(3, 4) }, Duration::ZERO);
        assert_eq!(suspects.judge(CONCURRENCY, false, GRACE), want);
    }
}

#[test]
fn a_type_is_known_for_its_faults_until_one_of_it_is_taken() {
    let mut suspects = suspects();
    (1..=PROVES_TYPE as i64).for_each(|seq| suspects.prove(&of(seq, "a")));
    assert!(suspects.is_proven(&of(9, "a")) && !suspects.is_proven(&of(9, "b")));
    suspects.taken(&of(8, "a"));
    assert!(!suspects.is_proven(&of(9, "a")));
}

proptest! {
    /// Whatever happens in whatever order: nobody is called guilty without a success that ended after its attempt began, and
    /// no judgement is due for ever.
    #[test]
    fn nobody_is_at_fault_without_a_witness(steps in prop::collection::vec((0u8..4, 0u64..6), 1..60)) {
        let mut suspects = suspects();
        let (mut tick, mut now, mut last_success, mut began) = (0, Duration::ZERO, 0, std::collections::HashMap::new());
        for (step, length) in steps {
            let start = tick + 1;
            tick += 1 + length;
            let at_fault = match step {
                0 | 1 => {
                    began.insert(tick.cast_signed(), start);
                    suspects.accuse(tick.cast_signed(), &of(tick.cast_signed(), "a"), span(start, tick), now);
                    Vec::new()
                }
                2 => {
                    last_success = tick;
                    suspects.succeeded(span(start.saturating_sub(length), tick))
                }
                _ => {
                    now += Duration::from_millis(400);
                    match suspects.judge(CONCURRENCY, length > 3, now) {
                        Judgement::EventsAtFault(events) => events,
                        _ => Vec::new(),
                    }
                }
            };
            for event in at_fault {
                prop_assert!(last_success > began[&event], "{event}");
            }
        }
        let held = !suspects.is_empty();
        let judged = suspects.judge(CONCURRENCY, true, now + GRACE * LONGEST);
        prop_assert_eq!(held, judged != Judgement::Undecided);
    }
}
