//! A shop: a small web application with orders, stock and loyalty points that uses all of outboxd.
//!
//! `cargo run --example shop` starts a private Postgres (or uses `DATABASE_URL`), the web application, and the relay beside it, and prints
//! what to try. Ctrl-C stops all of it. Reading order: `domain`, `handlers`, `commands`, `http`; then `schema.sql`, `outboxd.toml` and
//! `mailer` for what happens after the commit. `tests/it/shop` kills, breaks and searches it.

mod commands;
mod domain;
mod failpoint;
mod handlers;
mod http;
mod mailer;
mod relay;
mod stage;
mod tables;

use std::error::Error;
use std::time::Duration;

use base64::Engine;
use outboxd::config::LogFormat;
use outboxd::telemetry::{chain, logging};
use outboxd::uow::Pipeline;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use http::Shop;
use mailer::Mailer;
use relay::Relay;
use stage::Stage;

/// More orders of one customer at once than this many, and some are told to try again.
const ATTEMPTS: u32 = 50;

/// How long requests that are being answered may take at the end.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() {
    // One rustls provider for the process, before anything may open a TLS connection.
    rustls::crypto::ring::default_provider().install_default().ok();
    let ended = match std::env::args().nth(1).as_deref() {
        None => open().await,
        Some("relay") => relay::run().await,
        Some(_) => Err("usage: shop; the environment may set DATABASE_URL, SHOP_LISTEN, SHOP_RELAY_LISTEN and RUST_LOG".into()),
    };
    if let Err(error) = &ended {
        eprintln!("shop: {}", chain(&**error));
    }
    // At once: the thread in which the relay reads its pipe cannot be waited for while the pipe is open.
    std::process::exit(i32::from(ended.is_err()));
}

async fn open() -> Result<(), Box<dyn Error>> {
    logging::install(LogFormat::Text, &variable("RUST_LOG").unwrap_or("info".to_owned()))?;
    // First, because a second shop on the same port should fail before it has started anything.
    let listen = variable("SHOP_LISTEN").unwrap_or("127.0.0.1:8080".to_owned());
    let listener =
        TcpListener::bind(&listen).await.map_err(|error| format!("could not listen on {listen}: {error}; set SHOP_LISTEN"))?;
    let address = format!("http://{}", listener.local_addr()?);

    let stage = Stage::prepare().await?;
    let secret = variable("SHOP_MAILER_SECRET").unwrap_or_else(new_secret);
    let pipeline = Pipeline::new(stage.pool.clone(), handlers::registry()).attempts(ATTEMPTS);
    let shop = Shop { pipeline, pool: stage.pool.clone() };
    let routes = http::routes(shop).merge(Mailer::new(stage.pool.clone(), &secret).routes());
    let mut relay = match variable("SHOP_RELAY").as_deref() {
        Some("off") => None, // somebody runs it elsewhere
        _ => Some(Relay::start(&stage.url, &format!("{address}/mailer/confirmations"), &secret)?),
    };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    print_hints(&address, &stage, relay.as_ref().map(Relay::pid));

    let closing = CancellationToken::new();
    let serving = axum::serve(listener, routes).with_graceful_shutdown(closing.clone().cancelled_owned());
    let serving = tokio::spawn(serving.into_future());
    let trouble = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        ended = ended(&mut relay) => Some(ended),
    };
    // The relay first: the mailer is on the web side, and may have something coming.
    if let Some(relay) = &mut relay {
        relay.stop().await;
    }
    closing.cancel();
    if let Ok(served) = tokio::time::timeout(LAST_REQUESTS, serving).await {
        served??;
    }
    stage.clear().await?;
    trouble.map_or(Ok(()), |trouble| Err(trouble.into()))
}

async fn ended(relay: &mut Option<Relay>) -> String {
    match relay {
        Some(relay) => relay.ended().await,
        None => std::future::pending().await,
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// As every start makes new ones, no secret has to be kept anywhere.
fn new_secret() -> String {
    let bytes = [*uuid::Uuid::new_v4().as_bytes(), *uuid::Uuid::new_v4().as_bytes()].concat();
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn print_hints(address: &str, stage: &Stage, relay: Option<u32>) {
    println!("\nThe shop is open at {address} (process {}). Ctrl-C closes it. Try:\n", std::process::id());
    println!(
        "  curl -s {address}/orders -d '{{\"customer\": \"ann\", \"sku\": \"tea\", \"quantity\": 3, \"card\": \"4111 1111 1111 1111\"}}'"
    );
    println!("  curl -s {address}/accounts/ann                # points: written with the order, in one transaction");
    println!("  curl -s {address}/stock/tea                   # reserved: by the relay, a moment after the commit");
    println!("  curl -s {address}/mailer/mails                # the confirmation: by the relay, a webhook");
    println!("  curl -s -X POST {address}/orders/1/cancel");
    println!(
        "  curl -s -X PUT {address}/mailer/outage        # order again: the mail waits, the order does not; -X DELETE ends it"
    );
    if stage.server.is_some() {
        println!("  psql '{}' -c 'select type, payload, headers from outbox.events'", stage.url);
    }
    match relay {
        Some(pid) => println!("\nThe relay beside it is process {pid}, with examples/shop/outboxd.toml.\n"),
        None => println!("\nNo relay was started; run one with examples/shop/outboxd.toml.\n"),
    }
}
