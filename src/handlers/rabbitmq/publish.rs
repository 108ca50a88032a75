//! One attempt: publishes an event on a channel of its own and waits for the broker's word.
//! Dropping it closes the channel and harms no other event.

use tokio::time::Instant;

use super::RabbitMq;
use super::broker::{Broker, Identity, Pending, Waited};
use super::classify::{self, Stage};
use super::publication::Publication;
use crate::domain::{Notification, Reason, Verdict};

impl RabbitMq {
    pub(super) async fn publish(&self, notification: &Notification) -> Verdict {
        let publication = match self.recipe.publication(notification) {
            Ok(publication) => publication,
            Err(verdict) => return verdict,
        };
        let held = match self.link.get(Broker::is_alive, || self.connect()).await {
            Ok(held) => held,
            Err(verdict) => return verdict,
        };
        let verdict = self.publish_to(&held.connection, publication, Identity::of(notification)).await;
        // The broker is there and says nothing: nobody should have to wait for it again.
        if verdict.reason == Reason::Timeout {
            self.link.give_up(&held);
        }
        verdict
    }

    async fn publish_to(&self, broker: &Broker, publication: Publication, identity: Identity) -> Verdict {
        let deadline = Instant::now() + self.confirm_timeout;
        let (exchange, key) = (publication.exchange.clone(), publication.routing_key.clone());
        let mut pending = match broker.kept(identity) {
            Some(pending) => pending,
            None => match self.begin(broker, publication, deadline).await {
                Ok(pending) => pending,
                Err(verdict) => return verdict,
            },
        };
        match broker.wait(&mut pending, deadline).await {
            Waited::Done(Ok(confirmation)) => {
                classify::confirmed(&confirmation, self.unroutable, (exchange.as_str(), key.as_str()))
            }
            Waited::Done(Err(error)) => self.failed(&error, Stage::Sent),
            Waited::Blocked => {
                broker.keep(identity, pending);
                classify::blocked(Stage::Sent, &self.address.target)
            }
            Waited::Late => self.late("no confirmation").ambiguous(),
        }
    }

    /// Everything until the event leaves.
    async fn begin(&self, broker: &Broker, publication: Publication, deadline: Instant) -> Result<Pending, Verdict> {
        if let Some(verdict) = publication.too_large_for(broker.largest_frame()) {
            return Err(verdict);
        }
        if broker.is_blocked() {
            return Err(classify::blocked(Stage::Unsent, &self.address.target));
        }
        match broker.wait(Box::pin(broker.channels().take()), deadline).await {
            Waited::Done(Ok(taken)) => Ok(Box::pin(broker.channels().clone().publish(taken, publication))),
            Waited::Done(Err(error)) => Err(self.failed(&error, Stage::Unsent)),
            Waited::Blocked => Err(classify::blocked(Stage::Unsent, &self.address.target)),
            Waited::Late => Err(self.late("no channel")),
        }
    }

    fn late(&self, what: &str) -> Verdict {
        Verdict::retry(Reason::Timeout, format!("{what} from {} within {:?}", self.address.target, self.confirm_timeout))
    }
}
