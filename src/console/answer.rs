//! Answers: a page, a way to another page, or why there is none. Every answer carries the headers that keep a browser from doing more with it than it
//! should. Knows no screen.

use axum::body::Body;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{Response, StatusCode};
use maud::Markup;

use crate::operations::{OperationError, RefusalKind};
use crate::store::StoreError;
use crate::telemetry::{ConsoleAnswer, chain};

/// What a screen gives.
pub enum Answer {
    Page(Markup),
    /// To a page of ours, as a relative address: after a change, so that a reload changes nothing again.
    SeeOther(String),
}

/// Why a screen gives none.
#[derive(Debug)]
pub enum Trouble {
    /// There is no such thing (any more).
    NotFound(String),
    /// Each mistake of the request, in words.
    Invalid(Vec<String>),
    /// An operation that was not carried out.
    Operation(OperationError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Operation(OperationError::Store(error))
    }
}

impl From<OperationError> for Trouble {
    fn from(error: OperationError) -> Self {
        Self::Operation(error)
    }
}

impl Trouble {
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(vec![text.into()])
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Operation(OperationError::Store(_)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Operation(OperationError::Refused(refusal)) => match refusal.kind {
                RefusalKind::UnknownHandler | RefusalKind::UnknownAlert | RefusalKind::NotFound => StatusCode::NOT_FOUND,
                RefusalKind::NotNow | RefusalKind::Taken => StatusCode::CONFLICT,
                RefusalKind::Invalid | RefusalKind::NeedsForce => StatusCode::UNPROCESSABLE_ENTITY,
            },
        }
    }

    /// What happened, and what to do.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::NotFound(text) => vec![text.clone()],
            Self::Invalid(texts) => texts.clone(),
            Self::Operation(OperationError::Store(error)) => vec![chain(error)],
            Self::Operation(OperationError::Refused(refusal)) => vec![refusal.text.clone()],
        }
    }

    /// The command line that helps.
    pub fn command(&self) -> Option<&str> {
        match self {
            Self::Operation(OperationError::Refused(refusal)) => refusal.command.as_deref(),
            _ => None,
        }
    }
}

/// Nothing but our own files and forms; no page of others may hold ours.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                                       form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // With "no-referrer" browsers would send "Origin: null" with our own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("x-robots-tag"), "noindex"),
];

/// Adds what every answer has. `no-store` unless the answer says how long it may be kept, as our files do.
pub fn guarded(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

pub fn page(status: StatusCode, markup: Markup) -> Response<Body> {
    let mut response = Response::new(Body::from(markup.into_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// A line of text, for what is no page.
pub fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// `to` is relative to the address of the request.
pub fn see_other(to: &str) -> Response<Body> {
    let mut response = plain(StatusCode::SEE_OTHER, "see the address in the header Location");
    let location = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("."));
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// For the metrics. Which of the refusals with one status it is, the door has noted.
pub fn count(response: &Response<Body>) -> ConsoleAnswer {
    if let Some(answer) = response.extensions().get::<ConsoleAnswer>() {
        return *answer;
    }
    match response.status() {
        StatusCode::UNAUTHORIZED => ConsoleAnswer::Unauthorized,
        StatusCode::FORBIDDEN => ConsoleAnswer::Forbidden,
        StatusCode::MISDIRECTED_REQUEST => ConsoleAnswer::Misdirected,
        StatusCode::TOO_MANY_REQUESTS => ConsoleAnswer::Limited,
        status if status.is_server_error() => ConsoleAnswer::Unavailable,
        status if status.is_client_error() => ConsoleAnswer::Invalid,
        _ => ConsoleAnswer::Served,
    }
}
