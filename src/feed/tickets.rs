//! Tickets: for the `EventSource` of a browser, which sends no token. The server of the page requests a ticket with its token,
//! and the page puts the ticket into the address.
//!
//! A ticket names a client, a part of what it may see, and the second in which it expires, and is signed (`signer`). It is valid
//! for one request within half a minute, so an address that is logged somewhere reveals nothing usable. An instance remembers the
//! tickets that it took until they expire.

use std::time::{Duration, SystemTime};

use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

use super::Feed;
use super::problem::Problem;
use super::query;
use super::routes::authenticate;
use super::signer::{Signer, Used, seconds};
use crate::settings::Secret;
use crate::telemetry::FeedAnswer;

/// From the answer until the request of the page.
const LIFETIME: Duration = Duration::from_secs(30);
/// Makes tickets and takes each once.
pub struct Tickets {
    signer: Signer,
    used: Used,
}

/// The content of a ticket: the client, the time until which it is valid, and the part of the client's rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    pub client: String,
    /// Seconds since 1970.
    expires: u64,
    id: Uuid,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl Tickets {
    /// Without a key only the instance that makes a ticket takes it.
    pub fn new(key: Option<&Secret>) -> Self {
        Self { signer: Signer::new(key, ""), used: Used::default() }
    }

    fn make(&self, client: &str, types: Vec<String>, subject: Option<String>, now: SystemTime) -> (String, u64) {
        let expires = seconds(now + LIFETIME);
        let ticket = Ticket { client: client.to_owned(), expires, id: Uuid::new_v4(), types, subject };
        (self.signer.sign(&ticket), expires)
    }

    /// `None`: it was not made here, is too old, or was used before.
    pub fn take(&self, text: &str, now: SystemTime) -> Option<Ticket> {
        let ticket: Ticket = self.signer.read(text)?;
        (ticket.expires >= seconds(now) && self.used.is_first(ticket.id, ticket.expires, now)).then_some(ticket)
    }
}

/// `POST /v1/tickets`, with the `type` and the `subject` that it is to be bound to.
pub(super) async fn make_ticket(State(feed): State<Arc<Feed>>, RawQuery(text): RawQuery, headers: HeaderMap) -> Response {
    let client = match authenticate(&feed, &headers) {
        Ok(client) => client,
        Err(problem) => return problem.into_response(),
    };
    let bounds = match query::parse_bounds(text.as_deref().unwrap_or_default()) {
        Ok(bounds) => bounds,
        Err(text) => {
            client.metrics.answered(FeedAnswer::Invalid);
            return Problem::invalid(text).into_response();
        }
    };
    client.metrics.answered(FeedAnswer::Ticket);
    let (ticket, expires) = feed.tickets.make(client.name(), bounds.types, bounds.subject, SystemTime::now());
    let body = json!({ "ticket": ticket, "expires_in": LIFETIME.as_secs(), "expires_at": expires });
    (StatusCode::CREATED, [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::super::signer::SWEEP;
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_not_for_long() {
        let (tickets, now) = (Tickets::new(None), SystemTime::now());
        let (text, _) = tickets.make("acme", vec!["order.*".to_owned()], Some("42".to_owned()), now);
        let ticket = tickets.take(&text, now).expect("it is good");
        assert_eq!(
            (ticket.client.as_str(), ticket.types, ticket.subject.as_deref()),
            ("acme", vec!["order.*".to_owned()], Some("42"))
        );
        assert_eq!(tickets.take(&text, now), None, "it was used");
        let (late, _) = tickets.make("acme", Vec::new(), None, now);
        assert_eq!(tickets.take(&late, now + LIFETIME + Duration::from_secs(2)), None);
    }

    #[test]
    fn a_ticket_that_was_not_made_with_the_key_is_none() {
        let (key, now) = (Secret::new("a key that all instances have, of 40 bytes"), SystemTime::now());
        let (one, other, stranger) = (Tickets::new(Some(&key)), Tickets::new(Some(&key)), Tickets::new(None));
        let (text, _) = one.make("acme", Vec::new(), None, now);
        assert_eq!(stranger.take(&text, now), None);
        let (said, signature) = text.split_once('.').expect("two parts");
        let forged = BASE64_URL_SAFE_NO_PAD
            .encode(String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(said).expect("base64")).expect("text").replace("acme", "zeta"));
        for text in ["", ".", "x.y", said, &format!("{forged}.{signature}"), &format!("{said}."), &text[..text.len() - 2]] {
            assert_eq!(other.take(text, now), None, "{text}");
        }
        assert!(other.take(&text, now).is_some(), "an instance with the same key takes it");
    }

    #[test]
    fn what_has_expired_is_forgotten() {
        let (tickets, now) = (Tickets::new(None), SystemTime::now());
        for second in 0..3 {
            let now = now + Duration::from_secs(second * 60);
            for _ in 0..SWEEP {
                let (text, _) = tickets.make("acme", Vec::new(), None, now);
                assert!(tickets.take(&text, now).is_some());
            }
        }
        assert!(tickets.used.len() <= SWEEP + 1);
    }
}
