//! Commit to receive at a steady 500 events a second: from the moment the producer knows its commit to the handler's call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use super::outbox::Server;
use super::report::Figure;
use crate::cli::CliError;
use crate::domain::{Notification, Record, Verdict};
use crate::handlers::Handler;

const PER_SECOND: u32 = 500;
const SECONDS: u32 = 11;
/// Not counted: the relay starts while the first events come in.
const WARM_UP: Duration = Duration::from_secs(1);
const WRITERS: u32 = 4;

/// Remembers when each event arrived.
#[derive(Default)]
struct Arrivals(Mutex<HashMap<uuid::Uuid, Instant>>);

impl Handler for Arrivals {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(notification.id, Instant::now());
        Box::pin(std::future::ready(Verdict::delivered()))
    }

    fn is_immediate(&self) -> bool {
        true
    }
}

pub async fn measure(server: &Server) -> Result<Vec<Figure>, CliError> {
    let outbox = server.outbox().await?;
    let arrivals = Arc::new(Arrivals::default());
    let relay = outbox.relay(Arc::clone(&arrivals) as Arc<dyn Handler>, Record::All, 16)?;
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(outbox.pool.clone(), writer))).collect();
    let mut committed = Vec::new();
    for writer in writers {
        committed.extend(writer.await.map_err(CliError::failed)?.map_err(CliError::failed)?);
    }
    outbox.wait_recorded(u64::from(PER_SECOND * SECONDS)).await?;
    relay.stop().await.map_err(CliError::failed)?;
    let arrivals = arrivals.0.lock().unwrap_or_else(PoisonError::into_inner);
    let mut millis: Vec<f64> = committed
        .iter()
        .filter_map(|(id, at)| Some(arrivals.get(id)?.saturating_duration_since(*at).as_secs_f64() * 1e3))
        .collect();
    millis.sort_by(f64::total_cmp);
    let percentile = |share: f64| millis.get((millis.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    Ok(vec![
        Figure::new("commit to receive, 500 events/s, p50", percentile(0.5), "ms").target("under 3 ms"),
        Figure::new("commit to receive, 500 events/s, p99", percentile(0.99), "ms").target("under 15 ms"),
    ])
}

async fn write(pool: sqlx::PgPool, writer: u32) -> Result<Vec<(uuid::Uuid, Instant)>, sqlx::Error> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) * WRITERS / PER_SECOND);
    let (began, mut committed) = (Instant::now(), Vec::new());
    for n in 0..PER_SECOND * SECONDS / WRITERS {
        ticks.tick().await;
        let id = uuid::Uuid::now_v7();
        sqlx::query("insert into outbox.events (id, type, aggregate_type, aggregate_id, payload) values ($1, 'tick', 'writer', $2, $3::text::json)")
            .bind(id)
            .bind(format!("{writer}-{n}"))
            .bind(format!("{{\"note\":\"{}\"}}", "x".repeat(280)))
            .execute(&pool)
            .await?;
        if began.elapsed() > WARM_UP {
            committed.push((id, Instant::now()));
        }
    }
    Ok(committed)
}
