//! The circuit as one would tell it to a person, for `deliveries`: how long nothing goes out, and whose failure makes that longer.
//! When it opens is the circuit's own business, apart from this: by an attempt that began since it last closed.

use std::collections::BTreeSet;
use std::time::Duration;

use outboxd::domain::{Circuit, CircuitPolicy};

/// What an attempt told about the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Works,
    Failed,
    /// It cannot work for any event.
    Fault,
}

/// A time in which the circuit is not closed.
struct Outage {
    wait: Duration,
    probe_at: Duration,
    /// The event of the probe that is out.
    probe: Option<i64>,
}

pub struct Reference {
    policy: CircuitPolicy,
    outage: Option<Outage>,
    /// Events of the attempts in flight that began since the circuit last closed, while it is closed.
    fresh: BTreeSet<i64>,
}

impl Reference {
    pub fn new(policy: CircuitPolicy) -> Self {
        Self { policy, outage: None, fresh: BTreeSet::new() }
    }

    pub fn began(&mut self, seq: i64, now: Duration) {
        let Some(outage) = &mut self.outage else {
            self.fresh.insert(seq);
            return;
        };
        assert_eq!(outage.probe.replace(seq), None, "one probe at a time");
        assert!(outage.probe_at <= now, "no probe before its time");
    }

    /// An attempt has ended, and the circuit has been told.
    pub fn ended(&mut self, seq: i64, told: Told, circuit: &Circuit, now: Duration) {
        let is_fresh = self.fresh.remove(&seq);
        match &mut self.outage {
            Some(outage) if outage.probe == Some(seq) && told == Told::Works => self.closed(),
            Some(outage) if outage.probe == Some(seq) => {
                outage.wait = (outage.wait * 2).min(self.policy.max_probe);
                (outage.probe, outage.probe_at) = (None, now + outage.wait);
            }
            // From before the outage, or before this probe: everybody knows.
            Some(_) => {}
            None if !circuit.is_closed() => {
                assert!(is_fresh && told != Told::Works, "only a failure of what began since it closed opens it");
                self.fresh.clear();
                let wait = self.policy.first_probe;
                self.outage = Some(Outage { wait, probe_at: now + wait, probe: None });
            }
            None => assert!(!is_fresh || told != Told::Fault, "a fault opens it at once"),
        }
    }

    /// An attempt has ended with a fault that may be the event's.
    pub fn doubted(&mut self, seq: i64) {
        assert!(self.outage.is_none(), "while the circuit is open nobody is in doubt");
        self.fresh.remove(&seq);
    }

    /// Nothing has contradicted what is in doubt.
    pub fn convicted(&mut self, now: Duration) {
        self.fresh.clear();
        let wait = self.policy.first_probe;
        self.outage = Some(Outage { wait, probe_at: now + wait, probe: None });
    }

    /// A probe went out before its time.
    pub fn hurried(&mut self, now: Duration) {
        self.outage.iter_mut().for_each(|outage| outage.probe_at = outage.probe_at.min(now));
    }

    /// By an answer, or by a person.
    pub fn closed(&mut self) {
        self.outage = None;
        self.fresh.clear();
    }

    /// What the circuit has to say about it.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        let outage = self.outage.as_ref().filter(|outage| outage.probe.is_none())?;
        Some(outage.probe_at.saturating_sub(now))
    }

    pub fn is_closed(&self) -> bool {
        self.outage.is_none()
    }
}
