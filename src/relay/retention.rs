//! Retention: removes finished events from the log in chunks. One instance at a time does it.
//!
//! An event is removed when it is older than `outbox.retention`, every subscription's snapshot has passed it, and no delivery of
//! it is retrying, waiting or dead. Subscriptions of handlers that have left the configuration count, too, until an operator runs
//! `outboxd handlers forget`. The deliveries and the history of an event go with it.
//!
//! Retention remembers in memory how far it has walked. A round goes on from there and stops at the first event that is not old,
//! or at the *horizon*, the lowest `high_seq` of all subscriptions, so a paused handler costs nothing. Events that were left
//! behind because a delivery was owed are looked at again: one chunk per round (`outbox.retention_chunk`), and on from there as
//! long as something can be removed. After a restart retention walks once over what is left.
//!
//! Events of streams are never removed. Retention finds them by their sequence numbers alone (`stream_events_seq_key`) and walks
//! over them. Their old deliveries are removed by subscription (`remove_handled.sql`), once every position has passed the event.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::config::Outbox;
use crate::store::{self, Handled, StoreError, Stretch};
use crate::telemetry::{DatabaseOperation, RelayMetrics, chain};

/// Between two chunks, so that retention never takes the disk for itself.
const BREATH: Duration = Duration::from_millis(50);

/// Events looked at first, and by what factor the next chunk is larger where a chunk was full.
const FIRST_CHUNK: u32 = 200;
const GROWTH: u32 = 5;

/// Events of streams that cost as much as one that is owed: two entries of indexes instead of a row and what handlers know of it.
const SOURCED_PER_OWED: u32 = 10;

/// Where chunks are removed, and how long one of them is waited for; `None`: for ever.
pub struct Log {
    pub pool: sqlx::PgPool,
    pub patience: Option<Duration>,
}

/// Where retention stands. Lost with the process: the next one walks once over what is left.
#[derive(Debug, Default)]
struct Standing {
    /// Everything up to here was old when it was looked at, and has gone or was owed.
    walked_to: i64,
    /// Events that were left behind are looked at again from here on.
    again_after: i64,
    /// Where the next look at the deliveries of events of streams begins, for each subscription.
    handled_after: BTreeMap<i32, i64>,
}

/// Removes what is old and finished, round after round, until `stop`. The settings may change meanwhile.
pub async fn serve(log: Log, mut settings: watch::Receiver<Outbox>, stop: CancellationToken, metrics: RelayMetrics) {
    let mut standing = Standing::default();
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
            ended = round(&log, &outbox, &mut standing, &metrics) => if let Err(error) = ended {
                metrics.database_error(DatabaseOperation::Retention);
                warn!(error = %chain(&error), "retention could not finish, it goes on next time");
            },
            () = stop.cancelled() => return,
        }
    }
}

async fn round(log: &Log, outbox: &Outbox, standing: &mut Standing, metrics: &RelayMetrics) -> Result<(), StoreError> {
    let (pool, chunk) = (&log.pool, outbox.retention_chunk);
    let mut total = 0;
    if !outbox.retention.is_zero() {
        total = walk_on(log, outbox, standing, metrics).await? + look_again(log, outbox, standing, metrics).await?;
        forget_handled(log, outbox, standing).await?;
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

/// Goes on where the last round ended, as long as there are old events.
async fn walk_on(log: &Log, outbox: &Outbox, standing: &mut Standing, metrics: &RelayMetrics) -> Result<u64, StoreError> {
    let (mut total, mut rows) = (0, FIRST_CHUNK.min(outbox.retention_chunk));
    loop {
        let stretch = Stretch::Onwards { after: standing.walked_to };
        // None: another instance is at it, which is as good.
        let Some(removed) = log.answered(store::remove_finished(&log.pool, stretch, outbox.retention, rows)).await? else { break };
        metrics.removed(removed.removed);
        total += removed.removed;
        standing.walked_to = removed.last_seq.unwrap_or(standing.walked_to);
        if !removed.has_more {
            break;
        }
        rows = rows.saturating_mul(GROWTH).min(outbox.retention_chunk);
        tokio::time::sleep(BREATH).await;
    }
    Ok(total)
}

/// Looks once more at what could not go: at as many events as a chunk has, and on from there as long as something goes. So a round
/// costs no more than a chunk beyond what it removes, and a million events that are owed are looked at within some 200 rounds. Events of
/// streams lie between them and are only counted: a round walks over up to [`SOURCED_PER_OWED`] chunks of them.
async fn look_again(log: &Log, outbox: &Outbox, standing: &mut Standing, metrics: &RelayMetrics) -> Result<u64, StoreError> {
    let (mut total, mut rows, mut left) = (0, FIRST_CHUNK.min(outbox.retention_chunk), outbox.retention_chunk);
    while standing.walked_to > 0 {
        let stretch = Stretch::LeftBehind { after: standing.again_after, up_to: standing.walked_to };
        let Some(removed) = log.answered(store::remove_finished(&log.pool, stretch, outbox.retention, rows)).await? else { break };
        metrics.removed(removed.removed);
        total += removed.removed;
        // At the end of what was left it begins anew with the next round.
        standing.again_after = removed.last_seq.filter(|_| removed.has_more).unwrap_or(0);
        left = if removed.removed > 0 { outbox.retention_chunk } else { left.saturating_sub(cost(rows, removed.sourced)) };
        if left == 0 || !removed.has_more {
            break;
        }
        rows = rows.saturating_mul(GROWTH).min(outbox.retention_chunk);
        tokio::time::sleep(BREATH).await;
    }
    Ok(total)
}

/// Events of streams stay, and what handlers have done with them is kept as long as that of other events. Of each subscription a chunk is looked at, and on
/// from there as long as something goes.
async fn forget_handled(log: &Log, outbox: &Outbox, standing: &mut Standing) -> Result<(), StoreError> {
    let chunk = outbox.retention_chunk;
    for subscription in log.answered(store::list_sourced_subscriptions(&log.pool)).await? {
        let from = standing.handled_after.entry(subscription).or_insert(0);
        loop {
            let handled = Handled { subscription, after: *from, up_to: standing.walked_to };
            let Some(gone) = log.answered(store::remove_handled(&log.pool, handled, outbox.retention, chunk)).await? else {
                return Ok(());
            };
            *from = gone.last_seq.filter(|_| gone.has_more).unwrap_or(0);
            if gone.removed == 0 || !gone.has_more {
                break;
            }
            tokio::time::sleep(BREATH).await;
        }
    }
    Ok(())
}

/// The cost of a look at so many events, of which some are sourced, in events that are owed; at least 1.
fn cost(rows: u32, sourced: u64) -> u32 {
    let sourced = u32::try_from(sourced).unwrap_or(u32::MAX).min(rows);
    (rows - sourced + sourced / SOURCED_PER_OWED).max(1)
}

impl Log {
    /// One chunk, no longer than a server that is there takes for it.
    async fn answered<T>(&self, removing: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        store::answered(self.patience, removing, |silent| silent).await
    }
}
