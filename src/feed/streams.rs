//! `GET /v1/streams/{type}/{key}`: the events of one stream in pages, only for a client that may see all of them. For any other
//! client the answer is that there is no such stream.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, LINK};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Feed;
use super::access::Client;
use super::problem::Problem;
use super::reader::Trouble;
use super::routes::{authenticate, problem_of};
use crate::domain::Notification;
use crate::store::streams::{StreamEvent, StreamHead, StreamPage, read_stream_events, read_stream_head};
use crate::telemetry::FeedAnswer;

pub(super) const STREAM_VERSION: &str = "stream-version";
const DEFAULT_LIMIT: i64 = 100;
const MOST_EVENTS: i64 = 1_000;
/// Bytes of payloads in one page.
const BYTES: i64 = 4 << 20;

/// The parameters of a request.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    /// The first version.
    from: i64,
    limit: i64,
}

pub(super) async fn read_stream(
    State(feed): State<Arc<Feed>>,
    Path((stream_type, key)): Path<(String, String)>,
    RawQuery(text): RawQuery,
    headers: HeaderMap,
) -> Response {
    let client = match authenticate(&feed, &headers) {
        Ok(client) => client,
        Err(problem) => return problem.into_response(),
    };
    let answered = answer(&feed, &client, (&stream_type, &key), text.as_deref().unwrap_or_default(), &headers).await;
    answered.unwrap_or_else(|problem| {
        client.metrics.answered(problem.answer);
        problem.into_response()
    })
}

async fn answer(
    feed: &Arc<Feed>,
    client: &Arc<Client>,
    stream: (&str, &str),
    text: &str,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let query = parse(text).map_err(Problem::invalid)?;
    if let Some((brownout, left)) = client.brownout() {
        return Err(Problem::brownout(&brownout, left));
    }
    let _connection = client.connect().ok_or_else(Problem::busy)?;
    let reading = feed.source.answered(read(feed, stream, &query), Trouble::Store).await;
    let Some((head, events)) = reading.map_err(|trouble| problem_of(&feed.source, &trouble, None))? else {
        return Err(Problem::no_stream());
    };
    if let Some(gone) = events.iter().find(|event| event.event.is_none()) {
        return Err(Problem::erased_version(gone.version));
    }
    if !events.iter().flat_map(|event| &event.event).all(|event| client.filter().lets_see(event)) {
        return Err(Problem::no_stream());
    }
    // Without events nothing proves that the client may know of the stream: its last one decides.
    if events.is_empty() && !may_see_last(feed, client, &head).await? {
        return Err(Problem::no_stream());
    }
    client.metrics.answered(if events.is_empty() { FeedAnswer::Empty } else { FeedAnswer::Page });
    Ok(render(feed, client, stream, &query, &head, &events, headers))
}

async fn read(
    feed: &Feed,
    (stream_type, key): (&str, &str),
    query: &Query,
) -> Result<Option<(StreamHead, Vec<StreamEvent>)>, Trouble> {
    let pool = &feed.source.pool;
    let Some(head) = read_stream_head(pool, stream_type, key).await? else { return Ok(None) };
    let page = StreamPage { after: query.from - 1, up_to: head.version, versions: query.limit, bytes: BYTES };
    let events = read_stream_events(pool, head.id, page).await?;
    Ok(Some((head, events)))
}

async fn may_see_last(feed: &Feed, client: &Client, head: &StreamHead) -> Result<bool, Problem> {
    let page = StreamPage { after: head.version - 1, up_to: head.version, versions: 1, bytes: BYTES };
    let reading = async { Ok(read_stream_events(&feed.source.pool, head.id, page).await?) };
    let last = feed.source.answered(reading, Trouble::Store).await.map_err(|trouble| problem_of(&feed.source, &trouble, None))?;
    Ok(last.iter().flat_map(|event| &event.event).all(|event| client.filter().lets_see(event)))
}

fn render(
    feed: &Feed,
    client: &Client,
    (stream_type, key): (&str, &str),
    query: &Query,
    head: &StreamHead,
    events: &[StreamEvent],
    headers: &HeaderMap,
) -> Response {
    let tag = format!("\"{}{}\"", head.version, client.tag());
    let text = |text: String| HeaderValue::try_from(text).expect("numbers and what is percent-encoded are printable");
    let mut answer = HeaderMap::new();
    answer.insert(ETAG, text(tag.clone()));
    answer.insert(HeaderName::from_static(STREAM_VERSION), text(head.version.to_string()));
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Some(last) = events.last().filter(|last| last.version < head.version) {
        let encoded = |part: &str| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
        let (from, limit) = (last.version + 1, query.limit);
        let next = format!("</v1/streams/{}/{}?from={from}&limit={limit}>; rel=\"next\"", encoded(stream_type), encoded(key));
        answer.insert(LINK, text(next));
    }
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if known.flat_map(|list| list.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag) {
        return (StatusCode::NOT_MODIFIED, answer).into_response();
    }
    answer.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents-batch+json"));
    (answer, Body::from(Bytes::from(batch(feed, client, events)))).into_response()
}

fn batch(feed: &Feed, client: &Client, events: &[StreamEvent]) -> Vec<u8> {
    let (mut body, mut unavailable) = (vec![b'['], 0);
    let there = events.iter().filter_map(|event| Some((event, event.event.as_deref()?)));
    for (number, (StreamEvent { version, damage, .. }, event)) in there.enumerate() {
        if number > 0 {
            body.push(b',');
        }
        let (json, is_unavailable) = shown(feed, client, *version, event, damage.as_deref());
        unavailable += u64::from(is_unavailable);
        body.extend_from_slice(&json);
    }
    client.metrics.sent(events.len() as u64 - unavailable, unavailable);
    body.extend_from_slice(b"]\n");
    body
}

fn shown(feed: &Feed, client: &Client, version: i64, event: &Notification, damage: Option<&str>) -> (Vec<u8>, bool) {
    feed.source.renderer.in_stream((event, damage), version, client.pins().map(|pins| &**pins))
}

fn parse(text: &str) -> Result<Query, String> {
    let (mut from, mut limit) = (None, None);
    for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
        let number = value.parse::<i64>().ok();
        match &*name {
            "from" if from.is_none() => {
                from = Some(number.filter(|from| *from >= 1).ok_or("from: expected a version, a whole number from 1 on")?);
            }
            "limit" if limit.is_none() => {
                let in_range = number.filter(|limit| (1..=MOST_EVENTS).contains(limit));
                limit = Some(in_range.ok_or_else(|| format!("limit: expected a whole number from 1 to {MOST_EVENTS}"))?);
            }
            "from" | "limit" => return Err(format!("{name} is given more than once")),
            _ => return Err("unknown parameter; there are from and limit".to_owned()),
        }
    }
    Ok(Query { from: from.unwrap_or(1), limit: limit.unwrap_or(DEFAULT_LIMIT) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_a_first_version_and_a_number_of_events() {
        assert_eq!(parse(""), Ok(Query { from: 1, limit: DEFAULT_LIMIT }));
        assert_eq!(parse("from=7&limit=1000"), Ok(Query { from: 7, limit: 1_000 }));
        for text in ["from=0", "from=x", "limit=0", "limit=1001", "from=1&from=2", "after=hunter2", "from=9223372036854775808"] {
            assert!(parse(text).is_err_and(|told| !told.contains("hunter2")), "{text}");
        }
    }
}
