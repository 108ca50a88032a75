//! Attempts: events that leave at the same moment are published on one channel, and the broker's answer to all of them is
//! awaited. Dropping an attempt closes its channel and harms no other event.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::join_all;
use lapin::types::ShortString;
use tokio::time::Instant;

use super::super::link::Held;
use super::RabbitMq;
use super::broker::{Broker, Identity, Pending, Waited};
use super::classify::{self, Stage};
use super::publication::Publication;
use super::settings::Declared;
use crate::domain::{Notification, Outcome, Reason, Verdict};

/// Of frames on a channel that is closed: channel error, unexpected frame.
const AFTER_CLOSE: [u16; 2] = [504, 505];

/// The facts of an event that are needed to judge its confirmation.
struct Event<'n> {
    /// Which it is of those that are attempted together.
    place: usize,
    notification: &'n Notification,
    /// Exchange and routing key.
    address: (ShortString, ShortString),
}

/// An event on its way.
struct Sent<'n> {
    event: Event<'n>,
    /// If it was kept, an earlier attempt has sent it.
    pending: Pending,
    /// Others are on the same channel, and what closes it may be theirs.
    has_company: bool,
}

impl RabbitMq {
    /// One attempt at each event.
    pub(super) async fn publish_all(&self, notifications: Vec<&Notification>) -> Vec<Verdict> {
        let mut held = match self.link.get(Broker::is_alive, || self.connect()).await {
            Ok(held) => held,
            Err(verdict) => return notifications.iter().map(|notification| self.unsent(notification, &verdict)).collect(),
        };
        let mut verdicts = self.publish_to(&held.connection, &notifications).await;
        self.again_with_exchange(&held.connection, &notifications, &mut verdicts).await;
        if let Some(again) = self.again_on_another(&held.connection, &notifications, &mut verdicts).await {
            held = again;
        }
        // The end of the connection under several of them was perhaps caused by another one.
        if !held.connection.is_alive() && (verdicts.len() > 1 || held.had_company()) {
            let failed = verdicts.iter_mut().filter(|verdict| verdict.outcome == Outcome::Retry);
            failed.for_each(|verdict| *verdict = verdict.clone().of_another());
        }
        // The broker is there and says nothing: no other attempt should have to wait for it again.
        if verdicts.iter().any(|verdict| verdict.reason == Reason::Timeout) {
            self.link.give_up(&held);
        }
        verdicts
    }

    /// The exchange that this handler declares has vanished while the connection lived: it is declared again, and the events that did not
    /// find it are published once more. A verdict stays as it was if that fails.
    async fn again_with_exchange(&self, broker: &Broker, notifications: &[&Notification], verdicts: &mut [Verdict]) {
        let Declared::Here(kind) = &self.declared else { return };
        let missed: Vec<usize> = (0..verdicts.len()).filter(|place| verdicts[*place].reason == Reason::NotFound).collect();
        if missed.is_empty() {
            return;
        }
        let declared = tokio::time::timeout(self.confirm_timeout, self.declare_exchange(broker, kind.clone())).await;
        if !matches!(declared, Ok(Ok(()))) {
            return;
        }
        tracing::warn!(exchange = self.recipe.exchange(), "the exchange had vanished and was declared again, without its bindings");
        let again: Vec<&Notification> = missed.iter().map(|place| notifications[*place]).collect();
        for (place, verdict) in missed.into_iter().zip(self.publish_to(broker, &again).await) {
            verdicts[place] = verdict;
        }
    }

    /// The crate sends what was queued for a channel after it has confirmed that the broker closed it, and the broker ends the connection
    /// over those frames: the fault of no event. A later attempt only learns that the connection has ended. What failed is published
    /// once more, each alone, so that nothing can follow a close.
    async fn again_on_another(
        &self,
        broker: &Broker,
        notifications: &[&Notification],
        verdicts: &mut [Verdict],
    ) -> Option<Held<Broker>> {
        let has_ended = notifications.len() > 1 && !broker.is_alive();
        let is_late = |verdict: &Verdict| match verdict.status {
            Some(code) => AFTER_CLOSE.contains(&code),
            None => has_ended && verdict.reason == Reason::ConnectionReset,
        };
        if !verdicts.iter().any(|verdict| verdict.outcome == Outcome::Retry && is_late(verdict)) {
            return None;
        }
        let held = self.link.get(Broker::is_alive, || self.connect()).await.ok()?;
        let failed: Vec<usize> = (0..verdicts.len()).filter(|place| verdicts[*place].outcome == Outcome::Retry).collect();
        let again =
            failed.iter().map(|place| notifications[*place]).map(|one| async { self.publish_to(&held.connection, &[one]).await });
        for (place, mut verdict) in failed.iter().zip(join_all(again).await) {
            verdicts[*place] = verdict.remove(0);
        }
        Some(held)
    }

    /// Without a connection an event that cannot be sent is still distinguished from one that can.
    fn unsent(&self, notification: &Notification, verdict: &Verdict) -> Verdict {
        self.recipe.publication(notification).err().unwrap_or_else(|| verdict.clone())
    }

    async fn publish_to(&self, broker: &Broker, notifications: &[&Notification]) -> Vec<Verdict> {
        let deadline = Instant::now() + self.confirm_timeout;
        let mut ends: Vec<(usize, Verdict)> = Vec::with_capacity(notifications.len());
        let (mut sent, mut fresh, mut publications) = (Vec::new(), Vec::new(), Vec::new());
        for (place, notification) in notifications.iter().copied().enumerate() {
            match self.prepare(broker, notification) {
                Ok((publication, kept)) => {
                    let address = (publication.exchange.clone(), publication.routing_key.clone());
                    let event = Event { place, notification, address };
                    match kept {
                        Some(pending) => sent.push(Sent { event, pending, has_company: false }),
                        None => {
                            fresh.push(event);
                            publications.push(publication);
                        }
                    }
                }
                Err(verdict) => ends.push((place, verdict)),
            }
        }
        let has_company = fresh.len() > 1;
        match self.begin(broker, publications, deadline).await {
            Ok(pendings) => {
                sent.extend(fresh.into_iter().zip(pendings).map(|(event, pending)| Sent { event, pending, has_company }));
            }
            Err(verdict) => ends.extend(fresh.into_iter().map(|event| (event.place, verdict.clone()))),
        }
        ends.extend(join_all(sent.into_iter().map(|sent| self.end(broker, sent, deadline))).await);
        ends.sort_by_key(|(place, _)| *place);
        ends.into_iter().map(|(_, verdict)| verdict).collect()
    }

    /// The message to send, and the confirmation that is already awaited, if there is one.
    fn prepare(&self, broker: &Broker, notification: &Notification) -> Result<(Publication, Option<Pending>), Verdict> {
        let publication = self.recipe.publication(notification)?;
        let kept = broker.kept(Identity::of(notification));
        match publication.too_large_for(broker.largest_frame()) {
            Some(verdict) if kept.is_none() => Err(verdict),
            _ => Ok((publication, kept)),
        }
    }

    /// Everything until the events leave; a pending word for each.
    async fn begin(&self, broker: &Broker, publications: Vec<Publication>, deadline: Instant) -> Result<Vec<Pending>, Verdict> {
        if publications.is_empty() {
            return Ok(Vec::new());
        }
        if broker.is_blocked() {
            return Err(classify::blocked(Stage::Unsent, &self.address.target));
        }
        match broker.wait(Box::pin(broker.channels().take()), deadline).await {
            Waited::Done(Ok(taken)) => {
                let count = publications.len();
                // Each of them can wait for it by itself, and go on to wait when the others have given up.
                let words = Arc::clone(broker.channels()).publish(taken, publications).map(Words::new).boxed().shared();
                Ok((0..count).map(|place| words.clone().map(move |words| words.take(place)).boxed()).collect())
            }
            Waited::Done(Err(error)) => Err(self.failed(&error, Stage::Unsent)),
            Waited::Blocked => Err(classify::blocked(Stage::Unsent, &self.address.target)),
            Waited::Late => Err(self.late("no channel")),
        }
    }

    async fn end(&self, broker: &Broker, sent: Sent<'_>, deadline: Instant) -> (usize, Verdict) {
        let Sent { event: Event { place, notification, address: (exchange, key) }, mut pending, has_company } = sent;
        let verdict = match broker.wait(&mut pending, deadline).await {
            Waited::Done(Ok(confirmation)) => {
                classify::confirmed(&confirmation, self.unroutable, (exchange.as_str(), key.as_str()))
            }
            // Alone it will be clear whose fault it was.
            Waited::Done(Err(error)) if has_company && classify::is_about_channel(&error) => {
                Box::pin(self.publish_to(broker, &[notification])).await.remove(0)
            }
            Waited::Done(Err(error)) => self.failed(&error, Stage::Sent),
            Waited::Blocked => {
                broker.keep(Identity::of(notification), pending);
                classify::blocked(Stage::Sent, &self.address.target)
            }
            Waited::Late => self.late("no confirmation").ambiguous(),
        };
        (place, verdict)
    }

    fn late(&self, what: &str) -> Verdict {
        Verdict::retry(Reason::Timeout, format!("{what} from {} within {:?}", self.address.target, self.confirm_timeout))
    }
}

type Word = lapin::Result<lapin::Confirmation>;

/// The broker's words about a group. Each is taken once, by the event that it is about.
#[derive(Clone)]
struct Words(Arc<Mutex<Vec<Option<Word>>>>);

impl Words {
    fn new(words: Vec<Word>) -> Self {
        Self(Arc::new(Mutex::new(words.into_iter().map(Some).collect())))
    }

    fn take(&self, place: usize) -> Word {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words[place].take().expect("it is taken once")
    }
}
