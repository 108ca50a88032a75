//! Attempts: with JetStream as in `store`, with core NATS one by one here. A connection on which an answer is still open is given
//! up, also after an attempt that the relay aborted; the next attempt starts with a new connection.

use std::time::Duration;

use async_nats::client::{Request, RequestErrorKind};
use async_nats::{Client, PublishErrorKind as CoreErrorKind};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::super::link::Held;
use super::connect::Connection;
use super::notices::Refused;
use super::outgoing::Outgoing;
use super::settings::Mode;
use super::{Nats, classify};
use crate::domain::{Notification, Reason, Verdict};

/// How long a refusal of the first publish to a subject may need inside this process after the server has said it.
const LATE_REFUSAL: Duration = Duration::from_millis(100);
/// A detail is for display.
const MAX_DETAIL: usize = 512;

/// Whether the connection is in doubt after this. After a refusal, too: permissions may change, and a connection keeps
/// those it began with.
pub(super) fn leaves_doubt(verdict: &Verdict) -> bool {
    verdict.ambiguous || matches!(verdict.reason, Reason::ConnectionReset | Reason::Unauthorized)
}

/// The verdicts of events that left together: where the connection ended under several, another one may be the reason.
pub(super) fn excused(verdicts: Vec<Verdict>, held: &Held<Connection>) -> Vec<Verdict> {
    let is_over = |verdict: &Verdict| verdict.reason == Reason::ConnectionReset;
    if !verdicts.iter().any(is_over) || !(verdicts.len() > 1 || held.had_company()) {
        return verdicts;
    }
    verdicts.into_iter().map(|verdict| if is_over(&verdict) { verdict.of_another() } else { verdict }).collect()
}

impl Nats {
    /// One attempt at each event.
    pub(super) async fn attempt_all(&self, notifications: Vec<&Notification>) -> Vec<Verdict> {
        let verdicts = match self.mode {
            Mode::JetStream => self.store_all(notifications).await,
            Mode::Core => join_all(notifications.into_iter().map(|notification| self.tell(notification))).await,
        };
        verdicts.into_iter().map(|verdict| self.without_secrets(verdict)).collect()
    }

    /// One attempt with core NATS. Dropping it loses the connection for later events, not for those in flight.
    async fn tell(&self, notification: &Notification) -> Verdict {
        let outgoing = match self.outgoing(notification) {
            Ok(outgoing) => outgoing,
            Err(verdict) => return verdict,
        };
        let held = match self.link.get(Connection::is_alive, || self.dialer.dial()).await {
            Ok(held) => held,
            Err(verdict) => return verdict,
        };
        let doubt = self.link.doubt(&held);
        let answer = timeout(self.confirm_timeout, pass_on(&held.connection, outgoing)).await;
        let verdict = answer.unwrap_or_else(|_| self.too_late(&held.connection));
        let verdict = excused(vec![verdict], &held).remove(0);
        if !leaves_doubt(&verdict) {
            doubt.settle();
        }
        verdict
    }

    /// No answer came in time.
    pub(super) fn too_late(&self, connection: &Connection) -> Verdict {
        let detail = format!("no acknowledgement from {} within {:?}", connection.server, self.confirm_timeout);
        Verdict::retry(Reason::Timeout, detail).ambiguous()
    }

    /// Whatever a server says may echo what it was sent.
    pub(super) fn without_secrets(&self, mut verdict: Verdict) -> Verdict {
        if verdict.detail.is_empty() {
            return verdict;
        }
        let bytes = verdict.detail.as_bytes();
        let end = bytes.len().min(MAX_DETAIL);
        verdict.detail = self.redaction.excerpt(&bytes[..end], end < bytes.len());
        verdict
    }
}

/// Publishes and waits until the server has passed the event on to its subscribers.
async fn pass_on(connection: &Connection, outgoing: Outgoing) -> Verdict {
    let Outgoing { subject, headers, body } = outgoing;
    let mut refusal = connection.notices.refusal_of(&subject, connection.notices.refusals());
    let sent = connection.client.publish_with_headers(subject.clone(), headers, body);
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
    if !connection.notices.know(&subject) {
        if let Ok(refused) = timeout(LATE_REFUSAL, refusal.comes()).await {
            return classify::forbidden(refused);
        }
        connection.notices.learn(&subject);
    }
    Verdict::delivered()
}

/// Asks the server something that it answers in its turn, after everything that it got before: who listens to a subject that
/// unknown. The client's own `flush` says only that its buffer is empty.
async fn ask(connection: &Connection) -> Result<(), Verdict> {
    let subject = Client::new_inbox(&connection.client);
    let mut refusal = connection.notices.refusal_of(&subject, connection.notices.refusals());
    let answer = tokio::select! {
        answer = connection.client.send_request(subject, Request::new().timeout(None)) => answer,
        refused = refusal.comes() => {
            return Err(match refused {
                Refused::Publish(_) => Verdict::handler_fault(
                    Reason::Unauthorized,
                    "it is unknown whether the server has the event; the user must be allowed to publish to inbox_prefix",
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
pub(super) fn because(mut verdict: Verdict, connection: &Connection) -> Verdict {
    if verdict.reason == Reason::ConnectionReset {
        verdict.detail = format!("{}: {}", connection.server, verdict.detail);
        if let Some(last) = connection.notices.last() {
            verdict.detail.push_str(&format!("; the server said: {last}"));
        }
    }
    verdict
}
