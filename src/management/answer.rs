//! An answer as it goes out: JSON with a tag by which a client learns that nothing has changed.

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::numbers::quote_numbers;

/// The answer to a request that was understood.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    body: String,
    location: Option<String>,
}

impl Answer {
    /// A document.
    pub fn of(document: &impl Serialize) -> Self {
        let text = serde_json::to_string(document).expect("texts and numbers have a JSON form");
        Self::raw(quote_numbers(&text))
    }

    /// A JSON text as it is.
    pub fn raw(body: String) -> Self {
        Self { status: StatusCode::OK, body, location: None }
    }

    /// Something was created there.
    pub fn created(document: &impl Serialize, location: String) -> Self {
        Self { status: StatusCode::CREATED, location: Some(location), ..Self::of(document) }
    }

    /// Something was begun.
    pub fn accepted(document: &impl Serialize) -> Self {
        Self { status: StatusCode::ACCEPTED, ..Self::of(document) }
    }

    /// The response to a request with these headers. Only what was read has a tag.
    pub fn respond(self, is_read: bool, asked: &HeaderMap) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // `no-cache`: it may be kept for the next question, which has to be asked. `private`: what one caller may see is not for another.
        let cache = if is_read { "private, no-cache" } else { "no-store" };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
        if let Some(location) = self.location.and_then(|location| HeaderValue::from_str(&location).ok()) {
            headers.insert(LOCATION, location);
        }
        if is_read {
            let tag = tag(&self.body);
            let is_known = matches(asked, &tag);
            headers.insert(ETAG, HeaderValue::from_str(&tag).expect("digits are a header value"));
            if is_known {
                headers.remove(CONTENT_TYPE);
                return (StatusCode::NOT_MODIFIED, headers).into_response();
            }
        }
        (self.status, headers, self.body + "\n").into_response()
    }
}

fn tag(body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

/// Whether the client has what carries this tag. Compared weakly, as RFC 9110 says for `If-None-Match`.
fn matches(asked: &HeaderMap, tag: &str) -> bool {
    let values = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}
