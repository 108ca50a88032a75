//! The hub: the feed for clients of SignalR, over WebSockets, server-sent events and long polling. It is another transport of the
//! feed, on the same listener: the same events, the same rights, the same cursors, read through the same `Reader`. The hub
//! settles no delivery, because what it sends is not acknowledged.
//!
//! - `routes` negotiates. A negotiation keeps nothing in memory: the connection token is a signed statement (`token`), which any
//!   instance with the same key accepts for a WebSocket.
//! - A *session* (`session`) is the task of one connection: it answers calls and sends the events that the client follows
//!   (`following`).
//! - A *line* (`line`) joins the session to its transport. With stateful reconnect one transport after the other attaches to the
//!   same line, and the number of the attachment fences the previous one.
//! - `queue` holds the records on their way to the client. It is bounded. Without room the session reads nothing, and after
//!   `hub.client_timeout` without progress it closes the connection.

mod acknowledging;
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

/// The parts that all connections of the hub share.
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
