//! `GET /v1/events/{id}`: whether handlers are done with an event, and waiting until they are, including the commit of the event.
//! Never says "handled" before the outcome is recorded, and never waits longer than the request allows.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::Feed;
use super::access::Client;
use super::problem::Problem;
use super::reader::Trouble;
use super::routes::{authenticate, problem_of};
use crate::domain::Stage;
use crate::settings::parse_duration;
use crate::store;
use crate::store::feed::{HandlerProgress, read_event_progress, stage_of};
use crate::telemetry::FeedAnswer;

/// Between looks, at first and at most.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_millis(200);
/// For one look: no client waits much longer than it requested because a connection has fallen silent.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// The parameters of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    wait: Duration,
    /// `None`: all that the client may ask about.
    handlers: Option<Vec<String>>,
}

pub(super) async fn read_event(
    State(feed): State<Arc<Feed>>,
    Path(id): Path<String>,
    RawQuery(text): RawQuery,
    headers: HeaderMap,
) -> Response {
    let client = match authenticate(&feed, &headers) {
        Ok(client) => client,
        Err(problem) => return problem.into_response(),
    };
    let answered = answer(&feed, &client, &id, text.as_deref().unwrap_or_default()).await;
    answered.unwrap_or_else(|problem| {
        client.metrics.answered(problem.answer);
        problem.into_response()
    })
}

async fn answer(feed: &Arc<Feed>, client: &Arc<Client>, id: &str, text: &str) -> Result<Response, Problem> {
    let id = Uuid::try_parse(id).map_err(|_| Problem::invalid("the address ends with the id of an event".to_owned()))?;
    let query = parse(text, feed.settings.max_wait).map_err(Problem::invalid)?;
    let handlers = query.handlers.unwrap_or_else(|| client.handlers().to_vec());
    // Those of others are like those that there are not.
    if handlers.is_empty() || handlers.iter().any(|handler| !client.handlers().contains(handler)) {
        return Err(Problem::invalid("handlers: expected names of handlers that this client may ask about".to_owned()));
    }
    let _connection = client.connect().ok_or_else(Problem::busy)?;
    let is_over = async {
        tokio::select! {
            () = tokio::time::sleep_until(Instant::now() + query.wait) => {}
            () = feed.stop.cancelled() => {}
            () = feed.doors.changed(client) => {}
        }
    };
    tokio::pin!(is_over);
    let (mut pause, mut may_wait) = (LOOK_MIN, !query.wait.is_zero());
    loop {
        let [feed_types, client_types, _] = client.filter().patterns();
        let reading =
            read_event_progress(&feed.source.pool, id, [feed_types, client_types], client.filter().required_headers(), &handlers);
        let reading = store::answered(Some(LONGEST_LOOK), reading, |silent| silent);
        let found = feed
            .source
            .answered(reading, |silent| silent)
            .await
            .map_err(|error| problem_of(&feed.source, &Trouble::Store(error), None))?;
        let is_open = found.as_ref().is_none_or(|found| is_open(&handlers, found));
        if !may_wait || !is_open {
            client.metrics.answered(if found.is_some() { FeedAnswer::Event } else { FeedAnswer::Invalid });
            return found.map(|found| render(id, &handlers, &found)).ok_or_else(Problem::unknown);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LOOK_MAX),
            // One more look: what was recorded up to the end of the wait counts.
            () = &mut is_over => may_wait = false,
        }
    }
}

/// Waiting longer may change the answer.
fn is_open(handlers: &[String], found: &[HandlerProgress]) -> bool {
    handlers.iter().any(|handler| stage_of(handler, found) == Stage::Pending)
}

/// Every one of them is done with the event.
pub fn is_handled(handlers: &[String], found: &[HandlerProgress]) -> bool {
    handlers.iter().all(|handler| stage_of(handler, found).is_done())
}

/// The answer about an event: `{"id", "handled", "handlers": {"NAME": {"state", ..}}}`.
pub fn describe_progress(id: Uuid, handlers: &[String], found: &[HandlerProgress]) -> Value {
    let each = handlers.iter().map(|handler| (handler.clone(), describe_one(handler, found))).collect::<Map<_, _>>();
    json!({ "id": id, "handled": is_handled(handlers, found), "handlers": each })
}

fn render(id: Uuid, handlers: &[String], found: &[HandlerProgress]) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let is_handled = is_handled(handlers, found);
    if !is_handled {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    let status = if is_handled { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, headers, format!("{}\n", describe_progress(id, handlers, found))).into_response()
}

/// The reason why a handler is not done, where there is one.
fn describe_one(handler: &str, found: &[HandlerProgress]) -> Value {
    let progress = found.iter().find(|progress| progress.handler == handler);
    let state = match (stage_of(handler, found), progress.and_then(|progress| progress.state.as_deref())) {
        (Stage::Handled, _) => "handled",
        (Stage::Unwanted, _) => "unwanted",
        (_, Some(state)) => state,
        (_, None) => "pending",
    };
    let mut told = Map::from_iter([("state".to_owned(), json!(state))]);
    if let Some(progress) = progress.filter(|_| state != "handled") {
        let further = [
            ("attempts", json!(progress.attempts)),
            ("reason", json!(progress.reason)),
            ("due_at", json!(progress.due_at)),
            ("circuit_open", json!(progress.is_held.then_some(true))),
            ("paused", json!(progress.is_paused.then_some(true))),
        ];
        told.extend(further.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)));
    }
    Value::Object(told)
}

fn parse(text: &str, longest_wait: Duration) -> Result<Query, String> {
    let mut query = Query::default();
    let mut has_wait = false;
    for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
        match &*name {
            "wait" if !has_wait => {
                query.wait = parse_duration(&value).ok_or("wait: expected a duration such as 10s")?.min(longest_wait);
                has_wait = true;
            }
            "handlers" => query.handlers.get_or_insert_default().extend(value.split(',').map(str::to_owned)),
            "wait" => return Err("wait is given more than once".to_owned()),
            _ => return Err("unknown parameter; there are wait and handlers".to_owned()),
        }
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_handlers_and_a_time() {
        let longest = Duration::from_secs(60);
        let query = parse("wait=10s&handlers=billing,stock&handlers=mail", longest).expect("valid");
        assert_eq!(query.wait, Duration::from_secs(10));
        assert_eq!(query.handlers, Some(vec!["billing".to_owned(), "stock".to_owned(), "mail".to_owned()]));
        assert_eq!(parse("wait=1h", longest).map(|query| query.wait), Ok(longest));
        for text in ["wait=10", "wait=1s&wait=1s", "handler=billing", "token=hunter2"] {
            assert!(parse(text, longest).is_err_and(|told| !told.contains("hunter2")), "{text}");
        }
    }
}
