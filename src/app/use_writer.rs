//! The writer of the use of contracts, wired: it runs beside the relay and the feed, and ends after both, because both count.

use std::time::Duration;

use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::relay;
use crate::telemetry::ContractUse;

/// The writer while it works.
pub(super) struct UseWriter {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl UseWriter {
    /// `patience`: longest that an answer of the database is waited for; `None`: for ever.
    pub(super) fn start(counts: ContractUse, pool: PgPool, patience: Option<Duration>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(relay::write_contract_use(counts, pool, patience, stop.clone()));
        Self { stop, task }
    }

    /// Writes what is left. Nothing is counted any more.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        let abort = self.task.abort_handle();
        tokio::time::timeout(LAST_WRITE, self.task).await.ok(); // aborted below if it hangs
        abort.abort();
    }
}

/// Longest that a relay which stops waits for the last statement.
const LAST_WRITE: Duration = Duration::from_secs(2);
