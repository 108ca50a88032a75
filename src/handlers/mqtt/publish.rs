//! One attempt: makes the message, takes a slot in the session, sends it, and classifies the acknowledgement. Never waits without
//! a bound, and never sends twice.

use rumqttc::QoS;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::super::link::Held;
use super::Mqtt;
use super::classify::{self, End};
use super::connection::{Connection, Granted};
use super::message::Message;
use crate::domain::{Notification, Reason, Verdict};

/// How much of a text of the broker is kept.
const LONGEST_DETAIL: usize = 1024;

impl Mqtt {
    /// One attempt at one event. Dropping it takes nothing back that was sent, and disturbs no other.
    pub(super) async fn publish(&self, notification: &Notification) -> Verdict {
        let message = match self.composer.message(notification) {
            Ok(message) => message,
            Err(refusal) => return refusal,
        };
        match self.attempt(message, notification).await {
            Ok(verdict) | Err(verdict) => self.for_people(verdict),
        }
    }

    async fn attempt(&self, message: Message, notification: &Notification) -> Result<Verdict, Verdict> {
        let id = notification.id;
        let (held, _place) = self.place(&message, self.suspects.has(id)).await?;
        let connection = &held.connection;
        match timeout(self.confirm_timeout, connection.exchange(message)).await {
            Ok(Ok(answer)) => {
                self.suspects.clear(id);
                Ok(self.with_topic(classify::answered(answer, self.rules), notification))
            }
            // It never left: the session ended while it waited.
            Ok(Err(no_answer)) if !no_answer.sent => Err(connection.end().verdict.of_another()),
            Ok(Err(_)) => Err(self.broken_off(connection, id)),
            Err(_) => Err(self.unanswered(&held)),
        }
    }

    /// An answer about the topic says which it was: the event may have a part in it.
    fn with_topic(&self, mut verdict: Verdict, notification: &Notification) -> Verdict {
        if verdict.status.is_some_and(classify::is_about_topic)
            && let Ok(topic) = self.composer.topic_of(notification)
        {
            verdict.detail.push_str(&format!(", topic \"{topic}\""));
        }
        verdict
    }

    /// A session that takes the message, and a place in it.
    async fn place(&self, message: &Message, is_suspect: bool) -> Result<(Held<Connection>, OwnedSemaphorePermit), Verdict> {
        let held = self.session(message).await?;
        if let Some(place) = self.place_in(&held.connection, is_suspect).await? {
            return Ok((held, place));
        }
        // It ended over what others had in flight while this one waited: no reason to spend an attempt. Once, so that it ends.
        let held = self.session(message).await?;
        match self.place_in(&held.connection, is_suspect).await? {
            Some(place) => Ok((held, place)),
            None => Err(held.connection.end().verdict.of_another()),
        }
    }

    async fn session(&self, message: &Message) -> Result<Held<Connection>, Verdict> {
        let held = self.link.get(Connection::is_open, || self.connect(&self.client_id)).await?;
        fits(message, held.connection.granted())?;
        Ok(held)
    }

    /// `None`: the session has ended.
    async fn place_in(&self, connection: &Connection, is_suspect: bool) -> Result<Option<OwnedSemaphorePermit>, Verdict> {
        let waiting = async {
            match is_suspect {
                true => connection.every_place().await,
                false => connection.place().await,
            }
        };
        timeout(self.confirm_timeout, waiting).await.map_err(|_| self.too_busy(connection.granted()))
    }

    /// A new session.
    pub(super) async fn connect(&self, client_id: &str) -> Result<Connection, Verdict> {
        let stream = self.dialer.dial().await?;
        let options = self.options(client_id);
        let connection = Connection::open(stream, options).await.map_err(|error| classify::not_connected(&error))?;
        self.suffices(connection.granted())?;
        Ok(connection)
    }

    /// Whether the broker granted what the events of this handler need.
    fn suffices(&self, granted: Granted) -> Result<(), Verdict> {
        let lacking = match self.composer.qos() {
            QoS::AtMostOnce | QoS::AtLeastOnce if !granted.takes_qos_1 => {
                "take anything above qos = 0, which it does not acknowledge"
            }
            QoS::ExactlyOnce if !granted.takes_qos_2 => "take qos = 2",
            _ if self.composer.retains() && !granted.takes_retained => "keep events, which retain asks for",
            _ => return Ok(()),
        };
        Err(Verdict::handler_fault(Reason::Misconfigured, format!("the broker does not {lacking}")))
    }

    /// The session ended while the broker had the event, or not.
    fn broken_off(&self, connection: &Connection, id: uuid::Uuid) -> Verdict {
        let End { verdict, refusal } = connection.end();
        match refusal {
            Some(code) if connection.had_one_in_flight() => {
                self.suspects.clear(id);
                classify::about_event(code, None, self.rules)
            }
            Some(_) => {
                self.suspects.add(id);
                verdict.ambiguous().of_another()
            }
            // A broker that hangs up without a word may do so over one of several, too. Alone it will be clear.
            None if !connection.had_one_in_flight() => {
                self.suspects.add(id);
                self.hinted(verdict).ambiguous().of_another()
            }
            None => self.hinted(verdict).ambiguous(),
        }
    }

    /// Some brokers do not say why they end a session whose client identifier another client has used.
    fn hinted(&self, mut verdict: Verdict) -> Verdict {
        if self.has_configured_id && verdict.reason == Reason::ConnectionReset {
            verdict.detail.push_str("; if this goes on, look for another client with the same client_id");
        }
        verdict
    }

    /// No acknowledgement in time: the outcome of the others is unknown, too.
    fn unanswered(&self, held: &Held<Connection>) -> Verdict {
        self.link.give_up(held);
        let others = Verdict::retry(Reason::ConnectionReset, "given up, because another event was not acknowledged in time");
        held.connection.give_up(End::of(others));
        Verdict::retry(Reason::Timeout, format!("no acknowledgement within {:?}", self.confirm_timeout)).ambiguous()
    }

    /// The broker owes so many acknowledgements that it takes nothing more.
    fn too_busy(&self, granted: Granted) -> Verdict {
        let detail = format!(
            "the broker takes {} unacknowledged events at once, and acknowledged none within {:?}",
            granted.at_once, self.confirm_timeout
        );
        Verdict::back_pressure(Reason::Throttled, None, detail)
    }

    /// Says which broker it was, and no secret that the broker may have repeated.
    pub(super) fn for_people(&self, verdict: Verdict) -> Verdict {
        if verdict.detail.is_empty() {
            return verdict;
        }
        let text = format!("{}: {}", self.link.target(), verdict.detail);
        let kept = &text.as_bytes()[..text.len().min(LONGEST_DETAIL)];
        Verdict { detail: self.redaction.excerpt(kept, kept.len() < text.len()), ..verdict }
    }
}

/// A larger packet would end the session, for all that are in flight.
fn fits(message: &Message, granted: Granted) -> Result<(), Verdict> {
    if message.size <= granted.largest as usize {
        return Ok(());
    }
    let detail = format!("the packet has {} bytes, the broker takes {}", message.size, granted.largest);
    Err(Verdict::permanent(Reason::TooLarge, detail))
}
