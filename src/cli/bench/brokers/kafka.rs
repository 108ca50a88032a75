//! A bare client of Kafka: idempotent, acknowledged by all replicas, each report awaited.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::super::outbox::KEYS;
use super::{PLACE, Peer, fan_out, headers, payload};
use crate::cli::CliError;

pub const PEER: Peer = Peer {
    kind: "kafka",
    prepare: |url| Box::pin(prepare(url)),
    publish: |url, events, in_flight| Box::pin(publish(url, events, in_flight)),
    settings: |url| format!("brokers = [\"{url}\"]\ntopic = \"{PLACE}\""),
};

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "5");
    config
}

async fn prepare(brokers: &str) -> Result<(), CliError> {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create().map_err(CliError::failed)?;
    // One that exists is as good.
    let topic = NewTopic::new(PLACE, 3, TopicReplication::Fixed(1));
    admin.create_topics([&topic], &AdminOptions::new()).await.map(drop).map_err(CliError::failed)
}

async fn publish(brokers: &str, events: u64, in_flight: usize) -> Result<(), CliError> {
    let producer: FutureProducer = config(brokers).create().map_err(CliError::failed)?;
    fan_out(events, in_flight, move |number| {
        let producer = producer.clone();
        async move {
            let (key, payload) = (format!("order/{}", number % KEYS), payload());
            let all = headers(number);
            let sent =
                all.iter().fold(OwnedHeaders::new(), |sent, (name, value)| sent.insert(Header { key: name, value: Some(value) }));
            let record = FutureRecord::to(PLACE).key(&key).payload(&payload).headers(sent);
            producer.send(record, Duration::from_secs(30)).await.map(drop).map_err(|(error, _)| CliError::failed(error))
        }
    })
    .await
}
