//! The HTTP side of the daemon: metrics, liveness, readiness. Read only: no method except GET and HEAD, no request body is read,
//! no CORS. Meant for a private network; the time and the number of connections are bounded all the same.

mod connections;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::http::{StatusCode, Uri};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::connections::Bounds;
use crate::telemetry::{Health, RelayMetrics, Telemetry};

/// What the answers are made of.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// `None`: the metrics go to a recorder that is not ours, and `/metrics` says so.
    pub telemetry: Option<Telemetry>,
    pub health: Arc<Health>,
}

/// Why the address cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address}; {}", help(cause.kind()))]
pub struct BindError {
    address: SocketAddr,
    #[source]
    cause: io::Error,
}

/// After the shutdown a connection has this long to end; a client that sends half a request would keep us for ever.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

const INDEX: &str = "outboxd\n\n/metrics  Prometheus metrics\n/healthz  200 while the process runs\n/readyz   200 while the relay does its work, else 503 and why\n";

/// Opens the listener of `http.listen`.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|cause| BindError { address, cause })
}

/// Answers until `shutdown`, and keeps the metrics recorder in shape meanwhile. Cancel `shutdown` last, after the drain:
/// readiness has to say that the relay stops while it does.
pub async fn serve(listener: TcpListener, state: ApiState, shutdown: CancellationToken) -> io::Result<()> {
    let telemetry = state.telemetry.clone();
    let server = connections::serve(listener, routes(state), Bounds::USUAL, shutdown.clone());
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        served = server => served,
        () = deadline => Ok(()),
        never = upkeep(telemetry) => match never {},
    }
}

/// Runs the recorder's upkeep for ever. For a relay that serves no HTTP but has installed the recorder.
pub async fn upkeep(telemetry: Option<Telemetry>) -> Infallible {
    let mut ticks = tokio::time::interval(Telemetry::UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        telemetry.iter().for_each(Telemetry::upkeep);
    }
}

fn routes(state: ApiState) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readiness))
        .fallback(async |uri: Uri| (StatusCode::NOT_FOUND, format!("there is no {}; see /\n", uri.path())))
        .layer(map_response(harden))
        .with_state(state)
}

async fn metrics(State(state): State<ApiState>) -> Response {
    match state.telemetry {
        Some(telemetry) => {
            // Judged at the scrape: a relay that hangs could not say so itself.
            RelayMetrics::new().ready(state.health.report(Instant::now()).ready);
            ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry.render()).into_response()
        }
        None => (StatusCode::NOT_FOUND, "the metrics go to the recorder of the program that embeds this relay\n").into_response(),
    }
}

async fn readiness(State(state): State<ApiState>) -> Response {
    let report = state.health.report(Instant::now());
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

/// Answers are true for the moment only, and never to be guessed at by a browser.
async fn harden(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn help(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => "another process listens there: stop it, or set http.listen to a free port",
        io::ErrorKind::AddrNotAvailable => "set http.listen to an address of this machine, for example 127.0.0.1:9187",
        io::ErrorKind::PermissionDenied => "set http.listen to a port above 1023",
        _ => "check http.listen",
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::telemetry::{HandlerMetrics, local_telemetry};

    struct Server {
        address: SocketAddr,
        health: Arc<Health>,
        shutdown: CancellationToken,
        task: JoinHandle<io::Result<()>>,
    }

    async fn server(telemetry: Option<Telemetry>) -> Server {
        let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Arc::new(Health::new(Duration::from_secs(30)));
        let shutdown = CancellationToken::new();
        let state = ApiState { telemetry, health: health.clone() };
        let task = tokio::spawn(serve(listener, state, shutdown.clone()));
        Server { address, health, shutdown, task }
    }

    impl Server {
        /// The whole answer, head and body.
        async fn ask(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(format!("{request} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }
    }

    #[tokio::test]
    async fn metrics_are_served_as_prometheus_reads_them() {
        let server = server(Some(local_telemetry(|| drop(HandlerMetrics::new("billing", "webhook"))))).await;
        let answer = server.ask("GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("cache-control: no-store"), "{answer}");
        assert!(answer.contains("outboxd_deliveries_total{handler=\"billing\""), "{answer}");
        assert!(!answer.contains("access-control-"), "no CORS");
    }

    #[tokio::test]
    async fn a_foreign_recorder_is_named_rather_than_shown_empty() {
        let answer = server(None).await.ask("GET /metrics").await;
        assert!(answer.starts_with("HTTP/1.0 404 ") && answer.contains("recorder of the program"), "{answer}");
    }

    #[tokio::test]
    async fn readiness_is_red_with_reasons_while_liveness_is_green() {
        let server = server(None).await;
        let answer = server.ask("GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.0 503 "), "{answer}");
        assert!(answer.contains(r#"{"ready":false,"reasons":["the database has not been reached yet""#), "{answer}");
        assert!(server.ask("GET /healthz").await.ends_with("\r\n\r\nok\n"));
        server.health.owns(["billing/0"]);
        let answer = server.ask("GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.0 200 ") && answer.ends_with(r#"{"ready":true,"reasons":[]}"#), "{answer}");
    }

    #[tokio::test]
    async fn only_what_there_is_may_be_read_and_nothing_written() {
        let server = server(None).await;
        assert!(server.ask("GET /").await.contains("/readyz"));
        assert!(server.ask("GET /admin").await.starts_with("HTTP/1.0 404 "));
        assert!(server.ask("POST /readyz").await.starts_with("HTTP/1.0 405 "));
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_server_and_its_idle_connections() {
        let server = server(None).await;
        let _idle = TcpStream::connect(server.address).await.unwrap();
        server.ask("GET /healthz").await;
        server.shutdown.cancel();
        server.task.await.unwrap().unwrap();
        assert!(TcpStream::connect(server.address).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_request_does_not_hold_up_the_shutdown() {
        let server = server(None).await;
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(b"GET /heal").await.unwrap();
        server.shutdown.cancel();
        server.task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_taken_address_names_the_setting_to_change() {
        let taken = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address).await.unwrap_err().to_string();
        assert_eq!(
            error,
            format!("could not listen on {address}; another process listens there: stop it, or set http.listen to a free port")
        );
    }
}
