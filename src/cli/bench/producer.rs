//! What the application pays: commits a second of 32 writers without the bell, with it, and with a relay at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::median;
use super::outbox::{Counting, Outbox, Server};
use super::report::Figure;
use crate::cli::CliError;
use crate::domain::Record;

const WRITERS: usize = 32;
const ROUND: Duration = Duration::from_secs(4);

pub async fn measure(server: &Server, rounds: usize) -> Result<Vec<Figure>, CliError> {
    let (mut plain, mut idle, mut relayed, mut notified) = (vec![], vec![], vec![], vec![]);
    // In turn within each round, because a shared machine drifts.
    for _ in 0..rounds.max(3) {
        let outbox = server.outbox().await?;
        outbox.execute("alter table outbox.events disable trigger ring_bell").await?;
        plain.push(commits(&outbox).await?);
        outbox.execute("alter table outbox.events enable trigger ring_bell").await?;
        idle.push(commits(&outbox).await?);
        let relay = outbox.relay(Arc::new(Counting::default()), Record::All, 16)?;
        let last: i64 = outbox.scalar("select last_seq() from (select set_config('search_path', 'outbox', false)) s").await?;
        outbox.wait_recorded(last.unsigned_abs()).await?;
        relayed.push(commits(&outbox).await?);
        relay.stop().await.map_err(CliError::failed)?;
        outbox
            .execute(
                "create or replace function outbox.ring_always() returns trigger language plpgsql as
                   $$ begin perform pg_notify('bench', ''); return null; end $$;
                 create trigger ring_always after insert on outbox.events for each statement execute function outbox.ring_always()",
            )
            .await?;
        notified.push(commits(&outbox).await?);
    }
    let plain = median(plain);
    Ok(vec![
        Figure::new("commits, bell in place, relay down", median(idle), "commits/s")
            .against("without the bell", plain)
            .target("0.95"),
        Figure::new("commits, relay at work on the same processors", median(relayed), "commits/s")
            .against("without the bell", plain),
        Figure::new("for comparison: NOTIFY in every insert", median(notified), "commits/s").against("without the bell", plain),
    ])
}

async fn commits(outbox: &Outbox) -> Result<f64, CliError> {
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> =
        (0..WRITERS).map(|_| tokio::spawn(write(outbox.pool.clone(), Arc::clone(&stop), Arc::clone(&count)))).collect();
    tokio::time::sleep(ROUND / 4).await;
    let (began, before) = (Instant::now(), count.load(Ordering::Relaxed));
    tokio::time::sleep(ROUND).await;
    let rate = (count.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.map_err(CliError::failed)?.map_err(CliError::failed)?;
    }
    Ok(rate)
}

async fn write(pool: sqlx::PgPool, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    while !stop.load(Ordering::Relaxed) {
        sqlx::query(
            "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('tick', 'order', $1, $2::text::json)",
        )
        .bind(fastrand::u32(0..10_000).to_string())
        .bind(format!("{{\"note\":\"{}\"}}", "x".repeat(280)))
        .execute(&mut *connection)
        .await?;
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
