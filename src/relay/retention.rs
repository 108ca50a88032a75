//! Retention: finished events leave the log in chunks, by one instance at a time, and never what anybody still owes.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::patience::answered;
use crate::config::Outbox;
use crate::store::{self, StoreError};
use crate::telemetry::{DatabaseOperation, RelayMetrics, chain};

/// Between two chunks, so that retention never takes the disk for itself.
const BREATH: Duration = Duration::from_millis(50);

/// Where chunks are removed, and how long one of them is waited for; `None`: for ever.
pub struct Log {
    pub pool: sqlx::PgPool,
    pub patience: Option<Duration>,
}

/// Removes what is old and finished, round after round, until `stop`. The settings may change meanwhile.
pub async fn serve(log: Log, mut settings: watch::Receiver<Outbox>, stop: CancellationToken, metrics: RelayMetrics) {
    loop {
        let outbox = settings.borrow_and_update().clone();
        let is_due = async {
            match outbox.retention.is_zero() && outbox.inbox_retention.is_zero() {
                true => std::future::pending().await, // events stay for ever, until another setting comes
                false => tokio::time::sleep(outbox.retention_interval).await,
            }
        };
        tokio::select! {
            () = is_due => {}
            Ok(()) = settings.changed() => continue,
            () = stop.cancelled() => return,
        }
        tokio::select! {
            ended = round(&log, &outbox, &metrics) => if let Err(error) = ended {
                metrics.database_error(DatabaseOperation::Retention);
                warn!(error = %chain(&error), "retention could not finish, it goes on next time");
            },
            () = stop.cancelled() => return,
        }
    }
}

async fn round(log: &Log, outbox: &Outbox, metrics: &RelayMetrics) -> Result<(), StoreError> {
    let (mut after, mut total) = (0, 0);
    let (pool, chunk) = (&log.pool, outbox.retention_chunk);
    while !outbox.retention.is_zero() {
        // None: another instance is at it, which is as good.
        let removing = log.answered(store::remove_finished(pool, after, outbox.retention, chunk));
        let Some(removed) = removing.await? else { break };
        metrics.removed(removed.removed);
        total += removed.removed;
        let Some(last_seq) = removed.last_seq else { break };
        after = last_seq;
        tokio::time::sleep(BREATH).await;
    }
    while !outbox.retention.is_zero() && log.answered(store::remove_replay_items(pool, outbox.retention, chunk)).await? > 0 {
        tokio::time::sleep(BREATH).await;
    }
    while !outbox.inbox_retention.is_zero() && log.answered(store::remove_inbox(pool, outbox.inbox_retention, chunk)).await? > 0 {
        tokio::time::sleep(BREATH).await;
    }
    if total > 0 {
        debug!(removed = total, "retention removed finished events");
    }
    Ok(())
}

impl Log {
    /// One chunk, no longer than a server that is there takes for it.
    async fn answered<T>(&self, removing: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        answered(self.patience, removing, |silent| silent).await
    }
}
