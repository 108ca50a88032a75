//! A bare client of RabbitMQ: persistent, mandatory, confirmed, over one channel.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};

use super::{PLACE, Peer, fan_out, headers, payload};
use crate::cli::CliError;

pub const PEER: Peer = Peer {
    kind: "rabbitmq",
    prepare: |url| Box::pin(prepare(url)),
    publish: |url, events, in_flight| Box::pin(publish(url, events, in_flight)),
    settings: |url| format!("url = \"{url}\"\nexchange = \"\"\nrouting_key = \"{PLACE}\""),
};

async fn connect(url: &str) -> Result<Connection, CliError> {
    Connection::connect(url, ConnectionProperties::default()).await.map_err(CliError::failed)
}

async fn prepare(url: &str) -> Result<(), CliError> {
    let channel = connect(url).await?.create_channel().await.map_err(CliError::failed)?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(PLACE.into(), durable, FieldTable::default()).await.map_err(CliError::failed)?;
    channel.queue_purge(PLACE.into(), QueuePurgeOptions::default()).await.map(drop).map_err(CliError::failed)
}

async fn publish(url: &str, events: u64, in_flight: usize) -> Result<(), CliError> {
    let connection = connect(url).await?;
    let channel = connection.create_channel().await.map_err(CliError::failed)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(CliError::failed)?;
    fan_out(events, in_flight, move |number| {
        let channel = channel.clone();
        async move {
            let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let mut table = FieldTable::default();
            for (name, value) in headers(number) {
                table.insert(name.into(), AMQPValue::LongString(value.into()));
            }
            let properties = BasicProperties::default().with_delivery_mode(2).with_headers(table);
            let confirm = channel.basic_publish("".into(), PLACE.into(), mandatory, payload().as_bytes(), properties).await;
            match confirm.map_err(CliError::failed)?.await.map_err(CliError::failed)? {
                Confirmation::Ack(None) => Ok(()),
                other => Err(CliError::failed(format!("not confirmed: {other:?}"))),
            }
        }
    })
    .await
}
