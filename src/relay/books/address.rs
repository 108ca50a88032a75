//! Destinations in trouble, carried out: which events are put off, which event is the probe, what is stored.
//! `domain::destinations` judges.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{info, warn};

use super::Books;
use super::settle::millis;
use crate::domain::{
    Access, Admission, CircuitState, DeliveryState, Destinations, Notification, Outcome, Queued, Reach, Sentence, Trouble, Verdict,
};
use crate::handlers::Built;
use crate::relay::attempt::Finished;
use crate::store::{DestinationNews, StoredDestination};

/// Changes of destinations that are not stored yet.
pub(super) type DestinationChanges = BTreeSet<String>;

impl Books {
    /// Takes up what the last owner stored.
    pub fn restore_destinations(&mut self, stored: Vec<(String, Trouble)>) {
        for (name, trouble) in stored {
            self.destinations.restore(name, trouble);
        }
        self.show_destinations();
    }

    /// Changes that are not stored yet.
    pub fn take_destination_news(&mut self) -> Option<DestinationNews> {
        let changes = std::mem::take(&mut self.destination_changes);
        if changes.is_empty() {
            return None;
        }
        let now = self.clock();
        let mut news = DestinationNews::default();
        for name in changes {
            match self.destinations.trouble(&name) {
                None => news.recovered.push(name),
                Some(trouble) => news.troubled.push(StoredDestination {
                    reason: trouble.reason,
                    status: trouble.status,
                    detail: trouble.detail.clone(),
                    probes: trouble.probes,
                    wait: trouble.probe_at.saturating_sub(now),
                    name,
                }),
            }
        }
        (!news.is_empty()).then_some(news)
    }

    /// Gives the event back if it may be attempted now; otherwise it waits for its destination.
    pub(super) fn unless_put_off(&mut self, queued: Queued) -> Option<Queued> {
        if self.destinations.is_quiet() || !self.circuit.is_closed() {
            return Some(queued);
        }
        let Some(name) = self.destination_of(&queued.notification) else { return Some(queued) };
        match self.destinations.access(&name, queued.notification.seq, self.clock()) {
            Access::Go => Some(queued),
            Access::Wait(wait) => {
                self.put_off(&queued, name, wait);
                None
            }
        }
    }

    /// An attempt has ended with something that may concern the destination alone. Gives it back if it is not for destinations to judge.
    pub(super) fn settle_at_destination(&mut self, finished: Finished) -> Result<Option<Queued>, Finished> {
        let verdict = &finished.verdict;
        let concerns = verdict.reach == Reach::Destination
            && matches!(verdict.outcome, Outcome::HandlerFault | Outcome::BackPressure)
            && self.circuit.is_closed();
        let name = if concerns { self.destination_of(&finished.queued.notification) } else { None };
        let Some(name) = name else { return Err(finished) };
        if self.circuit.is_late(finished.admission) {
            return Ok(Some(finished.queued));
        }
        let (seq, now) = (finished.queued.notification.seq, self.clock());
        match self.destinations.failed(&name, seq, verdict, now, fastrand::f64()) {
            Sentence::NoRoom => Err(finished),
            Sentence::Wait { wait, is_news } => {
                if is_news {
                    self.tell_trouble(&name, &finished, wait);
                }
                self.destination_changes.insert(name.clone());
                self.put_off(&finished.queued, name, wait);
                self.show_destinations();
                Ok(None)
            }
            Sentence::Bury => {
                self.destination_changes.insert(name);
                let Finished { queued, verdict, took, .. } = finished;
                self.bury(&queued, &verdict, verdict.reason, queued.attempts + 1, millis(took));
                Ok(None)
            }
        }
    }

    /// An attempt has ended in another way.
    pub(super) fn tell_destination(&mut self, admission: Admission, notification: &Notification, verdict: &Verdict) {
        if self.destinations.is_quiet() {
            return;
        }
        let Some(name) = self.destination_of(notification) else { return };
        if !verdict.speaks_for_handler() {
            return self.destinations.released(&name, notification.seq);
        }
        let is_probe_of_circuit = !self.circuit.is_closed() && !self.circuit.is_late(admission);
        if self.destinations.succeeded(&name, notification.seq, is_probe_of_circuit) {
            info!(handler = self.handler.config.name, destination = name, "the destination takes events again");
            self.destination_changes.insert(name);
            self.show_destinations();
        }
    }

    /// Whether the trouble of many destinations is that of the handler. `may_learn`: other events are under way, or can begin.
    pub fn judge_destinations(&mut self, may_learn: bool) {
        if self.destinations.is_quiet() || !self.circuit.is_closed() {
            return;
        }
        let worst = self.destinations.any().map(|trouble| (trouble.reason, trouble.status, trouble.detail.clone()));
        let Some((reason, status, detail)) = worst else { return };
        let now = self.clock();
        if !self.destinations.is_everywhere(self.handler.config.concurrency, may_learn, now) {
            return;
        }
        self.suspects.ask_others();
        self.circuit.convict(reason, now);
        self.circuit_news = true;
        self.handler.show(self.partition, |figure| figure.circuit = Some(CircuitState::Open));
        self.show_destinations();
        let probe_in = self.circuit.wait(now).unwrap_or_default();
        warn!(
            handler = self.handler.config.name, %reason, status, detail, ?probe_in,
            "circuit open, events are held: no destination takes any"
        );
    }

    fn destination_of(&self, notification: &Notification) -> Option<String> {
        match &self.handler.built {
            Built::Handler(handler) => handler.destination(notification).map(|name| Destinations::name(&name)),
            Built::Function(_) | Built::Projection(_) | Built::Publisher => None,
        }
    }

    /// It waits for its destination in a row of its own, unspent, and its key with it.
    fn put_off(&mut self, queued: &Queued, name: String, wait: Duration) {
        let trouble = self.destinations.trouble(&name).cloned();
        let why = trouble.map(|trouble| Verdict {
            status: trouble.status,
            ..Verdict::handler_fault(trouble.reason, format!("waits for {name}: {}", trouble.detail))
        });
        let due_in = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        self.write_waiting_for(queued, DeliveryState::Retrying, due_in, why.as_ref(), name);
        if queued.origin.segment().is_some() {
            self.grow_unfinished(1);
        }
        self.block(&queued.notification);
    }

    fn tell_trouble(&self, name: &str, finished: &Finished, wait: Duration) {
        let Finished { queued, verdict, .. } = finished;
        warn!(
            event_id = %queued.notification.id, handler = self.handler.config.name, destination = name, reason = %verdict.reason,
            status = verdict.status, detail = verdict.detail, probe_in = ?wait,
            "a destination is in trouble: its events wait, the others go on"
        );
    }

    fn show_destinations(&self) {
        self.handler.show(self.partition, |figure| figure.destinations = self.destinations.len());
    }
}
