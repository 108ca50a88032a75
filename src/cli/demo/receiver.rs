//! The receiver: a web server of another team, which checks signatures and does not always work.
//! It fails at random, never wants a few events, and has two outages; it accepts a replayed event it refused before.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::ledger::{Arrival, Ledger};
use super::outage::{Outage, OutageKind};
use super::story::{Fact, Story};
use crate::handlers;
use crate::settings::Secret;

/// Of so many new events, one is refused for good.
const REFUSED: usize = 40;
/// The first of them comes early, so that a short run has one, too.
const FIRST_REFUSED: usize = 12;

/// How it misbehaves.
#[derive(Debug, Clone)]
pub struct Mischief {
    pub fail_percent: u8,
    pub outages: Vec<Outage>,
}

/// The running receiver. Dropping it ends it.
pub struct Receiver {
    pub address: SocketAddr,
    stop: CancellationToken,
    _ends_with_us: DropGuard,
    task: JoinHandle<()>,
}

struct Shared {
    secrets: Vec<Secret>,
    mischief: Mischief,
    started: Instant,
    ledger: Arc<Ledger>,
    story: Story,
    /// Every id that ever came outside an outage.
    seen: Mutex<HashSet<Uuid>>,
    /// Those answered with a failure and not accepted yet.
    failed: Mutex<HashSet<Uuid>>,
    /// Requests turned away by the current outage.
    turned_away: AtomicU64,
}

impl Receiver {
    /// Listens on a free port of this machine.
    pub async fn start(secret: &str, mischief: Mischief, ledger: Arc<Ledger>, story: Story) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            secrets: vec![Secret::new(secret)],
            mischief,
            started: Instant::now(),
            ledger,
            story,
            seen: Mutex::default(),
            failed: Mutex::default(),
            turned_away: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let routes = Router::new().route("/webhook", post(receive)).with_state(Arc::clone(&shared));
        let until = stop.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                _ = axum::serve(listener, routes) => {}
                () = announce_outages(shared) => {}
                () = until.cancelled() => {}
            }
        });
        Ok(Self { address, _ends_with_us: stop.clone().drop_guard(), stop, task })
    }

    pub fn url(&self) -> String {
        format!("http://{}/webhook", self.address)
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.ok(); // a panic has been reported by its own task
    }
}

/// Tells when an outage begins and ends; never ends itself.
async fn announce_outages(shared: Arc<Shared>) {
    let start = tokio::time::Instant::from_std(shared.started);
    for outage in &shared.mischief.outages {
        tokio::time::sleep_until(start + outage.from).await;
        shared.turned_away.store(0, Ordering::Relaxed);
        shared.story.tell(Fact::OutageBegan { kind: outage.kind, lasts: outage.until.saturating_sub(outage.from) });
        tokio::time::sleep_until(start + outage.until).await;
        shared.story.tell(Fact::OutageEnded { requests: shared.turned_away.load(Ordering::Relaxed) });
    }
    std::future::pending().await
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap_or_default());
    if !handlers::verify(&shared.secrets, id, timestamp, &body, header("webhook-signature")) {
        shared.ledger.bad_signature();
        return (StatusCode::UNAUTHORIZED, "the signature is wrong").into_response();
    }
    let Ok(id) = id.parse() else { return (StatusCode::BAD_REQUEST, "the id is no UUID").into_response() };
    shared.answer(id)
}

impl Shared {
    fn answer(&self, id: Uuid) -> Response {
        if let Some(outage) = self.outage() {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return match outage {
                OutageKind::Maintenance => {
                    (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "closed for maintenance").into_response()
                }
                OutageKind::Locked => (StatusCode::UNAUTHORIZED, "this key is locked").into_response(),
            };
        }
        if self.refuses(id) {
            return (StatusCode::UNPROCESSABLE_ENTITY, "this order is not known here").into_response();
        }
        if fastrand::u8(..100) < self.mischief.fail_percent {
            lock(&self.failed).insert(id);
            return (StatusCode::INTERNAL_SERVER_ERROR, "something broke").into_response();
        }
        let was_dead = self.ledger.entry(id).is_some_and(|entry| entry.is_dead);
        let arrival = self.ledger.accept(id);
        let had_failed = lock(&self.failed).remove(&id);
        match self.ledger.entry(id) {
            Some(entry) => self.story.tell(Fact::Delivered { entry, arrival, had_failed, was_dead }),
            None => debug_assert_eq!(arrival, Arrival::Unknown),
        }
        StatusCode::OK.into_response()
    }

    fn outage(&self) -> Option<OutageKind> {
        let now = self.started.elapsed();
        self.mischief.outages.iter().find(|outage| (outage.from..outage.until).contains(&now)).map(|outage| outage.kind)
    }

    /// Only at first sight: a person who replays the dead letter is right to expect another answer.
    fn refuses(&self, id: Uuid) -> bool {
        let mut seen = lock(&self.seen);
        seen.insert(id) && seen.len() % REFUSED == FIRST_REFUSED
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two outages: a polite one and a rude one, in the first half minute or, in a shorter run, within it.
pub fn outages(run: Option<Duration>) -> Vec<Outage> {
    let run = run.unwrap_or(Duration::from_secs(30)).min(Duration::from_secs(30));
    let length = run.mul_f64(0.12).clamp(Duration::from_millis(300), Duration::from_secs(3));
    let at = |share: f64, kind| Outage { from: run.mul_f64(share), until: run.mul_f64(share) + length, kind };
    vec![at(0.25, OutageKind::Maintenance), at(0.6, OutageKind::Locked)]
}
