//! The listener of the feed, wired: opened before the database is there, served once it is, ended with the relay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Config;
use crate::feed::{self, Certificates, Doors, Feed, FeedBindError};
use crate::hub;
use crate::store::answer_timeout;
use crate::telemetry::ContractUse;

/// The address of the feed, taken.
pub(super) struct FeedListener {
    listener: TcpListener,
    address: SocketAddr,
}

/// The feed while it answers.
pub(super) struct ServedFeed {
    doors: Arc<Doors>,
    certificates: Arc<Certificates>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl FeedListener {
    /// Takes the address; `None`: the feed is not served here.
    pub(super) async fn bind(config: &Config) -> Result<Option<Self>, FeedBindError> {
        let Some(address) = config.feed.listen.filter(|_| config.feed.is_on()) else { return Ok(None) };
        let listener = feed::bind(address).await?;
        // As bound: with port 0 the system has chosen one.
        let address = listener.local_addr().unwrap_or(address);
        Ok(Some(Self { listener, address }))
    }

    /// Answers until `stop`, or until the feed is ordered to end.
    pub(super) fn serve(
        self,
        config: &Config,
        (pool, counts): (PgPool, ContractUse),
        published: watch::Receiver<i64>,
        stop: &CancellationToken,
    ) -> ServedFeed {
        let (doors, stop) = (Arc::new(Doors::new(&config.feed.events, &config.clients, counts)), stop.child_token());
        let served = Feed::new(
            &config.feed,
            (pool, answer_timeout(config.database.statement_timeout)),
            Arc::clone(&doors),
            published,
            stop.clone(),
        );
        let certificates = Arc::clone(&served.certificates);
        let tls = config.feed.certificate.is_some();
        match &config.hub.path {
            Some(hub) => info!(address = %self.address, tls, hub, "serving /v1/feed"),
            None => info!(address = %self.address, tls, "serving /v1/feed"),
        }
        let hub = hub::routes(&config.hub, &config.feed, &served);
        let task = tokio::spawn(feed::serve(self.listener, served, hub));
        ServedFeed { doors, certificates, stop, task }
    }
}

impl ServedFeed {
    /// Where another configuration of the clients is put in effect.
    pub(super) fn doors(&self) -> Arc<Doors> {
        Arc::clone(&self.doors)
    }

    /// Where another certificate is put in effect.
    pub(super) fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.certificates)
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        let abort = self.task.abort_handle();
        tokio::time::timeout(LAST_ANSWERS, self.task).await.ok(); // aborted below if it hangs
        abort.abort();
    }
}

/// Longer than the feed itself waits for its connections.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
