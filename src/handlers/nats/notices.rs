//! Notices: errors that a server reports on the connection and not to the publish that caused them. A publish without permission
//! has no answer, only an error on the connection that names its subject; this module assigns it to the publish that waits.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::{Event, ServerError};
use tokio::sync::watch;

const NO_PUBLISH: &str = "Permissions Violation for Publish to ";
const NO_INBOX: &str = "Permissions Violation for Subscription to ";
/// Subjects that are remembered; beyond, some are found out again.
const MOST_KNOWN: usize = 10_000;

/// Everything that the server of one connection said unasked.
#[derive(Debug, Clone, Default)]
pub struct Notices(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    told: watch::Sender<Told>,
    /// How many publishes were refused, for those who only want to know whether any was.
    refusals: AtomicUsize,
}

#[derive(Debug, Default)]
struct Told {
    /// The subjects of refused publishes, as the server quotes them. Does not grow: a connection with a refusal is given up.
    refused: Vec<String>,
    /// The connection may not subscribe to where acknowledgements arrive: there will never be one.
    no_inbox: Option<String>,
    /// Subjects of which the server is known to take a publish.
    taken: HashSet<String>,
    /// The last other error, which usually is why the server then hung up.
    last: Option<String>,
}

/// Waits for the refusal of one publish.
#[derive(Debug)]
pub struct Refusal {
    told: watch::Receiver<Told>,
    subject: String,
    before: usize,
}

/// The refused subject or operation.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not stored.
    Publish(String),
    /// Perhaps stored; no answer will ever say so.
    Inbox(String),
}

impl Notices {
    /// Records the client library's reports about the connection.
    pub fn hear(&self, event: &Event) {
        if let Event::ServerError(error) = event {
            self.0.told.send_modify(|told| {
                told.note(error);
                self.0.refusals.store(told.refused.len(), Ordering::Release);
            });
        }
    }

    /// How many publishes have been refused.
    pub fn refusals(&self) -> usize {
        self.0.refusals.load(Ordering::Acquire)
    }

    /// The refusal of a publish to this subject, which went out when so many had been refused `before`.
    pub fn refusal_of(&self, subject: &str, before: usize) -> Refusal {
        Refusal { told: self.0.told.subscribe(), subject: format!("{subject:?}"), before }
    }

    /// Whether nothing has been refused: who was refused something once will be again, so that the connection is of no more use.
    pub fn are_clean(&self) -> bool {
        let told = self.0.told.borrow();
        told.refused.is_empty() && told.no_inbox.is_none()
    }

    /// Whether a publish to this subject went through before.
    pub fn know(&self, subject: &str) -> bool {
        self.0.told.borrow().taken.contains(subject)
    }

    /// A publish to this subject went through.
    pub fn learn(&self, subject: &str) {
        self.0.told.send_if_modified(|told| {
            if told.taken.len() >= MOST_KNOWN {
                told.taken.clear();
            }
            told.taken.insert(subject.to_owned());
            false // nobody waits for it
        });
    }

    /// The last error that was not about permissions.
    pub fn last(&self) -> Option<String> {
        self.0.told.borrow().last.clone()
    }
}

impl Refusal {
    /// Ends when the publish is refused; goes on for ever when it is not.
    pub async fn comes(&mut self) -> Refused {
        let Self { told, subject, before } = self;
        let is_refused = |told: &Told| told.no_inbox.is_some() || told.refused[*before..].contains(subject);
        // In a block, because what is borrowed here must not be held while waiting for ever.
        let refused = {
            let told = told.wait_for(is_refused).await.ok();
            told.map(|told| told.no_inbox.clone().map_or_else(|| Refused::Publish(subject.clone()), Refused::Inbox))
        };
        match refused {
            Some(refused) => refused,
            None => std::future::pending().await,
        }
    }
}

impl Told {
    fn note(&mut self, error: &ServerError) {
        let text = match error {
            ServerError::Other(text) => text.clone(),
            ServerError::AuthorizationViolation => "authorization violation".to_owned(),
            _ => return, // about reading, which we do not
        };
        if let Some(subject) = text.strip_prefix(NO_PUBLISH) {
            self.refused.push(subject.to_owned());
        } else if text.starts_with(NO_INBOX) {
            self.no_inbox = Some(text);
        } else {
            self.last = Some(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn say(notices: &Notices, text: &str) {
        notices.hear(&Event::ServerError(ServerError::Other(text.to_owned())));
    }

    #[tokio::test]
    async fn a_refusal_reaches_the_publish_that_waits_for_it_and_no_other() {
        let notices = Notices::default();
        say(&notices, "Permissions Violation for Publish to \"orders.placed\"");
        let (mut mine, mut other) = (notices.refusal_of("orders.placed", 1), notices.refusal_of("orders.paid", 1));
        assert_eq!(mine.comes().now_or_never(), None, "an older refusal is none of ours");
        say(&notices, "Permissions Violation for Publish to \"orders.placed\"");
        assert_eq!(mine.comes().now_or_never(), Some(Refused::Publish("\"orders.placed\"".to_owned())));
        assert_eq!(other.comes().now_or_never(), None);
    }

    #[tokio::test]
    async fn without_an_inbox_every_publish_waits_in_vain() {
        let notices = Notices::default();
        say(&notices, "Permissions Violation for Subscription to \"_INBOX.a.*\"");
        let answer = notices.refusal_of("orders.placed", 0).comes().now_or_never();
        assert_eq!(answer, Some(Refused::Inbox("Permissions Violation for Subscription to \"_INBOX.a.*\"".to_owned())));
    }

    #[test]
    fn a_refusal_ends_the_use_of_a_connection() {
        let notices = Notices::default();
        notices.learn("orders.placed");
        assert!(notices.are_clean() && notices.know("orders.placed") && !notices.know("orders.paid"));
        say(&notices, "Permissions Violation for Publish to \"orders.paid\"");
        assert!(!notices.are_clean());
    }

    #[test]
    fn why_a_server_hung_up_is_remembered() {
        let notices = Notices::default();
        notices.hear(&Event::Connected);
        assert_eq!(notices.last(), None);
        say(&notices, "Stale Connection");
        say(&notices, "Permissions Violation for Publish to \"x\"");
        assert_eq!(notices.last().as_deref(), Some("Stale Connection"));
    }
}
