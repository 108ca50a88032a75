//! The counterpart of the kind `kafka`: a real broker of its own, stopped and started again, read by confluent-kafka.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use super::{Arrived, Counterpart, Trial};
use crate::support::Kafka;

const TOPIC: &str = "events";

struct Topic(Mutex<Kafka>, String);

pub async fn counterpart() -> Trial {
    let Some(kafka) = Kafka::start().await else {
        return Trial::Elsewhere("tansu is not here, and without a broker nothing was tried");
    };
    kafka.create_topic(TOPIC).await;
    let settings = format!("{}\ntopic = \"{TOPIC}\"", kafka.brokers());
    Trial::Counterpart(Box::new(Topic(Mutex::new(kafka), settings)))
}

impl Counterpart for Topic {
    fn settings(&self) -> String {
        self.1.clone()
    }

    fn arrived(&self) -> BoxFuture<'_, Vec<Arrived>> {
        async {
            let records = self.0.lock().await.read(TOPIC).await;
            let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
            records
                .iter()
                .map(|record| Arrived { id: text(&record["headers"]["event-id"]), body: text(&record["value"]) })
                .collect()
        }
        .boxed()
    }

    fn take_away(&self) -> BoxFuture<'_, ()> {
        async { self.0.lock().await.service.stop().await }.boxed()
    }

    fn bring_back(&self) -> BoxFuture<'_, ()> {
        async { self.0.lock().await.service.start_again().await }.boxed()
    }
}
