//! The counterpart of the kind `redis`: a server of its own, stopped and started again for an outage.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::RwLock;

use super::{Arrived, Counterpart};
use crate::brokers::redis::server::{RedisServer, a_stream};

pub struct Streams {
    server: RwLock<RedisServer>,
    url: String,
    stream: String,
}

impl Streams {
    /// `None`: the server is not installed.
    pub async fn start() -> Option<Self> {
        let server = RedisServer::start(&[]).await?;
        Some(Self { url: server.url(), server: RwLock::new(server), stream: a_stream() })
    }
}

impl Counterpart for Streams {
    fn settings(&self) -> String {
        format!("url = \"{}\"\nstream = \"{}\"", self.url, self.stream)
    }

    fn arrived(&self) -> BoxFuture<'_, Vec<Arrived>> {
        async { self.server.read().await.arrived(&self.stream).await }.boxed()
    }

    fn take_away(&self) -> BoxFuture<'_, ()> {
        async { self.server.write().await.service.stop().await }.boxed()
    }

    fn bring_back(&self) -> BoxFuture<'_, ()> {
        async { self.server.write().await.service.start_again().await }.boxed()
    }
}
