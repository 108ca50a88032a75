//! The hub: the feed for clients of SignalR, over WebSockets, server-sent events and long polling. Another transport of the feed: it reads
//! the same events with the same rights, and a client keeps the same cursor. Settles no delivery; what it sends is not acknowledged.

mod admission;
mod calls;
mod following;
mod line;
mod lines;
mod long_polling;
mod numbers;
mod protocol;
mod queue;
mod routes;
mod server_sent;
mod session;
mod token;
mod web_socket;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;

use crate::config;
use crate::feed::Feed;
use lines::Lines;
use token::Tokens;

/// What all connections of the hub share.
struct Hub {
    feed: Arc<Feed>,
    settings: Settings,
    /// Origins of pages that may open a WebSocket, or `*`.
    origins: Vec<String>,
    tokens: Tokens,
    lines: Lines,
}

#[derive(Debug, Clone)]
struct Settings {
    keep_alive: Duration,
    client_timeout: Duration,
    reconnect_buffer: u64,
}

/// The hub at its path, to be served with the feed. Without a path there is nothing to serve.
pub fn routes(config: &config::Hub, of_feed: &config::Feed, feed: &Arc<Feed>) -> Router {
    let Some(path) = &config.path else { return Router::new() };
    let hub = Hub {
        feed: Arc::clone(feed),
        settings: Settings {
            keep_alive: config.keep_alive,
            client_timeout: config.client_timeout,
            reconnect_buffer: config.reconnect_buffer,
        },
        origins: of_feed.origins.clone(),
        tokens: Tokens::new(of_feed.ticket_key.as_ref()),
        lines: Lines::default(),
    };
    routes::routes(Arc::new(hub), path)
}
