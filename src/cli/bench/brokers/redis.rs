//! A bare client of Redis: entries of a stream over one multiplexed connection, each answer awaited.

use redis::AsyncCommands;

use super::{PLACE, Peer, fan_out, headers, payload};
use crate::cli::CliError;

pub const PEER: Peer = Peer {
    kind: "redis",
    prepare: |url| Box::pin(prepare(url)),
    publish: |url, events, in_flight| Box::pin(publish(url, events, in_flight)),
    settings: |url| format!("url = \"{url}\"\nstream = \"{PLACE}\""),
};

async fn connect(url: &str) -> Result<redis::aio::MultiplexedConnection, CliError> {
    let client = redis::Client::open(url).map_err(CliError::failed)?;
    client.get_multiplexed_async_connection().await.map_err(CliError::failed)
}

async fn prepare(url: &str) -> Result<(), CliError> {
    connect(url).await?.del::<_, ()>(PLACE).await.map_err(CliError::failed)
}

async fn publish(url: &str, events: u64, in_flight: usize) -> Result<(), CliError> {
    let connection = connect(url).await?;
    fan_out(events, in_flight, move |number| {
        let mut connection = connection.clone();
        async move {
            let mut fields = Vec::from(headers(number));
            fields.push(("payload", payload()));
            connection.xadd::<_, _, _, _, String>(PLACE, "*", &fields).await.map(drop).map_err(CliError::failed)
        }
    })
    .await
}
