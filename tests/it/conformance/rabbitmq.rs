//! The counterpart of the kind `rabbitmq`: a queue of the RabbitMQ that all tests share, or of one that can be stopped.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use super::{Arrived, Counterpart, Trial};
use crate::brokers::rabbitmq::server::{Server, shared, spare, unique};

struct RabbitMq {
    server: Held,
    queue: String,
    url: String,
}

enum Held {
    Shared(&'static Server),
    Alone(Mutex<MutexGuard<'static, Server>>),
}

pub async fn trial() -> Trial {
    let Some(server) = shared().await else { return Trial::Elsewhere("nowhere: rabbitmq-server is not installed") };
    let queue = unique("queue");
    server.steps(json!([["queue", queue, {}]])).await;
    Trial::Counterpart(Box::new(RabbitMq { server: Held::Shared(server), queue, url: server.url() }))
}

impl Counterpart for RabbitMq {
    fn settings(&self) -> String {
        format!("url = \"{}\"\nexchange = \"\"\nrouting_key = \"{}\"", self.url, self.queue)
    }

    fn stand_alone(&mut self) -> BoxFuture<'_, ()> {
        async {
            let server = spare().await.expect("what is installed for one is so for two");
            server.steps(json!([["queue", self.queue, {}]])).await;
            self.url = server.url();
            self.server = Held::Alone(Mutex::new(server));
        }
        .boxed()
    }

    fn arrived(&self) -> BoxFuture<'_, Vec<Arrived>> {
        async {
            let steps = json!([["read", self.queue]]);
            let read = match &self.server {
                Held::Shared(server) => server.steps(steps).await,
                Held::Alone(server) => server.lock().await.steps(steps).await,
            };
            let text = |one: &serde_json::Value, name: &str| one[name].as_str().expect("a text").to_owned();
            read.iter().map(|one| Arrived { id: text(one, "message_id"), body: text(one, "body") }).collect()
        }
        .boxed()
    }

    fn take_away(&self) -> BoxFuture<'_, ()> {
        async { self.alone().lock().await.stop().await }.boxed()
    }

    fn bring_back(&self) -> BoxFuture<'_, ()> {
        async { self.alone().lock().await.start_again().await }.boxed()
    }
}

impl RabbitMq {
    fn alone(&self) -> &Mutex<MutexGuard<'static, Server>> {
        let Held::Alone(server) = &self.server else { panic!("others use this server") };
        server
    }
}
