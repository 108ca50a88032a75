//! A receiver that is down for an hour, by a clock of the test's own: the circuit and the policy are asked what they would do.

use std::time::Duration;

use outboxd::Reason;
use outboxd::domain::{Circuit, CircuitPolicy, CircuitState};

/// Beyond what reached nobody in a row before the circuit opened, an hour costs some probes, and none of them an attempt.
#[test]
fn an_hour_without_the_receiver_costs_a_dozen_probes_and_holds_everything() {
    let mut circuit = Circuit::new(CircuitPolicy::default());
    let (mut asked, mut before) = (0, 0);
    for second in 0..3_600 {
        let now = Duration::from_secs(second);
        // As often as there is something to deliver: all the time.
        while let Some(admission) = circuit.admit(now) {
            asked += 1;
            before += usize::from(circuit.is_closed());
            circuit.failed(admission, Reason::ConnectionRefused, now);
        }
    }
    assert_eq!(circuit.state(), CircuitState::Open);
    assert!(before <= 5, "{before} attempts before it opened");
    assert!((8..=20).contains(&(asked - before)), "{} probes in an hour", asked - before);

    // The first probe that succeeds ends it.
    let back = Duration::from_secs(3_600) + circuit.wait(Duration::from_secs(3_600)).expect("a probe is to come");
    let probe = circuit.admit(back).expect("its time has come");
    circuit.answered(probe, back);
    assert!(circuit.is_closed());
}
