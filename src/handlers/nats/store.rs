//! Attempts with JetStream: all events that leave at the same moment are sent before the first acknowledgement is awaited. An
//! event counts as delivered when a stream acknowledges it.

use std::future::IntoFuture;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::context::{GetStreamByNameErrorKind, PublishError, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connect::Connection;
use super::notices::Refused;
use super::send::{because, excused, leaves_doubt};
use super::{Nats, classify};
use crate::domain::{Notification, Verdict};

/// While a stream has no leader its subjects have no responder, which looks as if there were no stream; the official clients wait as long.
const NO_LEADER_TRIES: u32 = 2;
const NO_LEADER_WAIT: Duration = Duration::from_millis(250);
/// A publish without permission has no answer; after this time the notices are checked for it.
const QUICK: Duration = Duration::from_millis(50);
/// For the question why no acknowledgement came.
const LOOK_UP: Duration = Duration::from_secs(1);

/// A publish on its way, and what has to be known to judge its answer.
struct Sent<'n> {
    notification: &'n Notification,
    subject: Subject,
    /// How many publishes had been refused when it went out.
    refused_before: usize,
    until: Instant,
    acknowledgement: BoxFuture<'static, Answer>,
    answer: Option<Answer>,
}

type Answer = Result<PublishAck, PublishError>;

impl Nats {
    /// One attempt at each event. Dropping it loses the connection for later events, not for those in flight.
    pub(super) async fn store_all(&self, notifications: Vec<&Notification>) -> Vec<Verdict> {
        let held = match self.link.get(Connection::is_alive, || self.dialer.dial()).await {
            Ok(held) => held,
            Err(verdict) => return notifications.iter().map(|notification| self.unsent(notification, &verdict)).collect(),
        };
        let (doubt, connection) = (self.link.doubt(&held), &*held.connection);
        let mut sent = Vec::with_capacity(notifications.len());
        for notification in notifications {
            sent.push(self.send(connection, notification).await);
        }
        let quick = Instant::now() + QUICK;
        for sent in sent.iter_mut().flatten() {
            sent.listen(quick).await;
        }
        let verdicts = join_all(sent.into_iter().map(|sent| async { self.verdict(connection, sent?).await })).await;
        let verdicts: Vec<Verdict> = verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(|verdict| verdict)).collect();
        let verdicts = excused(verdicts, &held);
        if !verdicts.iter().any(leaves_doubt) {
            doubt.settle();
        }
        verdicts
    }

    /// Without a connection an event that cannot be sent is still distinguished from one that can.
    fn unsent(&self, notification: &Notification, verdict: &Verdict) -> Verdict {
        self.outgoing(notification).err().unwrap_or_else(|| verdict.clone())
    }

    async fn send<'n>(&self, connection: &Connection, notification: &'n Notification) -> Result<Sent<'n>, Verdict> {
        let (refused_before, until) = (connection.notices.refusals(), Instant::now() + self.confirm_timeout);
        let outgoing = self.outgoing(notification)?;
        let subject = outgoing.subject.clone();
        let sent = connection.jetstream.send_publish(subject.clone(), outgoing.publish()).await;
        let acknowledgement = sent.map_err(|error| classify::unsent(&error))?.into_future();
        Ok(Sent { notification, subject, refused_before, until, acknowledgement, answer: None })
    }

    /// The verdict for a publish, by its answer if there is one.
    async fn verdict(&self, connection: &Connection, mut sent: Sent<'_>) -> Result<Verdict, Verdict> {
        for tries_left in (0..=NO_LEADER_TRIES).rev() {
            if sent.answer.is_none()
                && let Some(refused) = sent.listen_for_refusal(connection).await
            {
                return Ok(classify::forbidden(refused));
            }
            match sent.answer {
                Some(Ok(ack)) => return Ok(classify::acknowledged(&ack)),
                Some(Err(error)) if error.kind() == PublishErrorKind::StreamNotFound && tries_left > 0 => {
                    sleep(NO_LEADER_WAIT).await;
                    sent = Sent { until: sent.until, ..self.send(connection, sent.notification).await? };
                }
                Some(Err(error)) => return Err(because(classify::unacknowledged(&error, &sent.subject), connection)),
                None => return Err(self.unanswered(connection, &sent.subject).await),
            }
        }
        unreachable!("the last try has returned")
    }

    /// No answer in time. A subject that no stream takes has no answer if another client listens to it, so the server is asked.
    async fn unanswered(&self, connection: &Connection, subject: &str) -> Verdict {
        if let Ok(Err(error)) = timeout(LOOK_UP, connection.jetstream.stream_by_subject(subject)).await
            && error.kind() == GetStreamByNameErrorKind::NotFound
        {
            return classify::unroutable(subject);
        }
        self.too_late(connection)
    }
}

impl Sent<'_> {
    /// Waits for the answer until this moment.
    async fn listen(&mut self, until: Instant) {
        self.answer = timeout_at(until.min(self.until), &mut self.acknowledgement).await.ok();
    }

    /// Waits for the answer for as long as one may wait, or until the server refuses the publish.
    async fn listen_for_refusal(&mut self, connection: &Connection) -> Option<Refused> {
        let mut refusal = connection.notices.refusal_of(&self.subject, self.refused_before);
        let until = self.until;
        tokio::select! {
            () = self.listen(until) => None,
            refused = refusal.comes() => Some(refused),
        }
    }
}
