//! What must not grow with the log: drain, flush, the looks of gauges and status, and a round of retention, on logs of several sizes.
//! The statements of the looks and of retention are executed as the relay and the commands execute them, by the same functions.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::median;
use super::outbox::{ONE_HANDLER, Outbox, Server};
use super::report::Figure;
use crate::cli::CliError;
use crate::domain::{EventFilter, Ordering};
use crate::store::{self, Removed, Selection, Stretch};

/// How often each look is made; the medians are printed.
const LOOKS: usize = 20;
/// New events while flushes are measured, and the pause between two.
const TICKS: u64 = 1_000;
const TICK: Duration = Duration::from_millis(5);
/// Events that each chunk of retention removes, and chunks.
const CHUNK: u32 = 1_000;
const CHUNKS: u32 = 10;
/// Deliveries up to which a look counts, as `max_parked` has them by default.
const MAX_PARKED: u64 = 10_000;
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// One figure on one log.
struct Measured {
    name: &'static str,
    value: f64,
    unit: &'static str,
}

/// Measures each size after the other; every figure is compared with that of the first size.
pub async fn measure(server: &Server, sizes: &[u64]) -> Result<Vec<Figure>, CliError> {
    let mut figures: Vec<Figure> = Vec::new();
    let mut first: Option<Vec<Measured>> = None;
    for size in sizes {
        let measured = measure_one(server, *size).await?;
        for (place, one) in measured.iter().enumerate() {
            let figure = Figure::new(format!("{}, log of {size}", one.name), one.value, one.unit);
            figures.push(match first.as_ref().and_then(|first| first.get(place)) {
                Some(smallest) => figure.against("on the first log", smallest.value).target("1"),
                None => figure,
            });
        }
        first.get_or_insert(measured);
    }
    Ok(figures)
}

async fn measure_one(server: &Server, size: u64) -> Result<Vec<Measured>, CliError> {
    let outbox = server.outbox().await?;
    outbox.fill(size).await?;
    // A handler that has read nothing and wants nothing of what is there: the worst case of a look.
    outbox
        .execute(
            "insert into outbox.subscriptions (handler, kind, snapshot, low_seq, high_seq, type_patterns)
             values ('far', 'discard', '3:3:', 0, 0, '{rare.%}')",
        )
        .await?;
    let mut measured = measure_relay(&outbox, size).await?;
    let pool = connect(&outbox).await?;
    measured.extend(measure_looks(&outbox, &pool).await?);
    measured.extend(measure_retention(&outbox, &pool).await?);
    pool.close().await;
    server.remove(outbox).await?;
    Ok(measured)
}

/// Sessions as the relay and the commands have them.
async fn connect(outbox: &Outbox) -> Result<PgPool, CliError> {
    let options = store::Options {
        url: &outbox.url,
        schema: "outbox",
        application_name: "outboxd bench",
        max_connections: 2,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(60),
        lock_timeout: Duration::from_secs(10),
    };
    Ok(store::connect(&options).await?)
}

/// The relay in a process of its own: how fast it drains the log, and how long a flush takes once it has.
async fn measure_relay(outbox: &Outbox, size: u64) -> Result<Vec<Measured>, CliError> {
    let directory = tempfile::tempdir().map_err(CliError::failed)?;
    let port = free_port().await?;
    let began = Instant::now();
    let mut relay = outbox.start_relay(directory.path(), &format!("127.0.0.1:{port}"), ONE_HANDLER)?;
    outbox.wait_recorded(size).await?;
    let drain = size as f64 / began.elapsed().as_secs_f64();
    let (seconds, flushes) = read_flushes(port).await?;
    for n in 0..TICKS {
        let insert = "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('tick', 'writer', $1, '{}')";
        sqlx::query(insert).bind(n.to_string()).execute(&outbox.pool).await.map_err(CliError::failed)?;
        tokio::time::sleep(TICK).await;
    }
    outbox.wait_recorded(size + TICKS).await?;
    let (seconds_after, flushes_after) = read_flushes(port).await?;
    relay.kill().await.map_err(CliError::failed)?;
    let flush = (seconds_after - seconds) / (flushes_after - flushes) * 1e3;
    Ok(vec![
        Measured { name: "drain", value: drain, unit: "events/s" },
        Measured { name: "flush, mean at 200 events/s", value: flush, unit: "ms" },
    ])
}

/// What the gauges and `outboxd status` cost.
async fn measure_looks(outbox: &Outbox, pool: &PgPool) -> Result<Vec<Measured>, CliError> {
    let far = EventFilter { types: vec!["rare.*".to_owned()], ..EventFilter::default() };
    let all = EventFilter::default();
    let (mut idle, mut behind, mut status) = (vec![], vec![], vec![]);
    for _ in 0..LOOKS {
        idle.push(gauge(outbox, pool, "bench", &all).await?);
        behind.push(gauge(outbox, pool, "far", &far).await?);
        let began = Instant::now();
        store::status::read_stats(pool, store::status::Counting::All).await?;
        status.push(millis(began));
    }
    Ok(vec![
        Measured { name: "gauges, nothing pending", value: median(idle), unit: "ms" },
        Measured { name: "gauges, everything pending behind a filter", value: median(behind), unit: "ms" },
        Measured { name: "status, both handlers", value: median(status), unit: "ms" },
    ])
}

async fn gauge(outbox: &Outbox, pool: &PgPool, handler: &str, filter: &EventFilter) -> Result<f64, CliError> {
    let id = outbox.scalar(&format!("select id::bigint from outbox.subscriptions where handler = '{handler}'")).await?;
    let id = i32::try_from(id).map_err(CliError::failed)?;
    let selection = Selection::new(filter, &Ordering::Aggregate, 1, 0);
    let began = Instant::now();
    store::subscriptions::read_backlog(pool, id, &selection, MAX_PARKED).await?;
    Ok(millis(began))
}

/// A round of retention that finds nothing, one that a handler keeps from removing anything, and one that removes.
async fn measure_retention(outbox: &Outbox, pool: &PgPool) -> Result<Vec<Measured>, CliError> {
    let (mut young, mut held, mut removing) = (vec![], vec![], vec![]);
    for _ in 0..LOOKS {
        young.push(chunk(pool, 0, WEEK).await?.0);
        held.push(chunk(pool, 0, Duration::ZERO).await?.0);
    }
    outbox.execute("delete from outbox.subscriptions where handler = 'far'").await?;
    let mut after = 0;
    for _ in 0..CHUNKS {
        let (took, removed) = chunk(pool, after, Duration::ZERO).await?;
        if removed.removed != u64::from(CHUNK) {
            return Err(CliError::failed("retention did not remove what every handler has handled"));
        }
        after = removed.last_seq.unwrap_or(after);
        removing.push(took);
    }
    Ok(vec![
        Measured { name: "retention, nothing expired", value: median(young), unit: "ms" },
        Measured { name: "retention, held back by one handler", value: median(held), unit: "ms" },
        Measured { name: "retention, removing 1,000 events", value: median(removing), unit: "ms" },
    ])
}

async fn chunk(pool: &PgPool, after: i64, keep: Duration) -> Result<(f64, Removed), CliError> {
    let began = Instant::now();
    let removed = store::remove_finished(pool, Stretch::Onwards { after }, keep, CHUNK).await?;
    removed.map(|removed| (millis(began), removed)).ok_or_else(|| CliError::failed("another session holds the lock of retention"))
}

fn millis(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

async fn free_port() -> Result<u16, CliError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(CliError::failed)?;
    Ok(listener.local_addr().map_err(CliError::failed)?.port())
}

/// The sum of all flushes in seconds, and how many there were, from the relay's metrics.
async fn read_flushes(port: u16) -> Result<(f64, f64), CliError> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(CliError::failed)?;
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.map_err(CliError::failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(CliError::failed)?;
    let read = |name: &str| {
        let value = answer.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.ok_or_else(|| CliError::failed(format!("the relay's metrics have no {name}")))
    };
    Ok((read("outboxd_flush_duration_seconds_sum")?, read("outboxd_flush_duration_seconds_count")?))
}
