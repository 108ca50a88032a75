//! A bare client of MQTT: QoS 1, each acknowledgement awaited.

use rumqttc::{AsyncClient, MqttOptions, PublishOptions, PublishProperties, QoS};

use super::{PLACE, Peer, fan_out, headers, payload};
use crate::cli::CliError;

pub const PEER: Peer = Peer {
    kind: "mqtt",
    prepare: |_| Box::pin(std::future::ready(Ok(()))),
    publish: |url, events, in_flight| Box::pin(publish(url, events, in_flight)),
    settings: |url| format!("url = \"{url}\"\ntopic = \"{PLACE}/events\""),
};

async fn publish(url: &str, events: u64, in_flight: usize) -> Result<(), CliError> {
    let url = url::Url::parse(url).map_err(CliError::failed)?;
    let broker = (url.host_str().unwrap_or_default().to_owned(), url.port().unwrap_or(1883));
    let (client, mut session) = AsyncClient::builder(MqttOptions::new("outboxd-bench", broker)).unbounded().build();
    let driving = tokio::spawn(async move { while session.poll().await.is_ok() {} });
    let published = fan_out(events, in_flight, move |number| {
        let client = client.clone();
        async move {
            let user_properties = headers(number).map(|(name, value)| (name.to_owned(), value)).into();
            let properties = PublishProperties { user_properties, ..PublishProperties::default() };
            let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
            let notice = client.publish_tracked(format!("{PLACE}/events"), payload(), options).await.map_err(CliError::failed)?;
            notice.wait_async().await.map(drop).map_err(CliError::failed)
        }
    })
    .await;
    driving.abort();
    published
}
