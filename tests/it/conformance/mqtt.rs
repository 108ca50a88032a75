//! The counterpart of the kind `mqtt`: a mosquitto of its own, which can really be stopped, and paho, whose session outlives that.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{Arrived, Counterpart, Trial};
use crate::brokers::mqtt::Mosquitto;
use crate::support::{Client, eventually};

pub async fn trial() -> Trial {
    let Some(server) = Mosquitto::start("").await else { return Trial::Elsewhere("mosquitto is not installed") };
    let reader = server.reader("#").await;
    Trial::Counterpart(Box::new(Broker { server, reader }))
}

struct Broker {
    server: Mosquitto,
    reader: Client,
}

impl Broker {
    /// Everything that the broker has had for the reader until now.
    async fn everything(&self) -> Vec<Arrived> {
        let mark = Uuid::new_v4().to_string();
        self.server.publish("mark", &mark).await;
        let received = eventually("the reader has caught up", || {
            let received = self.reader.received();
            let has_mark = received.iter().any(|one| one["payload"] == mark.as_str());
            std::future::ready(has_mark.then_some(received))
        })
        .await;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let events = received.iter().filter(|one| one["topic"] != "mark");
        events.map(|one| Arrived { id: text(&one["properties"]["event-id"]), body: text(&one["payload"]) }).collect()
    }
}

impl Counterpart for Broker {
    fn settings(&self) -> String {
        self.server.settings("events/{type}/{aggregate_id}", "")
    }

    fn arrived(&self) -> BoxFuture<'_, Vec<Arrived>> {
        self.everything().boxed()
    }

    fn take_away(&self) -> BoxFuture<'_, ()> {
        self.server.stop().boxed()
    }

    fn bring_back(&self) -> BoxFuture<'_, ()> {
        self.server.start_again().boxed()
    }
}
