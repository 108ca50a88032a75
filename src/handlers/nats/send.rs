//! One attempt: publish, and wait for who has to answer. A connection that left a question open is given up, also by an attempt
//! that the relay broke off: the next one starts with a connection that nobody doubts.

use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use async_nats::jetstream::context::{GetStreamByNameErrorKind, PublishErrorKind};
use async_nats::{Client, PublishErrorKind as CoreErrorKind};
use tokio::time::{sleep, timeout};

use super::super::link::Held;
use super::connect::Connection;
use super::notices::Refused;
use super::outgoing::Outgoing;
use super::settings::Mode;
use super::{Nats, classify};
use crate::domain::{Notification, Reason, Verdict};

/// While a stream has no leader nobody answers for its subjects, which looks as if there were no stream; the official clients wait as long.
const NO_LEADER_TRIES: u32 = 2;
const NO_LEADER_WAIT: Duration = Duration::from_millis(250);
/// For the question why no acknowledgement came.
const LOOK_UP: Duration = Duration::from_secs(1);
/// How long a refusal of the first publish to a subject may need inside this process after the server has said it.
const LATE_REFUSAL: Duration = Duration::from_millis(100);
/// A detail is for people.
const MAX_DETAIL: usize = 512;

impl Nats {
    /// One attempt at one event. Dropping it loses the connection for later events, not for those in flight.
    pub(super) async fn attempt(&self, notification: &Notification) -> Verdict {
        let outgoing = match self.outgoing(notification) {
            Ok(outgoing) => outgoing,
            Err(verdict) => return verdict,
        };
        let verdict = match self.link.get(Connection::is_alive, || self.dialer.dial()).await {
            Ok(held) => self.publish(&held, &outgoing).await,
            Err(verdict) => verdict,
        };
        self.without_secrets(verdict)
    }

    async fn publish(&self, held: &Held<Connection>, outgoing: &Outgoing) -> Verdict {
        let doubt = self.link.doubt(held);
        let connection = &held.connection;
        let answer = async {
            match self.mode {
                Mode::JetStream => store(connection, outgoing).await,
                Mode::Core => pass_on(connection, outgoing).await,
            }
        };
        let verdict = match timeout(self.confirm_timeout, answer).await {
            Ok(verdict) => verdict,
            Err(_) => self.unanswered(connection, &outgoing.subject).await,
        };
        // After a refusal, too: permissions may change, and a connection keeps those it began with.
        let is_lost = matches!(verdict.reason, Reason::ConnectionReset | Reason::Unauthorized);
        if !verdict.ambiguous && !is_lost {
            doubt.settle();
        }
        verdict
    }

    /// No answer in time. A subject that no stream takes is answered by nobody if somebody else listens to it, so the server is asked.
    async fn unanswered(&self, connection: &Connection, subject: &str) -> Verdict {
        if self.mode == Mode::JetStream
            && let Ok(Err(error)) = timeout(LOOK_UP, connection.jetstream.stream_by_subject(subject)).await
            && error.kind() == GetStreamByNameErrorKind::NotFound
        {
            return classify::unroutable(subject);
        }
        let detail = format!("no acknowledgement from {} within {:?}", connection.server, self.confirm_timeout);
        Verdict::retry(Reason::Timeout, detail).ambiguous()
    }

    /// Whatever a server says may echo what it was sent.
    pub(super) fn without_secrets(&self, mut verdict: Verdict) -> Verdict {
        let bytes = verdict.detail.as_bytes();
        let end = bytes.len().min(MAX_DETAIL);
        verdict.detail = self.redaction.excerpt(&bytes[..end], end < bytes.len());
        verdict
    }
}

/// Publishes and waits until a stream has the event.
async fn store(connection: &Connection, outgoing: &Outgoing) -> Verdict {
    let mut refusal = connection.notices.refusal_of(&outgoing.subject);
    let mut tries_left = NO_LEADER_TRIES;
    loop {
        let acknowledgement = match connection.jetstream.send_publish(outgoing.subject.clone(), outgoing.publish()).await {
            Ok(acknowledgement) => acknowledgement,
            Err(error) => return classify::unsent(&error),
        };
        let answer = tokio::select! {
            answer = acknowledgement => answer,
            refused = refusal.comes() => return classify::forbidden(refused),
        };
        match answer {
            Ok(ack) => return classify::acknowledged(&ack),
            Err(error) if error.kind() == PublishErrorKind::StreamNotFound && tries_left > 0 => {
                tries_left -= 1;
                sleep(NO_LEADER_WAIT).await;
            }
            Err(error) => return because(classify::unacknowledged(&error, &outgoing.subject), connection),
        }
    }
}

/// Publishes and waits until the server has passed the event on to whoever listens.
async fn pass_on(connection: &Connection, outgoing: &Outgoing) -> Verdict {
    let mut refusal = connection.notices.refusal_of(&outgoing.subject);
    let sent = connection.client.publish_with_headers(outgoing.subject.clone(), outgoing.headers.clone(), outgoing.body.clone());
    match sent.await {
        Ok(()) => {}
        Err(error) if error.kind() == CoreErrorKind::MaxPayloadExceeded => {
            return Verdict::permanent(Reason::TooLarge, error.to_string());
        }
        Err(_) => return Verdict::retry(Reason::ConnectionReset, "the connection was lost before the event was sent"),
    }
    let answered = tokio::select! {
        biased;
        refused = refusal.comes() => return classify::forbidden(refused),
        answered = ask(connection) => answered,
    };
    if let Err(verdict) = answered {
        return because(verdict, connection);
    }
    // A refusal and the answer take different ways through the client, and the refusal may be the slower one.
    if !connection.notices.know(&outgoing.subject) {
        if let Ok(refused) = timeout(LATE_REFUSAL, refusal.comes()).await {
            return classify::forbidden(refused);
        }
        connection.notices.learn(&outgoing.subject);
    }
    Verdict::delivered()
}

/// Asks the server something that it answers in its turn, after everything that it got before: who listens to a subject that
/// nobody knows. The client's own `flush` says no more than that its buffer is empty.
async fn ask(connection: &Connection) -> Result<(), Verdict> {
    let subject = Client::new_inbox(&connection.client);
    let mut refusal = connection.notices.refusal_of(&subject);
    let answer = tokio::select! {
        answer = connection.client.send_request(subject, Request::new().timeout(None)) => answer,
        refused = refusal.comes() => {
            return Err(match refused {
                Refused::Publish(_) => Verdict::handler_fault(
                    Reason::Unauthorized,
                    "nobody can say whether the server has the event, the user must be allowed to publish to inbox_prefix",
                )
                .ambiguous(),
                inbox @ Refused::Inbox(_) => classify::forbidden(inbox),
            });
        }
    };
    match answer {
        Err(error) if error.kind() != RequestErrorKind::NoResponders => Err(classify::broken()),
        _ => Ok(()),
    }
}

/// Why a server hung up, if it said so.
fn because(mut verdict: Verdict, connection: &Connection) -> Verdict {
    if verdict.reason == Reason::ConnectionReset {
        verdict.detail = format!("{}: {}", connection.server, verdict.detail);
        if let Some(last) = connection.notices.last() {
            verdict.detail.push_str(&format!("; the server said: {last}"));
        }
    }
    verdict
}
