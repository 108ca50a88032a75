//! When the circuit opens, how it probes, and what proves nothing.

use super::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn circuit() -> Circuit {
    Circuit::new(CircuitPolicy::default())
}

/// The end of an attempt that began just now.
fn fail(circuit: &mut Circuit, reason: Reason, now: Duration) {
    let admission = circuit.admit(now).expect("admitted");
    circuit.failed(admission, reason, now);
}

fn answer(circuit: &mut Circuit, now: Duration) {
    let admission = circuit.admit(now).expect("admitted");
    circuit.answered(admission, now);
}

fn open(circuit: &mut Circuit, reason: Reason, now: Duration) {
    let admission = circuit.admit(now).expect("admitted");
    circuit.fault(admission, reason, now);
}

#[test]
fn a_fault_opens_at_once_and_one_probe_goes_out() {
    let mut circuit = circuit();
    open(&mut circuit, Reason::Unauthorized, at(0));
    assert_eq!(circuit.state(), CircuitState::Open);
    assert!(circuit.admit(at(29)).is_none());
    let probe = circuit.admit(at(30)).expect("the first probe");
    assert!(circuit.admit(at(31)).is_none(), "one probe at a time");
    circuit.answered(probe, at(31));
    assert!(circuit.is_closed());
}

#[test]
fn failed_probes_double_the_wait_up_to_the_bound() {
    let mut circuit = circuit();
    open(&mut circuit, Reason::Tls, at(0));
    let (mut now, mut waits) = (at(0), Vec::new());
    for _ in 0..7 {
        let wait = circuit.wait(now).expect("open and no probe out");
        waits.push(wait.as_secs());
        now += wait;
        fail(&mut circuit, Reason::Tls, now);
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
}

#[test]
fn a_rate_below_the_minimum_is_not_judged() {
    let mut circuit = circuit();
    (0..19).for_each(|second| fail(&mut circuit, Reason::Timeout, at(second)));
    assert!(circuit.is_closed());
    fail(&mut circuit, Reason::Timeout, at(19));
    assert_eq!(circuit.state(), CircuitState::Open);
}

#[test]
fn a_few_attempts_in_a_row_that_reach_nobody_open_it() {
    let mut circuit = circuit();
    (0..4).for_each(|second| fail(&mut circuit, Reason::ConnectionRefused, at(second)));
    answer(&mut circuit, at(4));
    (5..9).for_each(|second| fail(&mut circuit, Reason::ConnectionRefused, at(second)));
    assert!(circuit.is_closed(), "somebody was reached in between");
    fail(&mut circuit, Reason::Dns, at(9));
    assert_eq!(circuit.state(), CircuitState::Open);
}

#[test]
fn old_failures_are_forgotten() {
    let mut circuit = circuit();
    (0..15).for_each(|_| fail(&mut circuit, Reason::Timeout, at(0)));
    (0..15).for_each(|_| fail(&mut circuit, Reason::Timeout, at(100)));
    assert!(circuit.is_closed());
}

#[test]
fn one_poison_event_among_healthy_ones_does_not_open() {
    let mut circuit = circuit();
    for second in 0..1000 {
        if second % 3 == 0 { fail(&mut circuit, Reason::ServerError, at(second)) } else { answer(&mut circuit, at(second)) }
    }
    assert!(circuit.is_closed());
}

#[test]
fn late_failures_do_not_double_the_wait() {
    let mut circuit = circuit();
    let early: Vec<_> = (0..20).filter_map(|_| circuit.admit(at(0))).collect();
    open(&mut circuit, Reason::Dns, at(0));
    (1..10).for_each(|second| circuit.fault(early[0], Reason::Dns, at(second)));
    assert_eq!(circuit.wait(at(10)), Some(at(20)));
}

/// Seen in the code: while a probe was out, the failure of any attempt from before the outage was taken for the probe's.
#[test]
fn a_late_failure_is_not_taken_for_that_of_the_probe() {
    let mut circuit = circuit();
    let early: Vec<_> = (0..2).filter_map(|_| circuit.admit(at(0))).collect();
    open(&mut circuit, Reason::Dns, at(0));
    let probe = circuit.admit(at(30)).expect("the first probe");
    circuit.failed(early[0], Reason::Timeout, at(31));
    circuit.fault(early[1], Reason::Timeout, at(31));
    assert_eq!((circuit.state(), circuit.wait(at(31))), (CircuitState::HalfOpen, None), "the probe is still out");
    circuit.failed(probe, Reason::Timeout, at(32));
    assert_eq!(circuit.wait(at(32)), Some(at(60)), "one probe has failed, the wait has doubled once");
}

/// Seen: "circuit open", and "circuit closed" 0.4 ms later, because a success was in flight when the fault came.
#[test]
fn a_success_that_was_in_flight_when_it_opened_closes_nothing() {
    let mut circuit = circuit();
    let early = circuit.admit(at(0)).expect("admitted");
    open(&mut circuit, Reason::NotFound, at(0));
    circuit.answered(early, at(1));
    assert_eq!(circuit.state(), CircuitState::Open);
    let probe = circuit.admit(at(30)).expect("the first probe");
    circuit.answered(early, at(31));
    assert_eq!(circuit.state(), CircuitState::HalfOpen, "the probe is still out");
    circuit.answered(probe, at(32));
    assert!(circuit.is_closed());
}

#[test]
fn a_probe_that_can_tell_something_new_does_not_wait() {
    let mut circuit = circuit();
    circuit.convict(Reason::NotFound, at(0));
    circuit.hurry(at(1));
    let probe = circuit.admit(at(1)).expect("at once");
    circuit.fault(probe, Reason::NotFound, at(2));
    assert_eq!(circuit.wait(at(2)), Some(at(60)));
}

#[test]
fn failures_from_before_it_closed_do_not_open_it_again() {
    let mut circuit = circuit();
    let early: Vec<_> = (0..30).filter_map(|_| circuit.admit(at(0))).collect();
    open(&mut circuit, Reason::Dns, at(0));
    let probe = circuit.admit(at(30)).expect("the first probe");
    circuit.close();
    early.iter().for_each(|admission| circuit.failed(*admission, Reason::Timeout, at(31)));
    circuit.failed(probe, Reason::Timeout, at(31));
    circuit.released(probe);
    assert!(circuit.is_closed());
}
