//! `/v1/cursors/{name}`: a client leaves its cursor to the server, and changes it only from what it has seen (`If-Match`). Each
//! cursor belongs to the client whose token is shown.
//!
//! A cursor is stored only if a page could go on from it, and goes backwards only if the request says so. Two programs that share
//! a cursor therefore notice each other, and a late request takes nothing back.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, ETAG, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::access::Client;
use super::cursor::{Cursor, Refusal};
use super::problem::Problem;
use super::reader::{Trouble, check_cursor};
use super::routes::{authenticate, problem_of};
use super::seal::Cursors;
use super::{Feed, Start};
use crate::store::feed::{
    CursorKey, CursorMove, StoredCursor, insert_client_cursor, move_client_cursor, read_client_cursor, remove_client_cursor,
};
use crate::telemetry::FeedAnswer;

/// Longest body of a client: one cursor and its member names.
const MOST_BODY: usize = 4 * 1024;
/// Until the body is there.
const BODY: Duration = Duration::from_secs(10);

/// The body of a client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    cursor: String,
    #[serde(default)]
    backwards: bool,
}

/// What a client has seen of a cursor, as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Revision(Uuid),
    /// That there is one.
    Any,
}

pub(super) async fn list_cursors(State(feed): State<Arc<Feed>>, headers: HeaderMap) -> Response {
    respond(&feed, &headers, async |client| {
        let mut listed = Vec::new();
        for name in client.cursor_names() {
            let stored = read(&feed, client, name).await?;
            listed.push(
                stored.map_or_else(
                    || json!({ "name": name, "cursor": null }),
                    |stored| document(&feed.source.cursors, name, &stored),
                ),
            );
        }
        Ok(([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], axum::Json(json!({ "cursors": listed }))).into_response())
    })
    .await
}

pub(super) async fn read_cursor(State(feed): State<Arc<Feed>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    respond(&feed, &headers, async |client| {
        let name = known(client, &name)?;
        let stored = read(&feed, client, name).await?.ok_or_else(not_stored)?;
        Ok(answer(&feed.source.cursors, StatusCode::OK, name, &stored))
    })
    .await
}

pub(super) async fn store_cursor(
    State(feed): State<Arc<Feed>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    respond(&feed, &headers, async |client| {
        let name = known(client, &name)?;
        let seen = seen(&headers)?.ok_or_else(unconditional)?;
        let wanted = read_body(body).await?;
        let cursor = match feed.source.cursors.start(&wanted.cursor) {
            Ok(Start::At(cursor)) => cursor,
            Ok(Start::Foreign) => return Err(problem_of(&feed.source, &Trouble::Refused(Refusal::AnotherHistory, None), None)),
            _ => return Err(Problem::invalid("cursor: expected a cursor of the feed".to_owned())),
        };
        let (status, stored) = store(&feed, client, name, (cursor, wanted.backwards), seen).await?;
        Ok(answer(&feed.source.cursors, status, name, &stored))
    })
    .await
}

pub(super) async fn remove_cursor(State(feed): State<Arc<Feed>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    respond(&feed, &headers, async |client| {
        let name = known(client, &name)?;
        let revision = match seen(&headers)?.ok_or_else(unconditional)? {
            Seen::Nothing => return Err(unconditional()),
            Seen::Revision(revision) => Some(revision),
            Seen::Any => None,
        };
        let key = CursorKey { client: client.name(), name };
        let removing = async { Ok(remove_client_cursor(&feed.source.pool, key, revision).await?) };
        let is_removed =
            feed.source.answered(removing, Trouble::Store).await.map_err(|trouble| problem_of(&feed.source, &trouble, None))?;
        if is_removed {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        let stored = read(&feed, client, name).await?.ok_or_else(not_stored)?;
        Err(changed(&feed.source.cursors, name, Some(&stored)))
    })
    .await
}

/// For the hub: stores the cursor unless a later one is stored, whoever has stored it.
pub(crate) async fn acknowledge(feed: &Feed, client: &Client, name: Option<&str>, cursor: Cursor) -> Result<(), Problem> {
    let name = match (name, client.cursor_names()) {
        (Some(name), _) => known(client, name)?,
        (None, [only]) => only,
        (None, _) => return Err(no_cursor()),
    };
    let source = &feed.source;
    let key = CursorKey { client: client.name(), name };
    let (text, place) = (cursor.to_string(), cursor.place());
    let storing = async {
        check_cursor(&source.pool, cursor).await?;
        let to = CursorMove { place, cursor: &text, seen: None, may_go_back: false };
        if move_client_cursor(&source.pool, key, to).await?.is_none() {
            insert_client_cursor(&source.pool, key, (place, &text)).await?;
        }
        Ok(())
    };
    source.answered(storing, Trouble::Store).await.map_err(|trouble| problem_of(&feed.source, &trouble, Some(place)))
}

/// Authenticates, counts the request as one connection, and counts the answer.
async fn respond(
    feed: &Arc<Feed>,
    headers: &HeaderMap,
    answering: impl AsyncFnOnce(&Client) -> Result<Response, Problem>,
) -> Response {
    let client = match authenticate(feed, headers) {
        Ok(client) => client,
        Err(problem) => return problem.into_response(),
    };
    let answered = match client.connect() {
        Some(_connection) => answering(&client).await,
        None => Err(Problem::busy()),
    };
    client.metrics.answered(answered.as_ref().map_or_else(|problem| problem.answer, |_| FeedAnswer::Cursor));
    answered.unwrap_or_else(Problem::into_response)
}

async fn read(feed: &Feed, client: &Client, name: &str) -> Result<Option<StoredCursor>, Problem> {
    let key = CursorKey { client: client.name(), name };
    let reading = async { Ok(read_client_cursor(&feed.source.pool, key).await?) };
    let stored = feed.source.answered(reading, Trouble::Store).await.map_err(|trouble| problem_of(&feed.source, &trouble, None))?;
    Ok(stored.map(|(stored, _)| stored))
}

async fn store(
    feed: &Feed,
    client: &Client,
    name: &str,
    (cursor, may_go_back): (Cursor, bool),
    seen: Seen,
) -> Result<(StatusCode, StoredCursor), Problem> {
    let key = CursorKey { client: client.name(), name };
    let (text, place) = (cursor.to_string(), cursor.place());
    let pool = &feed.source.pool;
    let storing = async {
        check_cursor(pool, cursor).await?;
        let to = |seen| CursorMove { place, cursor: &text, seen, may_go_back };
        let (status, stored) = match seen {
            Seen::Nothing => (StatusCode::CREATED, insert_client_cursor(pool, key, (place, &text)).await?),
            Seen::Revision(revision) => (StatusCode::OK, move_client_cursor(pool, key, to(Some(revision))).await?),
            Seen::Any => (StatusCode::OK, move_client_cursor(pool, key, to(None)).await?),
        };
        match stored {
            Some(stored) => Ok(Ok((status, stored))),
            None => Ok(Err(read_client_cursor(pool, key).await?)),
        }
    };
    let stored =
        feed.source.answered(storing, Trouble::Store).await.map_err(|trouble| problem_of(&feed.source, &trouble, Some(place)))?;
    stored.map_err(|found| match (&found, seen) {
        // Only the direction can have been in the way.
        (Some((found, _)), Seen::Any) => backwards(&feed.source.cursors, name, found),
        (Some((found, stored_at)), Seen::Revision(revision)) if found.revision == revision && place < *stored_at => {
            backwards(&feed.source.cursors, name, found)
        }
        _ => changed(&feed.source.cursors, name, found.as_ref().map(|(found, _)| found)),
    })
}

/// The name as it is configured. Those of others are like those that there are not.
fn known<'c>(client: &'c Client, name: &str) -> Result<&'c str, Problem> {
    client.cursor_names().iter().find(|known| *known == name).map(String::as_str).ok_or_else(no_cursor)
}

/// The condition of a request. `None`: it has none.
fn seen(headers: &HeaderMap) -> Result<Option<Seen>, Problem> {
    let only = |header: HeaderName| {
        let mut values = headers.get_all(&header).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value.to_str().ok().map(str::trim)),
            (None, _) => Ok(None),
            _ => Err(Problem::invalid(format!("{header}: expected one value"))),
        }
    };
    match (only(IF_MATCH)?, only(IF_NONE_MATCH)?) {
        (None, None) => Ok(None),
        (None, Some("*")) => Ok(Some(Seen::Nothing)),
        (Some("*"), None) => Ok(Some(Seen::Any)),
        (Some(tag), None) => {
            let revision = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| Uuid::try_parse(tag).ok());
            // A tag that was never given fits nothing that is stored.
            Ok(Some(Seen::Revision(revision.unwrap_or(Uuid::nil()))))
        }
        _ => Err(Problem::invalid("expected either If-Match with the ETag of the answer before, or If-None-Match: *".to_owned())),
    }
}

async fn read_body(body: Body) -> Result<Wanted, Problem> {
    let expected = || Problem::invalid("the body: expected JSON such as {\"cursor\": \"...\", \"backwards\": false}".to_owned());
    let collected = tokio::time::timeout(BODY, Limited::new(body, MOST_BODY).collect()).await;
    let body = collected.ok().and_then(Result::ok).ok_or_else(expected)?.to_bytes();
    serde_json::from_slice(&body).map_err(|_| expected())
}

/// The cursor in the form that clients are given.
fn document(cursors: &Cursors, name: &str, stored: &StoredCursor) -> Value {
    let cursor = stored.cursor.parse().map_or_else(|_| stored.cursor.clone(), |cursor| cursors.text(cursor));
    json!({ "name": name, "cursor": cursor, "moved_at": stored.moved_at.to_string(), "etag": tag(stored) })
}

fn tag(stored: &StoredCursor) -> String {
    format!("\"{}\"", stored.revision)
}

fn answer(cursors: &Cursors, status: StatusCode, name: &str, stored: &StoredCursor) -> Response {
    let tag = HeaderValue::try_from(tag(stored)).expect("a UUID is printable");
    let headers = [(ETAG, tag), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, headers, axum::Json(document(cursors, name, stored))).into_response()
}

fn no_cursor() -> Problem {
    let detail = "the configuration names no such cursor for this client; GET /v1/cursors lists those that it has";
    Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such cursor", detail, FeedAnswer::Invalid)
}

fn not_stored() -> Problem {
    let detail = "nothing is stored under this name yet; store the first cursor with PUT and If-None-Match: *";
    Problem::new(StatusCode::NOT_FOUND, "not-stored", "No cursor is stored", detail, FeedAnswer::Invalid)
}

fn unconditional() -> Problem {
    let detail = "say what you have seen: If-Match with the ETag of the answer before, If-None-Match: * for the first cursor, or If-Match: * \
                  to overwrite whatever is stored";
    let title = "The request has no condition";
    Problem::new(StatusCode::PRECONDITION_REQUIRED, "precondition-required", title, detail, FeedAnswer::Invalid)
}

/// `found`: what is stored; `None`: nothing is.
fn changed(cursors: &Cursors, name: &str, found: Option<&StoredCursor>) -> Problem {
    let detail = "another request has stored, changed or removed the cursor; look at what is stored, and decide again";
    let title = "The cursor is another one";
    let problem = Problem::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", title, detail, FeedAnswer::Invalid);
    with_stored(cursors, problem, name, found)
}

fn backwards(cursors: &Cursors, name: &str, found: &StoredCursor) -> Problem {
    let detail = "the cursor lies before the one that is stored; to go back on purpose, add \"backwards\": true to the body";
    let problem = Problem::new(StatusCode::CONFLICT, "backwards", "The cursor would go back", detail, FeedAnswer::Invalid);
    with_stored(cursors, problem, name, Some(found))
}

fn with_stored(cursors: &Cursors, problem: Problem, name: &str, found: Option<&StoredCursor>) -> Problem {
    problem.with("stored", found.map(|found| document(cursors, name, found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_of(headers: &[(HeaderName, &str)]) -> Option<Option<Seen>> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).expect("a header"));
        }
        seen(&map).ok()
    }

    #[test]
    fn a_request_says_what_its_client_has_seen_and_only_one_thing() {
        let id = Uuid::from_u128(7);
        let quoted = format!("\"{id}\"");
        for (headers, want) in [
            (vec![], Some(None)),
            (vec![(IF_NONE_MATCH, "*")], Some(Some(Seen::Nothing))),
            (vec![(IF_MATCH, "*")], Some(Some(Seen::Any))),
            (vec![(IF_MATCH, quoted.as_str())], Some(Some(Seen::Revision(id)))),
            // These fit nothing, and the answer is that the cursor is another one.
            (vec![(IF_MATCH, "\"what\"")], Some(Some(Seen::Revision(Uuid::nil())))),
            (vec![(IF_MATCH, "W/\"00000000-0000-0000-0000-000000000007\"")], Some(Some(Seen::Revision(Uuid::nil())))),
            (vec![(IF_MATCH, "*"), (IF_NONE_MATCH, "*")], None),
            (vec![(IF_NONE_MATCH, quoted.as_str())], None),
            (vec![(IF_MATCH, "*"), (IF_MATCH, "*")], None),
        ] {
            assert_eq!(seen_of(&headers), want, "{headers:?}");
        }
    }

    #[test]
    fn a_body_names_a_cursor_and_nothing_unknown() {
        let read = |text: &str| serde_json::from_str::<Wanted>(text).is_ok();
        assert!(read("{\"cursor\": \"x\"}") && read("{\"cursor\": \"x\", \"backwards\": true}"));
        for text in ["", "{}", "[]", "{\"cursor\": 5}", "{\"cursor\": \"x\", \"backward\": true}", "{\"cursor\": null}"] {
            assert!(!read(text), "{text}");
        }
    }
}
