//! Brokers: the whole relay against a bare client of the same library that publishes with acknowledgements, as many at once, to the same
//! server. The server is somebody else's: nothing is measured unless its address is given.
#![cfg_attr(not(feature = "brokers"), allow(dead_code))] // a binary may have no broker, or some

#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::median;
use super::outbox::{KEYS, Outbox, Server};
use super::report::Figure;
use crate::app::{self, ServeOptions};
use crate::cli::CliError;
use crate::config::ProcessEnvironment;

/// In flight at once, for both.
const CONCURRENCY: usize = 256;

/// What a bench writes to; made if it does not exist, and left behind.
pub const PLACE: &str = "outboxd_bench";

/// Addresses of the brokers to measure.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BrokerArgs {
    /// A RabbitMQ to publish to, amqp://...
    #[arg(long, value_name = "URL")]
    pub rabbitmq: Option<String>,
    /// A NATS server with JetStream, nats://...
    #[arg(long, value_name = "URL")]
    pub nats: Option<String>,
    /// A Kafka broker, host:port
    #[arg(long, value_name = "ADDRESS")]
    pub kafka: Option<String>,
    /// A Redis to add to a stream of, redis://...
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// An MQTT 5 broker, mqtt://...
    #[arg(long, value_name = "URL")]
    pub mqtt: Option<String>,
}

/// A kind of broker, as the bench needs it.
pub struct Peer {
    pub kind: &'static str,
    /// Makes the place that events go to; empties one that would grow with each measurement, where that costs the broker something.
    pub prepare: for<'a> fn(&'a str) -> BoxFuture<'a, Result<(), CliError>>,
    /// Publishes so many payloads over `super::outbox::KEYS` keys with so many in flight, each acknowledged. Connects first.
    pub publish: for<'a> fn(&'a str, u64, usize) -> BoxFuture<'a, Result<(), CliError>>,
    /// The settings of the handler for the same place.
    pub settings: fn(&str) -> String,
}

/// The brokers whose kinds this binary has.
const PEERS: &[Peer] = &[
    #[cfg(feature = "rabbitmq")]
    rabbitmq::PEER,
    #[cfg(feature = "nats")]
    nats::PEER,
    #[cfg(feature = "kafka")]
    kafka::PEER,
    #[cfg(feature = "redis")]
    redis::PEER,
    #[cfg(feature = "mqtt")]
    mqtt::PEER,
];

/// Measures what an address was given for.
pub async fn measure(server: &Server, addresses: &BrokerArgs, events: u64, rounds: usize) -> Result<Vec<Figure>, CliError> {
    let mut figures = Vec::new();
    for peer in PEERS {
        if let Some(address) = addresses.of(peer.kind) {
            figures.extend(against(server, peer, address, events, rounds).await?);
        }
    }
    Ok(figures)
}

impl BrokerArgs {
    fn of(&self, kind: &str) -> Option<&str> {
        match kind {
            "rabbitmq" => self.rabbitmq.as_deref(),
            "nats" => self.nats.as_deref(),
            "kafka" => self.kafka.as_deref(),
            "redis" => self.redis.as_deref(),
            "mqtt" => self.mqtt.as_deref(),
            _ => None,
        }
    }
}

/// The body of a bare publication, as large as the events that the relay publishes.
pub fn payload() -> String {
    format!("{{\"order\":1,\"note\":\"{}\"}}", "x".repeat(270))
}

/// Publishes so many by calling `publish` with their numbers, `in_flight` of them at once.
async fn fan_out<F, R>(events: u64, in_flight: usize, publish: F) -> Result<(), CliError>
where
    F: Fn(u64) -> R + Clone + Send + 'static,
    R: Future<Output = Result<(), CliError>> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..in_flight)
        .map(|_| {
            let (next, publish) = (Arc::clone(&next), publish.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= events {
                        return Ok::<(), CliError>(());
                    }
                    publish(number).await?;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.map_err(CliError::failed)??;
    }
    Ok(())
}

/// What the relay says of an event beside its payload, made anew for each as the relay makes it: a bare client that sent less would
/// be the limit of something else.
fn headers(number: u64) -> [(&'static str, String); 7] {
    let order = number % KEYS;
    [
        ("content-type", "application/json".to_owned()),
        ("event-id", Uuid::now_v7().to_string()),
        ("event-type", "order.placed".to_owned()),
        ("event-time", "2026-01-01T00:00:00.000000Z".to_owned()),
        ("event-key", format!("order/{order}")),
        ("aggregate-type", "order".to_owned()),
        ("aggregate-id", order.to_string()),
    ]
}

/// What the relay records of deliveries, as the configuration and as people say it.
const RECORDED: [(&str, &str); 2] = [("all", "every delivery recorded"), ("failures", "failures recorded")];

async fn against(server: &Server, peer: &Peer, address: &str, events: u64, rounds: usize) -> Result<Vec<Figure>, CliError> {
    let (mut bare, mut relayed) = (vec![], RECORDED.map(|_| vec![]));
    for _ in 0..rounds {
        (peer.prepare)(address).await?;
        let began = Instant::now();
        (peer.publish)(address, events, CONCURRENCY).await?;
        bare.push(events as f64 / began.elapsed().as_secs_f64());
        for ((record, _), rates) in RECORDED.iter().zip(&mut relayed) {
            let outbox = server.outbox().await?;
            outbox.fill(events).await?;
            (peer.prepare)(address).await?;
            rates.push(drain(&outbox, peer, address, record, events).await?);
            server.remove(outbox).await?;
        }
    }
    let limit = median(bare);
    let figure = |((_, recorded), rates): ((&str, &str), Vec<f64>)| {
        let figure = Figure::new(format!("{}, ordered, {recorded}", peer.kind), median(rates), "events/s");
        figure.against("bare client", limit).target("0.7")
    };
    Ok(RECORDED.into_iter().zip(relayed).map(figure).collect())
}

async fn drain(outbox: &Outbox, peer: &Peer, address: &str, record: &str, events: u64) -> Result<f64, CliError> {
    let config = format!(
        "[database]\nurl = \"{}\"\n[http]\nlisten = \"\"\n[[handlers]]\nname = \"bench\"\nkind = \"{}\"\nstart = \"beginning\"\n\
         record = \"{record}\"\nconcurrency = {CONCURRENCY}\n{}\n",
        outbox.url,
        peer.kind,
        (peer.settings)(address)
    );
    let environment = ProcessEnvironment::of_file(std::path::Path::new(""));
    let loaded = app::parse(&config, &environment).map_err(|mistakes| CliError::failed(format!("{mistakes:?}")))?;
    let stop = tokio_util::sync::CancellationToken::new();
    let began = Instant::now();
    let relay = tokio::spawn(app::serve(loaded, ServeOptions::default(), stop.clone()));
    outbox.wait_recorded(events).await?;
    let rate = events as f64 / began.elapsed().as_secs_f64();
    stop.cancel();
    relay.await.map_err(CliError::failed)?.map_err(CliError::failed)?;
    Ok(rate)
}
