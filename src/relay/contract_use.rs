//! Writes which receiver is sent which version of a contract: the first use within seconds, the rest once a minute, and the
//! remainder at the end.
//!
//! Uses are counted in memory where an event was sent (`telemetry::contract_use`), and written beside the relay with a connection
//! that no delivery waits for. If a write fails that may have happened, the counts are written again: too high a count keeps a
//! version alive, too low a count would end a version that is read. After a crash the counts of at most a minute are lost.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::store;
use crate::telemetry::{ContractUse, chain};

/// Between two statements.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// Until the first use is written, so that receivers which begin together are one statement; and between tries that fail.
const SOON: Duration = Duration::from_secs(1);
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Writes until `stop`, and then what is left. `patience`: longest that an answer of the database is waited for; `None`: for ever.
pub async fn write_contract_use(counts: ContractUse, pool: PgPool, patience: Option<Duration>, stop: CancellationToken) {
    let mut next = Instant::now() + WRITE_EVERY;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep_until(next) => {}
            () = counts.first_use() => {
                next = next.min(Instant::now() + SOON);
                continue;
            }
        }
        let is_written = write(&counts, &pool, patience).await;
        next = Instant::now() + if is_written { WRITE_EVERY } else { TRY_AGAIN };
    }
    write(&counts, &pool, patience).await;
}

/// Whether nothing is left to write.
async fn write(counts: &ContractUse, pool: &PgPool, patience: Option<Duration>) -> bool {
    let (used, taken_at) = (counts.take(), Instant::now());
    if used.is_empty() {
        return true;
    }
    let written = store::answered(patience, store::record_contract_use(pool, &used), |silent| silent).await;
    let Err(failure) = written else { return true };
    warn!(error = %chain(&failure), "could not record the use of contracts, trying again");
    // If it is written after all, it is counted twice. Counting too much keeps a version alive; counting too little ends one that is read.
    counts.put_back(used, taken_at.elapsed());
    false
}
