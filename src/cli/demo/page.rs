//! The page of the demo: the feed, live, in a browser. A small web application as somebody else would write it: its server holds the
//! token of the client and gives the page a ticket, and the page reads the feed by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::handlers::{TlsSettings, tls_config};

const HTML: &str = include_str!("page/page.html");
const SCRIPT: &str = include_str!("page/page.js");
const STYLE: &str = include_str!("page/page.css");

/// For the ticket, which a relay gives in no time once it runs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The running page. Dropping it ends it.
pub struct Page {
    _ends_with_us: DropGuard,
}

struct Shared {
    address: SocketAddr,
    feed: SocketAddr,
    token: String,
    client: reqwest::Client,
}

impl Page {
    /// Serves the page here, for the feed at that address, as the client with this token.
    pub async fn start(address: SocketAddr, feed: SocketAddr, token: String) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let tls = tls_config(&TlsSettings::default(), false).map_err(std::io::Error::other)?;
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(PATIENCE).build();
        let shared = Arc::new(Shared { address, feed, token, client: client.map_err(std::io::Error::other)? });
        let routes = Router::new()
            .route("/", get(show_page))
            .route("/page.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
            .route("/page.css", get(async || file("text/css; charset=utf-8", STYLE)))
            .route("/ticket", post(give_ticket))
            .with_state(shared);
        let stop = CancellationToken::new();
        let until = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = axum::serve(listener, routes) => {}
                () = until.cancelled() => {}
            }
        });
        Ok(Self { _ends_with_us: stop.drop_guard() })
    }
}

/// Nothing but its own files, and the feed as the one place to talk to.
async fn show_page(State(shared): State<Arc<Shared>>) -> Response {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' http://{}; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        shared.feed
    );
    let html = HTML.replace("{feed}", &format!("http://{}/v1/feed", shared.feed));
    ([(CONTENT_SECURITY_POLICY, policy)], file("text/html; charset=utf-8", html)).into_response()
}

fn file(kind: &'static str, text: impl Into<String>) -> Response {
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, text.into()).into_response()
}

/// A ticket of the feed. The token stays here. A page of another site cannot read the answer, whatever name it has for this address.
async fn give_ticket(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if host != Some(&shared.address.to_string()) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    match shared.ticket().await {
        Some(ticket) => ([(CACHE_CONTROL, "no-store")], axum::Json(json!({ "ticket": ticket }))).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

impl Shared {
    async fn ticket(&self) -> Option<String> {
        let asking = self.client.post(format!("http://{}/v1/tickets", self.feed)).bearer_auth(&self.token).send();
        let body = asking.await.ok()?.error_for_status().ok()?.bytes().await.ok()?;
        serde_json::from_slice::<Value>(&body).ok()?["ticket"].as_str().map(str::to_owned)
    }
}
