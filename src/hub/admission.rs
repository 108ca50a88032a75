//! Admission: who may open a connection. A client with its token in a header, or a holder of a ticket that the client has made.
//! No answer repeats what was sent.

use std::sync::Arc;
use std::time::SystemTime;

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use url::Url;

use crate::feed::Feed;
use crate::feed::access::Client;
use crate::feed::problem::Problem;
use crate::feed::query::Bounds;
use crate::feed::routes::{keep_pace, token};
use crate::feed::tickets::Ticket;
use crate::telemetry::FeedAnswer;

/// A client, and the part of what it may see that it is let in for.
pub struct Admitted {
    pub client: Arc<Client>,
    pub bounds: Bounds,
}

/// Lets in who has a token or a ticket. Clients of SignalR send a ticket wherever they would send a token: in the header, or as `access_token`.
pub fn admit(feed: &Feed, query: &str, headers: &HeaderMap) -> Result<Admitted, Problem> {
    let of_ticket = |ticket: Ticket| {
        let client = feed.doors.named(&ticket.client)?;
        Some(Admitted { client, bounds: Bounds { types: ticket.types, subject: ticket.subject } })
    };
    let take = |text: &str| feed.tickets.take(text, SystemTime::now()).and_then(of_ticket);
    let admitted = if headers.contains_key(AUTHORIZATION) {
        let sent = token(headers);
        let of_token = |client| Admitted { client, bounds: Bounds::default() };
        sent.and_then(|text| feed.doors.find(text).map(of_token).or_else(|| take(text))).ok_or_else(Problem::unauthorized)
    } else {
        match ["access_token", "ticket"].iter().find_map(|name| parameter(query, name)) {
            Some(text) => take(&text).ok_or_else(Problem::no_ticket),
            None => Err(Problem::unauthorized()),
        }
    };
    let admitted = admitted.inspect_err(|_| feed.unknown.answered(FeedAnswer::Unauthorized))?;
    keep_pace(&admitted.client)?;
    Ok(admitted)
}

/// Refuses a token of a client in an address, even where it is not needed: addresses are written down on their way.
pub fn refuse_token_in_address(feed: &Feed, query: &str) -> Result<(), Problem> {
    let sent = ["access_token", "ticket"].iter().filter_map(|name| parameter(query, name));
    if sent.filter(|text| text.len() <= LONGEST).any(|text| feed.doors.find(&text).is_some()) {
        feed.unknown.answered(FeedAnswer::Unauthorized);
        let detail = "the token of a client must not be sent in the address; a browser sends a ticket (POST /v1/tickets), another program the \
                      header Authorization";
        let title = "A token was sent in the address";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", title, detail, FeedAnswer::Unauthorized));
    }
    Ok(())
}

/// Longest text that is compared with tokens.
const LONGEST: usize = 4_096;

/// A parameter of an address, whatever the case of its name.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let mut parameters = url::form_urlencoded::parse(query.as_bytes());
    parameters.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.into_owned())
}

/// Whether a page of this origin may open a WebSocket, which browsers do not restrict themselves. Programs send no origin.
pub fn check_origin(origins: &[String], headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let is_listed = origins.iter().any(|listed| listed == "*" || listed == origin);
    if is_listed || is_of_host(origin, headers) {
        return Ok(());
    }
    let detail = "pages of this origin may not open a WebSocket here; feed.origins lists those that may";
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden-origin", "The origin is not allowed", detail, FeedAnswer::Unauthorized))
}

/// Whether the page came from the very host that is asked.
fn is_of_host(origin: &str, headers: &HeaderMap) -> bool {
    let (Ok(origin), Some(host)) = (Url::parse(origin), headers.get(HOST).and_then(|host| host.to_str().ok())) else {
        return false;
    };
    let Ok(asked) = Url::parse(&format!("{}://{host}", origin.scheme())) else { return false };
    origin.host().is_some() && origin.host() == asked.host() && origin.port_or_known_default() == asked.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_page_of_a_listed_origin_or_of_the_same_host_may_open_a_socket() {
        let listed = ["https://shop.example".to_owned()];
        for (origin, host, want) in [
            (None, "feed.example", true),
            (Some("https://shop.example"), "feed.example", true),
            (Some("https://feed.example"), "feed.example", true),
            (Some("https://feed.example"), "feed.example:443", true),
            (Some("http://127.0.0.1:9188"), "127.0.0.1:9188", true),
            (Some("http://127.0.0.1:9189"), "127.0.0.1:9188", false),
            (Some("https://evil.example"), "feed.example", false),
            (Some("https://shop.example.evil.example"), "feed.example", false),
            (Some("https://shop.example/"), "feed.example", false),
            (Some("null"), "feed.example", false),
            (Some("null"), "null", false),
            (Some("data:x"), "x", false),
            (Some(""), "", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            headers.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
            assert_eq!(check_origin(&listed, &headers).is_ok(), want, "{origin:?} {host}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static("https://evil.example"));
        assert!(check_origin(&["*".to_owned()], &headers).is_ok());
    }

    #[test]
    fn parameters_are_found_whatever_the_case_of_their_names() {
        assert_eq!(parameter("a=1&ID=x%20y", "id").as_deref(), Some("x y"));
        assert_eq!(parameter("a=1&idx=2", "id"), None);
    }
}
