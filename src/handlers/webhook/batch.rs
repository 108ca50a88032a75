//! Several events in one request: an array of them, and one answer for all or one verdict for each.
//!
//! A batch that fails says nothing about any one of its events. No attempt is spent on them. They are sent again in smaller
//! groups, and at last each alone, so one bad event costs the others a few requests and never an attempt.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::envelope::{Format, rfc_3339};
use super::classify::{self, Answer};
use super::send::{Exchanged, ID, SIGNATURE, TEST, TIMESTAMP};
use super::{Webhook, body};
use crate::domain::{Notification, Outcome, Reason, Verdict};
use crate::telemetry::TraceContext;

const BATCH: HeaderName = HeaderName::from_static("webhook-batch");
/// The answer that has a verdict for each event.
const MULTI_STATUS: u16 = 207;
/// The bytes that such an answer may need for one event; read even if `max_response` is less.
const VERDICT_BYTES: usize = 512;
/// Events in doubt that are remembered; more, and all begin anew in full company.
const MOST_IN_DOUBT: usize = 16_384;

/// How many events go together, and for how long the first of them waits for the others.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    /// Above 1.
    pub events: usize,
    /// Of one body. A single event may be larger.
    pub bytes: usize,
    pub wait: Duration,
}

/// Events that were in a batch that failed, and how often.
#[derive(Default)]
pub struct Doubts(Mutex<HashMap<Uuid, u8>>);

impl Doubts {
    fn of(&self, id: Uuid) -> u8 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied().unwrap_or(0)
    }

    fn learn(&self, group: &[&Notification], verdicts: &[Verdict]) {
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (notification, verdict) in group.iter().zip(verdicts) {
            if verdict.reach == crate::domain::Reach::Another {
                if doubts.len() >= MOST_IN_DOUBT {
                    doubts.clear();
                }
                *doubts.entry(notification.id).or_default() += 1;
            } else if verdict.outcome != Outcome::Retry {
                doubts.remove(&notification.id);
            }
        }
    }
}

/// Events that go together after so many batches that failed: all, their root, each alone.
fn company(events: usize, doubts: u8) -> usize {
    match doubts {
        0 => events,
        1 => events.isqrt().max(1),
        _ => 1,
    }
}

impl Webhook {
    /// One attempt at each of them, in as few requests as may be. In their order.
    pub(super) async fn exchange_all(&self, batch: Batch, notifications: Vec<&Notification>) -> Vec<Verdict> {
        let deadline = Instant::now() + self.request_timeout;
        let mut verdicts: Vec<Option<Verdict>> = notifications.iter().map(|notification| self.refusal(notification)).collect();
        let mut open: Vec<(u8, usize)> =
            (0..notifications.len()).filter(|n| verdicts[*n].is_none()).map(|n| (self.doubts.of(notifications[n].id), n)).collect();
        open.sort_by_key(|(doubts, place)| (*doubts, *place));
        let requests = self.split(batch, &notifications, &open).into_iter().map(|places| async {
            let group: Vec<&Notification> = places.iter().map(|place| notifications[*place]).collect();
            let answers = self.exchange_batch(&group, deadline).await;
            self.doubts.learn(&group, &answers);
            (places, answers)
        });
        for (places, answers) in join_all(requests).await {
            places.into_iter().zip(answers).for_each(|(place, answer)| verdicts[place] = Some(answer));
        }
        let forgotten = || Verdict::retry(Reason::Failed, "it was in no request").of_another();
        verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(forgotten)).collect()
    }

    /// Which events go out together: indexes of `notifications`, by number, by bytes and by doubts.
    fn split(&self, batch: Batch, notifications: &[&Notification], open: &[(u8, usize)]) -> Vec<Vec<usize>> {
        let mut requests: Vec<Vec<usize>> = Vec::new();
        let (mut bytes, mut last_doubts) = (0, 0);
        for &(doubts, place) in open {
            let size = notifications[place].bytes();
            let has_room = requests.last().is_some_and(|request| {
                doubts == last_doubts && request.len() < company(batch.events, doubts) && bytes + size <= batch.bytes
            });
            match requests.last_mut() {
                Some(request) if has_room => {
                    request.push(place);
                    bytes += size;
                }
                _ => {
                    requests.push(vec![place]);
                    bytes = size;
                }
            }
            last_doubts = doubts;
        }
        requests
    }

    async fn exchange_batch(&self, group: &[&Notification], deadline: Instant) -> Vec<Verdict> {
        let request = self.request_of_all(group, jiff::Timestamp::now().as_second());
        let most = self.max_response.max(group.len() * VERDICT_BYTES);
        match self.exchanged(request, deadline, most).await {
            Ok(Exchanged { head, body, is_whole }) if head.status == MULTI_STATUS => self.verdicts(group, &head, &body, is_whole),
            Ok(exchanged) => self.of_all(group.len(), self.judge(exchanged)),
            Err(verdict) => self.of_all(group.len(), verdict),
        }
    }

    /// One verdict for a whole batch. What may be the fault of one of them is that of none, unless it was alone.
    fn of_all(&self, count: usize, verdict: Verdict) -> Vec<Verdict> {
        let is_of_one = match verdict.outcome {
            Outcome::Permanent => true,
            Outcome::Retry => !verdict.reason.is_unreachable(),
            _ => false,
        };
        let verdict = match is_of_one && count > 1 {
            true => {
                let detail = format!("one of {count} events in a request: {}", verdict.detail);
                Verdict { outcome: Outcome::Retry, detail, ..verdict }.of_another()
            }
            false => verdict,
        };
        vec![verdict; count]
    }

    /// The receiver's verdict on each event. Nothing is known of an event that it does not name.
    fn verdicts(&self, group: &[&Notification], head: &Answer, body: &[u8], is_whole: bool) -> Vec<Verdict> {
        let unclear = |why: &str| Verdict::retry(Reason::InvalidAnswer, why).with_status(MULTI_STATUS).ambiguous();
        if !is_whole {
            return self.of_all(group.len(), unclear("a 207 that was longer than is read, or broken off"));
        }
        let Ok(results) = serde_json::from_slice::<Results>(body) else {
            return self.of_all(group.len(), unclear("a 207 without {\"results\": [{\"id\": .., \"status\": ..}]}"));
        };
        let mut told: HashMap<Uuid, Result<ResultOf, ()>> = HashMap::new();
        for result in results.results {
            // Two verdicts on one event are none.
            told.entry(result.id).and_modify(|twice| *twice = Err(())).or_insert(Ok(result));
        }
        let verdict = |notification: &&Notification| match told.remove(&notification.id) {
            Some(Ok(ResultOf { status, detail, retry_after, .. })) if (200..=599).contains(&status) && status != MULTI_STATUS => {
                let excerpt = self.redaction.excerpt(detail.unwrap_or_default().as_bytes(), false);
                let excerpt = if excerpt.is_empty() { format!("{status} within a 207") } else { excerpt };
                let asked = retry_after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                let answer = Answer { status, excerpt, retry_after: asked.or(head.retry_after), location_host: None };
                classify::answered(answer, &self.rules)
            }
            Some(Ok(_)) => unclear("a 207 with a status for this event that is none"),
            Some(Err(())) => unclear("a 207 with two statuses for this event"),
            None => unclear("a 207 without a status for this event"),
        };
        group.iter().map(verdict).collect()
    }

    fn request_of_all(&self, group: &[&Notification], timestamp: i64) -> Request<Full<Bytes>> {
        let mut headers = self.headers.clone();
        let (id, body) = (id_of_all(group), self.body_of_all(group));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.format.batch_content_type()));
        headers.insert(BATCH, HeaderValue::from(group.len()));
        headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
        // A request has one header for all of them: where they differ, none is true.
        let announcements = |notification: &Notification| notification.contract.as_ref().map(|public| public.announcements.clone());
        let first = announcements(group[0]).filter(|first| group.iter().all(|one| announcements(one).as_ref() == Some(first)));
        for (name, value) in first.iter().flatten() {
            body::put(&mut headers, name, value);
        }
        if group.iter().any(|notification| notification.is_test) {
            headers.insert(TEST, HeaderValue::from_static("true"));
        }
        if !self.signer.is_empty() {
            let signature = self.signer.sign(&id, timestamp, &body);
            headers.insert(SIGNATURE, HeaderValue::from_str(&signature).expect("a signature is printable ASCII"));
        }
        headers.insert(ID, body::header_value(&id));
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = headers;
        request
    }

    fn body_of_all(&self, group: &[&Notification]) -> Vec<u8> {
        let mut body = Vec::with_capacity(group.iter().map(|notification| notification.bytes() + 256).sum());
        for (place, notification) in group.iter().enumerate() {
            body.push(if place == 0 { b'[' } else { b',' });
            match self.format {
                Format::CloudEventsStructured => {
                    let id = notification.id.to_string();
                    let trace = TraceContext::of(&notification.headers);
                    body.extend_from_slice(&self.cloud_events.structured(notification, &id, &trace));
                }
                Format::Plain | Format::CloudEventsBinary => write_plain(notification, &mut body),
            }
        }
        body.push(b']');
        body
    }
}

/// The same for the same events in the same order, as an idempotency key must be.
fn id_of_all(group: &[&Notification]) -> String {
    let mut hash = Sha256::new();
    group.iter().for_each(|notification| hash.update(notification.id.as_bytes()));
    let digest = hash.finalize();
    format!("batch-{}", Uuid::from_slice(&digest[..16]).unwrap_or_default().simple())
}

/// An event of a batch in the format `plain`; the payload is spliced in as it was recorded.
fn write_plain(notification: &Notification, body: &mut Vec<u8>) {
    #[derive(serde::Serialize)]
    struct Plain<'n> {
        id: Uuid,
        #[serde(rename = "type")]
        event_type: &'n str,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        time: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        aggregate_type: Option<&'n str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        aggregate_id: Option<&'n str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        aggregate_version: Option<i64>,
        attempt: u32,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        replay: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        test: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        traceparent: Option<&'n str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tracestate: Option<&'n str>,
    }
    let trace = TraceContext::of(&notification.headers);
    let plain = Plain {
        id: notification.id,
        event_type: &notification.event_type,
        version: notification.contract.as_ref().map(|public| public.version),
        time: rfc_3339(notification.occurred_at),
        aggregate_type: notification.aggregate_type.as_deref(),
        aggregate_id: notification.aggregate_id.as_deref(),
        aggregate_version: notification.aggregate_version,
        attempt: notification.attempt,
        replay: notification.is_replay,
        test: notification.is_test,
        traceparent: trace.parent(),
        tracestate: trace.state(),
    };
    serde_json::to_writer(&mut *body, &plain).expect("texts and numbers are JSON");
    body.pop();
    body.extend_from_slice(b",\"data\":");
    body.extend_from_slice(notification.payload.as_bytes());
    body.push(b'}');
}

/// The body of a 207. What else stands in it is the receiver's business.
#[derive(Deserialize)]
struct Results {
    results: Vec<ResultOf>,
}

#[derive(Deserialize)]
struct ResultOf {
    id: Uuid,
    /// As if the event had been sent alone.
    status: u16,
    #[serde(default)]
    detail: Option<String>,
    /// Seconds.
    #[serde(default)]
    retry_after: Option<f64>,
}
