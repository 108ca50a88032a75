//! Problem details (RFC 9457): the answer to a client that gets no events, with what to do next. Repeats nothing of the request
//! except the name of a parameter, and reveals nothing that the client may not see.

use std::fmt;
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::cursor::Refusal;
use super::reader::Trouble;
use super::seal::Cursors;
use crate::contracts::InBrownout;
use crate::telemetry::FeedAnswer;

/// A problem, ready to be sent.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    /// The last part of its type, for programs.
    kind: &'static str,
    title: &'static str,
    detail: String,
    further: Map<String, Value>,
    header: Option<(&'static str, Box<str>)>,
    pub answer: FeedAnswer,
}

impl Problem {
    pub fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>, answer: FeedAnswer) -> Self {
        Self { status, kind, title, detail: detail.into(), further: Map::new(), header: None, answer }
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.further.insert(name.to_owned(), value.into());
        self
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.header = Some((name, value.into()));
        self
    }

    pub fn invalid(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-request", "The request is not understood", detail, FeedAnswer::Invalid)
    }

    pub fn unauthorized() -> Self {
        let detail = "send Authorization: Bearer <token>, with a token of a client that the configuration names";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "No client has this token", detail, FeedAnswer::Unauthorized)
            .header("www-authenticate", "Bearer")
    }

    pub fn no_ticket() -> Self {
        let detail = "a ticket is good for one request within half a minute; ask for another one with POST /v1/tickets";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "The ticket is not good", detail, FeedAnswer::Unauthorized)
            .header("www-authenticate", "Bearer")
    }

    pub fn only_post() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "A ticket is made with POST", "", FeedAnswer::Invalid)
            .header("allow", "POST")
    }

    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is nothing here", "the feed is at /v1/feed", FeedAnswer::Invalid)
    }

    pub fn unknown_contract() -> Self {
        let detail = "there is no such version of an event that this client may see; /v1/contracts lists what there is";
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such contract", detail, FeedAnswer::Invalid)
    }

    /// Of an event that was not committed, is not kept any more, or is not for this client.
    pub fn unknown() -> Self {
        let detail = "there is no such event: its transaction has not committed, or it is not kept any more";
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such event", detail, FeedAnswer::Invalid)
    }

    /// Of a stream that there is not, or of which the client may not see everything.
    pub fn no_stream() -> Self {
        let detail = "there is no such stream, or this client may not see all of its events";
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such stream", detail, FeedAnswer::Invalid)
    }

    pub fn erased_version(version: i64) -> Self {
        let detail = "an event of this page was erased, so the stream cannot be read; later versions can, from the next one on";
        Self::new(StatusCode::GONE, "erased", "A version has no event any more", detail, FeedAnswer::Expired)
            .with("version", version)
    }

    pub fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "The feed is read with GET", "", FeedAnswer::Invalid)
            .header("allow", "GET, HEAD")
    }

    pub fn no_method_of_cursors() -> Self {
        let title = "A cursor is read with GET, stored with PUT and removed with DELETE";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", title, "", FeedAnswer::Invalid)
            .header("allow", "GET, HEAD, PUT, DELETE")
    }

    pub fn busy() -> Self {
        let detail = "this client has as many connections as it may have; close one, or read without waiting";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-connections", "Too many connections", detail, FeedAnswer::Busy)
            .header("retry-after", "5")
    }

    /// The client has made as many requests as its rate allows. `wait`: until the next one may come.
    pub fn too_fast(wait: Duration) -> Self {
        let detail = "this client makes more requests than its rate allows; come again after the time of Retry-After, or wait for events \
                      with one request (wait=30s, or a stream)";
        let title = "Too many requests";
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", title, detail, FeedAnswer::Limited);
        problem.header = Some(("retry-after", wait.as_secs_f64().ceil().max(1.0).to_string().into()));
        problem
    }

    /// A version that the client reads is not sent for a while. `left`: until it is again.
    pub fn brownout(brownout: &InBrownout<'_>, left: Duration) -> Self {
        let InBrownout { event_type, version, until } = brownout;
        let detail = format!("{event_type}@{version} comes to an end and is not sent until {until}; read another version");
        let mut problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "brownout",
            "A version is not sent for a while",
            detail,
            FeedAnswer::Brownout,
        )
        .with("event_type", *event_type)
        .with("version", *version)
        .with("until", until.to_string());
        problem.header = Some(("retry-after", (left.as_secs() + 1).to_string().into()));
        problem
    }

    fn unavailable(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The feed cannot be read now", detail, FeedAnswer::Unavailable)
            .header("retry-after", "2")
    }

    /// The problem of a reader. An error of the database is for the log and not for the client.
    pub fn of(trouble: &Trouble, from: Option<i64>, cursors: &Cursors) -> Self {
        match trouble {
            Trouble::Store(_) => Self::unavailable("the database does not answer as it should; try again"),
            Trouble::NotBegun => Self::unavailable("no relay has published yet; try again"),
            Trouble::UnknownEvent(earliest) => Self::unknown_event(&cursors.text(*earliest)),
            Trouble::Refused(refusal, cursor) => {
                let told = Self::refused(*refusal, cursor.map(|cursor| cursors.text(cursor)), from);
                if cursors.tell_counts() { told } else { told.without_counts() }
            }
        }
    }

    fn unknown_event(earliest: &str) -> Self {
        let detail =
            "there is no such event in the feed, or none any more; go on from the given cursor and expect events that you know";
        Self::new(StatusCode::GONE, "expired", "The event is not kept", detail, FeedAnswer::Expired).with("cursor", earliest)
    }

    /// How many places lie between two is what sealed cursors hide.
    fn without_counts(mut self) -> Self {
        self.further.retain(|name, _| !matches!(name.as_str(), "lost" | "gone"));
        self
    }

    fn refused(refusal: Refusal, cursor: Option<String>, from: Option<i64>) -> Self {
        match refusal {
            Refusal::Diverged { lost, .. } => {
                let detail = "the server that gave this cursor has been replaced by one that does not know the last places; both agree up \
                              to the given cursor, and what you have read behind it may be repeated or may not have happened";
                Self::new(StatusCode::CONFLICT, "history-diverged", "The history has diverged", detail, FeedAnswer::Diverged)
                    .with("cursor", cursor)
                    .with("lost", lost)
            }
            Refusal::AnotherHistory => {
                let detail = "this cursor was not given by this feed, or the feed was restored from elsewhere; begin with after=earliest and \
                              expect events that you know";
                Self::new(
                    StatusCode::CONFLICT,
                    "another-history",
                    "The cursor belongs to another history",
                    detail,
                    FeedAnswer::Diverged,
                )
            }
            Refusal::Expired { earliest, until } => {
                let detail = "events behind this cursor were removed because their time was over; go on from the given cursor";
                Self::new(StatusCode::GONE, "expired", "Events behind the cursor are gone", detail, FeedAnswer::Expired)
                    .with("cursor", cursor)
                    .with("gone", from.map(|from| earliest - from))
                    .with("until", until.map(|until| until.to_string()))
            }
        }
    }

    /// The same as data of an event of a stream.
    pub fn to_json(&self) -> Value {
        let mut body = Map::from_iter([
            ("type".to_owned(), json!(format!("urn:outboxd:{}", self.kind))),
            ("title".to_owned(), json!(self.title)),
            ("status".to_owned(), json!(self.status.as_u16())),
            ("detail".to_owned(), json!(self.detail)),
        ]);
        body.extend(self.further.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())));
        Value::Object(body)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let header = self.header.as_ref().and_then(|(name, value)| Some((*name, HeaderValue::from_str(value).ok()?)));
        if let Some((name, value)) = header {
            headers.insert(name, value);
        }
        (self.status, headers, format!("{}\n", self.to_json())).into_response()
    }
}
