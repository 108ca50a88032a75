//! Signed webhooks against a bare HTTP client at the same concurrency, over the same receiver: one that answers at once, which
//! shows what the relay costs the processors, and one that takes its time, as those of this world do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;

use super::median;
use super::outbox::{GIVE_UP, Outbox, Server};
use super::report::Figure;
use crate::app::{self, ServeOptions};
use crate::cli::CliError;
use crate::config::ProcessEnvironment;

const CONCURRENCY: usize = 16;

/// What a receiver that does something needs for it.
const WORK: Duration = Duration::from_millis(2);

pub async fn measure(server: &Server, events: u64, rounds: usize) -> Result<Vec<Figure>, CliError> {
    let at_once = against(server, events, rounds, Duration::ZERO).await?;
    let working = against(server, events / 5, rounds, WORK).await?;
    Ok(vec![
        at_once.figure("webhooks, signed, ordered, every delivery recorded").target("0.8"),
        working.figure("the same, receiver answers after 2 ms").target("0.8"),
    ])
}

/// Rates, in events a second.
struct Rates {
    bare: f64,
    relayed: f64,
}

impl Rates {
    fn figure(self, name: &str) -> Figure {
        Figure::new(name, self.relayed, "events/s").against("bare client", self.bare)
    }
}

async fn against(server: &Server, events: u64, rounds: usize, work: Duration) -> Result<Rates, CliError> {
    let received = Arc::new(AtomicU64::new(0));
    let address = receive(Arc::clone(&received), work).await?;
    let (mut bare, mut relayed) = (vec![], vec![]);
    for _ in 0..rounds {
        bare.push(post_bare(address, events).await?);
        let outbox = server.outbox().await?;
        outbox.fill(events).await?;
        received.store(0, Ordering::Relaxed);
        relayed.push(drain(&outbox, address, &received, events).await?);
    }
    Ok(Rates { bare: median(bare), relayed: median(relayed) })
}

async fn receive(received: Arc<AtomicU64>, work: Duration) -> Result<SocketAddr, CliError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(CliError::failed)?;
    let address = listener.local_addr().map_err(CliError::failed)?;
    let count = async move |State(received): State<Arc<AtomicU64>>, _: Bytes| {
        if !work.is_zero() {
            tokio::time::sleep(work).await;
        }
        received.fetch_add(1, Ordering::Relaxed);
    };
    let routes = Router::new().route("/", post(count)).with_state(received);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

/// The limit: the same client library, as many posts at once, the same size, nothing signed and nothing recorded.
async fn post_bare(address: SocketAddr, events: u64) -> Result<f64, CliError> {
    let client = reqwest::Client::builder().no_proxy().build().map_err(CliError::failed)?;
    let left = Arc::new(AtomicU64::new(events));
    let began = Instant::now();
    let workers: Vec<_> = (0..CONCURRENCY)
        .map(|_| {
            let (client, left) = (client.clone(), Arc::clone(&left));
            tokio::spawn(async move {
                let body = format!("{{\"order\":1,\"note\":\"{}\"}}", "x".repeat(270));
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let request = client.post(format!("http://{address}/")).header("content-type", "application/json");
                    request.body(body.clone()).send().await?.bytes().await?;
                }
                Ok::<_, reqwest::Error>(())
            })
        })
        .collect();
    for worker in workers {
        worker.await.map_err(CliError::failed)?.map_err(CliError::failed)?;
    }
    Ok(events as f64 / began.elapsed().as_secs_f64())
}

async fn drain(outbox: &Outbox, address: SocketAddr, received: &AtomicU64, events: u64) -> Result<f64, CliError> {
    let config = format!(
        "[database]\nurl = \"{}\"\n[http]\nlisten = \"\"\n[[handlers]]\nname = \"bench\"\nkind = \"webhook\"\nstart = \"beginning\"\n\
         concurrency = {CONCURRENCY}\nurl = \"http://{address}/\"\nsecrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n",
        outbox.url
    );
    let environment = ProcessEnvironment::of_file(std::path::Path::new(""));
    let loaded = app::parse(&config, &environment).map_err(|mistakes| CliError::failed(format!("{mistakes:?}")))?;
    let stop = tokio_util::sync::CancellationToken::new();
    let began = Instant::now();
    let relay = tokio::spawn(app::serve(loaded, ServeOptions::default(), stop.clone()));
    while received.load(Ordering::Relaxed) < events && began.elapsed() < GIVE_UP {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    outbox.wait_recorded(events).await?;
    let rate = events as f64 / began.elapsed().as_secs_f64();
    stop.cancel();
    relay.await.map_err(CliError::failed)?.map_err(CliError::failed)?;
    Ok(rate)
}
