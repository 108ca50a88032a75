//! The feed, as clients read it: cursors, pages, streams. Events come in the order of their places, which `relay::publisher`
//! gives.
//!
//! Reads the database, and changes nothing in it but the cursors that clients leave to it (`kept`). A client sees what the configuration allows, and no answer reveals anything of
//! the rest. Which versions a client was sent is counted in memory (`telemetry::contract_use`).
//!
//! In the order of reading: `server`, `tls` and `routes`, `access`, `query`, `cursor` and `seal`, `reader` (pages and the tail), `tail`, `filter`,
//! `render`, `stream`; `handled`, `streams`, `contracts` and `kept` are other addresses.

pub(crate) mod access;
mod contracts;
mod cursor;
pub(crate) mod filter;
mod handled;
pub(crate) mod kept;
mod look;
pub(crate) mod problem;
pub(crate) mod query;
pub(crate) mod reader;
pub(crate) mod render;
pub(crate) mod routes;
pub(crate) mod seal;
mod server;
pub(crate) mod signer;
mod stream;
mod streams;
pub(crate) mod tail;
pub(crate) mod tickets;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config;
use crate::telemetry::ClientMetrics;

pub use access::Doors;
pub use cursor::{Cursor, EpochOfPlaces, Ground, InvalidStart, Refusal, Removed, Start, judge};
pub use handled::{describe_progress, is_handled};
pub use look::{Look, LookError, judge_stored};
pub use server::{FeedBindError, bind, serve};
pub use tls::Certificates;

use reader::Source;
use render::Renderer;
use seal::Cursors;
use tail::Tail;
use tickets::Tickets;

/// The parts that all connections of the feed share.
pub struct Feed {
    pub(crate) source: Arc<Source>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) tickets: Tickets,
    pub(crate) certificates: Arc<Certificates>,
    settings: Settings,
    /// Of requests whose client is not known.
    pub(crate) unknown: ClientMetrics,
    /// The last place that the publisher of this process has given.
    published: watch::Receiver<i64>,
    pub(crate) stop: CancellationToken,
    pub(crate) lasting: Lasting,
}

/// Tasks beside requests: a stop waits for them as it waits for requests, and then cuts them.
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    /// Sockets that speak HTTP no more. They count as connections.
    pub sockets: TaskTracker,
    pub tasks: TaskTracker,
    /// The time for last words is over.
    pub cut: CancellationToken,
}

/// The settings of the answers, beside the clients.
#[derive(Debug, Clone)]
struct Settings {
    max_wait: Duration,
    /// Between two signs of life on a stream without events.
    heartbeat: Duration,
    max_connections: usize,
    /// Of pages that may read answers.
    origins: Vec<String>,
}

impl Feed {
    /// A feed that answers until `stop`. Nothing is connected or started. `patience`: longest that an answer of the database is waited for.
    pub fn new(
        settings: &config::Feed,
        (pool, patience): (PgPool, Option<Duration>),
        doors: Arc<Doors>,
        published: watch::Receiver<i64>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let renderer = Renderer::new(&settings.source, Cursors::new(settings));
        let tail = Tail::new(usize::try_from(settings.memory).unwrap_or(usize::MAX));
        Arc::new(Self {
            source: Arc::new(Source::new(pool, patience, renderer, tail)),
            doors,
            tickets: Tickets::new(settings.ticket_key.as_ref()),
            certificates: Arc::new(Certificates::new(settings)),
            settings: Settings {
                max_wait: settings.max_wait,
                heartbeat: settings.heartbeat,
                max_connections: settings.max_connections,
                origins: settings.origins.clone(),
            },
            unknown: ClientMetrics::new(""),
            published,
            stop,
            lasting: Lasting::default(),
        })
    }
}
