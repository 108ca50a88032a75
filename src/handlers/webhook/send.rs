//! One exchange: a request out, an answer in, within one deadline. Never sends twice and never follows a redirect;
//! hyper repeats a request on its own only if it took a pooled connection that was dead before the first byte was written.

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Request, Response};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::classify::{self, Answer, Failure};
use super::{Webhook, body, retry_after, transport};
use crate::domain::{Notification, Reason, Verdict};
use crate::settings::format_bytes;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const EVENT_TYPE: HeaderName = HeaderName::from_static("webhook-event-type");
const ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");
const REPLAY: HeaderName = HeaderName::from_static("webhook-replay");
const TEST: HeaderName = HeaderName::from_static("webhook-test");

/// How the reading of a body ended.
enum BodyEnd {
    Complete,
    /// It was longer than is read; the connection is given up.
    Cut,
    Stalled,
    Broken(reqwest::Error),
}

impl Webhook {
    /// One attempt at one event. Dropping it closes the connection and leaves nothing behind.
    pub(super) async fn exchange(&self, notification: &Notification) -> Verdict {
        if let Some(refusal) = self.refusal(notification) {
            return refusal;
        }
        let now = jiff::Timestamp::now();
        let request = self.request(notification, now.as_second());
        let deadline = Instant::now() + self.request_timeout;
        match timeout_at(deadline, self.client.execute(request)).await {
            Ok(Ok(response)) => self.answer(response, deadline).await,
            Ok(Err(error)) => self.failure(&error),
            Err(_) => self.too_late("no answer"),
        }
    }

    /// What needs no connection to be known.
    fn refusal(&self, notification: &Notification) -> Option<Verdict> {
        if self.is_blocked {
            let detail = format!("the egress rules ({}) forbid the address {}", self.egress.as_str(), self.target);
            return Some(Verdict::handler_fault(Reason::EgressBlocked, detail));
        }
        let bytes = notification.payload.len();
        (bytes > self.max_payload).then(|| {
            let detail = format!("the payload has {bytes} bytes, max_payload is {}", format_bytes(self.max_payload as u64));
            Verdict::permanent(Reason::TooLarge, detail)
        })
    }

    fn request(&self, notification: &Notification, timestamp: i64) -> Request {
        let mut buffer = Uuid::encode_buffer();
        let id: &str = notification.id.hyphenated().encode_lower(&mut buffer);
        let mut headers = self.headers.clone();
        let body = self.format.encode(notification, id, &self.source, &mut headers);
        headers.insert(ID, body::header_value(id));
        headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
        headers.insert(EVENT_TYPE, body::header_value(&notification.event_type));
        headers.insert(ATTEMPT, HeaderValue::from(notification.attempt));
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
        let mut request = Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        request
    }

    async fn answer(&self, mut response: Response, deadline: Instant) -> Verdict {
        let status = response.status();
        let head = self.head(&response);
        let (body, end) = read_body(&mut response, self.max_response, deadline).await;
        match end {
            // A success is one only when the answer is complete; any other status speaks for itself.
            BodyEnd::Stalled if status.is_success() => self.too_late("an incomplete answer").with_status(status.as_u16()),
            BodyEnd::Broken(error) if status.is_success() => self.failure(&error).ambiguous().with_status(status.as_u16()),
            end => {
                let excerpt = match status.is_success() {
                    true => String::new(),
                    false => self.redaction.excerpt(&body, !matches!(end, BodyEnd::Complete)),
                };
                let excerpt = if excerpt.is_empty() { status.to_string() } else { excerpt };
                classify::answered(Answer { excerpt, ..head }, self.rules)
            }
        }
    }

    fn head(&self, response: &Response) -> Answer {
        let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let location = text(LOCATION).and_then(|location| self.url.join(location).ok());
        Answer {
            status: response.status().as_u16(),
            excerpt: String::new(),
            retry_after: text(RETRY_AFTER).and_then(|wish| retry_after::parse(wish, jiff::Timestamp::now())),
            location_host: location.and_then(|url| url.host_str().map(str::to_owned)),
        }
    }

    fn failure(&self, error: &reqwest::Error) -> Verdict {
        let failure = transport::failure_of(error);
        let detail = match failure {
            Failure::ConnectTimeout => format!("no connection to {} within {:?}", self.target, self.connect_timeout),
            _ => format!("{}: {}", self.target, transport::root_text(error)),
        };
        classify::failed(failure, detail)
    }

    fn too_late(&self, what: &str) -> Verdict {
        classify::failed(Failure::Timeout, format!("{what} from {} within {:?}", self.target, self.request_timeout))
    }
}

/// Reads at most `limit` bytes and not beyond the deadline; a longer body is cut, not waited for.
async fn read_body(response: &mut Response, limit: usize, deadline: Instant) -> (Vec<u8>, BodyEnd) {
    let mut body = Vec::new();
    loop {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                let room = limit - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    return (body, BodyEnd::Cut);
                }
            }
            Ok(Ok(None)) => return (body, BodyEnd::Complete),
            Ok(Err(error)) => return (body, BodyEnd::Broken(error)),
            Err(_) => return (body, BodyEnd::Stalled),
        }
    }
}

/// How long an idle connection is kept. Longer would meet more receivers that have closed it just now.
pub(super) const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
