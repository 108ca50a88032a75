//! How fast a backlog drains into a handler that does nothing: the relay itself, with nothing to wait for.

use std::sync::Arc;
use std::time::Instant;

use futures_util::TryStreamExt;
use sqlx::Row;

use super::median;
use super::outbox::{Counting, Outbox, Server};
use super::report::Figure;
use crate::cli::CliError;
use crate::domain::Record;

pub async fn measure(server: &Server, events: u64, rounds: usize) -> Result<Vec<Figure>, CliError> {
    let (mut bare, mut failures, mut all, mut wal, mut dead) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let outbox = server.outbox().await?;
        outbox.fill(events).await?;
        bare.push(read_bare(&outbox, events).await?);
        failures.push(drain(&outbox, events, Record::Failures).await?.rate);
        let outbox = server.outbox().await?;
        outbox.fill(events).await?;
        let drained = drain(&outbox, events, Record::All).await?;
        all.push(drained.rate);
        wal.push(drained.wal_bytes);
        dead.push(drained.changed_rows);
    }
    let bare = median(bare);
    Ok(vec![
        Figure::new("drain, record = \"failures\"", median(failures), "events/s")
            .against("reading alone", bare)
            .target("100,000/s"),
        Figure::new("drain, record = \"all\"", median(all), "events/s").against("reading alone", bare).target("60,000/s"),
        Figure::new("WAL per delivered event", median(wal), "bytes").target("under 200"),
        Figure::new("delivery rows updated or deleted", median(dead), "rows").target("0"),
    ])
}

struct Drained {
    rate: f64,
    wal_bytes: f64,
    changed_rows: f64,
}

async fn drain(outbox: &Outbox, events: u64, record: Record) -> Result<Drained, CliError> {
    const WAL: &str = "select (pg_current_wal_insert_lsn() - '0/0')::bigint";
    let before = outbox.scalar(WAL).await?;
    let counting = Arc::new(Counting::default());
    let began = Instant::now();
    let relay = outbox.relay(counting, record, 16)?;
    outbox.wait_recorded(events).await?;
    let seconds = began.elapsed().as_secs_f64();
    let wal = outbox.scalar(WAL).await? - before;
    relay.stop().await.map_err(CliError::failed)?;
    outbox.execute("select pg_stat_force_next_flush()").await.ok(); // from version 15; before that the figure lags
    let changed =
        outbox.scalar("select coalesce(n_tup_upd + n_tup_del, 0) from pg_stat_user_tables where relname = 'deliveries'").await?;
    Ok(Drained { rate: events as f64 / seconds, wal_bytes: wal as f64 / events as f64, changed_rows: changed as f64 })
}

/// The limit: one connection that streams the same rows and looks at every payload.
async fn read_bare(outbox: &Outbox, events: u64) -> Result<f64, CliError> {
    let began = Instant::now();
    let statement = "select seq, id, type, aggregate_type, aggregate_id, aggregate_version, payload::text, headers::text, key from
        (select *, aggregate_type || '/' || aggregate_id as key from outbox.events order by seq) e";
    let mut rows = sqlx::query(statement).fetch(&outbox.pool);
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await.map_err(CliError::failed)? {
        bytes += row.try_get::<String, _>(6).map_err(CliError::failed)?.len();
    }
    assert!(bytes > 0, "the outbox was filled");
    Ok(events as f64 / began.elapsed().as_secs_f64())
}
