//! The addresses of the hub: `POST <path>/negotiate`, and `<path>` itself for each transport. Decides which requests get a
//! connection, and which one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{RawQuery, State, WebSocketUpgrade};
use axum::http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, UPGRADE};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, Limited};
use serde_json::json;
use tower_http::cors::{AllowOrigin, CorsLayer};
use uuid::Uuid;

use super::admission::{Admitted, admit, check_origin, parameter, refuse_token_in_address};
use super::line::{Attachment, Line, Transport};
use super::token::Token;
use super::{Hub, long_polling, server_sent, session, web_socket};
use crate::feed::access::Connection;
use crate::feed::problem::Problem;
use crate::feed::routes::harden;
use crate::telemetry::FeedAnswer;

/// Longest body of a client: some records.
const MOST_BODY: usize = 256 * 1024;

pub fn routes(hub: Arc<Hub>, path: &str) -> Router {
    let cross_origin = cross_origin(&hub.origins);
    Router::new()
        .route(path, get(connect).post(hear).delete(end).fallback(async || wrong_method()))
        .route(&format!("{path}/negotiate"), post(negotiate).fallback(async || wrong_method()))
        .layer(map_response(harden))
        .layer(cross_origin)
        .with_state(hub)
}

/// Pages of these origins may read answers. Microsoft's client asks for answers with credentials; there are none that a browser would add by itself, so nothing
/// rests on it.
fn cross_origin(origins: &[String]) -> CorsLayer {
    let allowed = match origins {
        [] => return CorsLayer::new(),
        // With credentials a browser does not take "*".
        [only] if only == "*" => AllowOrigin::mirror_request(),
        some => AllowOrigin::list(some.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let sent = ["x-requested-with", "x-signalr-user-agent"].map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(sent.into_iter().chain([AUTHORIZATION, CONTENT_TYPE]).collect::<Vec<_>>())
        .max_age(Duration::from_secs(3_600))
}

async fn negotiate(State(hub): State<Arc<Hub>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let query = query.unwrap_or_default();
    let admitted = refuse_token_in_address(&hub.feed, &query).and_then(|()| admit(&hub.feed, &query, &headers));
    let Admitted { client, bounds } = match admitted {
        Ok(admitted) => admitted,
        Err(problem) => return problem.into_response(),
    };
    client.metrics.answered(FeedAnswer::Negotiated);
    let is_stateful = parameter(&query, "useStatefulReconnect").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let (id, token) = hub.tokens.make(client.name(), bounds, is_stateful, SystemTime::now());
    let transports = ["WebSockets", "ServerSentEvents", "LongPolling"];
    let mut answer = json!({
        "availableTransports": transports.map(|name| json!({ "transport": name, "transferFormats": ["Text"] })),
    });
    // Clients of version 0 know one id only.
    if parameter(&query, "negotiateVersion").is_some_and(|version| version != "0") {
        answer["negotiateVersion"] = json!(1);
        answer["connectionId"] = json!(id);
        answer["connectionToken"] = json!(token);
    } else {
        answer["negotiateVersion"] = json!(0);
        answer["connectionId"] = json!(token);
    }
    if is_stateful {
        answer["useStatefulReconnect"] = json!(true);
    }
    ([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], axum::Json(answer)).into_response()
}

/// Opens a connection, or goes on with one.
async fn connect(
    State(hub): State<Arc<Hub>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let query = query.unwrap_or_default();
    let answered = match upgrade {
        Ok(upgrade) => open_socket(&hub, &query, &headers, upgrade),
        Err(_) if headers.contains_key(UPGRADE) => {
            Err(Problem::invalid("this is no request for a WebSocket of version 13".to_owned()))
        }
        Err(_) if wants_stream(&headers) => open_stream(&hub, &query),
        Err(_) => poll(&hub, &query).await,
    };
    answered.unwrap_or_else(|problem| refuse(&hub, problem))
}

/// Counts what was not counted where it was found.
fn refuse(hub: &Hub, problem: Problem) -> Response {
    if problem.answer == FeedAnswer::Invalid {
        hub.feed.unknown.answered(problem.answer);
    }
    problem.into_response()
}

fn wants_stream(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|accept| accept.contains("text/event-stream"))
}

fn open_socket(hub: &Arc<Hub>, query: &str, headers: &HeaderMap, upgrade: WebSocketUpgrade) -> Result<Response, Problem> {
    check_origin(&hub.origins, headers).inspect_err(|problem| hub.feed.unknown.answered(problem.answer))?;
    refuse_token_in_address(&hub.feed, query)?;
    let known = match parameter(query, "id") {
        Some(id) => Some(hub.tokens.read(&id).ok_or_else(no_connection)?),
        None => None,
    };
    let upgrade = web_socket::bounded(upgrade);
    let socket = hub.feed.lasting.sockets.token();
    let (keep_alive, cut) = (hub.settings.keep_alive, hub.feed.lasting.cut.clone());
    if let Some(line) = known.as_ref().and_then(|token| hub.lines.find(token.id)) {
        // Only a client of stateful reconnect comes back to its connection.
        if !(line.transport == Transport::WebSockets && line.keeps()) {
            return Err(busy_connection());
        }
        return Ok(upgrade.on_upgrade(async move |websocket| {
            let _socket = socket;
            if let Some(attachment) = line.attach() {
                cut.run_until_cancelled(web_socket::carry(websocket, attachment, keep_alive)).await;
            }
        }));
    }
    let opening = match known {
        Some(token) => begin(hub, &token, Transport::WebSockets)?,
        None => Opening::new(Uuid::new_v4(), admit(&hub.feed, query, headers)?, false)?,
    };
    let hub = Arc::clone(hub);
    Ok(upgrade.on_upgrade(async move |websocket| {
        let _socket = socket;
        let attachment = opening.start(&hub, Transport::WebSockets);
        cut.run_until_cancelled(web_socket::carry(websocket, attachment, keep_alive)).await;
    }))
}

fn open_stream(hub: &Arc<Hub>, query: &str) -> Result<Response, Problem> {
    let token = connection_token(hub, query)?;
    if hub.lines.find(token.id).is_some() {
        return Err(busy_connection());
    }
    let attachment = begin(hub, &token, Transport::ServerSentEvents)?.start(hub, Transport::ServerSentEvents);
    Ok(server_sent::answer(attachment, hub.settings.keep_alive))
}

async fn poll(hub: &Arc<Hub>, query: &str) -> Result<Response, Problem> {
    let token = connection_token(hub, query)?;
    match hub.lines.find(token.id) {
        Some(line) if line.transport == Transport::LongPolling => {
            let attachment = line.attach().ok_or_else(no_connection)?;
            Ok(long_polling::answer(attachment, hub.settings.keep_alive).await)
        }
        Some(_) => Err(busy_connection()),
        None => {
            // The first poll says that the connection is there.
            drop(begin(hub, &token, Transport::LongPolling)?.start(hub, Transport::LongPolling));
            Ok(long_polling::records(Bytes::new()))
        }
    }
}

/// Messages of a client over a transport that has no other way for them.
async fn hear(State(hub): State<Arc<Hub>>, RawQuery(query): RawQuery, body: Body) -> Response {
    let heard = async {
        let line = known_line(&hub, query.as_deref().unwrap_or_default())?;
        if line.transport == Transport::WebSockets {
            return Err(wrong_method_for_socket());
        }
        let body = Limited::new(body, MOST_BODY).collect().await.map_err(|_| too_large())?;
        if line.hear(0, body.to_bytes()).await { Ok(long_polling::records(Bytes::new())) } else { Err(no_connection()) }
    };
    heard.await.unwrap_or_else(|problem| refuse(&hub, problem))
}

/// The client says goodbye.
async fn end(State(hub): State<Arc<Hub>>, RawQuery(query): RawQuery) -> Response {
    let ended = async {
        let line = known_line(&hub, query.as_deref().unwrap_or_default())?;
        if line.transport != Transport::LongPolling {
            return Err(wrong_method_for_socket());
        }
        line.hear(0, super::protocol::close(None, false)).await;
        Ok(StatusCode::ACCEPTED.into_response())
    };
    ended.await.unwrap_or_else(|problem| refuse(&hub, problem))
}

fn connection_token(hub: &Hub, query: &str) -> Result<Token, Problem> {
    refuse_token_in_address(&hub.feed, query)?;
    let id =
        parameter(query, "id").ok_or_else(|| Problem::invalid("id: negotiate first, and send the connection token".to_owned()))?;
    hub.tokens.read(&id).ok_or_else(no_connection)
}

fn known_line(hub: &Hub, query: &str) -> Result<Arc<Line>, Problem> {
    hub.lines.find(connection_token(hub, query)?.id).ok_or_else(no_connection)
}

/// A connection that may begin.
struct Opening {
    id: Uuid,
    admitted: Admitted,
    is_stateful: bool,
    connection: Connection,
}

/// Begins the connection of a token, once.
fn begin(hub: &Hub, token: &Token, transport: Transport) -> Result<Opening, Problem> {
    // Requests that another instance gets cannot find what is held in memory here.
    let anywhere = transport == Transport::WebSockets;
    if !hub.tokens.begins(token, anywhere, SystemTime::now()) {
        return Err(no_connection());
    }
    // A client that was removed meanwhile has no connection, as it would have none any more.
    let client = hub.feed.doors.named(&token.client).ok_or_else(no_connection)?;
    Opening::new(token.id, Admitted { client, bounds: token.bounds() }, token.is_stateful)
}

impl Opening {
    fn new(id: Uuid, admitted: Admitted, is_stateful: bool) -> Result<Self, Problem> {
        let connected = admitted.client.connect();
        let answer = if connected.is_some() { FeedAnswer::Hub } else { FeedAnswer::Busy };
        admitted.client.metrics.answered(answer);
        let connection = connected.ok_or_else(Problem::busy)?;
        Ok(Self { id, admitted, is_stateful, connection })
    }

    fn start(self, hub: &Arc<Hub>, transport: Transport) -> Attachment {
        let (line, heard) = Line::new(self.id, transport, self.is_stateful, self.connection);
        // Before the session begins, which would take a connection without a transport for one that has broken.
        let attachment = line.attach().expect("no other task has this connection yet");
        hub.lines.insert(&line);
        session::start(hub, self.admitted, line, heard);
        attachment
    }
}

fn no_connection() -> Problem {
    let detail = "there is no connection with this id here: it has ended, it was begun at another instance, or its token has expired; negotiate again";
    Problem::new(StatusCode::NOT_FOUND, "no-connection", "There is no such connection", detail, FeedAnswer::Invalid)
}

fn busy_connection() -> Problem {
    let detail = "this connection has a transport already; negotiate again for another connection";
    Problem::new(StatusCode::CONFLICT, "connection-in-use", "The connection is in use", detail, FeedAnswer::Invalid)
}

fn too_large() -> Problem {
    let detail = "a body may have 256 KiB, and a message 32 KiB";
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail, FeedAnswer::Invalid)
}

fn wrong_method() -> Problem {
    let detail = "negotiate with POST, then connect with GET";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "The hub is not asked so", detail, FeedAnswer::Invalid)
}

fn wrong_method_for_socket() -> Problem {
    let detail = "this connection does that over its own transport";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "The connection is not asked so", detail, FeedAnswer::Invalid)
}
