//! The addresses of the feed: `GET /v1/feed` as a page, as a page that waits, and as a stream; `GET /v1/events/{id}` is in `handled`,
//! `GET /v1/contracts` in `contracts`, `GET /v1/streams/...` in `streams`, `/v1/cursors` in `kept`.
//! Only the last of these reads a request body, and only it changes something.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, LINK, RETRY_AFTER,
    VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use tokio::time::Instant;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::warn;

use super::Feed;
use super::access::{Client, Connection};
use super::contracts::{list_contracts, read_asyncapi, read_schema};
use super::cursor::{Refusal, Start};
use super::filter::Filter;
use super::handled::read_event;
use super::kept::{list_cursors, read_cursor, remove_cursor, store_cursor};
use super::problem::Problem;
use super::query::{self, Query};
use super::reader::{Batch, Reader, Source, Trouble};
use super::seal::Cursors;
use super::stream::Stream;
use super::streams::{STREAM_VERSION, read_stream};
use super::tickets::{Ticket, make_ticket};
use crate::telemetry::{FeedAnswer, chain};

const ADDRESS: &str = "/v1/feed";
const NEXT_OFFSET: &str = "stream-next-offset";
const UP_TO_DATE: &str = "stream-up-to-date";
/// Bytes up to which a page is sent as it is.
const SMALL: u16 = 1_024;
/// Longest header that names an event or a cursor.
const LONGEST_TOKEN: usize = 4_096;

/// `further`: what else is served at the same address.
pub(super) fn routes(feed: Arc<Feed>, further: Router) -> Router {
    Router::new()
        .route(ADDRESS, get(read_feed).fallback(async || Problem::wrong_method()))
        .route("/v1/events/{id}", get(read_event).fallback(async || Problem::wrong_method()))
        .route("/v1/contracts", get(list_contracts).fallback(async || Problem::wrong_method()))
        .route("/v1/contracts/asyncapi.json", get(read_asyncapi).fallback(async || Problem::wrong_method()))
        .route("/v1/contracts/{type}/{version}/schema.json", get(read_schema).fallback(async || Problem::wrong_method()))
        .route("/v1/streams/{type}/{key}", get(read_stream).fallback(async || Problem::wrong_method()))
        .route("/v1/cursors", get(list_cursors).fallback(async || Problem::wrong_method()))
        .route(
            "/v1/cursors/{name}",
            get(read_cursor).put(store_cursor).delete(remove_cursor).fallback(async || Problem::no_method_of_cursors()),
        )
        .route("/v1/tickets", post(make_ticket).fallback(async || Problem::only_post()))
        .fallback(async || Problem::not_found())
        .layer(compression())
        .layer(map_response(weaken))
        .layer(map_response(harden))
        .layer(cross_origin(&feed.settings.origins))
        .with_state(feed)
        .merge(further)
}

/// Pages are compressed for a client that asks for it. Streams are not: an event would wait in the encoder for the next one.
fn compression() -> CompressionLayer<impl Predicate> {
    let is_worth_it = SizeAbove::new(SMALL).and(NotForContentType::SSE);
    CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest).compress_when(is_worth_it)
}

/// A compressed page has other bytes than the same page without compression, so their tag is a weak one.
async fn weaken(mut response: Response) -> Response {
    if response.headers().contains_key(CONTENT_ENCODING)
        && let Some(tag) = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| tag.starts_with('"'))
    {
        let weak = HeaderValue::try_from(format!("W/{tag}")).expect("the tag was a header before");
        response.headers_mut().insert(ETAG, weak);
    }
    response
}

/// Pages of these origins may read answers. Nothing rests on it: who asks needs a token or a ticket in any case.
fn cross_origin(origins: &[String]) -> CorsLayer {
    let allowed = match origins {
        [] => return CorsLayer::new(),
        [only] if only == "*" => AllowOrigin::any(),
        some => AllowOrigin::list(some.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let told = [NEXT_OFFSET, UP_TO_DATE, STREAM_VERSION].map(HeaderName::from_static).into_iter().chain([ETAG, LINK, RETRY_AFTER]);
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, IF_NONE_MATCH, HeaderName::from_static("last-event-id")])
        .expose_headers(told.collect::<Vec<_>>())
        .max_age(Duration::from_secs(3_600))
}

/// Hardens an answer: a cache must not keep the answer of one client for another, and a browser must not guess its type.
pub async fn harden(mut response: Response) -> Response {
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding, Authorization"));
    response
}

async fn read_feed(State(feed): State<Arc<Feed>>, RawQuery(text): RawQuery, headers: HeaderMap) -> Response {
    let text = text.as_deref().unwrap_or_default();
    let (client, ticket) = match admit(&feed, text, &headers) {
        Ok(admitted) => admitted,
        Err(problem) => return problem.into_response(),
    };
    let answered = answer(&feed, &client, ticket, text, &headers).await;
    answered.unwrap_or_else(|problem| {
        client.metrics.answered(problem.answer);
        problem.into_response()
    })
}

/// The client that asks, by its token or by a ticket.
fn admit(feed: &Feed, text: &str, headers: &HeaderMap) -> Result<(Arc<Client>, Option<Ticket>), Problem> {
    let Some(ticket) = query::ticket(text).filter(|_| !headers.contains_key(AUTHORIZATION)) else {
        return Ok((authenticate(feed, headers)?, None));
    };
    let taken = feed.tickets.take(&ticket, SystemTime::now());
    let admitted = taken.and_then(|ticket| Some((feed.doors.named(&ticket.client)?, Some(ticket))));
    let (client, ticket) = admitted.ok_or_else(|| {
        feed.unknown.answered(FeedAnswer::Unauthorized);
        Problem::no_ticket()
    })?;
    keep_pace(&client)?;
    Ok((client, ticket))
}

/// The client whose token this is, if its rate allows another request.
pub(super) fn authenticate(feed: &Feed, headers: &HeaderMap) -> Result<Arc<Client>, Problem> {
    let client = token(headers).and_then(|token| feed.doors.find(token)).ok_or_else(|| {
        feed.unknown.answered(FeedAnswer::Unauthorized);
        Problem::unauthorized()
    })?;
    keep_pace(&client)?;
    Ok(client)
}

/// Refuses a request above the rate of its client, before anything is read for it.
pub fn keep_pace(client: &Client) -> Result<(), Problem> {
    client.request().map_err(|wait| {
        client.metrics.answered(FeedAnswer::Limited);
        Problem::too_fast(wait)
    })
}

/// The token of `Authorization: Bearer`. Nowhere else: an address is written into logs on its way.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (given.next(), given.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && token.len() <= LONGEST_TOKEN).then(|| token.trim())
}

async fn answer(
    feed: &Arc<Feed>,
    client: &Arc<Client>,
    ticket: Option<Ticket>,
    text: &str,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let mut query = query::parse(text, feed.settings.max_wait, &feed.source.cursors).map_err(Problem::invalid)?;
    if let Some(ticket) = ticket {
        bind((&mut query.types, &mut query.subject), ticket.types, ticket.subject).map_err(Problem::invalid)?;
    }
    if let Some((brownout, left)) = client.brownout() {
        return Err(Problem::brownout(&brownout, left));
    }
    let connection = client.connect().ok_or_else(Problem::busy)?;
    let filter = client.filter().narrowed(query.types.clone(), query.subject.clone());
    let start = query.after.unwrap_or(Start::Earliest);
    if wants_stream(headers) {
        // A client that comes back says where it was, whatever its address still says.
        let start = last_event(&feed.source.cursors, headers)?.unwrap_or(start);
        return open_stream(feed, client, filter, start, connection).await;
    }
    let opening = Reader::open(Arc::clone(&feed.source), client, filter, start).await;
    let reader = opening.map_err(|trouble| problem_of(&feed.source, &trouble, place_of(start)))?;
    page(feed, client, &query, reader, headers, connection).await
}

/// The types and the subject of a ticket hold, and a request cannot name others beside it.
pub fn bind(
    (types, subject): (&mut Vec<String>, &mut Option<String>),
    bound_types: Vec<String>,
    bound_subject: Option<String>,
) -> Result<(), String> {
    if !bound_types.is_empty() && !types.is_empty() {
        return Err("type: the ticket says which types".to_owned());
    }
    if bound_subject.is_some() && subject.is_some() {
        return Err("subject: the ticket says which subject".to_owned());
    }
    types.extend(bound_types);
    *subject = subject.take().or(bound_subject);
    Ok(())
}

/// `Last-Event-ID`, which is sent by what has read a stream before. An empty one says nothing.
fn last_event(cursors: &Cursors, headers: &HeaderMap) -> Result<Option<Start>, Problem> {
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| text.len() <= LONGEST_TOKEN).unwrap_or_default();
    cursors.start(text).map(Some).map_err(|error| Problem::invalid(format!("Last-Event-ID: {error}")))
}

async fn open_stream(
    feed: &Arc<Feed>,
    client: &Arc<Client>,
    filter: Filter,
    start: Start,
    connection: Connection,
) -> Result<Response, Problem> {
    let source = || Arc::clone(&feed.source);
    let (reader, gap) = match Reader::open(source(), client, filter.clone(), start).await {
        Ok(reader) => (reader, None),
        // A browser takes an error status for the end of everything, so removed events are reported in the stream.
        Err(trouble @ Trouble::Refused(Refusal::Expired { .. }, Some(cursor))) => {
            let gap = problem_of(&feed.source, &trouble, place_of(start));
            let opening = Reader::open(source(), client, filter, Start::At(cursor)).await;
            (opening.map_err(|trouble| problem_of(&feed.source, &trouble, None))?, Some(gap))
        }
        Err(trouble) => return Err(problem_of(&feed.source, &trouble, place_of(start))),
    };
    client.metrics.answered(FeedAnswer::Stream);
    let events = Stream::new(Arc::clone(feed), Arc::clone(client), reader, gap.as_ref(), connection);
    let body = stream::unfold(events, |mut events| async move {
        let bytes = events.next().await?;
        Some((Ok::<_, Infallible>(bytes), events))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform")),
        // nginx would keep events back until a buffer is full.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

pub fn place_of(start: Start) -> Option<i64> {
    match start {
        Start::At(cursor) => Some(cursor.place()),
        _ => None,
    }
}

pub fn problem_of(source: &Source, trouble: &Trouble, from: Option<i64>) -> Problem {
    if let Trouble::Store(error) = trouble {
        warn!(error = %chain(error), "could not read the feed for a client");
    }
    Problem::of(trouble, from, &source.cursors)
}

/// Whether the client prefers a stream to a page.
fn wants_stream(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|accept| accept.contains("text/event-stream"))
}

/// One page. With `wait`, and at the end of the feed, it waits for an event.
async fn page(
    feed: &Arc<Feed>,
    client: &Arc<Client>,
    query: &Query,
    mut reader: Reader,
    headers: &HeaderMap,
    _connection: Connection,
) -> Result<Response, Problem> {
    let from = reader.cursor();
    let problem = |trouble: Trouble| problem_of(&feed.source, &trouble, Some(from.place()));
    let mut batch = reader.read(query.limit).await.map_err(problem)?;
    if batch.events.is_empty() && batch.is_up_to_date && !query.wait.is_zero() {
        batch = wait(feed, client, query, &mut reader).await.map_err(problem)?;
    }
    let mut reached = reader.cursor();
    if !feed.doors.knows(client) {
        // Read with rights that a reload has changed meanwhile: nothing of it is sent, and the client goes on where it was.
        (batch.events, batch.is_up_to_date, reached) = (Vec::new(), false, from);
    }
    client.metrics.answered(if batch.events.is_empty() { FeedAnswer::Empty } else { FeedAnswer::Page });
    let cursors = [from, reached].map(|cursor| feed.source.cursors.text(cursor));
    let answer = render(query, cursors, &client.tag(), &batch, headers);
    if answer.status() == StatusCode::OK {
        client.sends(&batch);
    }
    Ok(answer)
}

/// Waits for an event that the client wants, no longer than it asked for.
async fn wait(feed: &Arc<Feed>, client: &Arc<Client>, query: &Query, reader: &mut Reader) -> Result<Batch, Trouble> {
    let until = Instant::now() + query.wait;
    let _waiting = feed.source.tail.wait();
    let mut moves = feed.source.tail.moves();
    let is_over = async {
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = feed.stop.cancelled() => {}
            () = feed.doors.changed(client) => {}
        }
    };
    tokio::pin!(is_over);
    loop {
        moves.mark_unchanged();
        let before = reader.cursor();
        let batch = reader.read(query.limit).await?;
        // A read can take longer than a reload: what it found is for nobody, and the next request finds it again.
        if !feed.doors.knows(client) {
            reader.go_on_from(before);
            return Ok(Batch { events: Vec::new(), is_up_to_date: false });
        }
        if !batch.events.is_empty() {
            return Ok(batch);
        }
        if !batch.is_up_to_date {
            continue; // the filter lets little through, and there is more to look at
        }
        let moved = async {
            if moves.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            // First: a client that a reload has taken away gets nothing more, also when an event has come at the same moment.
            () = &mut is_over => return Ok(batch),
            () = moved => {}
        }
    }
}

/// `versions`: stands for the versions that the client reads.
fn render(query: &Query, [from, next]: [String; 2], versions: &str, batch: &Batch, headers: &HeaderMap) -> Response {
    // The same request has the same answer as long as it goes equally far, no event of it was erased and no cast was changed.
    let tag = format!("\"{from}-{next}-{}{versions}\"", batch.events.len());
    let mut answer = HeaderMap::new();
    let text = |text: String| HeaderValue::try_from(text).expect("a cursor and an encoded query are printable");
    answer.insert(ETAG, text(tag.clone()));
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    answer.insert(LINK, text(format!("<{ADDRESS}?{}>; rel=\"next\"", query::next(query, &next))));
    answer.insert(NEXT_OFFSET, text(next));
    if batch.is_up_to_date {
        answer.insert(UP_TO_DATE, HeaderValue::from_static("true"));
    }
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if known.flat_map(|list| list.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag) {
        return (StatusCode::NOT_MODIFIED, answer).into_response();
    }
    answer.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents-batch+json"));
    let length: usize = batch.events.iter().map(|event| event.form.json.len() + 1).sum::<usize>() + 2;
    let mut body = Vec::with_capacity(length);
    body.push(b'[');
    for (number, event) in batch.events.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&event.form.json);
    }
    body.extend_from_slice(b"]\n");
    (answer, Body::from(Bytes::from(body))).into_response()
}
