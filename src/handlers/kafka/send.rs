//! One attempt: makes a record of the event, hands it to the one producer, and waits for its report. A dropped attempt leaves the
//! event with librdkafka for `confirm_timeout` at most, before every later event of its key.

use std::borrow::Cow;
use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::envelope::Envelope;
use super::super::link::Held;
use super::classify::{self, Report};
use super::producer::{Producer, Record};
use super::{Kafka, topic};
use crate::domain::{Notification, Outcome, Reason, Verdict};

/// The time that librdkafka may need beyond `confirm_timeout` to report an event that it gave up: it looks once a second.
const LATE_REPORT: Duration = Duration::from_secs(3);

/// The record of one event.
struct Addressed<'n> {
    topic: Cow<'n, str>,
    key: Cow<'n, str>,
    envelope: Envelope<'n>,
}

impl Kafka {
    /// One attempt at one event.
    pub(super) async fn publish(&self, notification: &Notification) -> Verdict {
        let verdict = match self.addressed(notification) {
            Ok(event) => self.deliver_to_cluster(notification, &event).await,
            Err(refusal) => return refusal,
        };
        Verdict { detail: self.redaction.excerpt(verdict.detail.as_bytes(), false), ..verdict }
    }

    fn addressed<'n>(&'n self, notification: &'n Notification) -> Result<Addressed<'n>, Verdict> {
        let topic = self.topic.render(notification).map_err(|missing| missing.verdict("topic"))?;
        if let Some(problem) = topic::problem(&topic) {
            return Err(Verdict::permanent(Reason::Unaddressable, format!("{topic:?} is no topic: {problem}")));
        }
        let key = match &self.partition_key {
            Some(template) => template.render(notification).map_err(|missing| missing.verdict("partition_key"))?,
            // Without a key an event is in no order with anything, and its id spreads such events evenly.
            None => notification.key.as_deref().map_or_else(|| Cow::Owned(notification.id.to_string()), Cow::Borrowed),
        };
        Ok(Addressed { topic, key, envelope: self.layout.envelope(notification)? })
    }

    async fn deliver_to_cluster(&self, notification: &Notification, event: &Addressed<'_>) -> Verdict {
        let start = || Producer::start(&self.config, &event.topic);
        let held = match self.link.get(Producer::is_usable, start).await {
            Ok(held) => held,
            Err(verdict) => return verdict,
        };
        let verdict = self.send(&held, notification, event).await;
        let is_doubtful = verdict.ambiguous && verdict.outcome == Outcome::Retry;
        // After a fault the next one begins with what the cluster says then; librdkafka would remember for minutes that a topic is
        // missing or forbidden.
        if is_doubtful || verdict.outcome == Outcome::HandlerFault {
            self.link.give_up(&held);
        }
        verdict
    }

    async fn send(&self, held: &Held<Producer>, notification: &Notification, event: &Addressed<'_>) -> Verdict {
        let verdict = {
            let _in_company = self.company.read().await;
            self.exchange(&held.connection, notification, event).await
        };
        if verdict.outcome != Outcome::Permanent {
            return verdict;
        }
        // Brokers refuse whole requests. Only an event that is refused when it is alone in one has itself to blame.
        let _alone = self.company.write().await;
        let is_alone = held.connection.is_idle();
        let verdict = self.exchange(&held.connection, notification, event).await;
        match verdict.outcome {
            Outcome::Permanent if !is_alone => Verdict::retry(verdict.reason, verdict.detail),
            _ => verdict,
        }
    }

    async fn exchange(&self, producer: &Producer, notification: &Notification, event: &Addressed<'_>) -> Verdict {
        let (sender, report) = oneshot::channel();
        let report = match producer.send(record(event, sender)) {
            Err(error) => classify::not_taken(&error),
            Ok(()) => match timeout(self.confirm_timeout + LATE_REPORT, report).await {
                Ok(Ok(report)) => report,
                _ => return Verdict::retry(Reason::Timeout, "no report from librdkafka in time").ambiguous(),
            },
        };
        if report.error.is_none() {
            let Report { partition, offset, .. } = report;
            tracing::debug!(event_id = %notification.id, topic = %event.topic, partition, offset, "event stored");
        }
        classify::reported(&producer.explained(report), producer.trouble().as_ref())
    }
}

// Without a timestamp: Kafka deletes by it, and an event of last year would be gone before a consumer has read it.
fn record<'r>(event: &'r Addressed<'_>, sender: oneshot::Sender<Report>) -> Record<'r> {
    let envelope = &event.envelope;
    let content_type = Header { key: "content-type", value: Some(envelope.content_type) };
    let headers = OwnedHeaders::new_with_capacity(envelope.headers.len() + 1).insert(content_type);
    let headers = envelope
        .headers
        .iter()
        .fold(headers, |headers, (name, value)| headers.insert(Header { key: name, value: Some(value.as_ref()) }));
    Record::with_opaque_to(&event.topic, Box::new(sender)).key(event.key.as_bytes()).payload(&envelope.body).headers(headers)
}
