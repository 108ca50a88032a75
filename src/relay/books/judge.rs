//! Judging suspects, carried out: which events are held, what a judgement changes, and with which event a probe goes out.
//! `domain::suspects` judges.
//!
//! A verdict that is `of_another` was caused by another event, for example by a session that the broker ended. The books excuse
//! it: no attempt is spent, up to three times per event. After that the verdict counts, because the cause is then unknown.

use std::time::Duration;

use tracing::{info, warn};

use super::Books;
use super::settle::{age, millis};
use crate::domain::{Admission, CircuitState, Judgement, LaneRef, Notification, Queued, Reason, Span, Verdict, at_fault};
use crate::relay::attempt::Finished;
use crate::telemetry::TraceContext;

/// Times in a row that an event is excused because of another one.
const MOST_EXCUSES: u8 = 3;
/// Events that are remembered for it.
const MOST_EXCUSED: usize = 4_096;

impl Books {
    /// Whether an attempt may begin now. While the circuit is open it is a probe.
    pub fn admit(&mut self) -> Option<Admission> {
        let now = self.clock();
        if self.suspects.may_ask_at_once() && self.circuit.wait(now).is_some_and(|wait| !wait.is_zero()) && self.has_fresh() {
            self.circuit.hurry(now);
            self.suspects.asked_at_once();
        }
        self.circuit.admit(now)
    }

    /// The next event to attempt: in turn, or, while something is to be learned about the handler, the one that shows most.
    pub fn take_next(&mut self) -> Option<Queued> {
        loop {
            let queued = self.take_in_turn()?;
            if let Some(queued) = self.unless_put_off(queued) {
                return Some(queued);
            }
        }
    }

    fn take_in_turn(&mut self) -> Option<Queued> {
        if self.circuit.is_closed() && self.suspects.is_empty() {
            return self.lanes.take_next();
        }
        self.lanes.take_best(|notification| self.suspects.rank(notification))
    }

    fn has_fresh(&self) -> bool {
        self.lanes.has_ready_where(|notification| self.suspects.is_fresh(notification))
    }

    /// Judges the suspects as far as it can be done now. `is_under_way`: some attempt will end.
    pub fn judge_suspects(&mut self, is_under_way: bool) {
        self.judge_destinations(is_under_way || self.lanes.has_ready_where(|_| true));
        if self.suspects.is_empty() {
            return;
        }
        if !self.circuit.is_closed() {
            return self.suspects.take_back().into_iter().for_each(|case| self.lanes.returned(case.queued));
        }
        let may_learn = is_under_way || self.lanes.has_ready_where(|_| true);
        let (concurrency, now) = (self.handler.config.concurrency, self.clock());
        match self.suspects.judge(concurrency, may_learn, now) {
            Judgement::Undecided => {}
            Judgement::EventsAtFault(cases) => self.blame_events(cases),
            Judgement::HandlerAtFault(cases) => self.blame_handler(cases),
        }
    }

    /// Others could speak for or against the suspects, and only the rate of the handler holds them back: that time does not count.
    pub fn put_off_judgement(&mut self) {
        let now = self.clock();
        self.suspects.put_off(now);
    }

    /// When to judge if nothing else happens.
    pub fn judge_in(&self) -> Option<Duration> {
        let now = self.clock();
        self.suspects.judge_at(now).map(|moment| moment.saturating_sub(now))
    }

    /// Whether the next of this lane is a suspect.
    pub(super) fn is_suspect(&self, key: LaneRef<'_>) -> bool {
        self.suspects.iter().any(|case| LaneRef::of(&case.queued.notification).owned() == key.owned())
    }

    /// Whether nothing is spent on an event whose attempt ended because of another one. Not for ever: if it goes on, it is unknown whose
    /// fault it is.
    pub(super) fn excuse(&mut self, seq: i64) -> bool {
        if self.excused.len() >= MOST_EXCUSED {
            self.excused.clear();
        }
        let times = self.excused.entry(seq).or_default();
        *times += 1;
        if *times <= MOST_EXCUSES {
            return true;
        }
        self.excused.remove(&seq);
        false
    }

    /// A fault that may be the event's alone, while the circuit is closed. Gives the event back if it says nothing.
    pub(super) fn doubt(&mut self, finished: Finished) -> Option<Queued> {
        if self.circuit.is_late(finished.admission) {
            return Some(finished.queued);
        }
        if self.suspects.is_proven(&finished.queued.notification) {
            self.blame_event(finished);
            return None;
        }
        let (span, now) = (self.span(finished.admission, &finished.queued), self.clock());
        let notification = finished.queued.notification.clone();
        self.suspects.accuse(finished, &notification, span, now);
        None
    }

    fn span(&mut self, admission: Admission, queued: &Queued) -> Span {
        Span { began: admission.began(), ended: self.circuit.tick(), segment: queued.origin.segment() }
    }

    /// An attempt has succeeded, or the receiver has judged an event: the faults before it were not the handler's.
    pub(super) fn contradict(&mut self, admission: Admission, queued: &Queued) {
        let span = self.span(admission, queued);
        let contradicted = self.suspects.succeeded(span);
        self.suspects.taken(&queued.notification);
        self.blame_events(contradicted);
    }

    /// The probe has failed: the circuit stays open, and this event says so, too.
    pub(super) fn confirm(&mut self, notification: &Notification) {
        self.suspects.convict(notification);
        self.name_witness(notification);
    }

    /// The probe was answered.
    pub(super) fn acquit(&mut self, verdict: &Verdict) {
        if verdict.speaks_for_handler() {
            self.suspects.acquitted_handler()
        } else {
            self.suspects.start_over()
        }
        self.only_witness = None;
    }

    fn name_witness(&mut self, notification: &Notification) {
        let witness = self.suspects.is_only_witness(notification.seq).then_some(notification.id);
        self.circuit_news |= witness != self.only_witness;
        self.only_witness = witness;
    }

    fn blame_events(&mut self, cases: Vec<Finished>) {
        for finished in cases {
            let (notification, verdict) = (&finished.queued.notification, &finished.verdict);
            warn!(
                event_id = %notification.id, handler = self.handler.config.name, reason = %verdict.reason, status = verdict.status,
                trace_id = TraceContext::of(&notification.headers).trace_id(), detail = verdict.detail,
                "the fault is that of the event: the receiver takes others"
            );
            self.blame_event(finished);
        }
    }

    /// Spends an attempt.
    fn blame_event(&mut self, finished: Finished) {
        let Finished { queued, verdict, took, .. } = finished;
        let attempt = queued.attempts + 1;
        self.suspects.prove(&queued.notification);
        match at_fault(&self.handler.config.retry, &verdict, attempt, age(&queued, took), fastrand::f64()) {
            Ok(delay) => self.retry(&queued, &verdict, attempt, took, delay),
            Err(reason) => self.bury(&queued, &verdict, reason, attempt, millis(took)),
        }
    }

    fn blame_handler(&mut self, cases: Vec<Finished>) {
        let now = self.clock();
        let reason = cases.first().map_or(Reason::Failed, |case| case.verdict.reason);
        self.circuit.convict(reason, now);
        self.circuit_news = true;
        self.handler.show(self.partition, |figure| figure.circuit = Some(CircuitState::Open));
        for case in &cases {
            self.confirm(&case.queued.notification);
        }
        let handler = self.handler.config.name.as_str();
        let probe_in = self.circuit.wait(now).unwrap_or_default();
        if let Some(Finished { verdict, .. }) = cases.first() {
            let (status, detail) = (verdict.status, &verdict.detail);
            match self.only_witness {
                Some(event_id) => {
                    let bury = format!("outboxd events bury {event_id} --handler {handler} --because ...");
                    warn!(handler, %reason, status, detail, %event_id, bury, ?probe_in, "circuit open, with only this event to judge by");
                }
                None => warn!(handler, %reason, status, detail, events = cases.len(), ?probe_in, "circuit open, events are held"),
            }
        }
        // Backwards, so that those that have waited longest are asked first.
        cases.into_iter().for_each(|case| self.lanes.returned(case.queued));
    }

    pub(super) fn tell_closed(&self) {
        info!(handler = self.handler.config.name, "circuit closed, deliveries go on");
    }
}
