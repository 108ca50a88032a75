//! The counterpart of the kind `nats`: a server of its own with a stream on disk, really stopped and started again.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use super::{Arrived, Counterpart, Trial};
use crate::support::{NatsServer, nats_server_of};

struct Nats {
    server: Mutex<NatsServer>,
    url: String,
    stream: String,
}

pub async fn trial() -> Trial {
    match nats_server_of("", &[]).await {
        Some(server) => {
            let (url, stream) = (server.url(), server.stream(&[]).await);
            Trial::Counterpart(Box::new(Nats { server: Mutex::new(server), url, stream }))
        }
        None => Trial::Elsewhere("nats-server is not installed: nothing was tested"),
    }
}

impl Counterpart for Nats {
    fn settings(&self) -> String {
        let Self { url, stream, .. } = self;
        format!("servers = [\"{url}\"]\nsubject = \"{stream}.{{type}}\"\nstream = \"{stream}\"")
    }

    fn arrived(&self) -> BoxFuture<'_, Vec<Arrived>> {
        async {
            let events = self.server.lock().await.read(&self.stream).await;
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            events.iter().map(|event| Arrived { id: text(&event["headers"]["Nats-Msg-Id"]), body: text(&event["body"]) }).collect()
        }
        .boxed()
    }

    fn take_away(&self) -> BoxFuture<'_, ()> {
        async { self.server.lock().await.service.stop().await }.boxed()
    }

    fn bring_back(&self) -> BoxFuture<'_, ()> {
        async { self.server.lock().await.service.start_again().await }.boxed()
    }
}
