//! One exchange: a request out, an answer in, within one deadline. Never sends twice and never follows a redirect;
//! a request goes out again only if it met a pooled connection that was dead before its first byte was written.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::super::failure::{self, Failure, failed};
use super::classify::{self, Answer};
use super::pool::{NoAnswer, Sender};
use super::{Webhook, body, retry_after};
use crate::domain::{Notification, Reason, Verdict};
use crate::settings::format_bytes;

pub(super) const ID: HeaderName = HeaderName::from_static("webhook-id");
pub(super) const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const EVENT_TYPE: HeaderName = HeaderName::from_static("webhook-event-type");
const EVENT_VERSION: HeaderName = HeaderName::from_static("webhook-event-version");
const AGGREGATE_TYPE: HeaderName = HeaderName::from_static("webhook-aggregate-type");
const AGGREGATE_ID: HeaderName = HeaderName::from_static("webhook-aggregate-id");
const AGGREGATE_VERSION: HeaderName = HeaderName::from_static("webhook-aggregate-version");
const ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");
const REPLAY: HeaderName = HeaderName::from_static("webhook-replay");
pub(super) const TEST: HeaderName = HeaderName::from_static("webhook-test");

/// How the reading of a body ended.
enum BodyEnd {
    Complete,
    /// It was longer than is read; the connection is given up.
    Cut,
    Stalled,
    Broken(hyper::Error),
}

/// A complete exchange.
pub(super) struct Exchanged {
    /// Without the excerpt.
    pub head: Answer,
    pub body: Vec<u8>,
    pub is_whole: bool,
}

impl Webhook {
    /// One attempt at one event. Dropping it closes the connection and leaves nothing behind.
    pub(super) async fn exchange(&self, notification: &Notification) -> Verdict {
        if let Some(refusal) = self.refusal(notification) {
            return refusal;
        }
        let now = jiff::Timestamp::now();
        let request = match self.request(notification, now.as_second()) {
            Ok(request) => request,
            Err(refusal) => return refusal,
        };
        match self.exchanged(request, Instant::now() + self.request_timeout, self.max_response).await {
            Ok(exchanged) => self.judge(exchanged),
            Err(verdict) => verdict,
        }
    }

    /// A request out and an answer in, of whose body at most so many bytes are read. The verdict says why there is none.
    pub(super) async fn exchanged(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
        most: usize,
    ) -> Result<Exchanged, Verdict> {
        match timeout_at(deadline, self.pool.send(&self.connector, request)).await {
            Ok(Ok((response, sender))) => self.answer(response, sender, deadline, most).await,
            Ok(Err(NoAnswer::NotConnected(no))) => Err(failed(no.failure, no.text)),
            Ok(Err(NoAnswer::Broken { error, sent })) => Err(self.failure(&error, sent)),
            Err(_) => Err(self.too_late("no answer")),
        }
    }

    /// The refusal of an event that is known without a connection.
    pub(super) fn refusal(&self, notification: &Notification) -> Option<Verdict> {
        let bytes = notification.payload.len();
        (bytes > self.max_payload).then(|| {
            let detail = format!("the payload has {bytes} bytes, max_payload is {}", format_bytes(self.max_payload as u64));
            Verdict::permanent(Reason::TooLarge, detail)
        })
    }

    fn request(&self, notification: &Notification, timestamp: i64) -> Result<Request<Full<Bytes>>, Verdict> {
        let mut buffer = Uuid::encode_buffer();
        let id: &str = notification.id.hyphenated().encode_lower(&mut buffer);
        let mut headers = self.headers.clone();
        self.of_event.add(notification, &mut headers)?;
        let body = body::encode(self.format, notification, id, &self.cloud_events, &mut headers);
        headers.insert(ID, body::header_value(id));
        headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
        headers.insert(EVENT_TYPE, body::header_value(&notification.event_type));
        if let Some(public) = &notification.contract {
            headers.insert(EVENT_VERSION, HeaderValue::from(public.version));
            for (name, value) in &public.announcements {
                body::put(&mut headers, name, value);
            }
        }
        headers.insert(ATTEMPT, HeaderValue::from(notification.attempt));
        put_aggregate(notification, &mut headers);
        if notification.is_replay {
            headers.insert(REPLAY, HeaderValue::from_static("true"));
        }
        if notification.is_test {
            headers.insert(TEST, HeaderValue::from_static("true"));
        }
        if !self.signer.is_empty() {
            let signature = self.signer.sign(id, timestamp, &body);
            headers.insert(SIGNATURE, HeaderValue::from_str(&signature).expect("a signature is printable ASCII"));
        }
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn answer(
        &self,
        response: Response<Incoming>,
        sender: Sender,
        deadline: Instant,
        most: usize,
    ) -> Result<Exchanged, Verdict> {
        let status = response.status();
        let head = self.head(&response);
        let (body, end) = read_body(response.into_body(), most, deadline).await;
        if matches!(end, BodyEnd::Complete) {
            self.pool.give_back(sender);
        }
        match end {
            // A success is one only when the answer is complete; any other status speaks for itself.
            BodyEnd::Stalled if status.is_success() => Err(self.too_late("an incomplete answer").with_status(status.as_u16())),
            BodyEnd::Broken(error) if status.is_success() => Err(self.failure(&error, true).with_status(status.as_u16())),
            end => Ok(Exchanged { head, body, is_whole: matches!(end, BodyEnd::Complete) }),
        }
    }

    /// The verdict for all events of a request.
    pub(super) fn judge(&self, Exchanged { head, body, is_whole }: Exchanged) -> Verdict {
        let status = StatusCode::from_u16(head.status);
        let excerpt = match (200..300).contains(&head.status) {
            true => String::new(),
            false => self.redaction.excerpt(&body, !is_whole),
        };
        let excerpt = if excerpt.is_empty() { status.map(|status| status.to_string()).unwrap_or_default() } else { excerpt };
        classify::answered(Answer { excerpt, ..head }, &self.rules)
    }

    fn head(&self, response: &Response<Incoming>) -> Answer {
        let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let location = text(LOCATION).and_then(|location| self.url.join(location).ok());
        Answer {
            status: response.status().as_u16(),
            excerpt: String::new(),
            retry_after: text(RETRY_AFTER).and_then(|wish| retry_after::parse(wish, jiff::Timestamp::now())),
            location_host: location.and_then(|url| url.host_str().map(str::to_owned)),
        }
    }

    fn failure(&self, error: &hyper::Error, sent: bool) -> Verdict {
        let detail = format!("{}: {}", self.connector.target(), failure::root_text(error));
        failed(failure::failure_of(error, sent), detail)
    }

    fn too_late(&self, what: &str) -> Verdict {
        failed(Failure::Timeout, format!("{what} from {} within {:?}", self.connector.target(), self.request_timeout))
    }
}

/// Adds the aggregate of the event, in every format: a body alone does not name it.
fn put_aggregate(notification: &Notification, headers: &mut HeaderMap) {
    for (name, value) in [(AGGREGATE_TYPE, &notification.aggregate_type), (AGGREGATE_ID, &notification.aggregate_id)] {
        if let Some(value) = value {
            headers.insert(name, body::header_value(value));
        }
    }
    if let Some(version) = notification.aggregate_version {
        headers.insert(AGGREGATE_VERSION, HeaderValue::from(version));
    }
}

/// Reads at most `limit` bytes and not beyond the deadline; a longer body is cut, not waited for.
async fn read_body(mut answer: Incoming, limit: usize, deadline: Instant) -> (Vec<u8>, BodyEnd) {
    let mut body = Vec::new();
    loop {
        match timeout_at(deadline, answer.frame()).await {
            Ok(Some(Ok(frame))) => {
                let Ok(chunk) = frame.into_data() else { continue }; // trailers say nothing that we want to know
                let room = limit - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    return (body, BodyEnd::Cut);
                }
            }
            Ok(None) => return (body, BodyEnd::Complete),
            Ok(Some(Err(error))) => return (body, BodyEnd::Broken(error)),
            Err(_) => return (body, BodyEnd::Stalled),
        }
    }
}
