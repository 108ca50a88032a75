//! A bare client of NATS: published to a stream, each with an id, each acknowledged.

use async_nats::HeaderMap;
use async_nats::jetstream::{self, stream};

use super::{PLACE, Peer, fan_out, headers, payload};
use crate::cli::CliError;

pub const PEER: Peer = Peer {
    kind: "nats",
    prepare: |url| Box::pin(prepare(url)),
    publish: |url, events, in_flight| Box::pin(publish(url, events, in_flight)),
    settings: |url| format!("servers = [\"{url}\"]\nsubject = \"{PLACE}.events\"\nstream = \"{PLACE}\""),
};

async fn context(url: &str) -> Result<jetstream::Context, CliError> {
    let client = async_nats::connect(url).await.map_err(CliError::failed)?;
    Ok(jetstream::ContextBuilder::new().max_ack_inflight(4096).build(client))
}

async fn prepare(url: &str) -> Result<(), CliError> {
    let config = stream::Config { name: PLACE.to_owned(), subjects: vec![format!("{PLACE}.>")], ..stream::Config::default() };
    let stream = context(url).await?.get_or_create_stream(config).await.map_err(CliError::failed)?;
    stream.purge().await.map(drop).map_err(CliError::failed)
}

async fn publish(url: &str, events: u64, in_flight: usize) -> Result<(), CliError> {
    let context = context(url).await?;
    fan_out(events, in_flight, move |number| {
        let context = context.clone();
        async move {
            let mut map = HeaderMap::new();
            map.insert("Nats-Msg-Id", uuid::Uuid::now_v7().to_string());
            for (name, value) in headers(number) {
                map.insert(name, value);
            }
            let subject = format!("{PLACE}.events");
            let ack = context.publish_with_headers(subject, map, payload().into()).await.map_err(CliError::failed)?;
            ack.await.map(drop).map_err(CliError::failed)
        }
    })
    .await
}
