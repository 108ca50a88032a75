//! What many handlers cost: relays with 1, 10, 100 ... handlers, each with a process of its own, with nothing to do, with events that one of
//! them wants, and with events that all of them want. Processor time is that of the relay and of the server, so it does not depend on who
//! shares the machine.

use std::time::{Duration, Instant};

use super::footprint::{processor_seconds, resident_mib};
use super::outbox::{Outbox, Server};
use super::report::Figure;
use crate::cli::CliError;

/// How long each state is measured.
const SPAN: Duration = Duration::from_secs(15);
/// After the start and after a load: the first looks and the last flushes are no part of what follows.
const SETTLE: Duration = Duration::from_secs(20);
const PER_SECOND: u32 = 300;
/// Events that are recorded in one transaction.
const BATCH: u32 = 3;
/// With more handlers, events for all of them are more deliveries than two processors can record in the time.
const MOST_FOR_ALL: u32 = 100;

/// What the machine had done up to a moment.
struct Reading {
    at: Instant,
    relay: f64,
    server: f64,
    transactions: i64,
    wal: i64,
}

/// What a second of a state costs.
struct Cost {
    relay: f64,
    server: f64,
    transactions: f64,
    wal: f64,
}

pub async fn measure(server: &Server, postmaster: u32, counts: &[u32]) -> Result<Vec<Figure>, CliError> {
    let mut figures = Vec::new();
    for count in counts {
        figures.extend(measure_one(server, postmaster, *count).await?);
    }
    Ok(figures)
}

async fn measure_one(server: &Server, postmaster: u32, count: u32) -> Result<Vec<Figure>, CliError> {
    let outbox = server.outbox().await?;
    let directory = tempfile::tempdir().map_err(CliError::failed)?;
    let began = Instant::now();
    let handlers: String = (0..count)
        .map(|n| format!("[[handlers]]\nname = \"h{n}\"\nkind = \"discard\"\nevents = [\"type_{n}\", \"everybody\"]\n"))
        .collect();
    let mut relay = outbox.start_relay(directory.path(), "", &handlers)?;
    let pid = relay.id().ok_or_else(|| CliError::failed("the relay did not start"))?;
    wait_owned(&outbox, count).await?;
    let started = began.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE).await;
    let plural = if count == 1 { "handler" } else { "handlers" };
    let named = |what: &str| format!("{count} {plural}, {what}");

    let idle = over(&outbox, (pid, postmaster), tokio::time::sleep(SPAN)).await?.1;
    let mut figures = vec![
        Figure::new(named("start until all are owned"), started, "s"),
        Figure::new(named("idle: relay"), idle.relay * 100.0, "% of one processor").target("under 1"),
        Figure::new(named("idle: Postgres"), idle.server * 100.0, "% of one processor"),
        Figure::new(named("idle: transactions"), idle.transactions, "a second").target("under 20"),
    ];
    let loads = [("wanted by one", "type_0"), ("wanted by all", "everybody")];
    for (name, kind) in loads.into_iter().take(if count <= MOST_FOR_ALL { 2 } else { 1 }) {
        let (events, cost) = over(&outbox, (pid, postmaster), produce(&outbox, kind)).await?;
        let events = f64::from(events?);
        figures.extend([
            Figure::new(named(&format!("300 events/s {name}: relay")), cost.relay * 100.0, "% of one processor"),
            Figure::new(named(&format!("300 events/s {name}: Postgres")), cost.server * 100.0, "% of one processor"),
            Figure::new(named(&format!("300 events/s {name}: transactions")), cost.transactions, "a second"),
            Figure::new(named(&format!("300 events/s {name}: WAL")), cost.wal * SPAN.as_secs_f64() / events, "bytes an event"),
        ]);
        tokio::time::sleep(SETTLE / 4).await;
    }
    figures.push(Figure::new(named("resident memory"), resident_mib(pid).unwrap_or(f64::NAN), "MiB"));
    let sessions = "select count(*) from pg_stat_activity where datname = current_database() and application_name like 'outboxd%'";
    figures.push(Figure::new(named("sessions"), outbox.scalar(sessions).await? as f64, ""));
    relay.kill().await.map_err(CliError::failed)?;
    server.remove(outbox).await?;
    Ok(figures)
}

/// What a second costs while something goes on, and what that gave.
async fn over<T>(outbox: &Outbox, (relay, server): (u32, u32), work: impl Future<Output = T>) -> Result<(T, Cost), CliError> {
    let before = read(outbox, relay, server).await?;
    let result = work.await;
    let after = read(outbox, relay, server).await?;
    let seconds = (after.at - before.at).as_secs_f64();
    let cost = Cost {
        relay: (after.relay - before.relay) / seconds,
        server: (after.server - before.server) / seconds,
        transactions: (after.transactions - before.transactions) as f64 / seconds,
        wal: (after.wal - before.wal) as f64 / seconds,
    };
    Ok((result, cost))
}

async fn read(outbox: &Outbox, relay: u32, postmaster: u32) -> Result<Reading, CliError> {
    let transactions = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()";
    Ok(Reading {
        at: Instant::now(),
        relay: processor_seconds(relay).unwrap_or(f64::NAN),
        server: with_children(postmaster),
        transactions: outbox.scalar(transactions).await?,
        wal: outbox.scalar("select (pg_current_wal_insert_lsn() - '0/0')::bigint").await?,
    })
}

/// Processor time of the server's processes that live. Those of a relay live as long as it does.
fn with_children(postmaster: u32) -> f64 {
    let Ok(processes) = std::fs::read_dir("/proc") else { return f64::NAN };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok()) == Some(postmaster)
    };
    pids.filter(is_child).filter_map(processor_seconds).sum()
}

async fn wait_owned(outbox: &Outbox, count: u32) -> Result<(), CliError> {
    let began = Instant::now();
    while outbox.scalar("select count(*) from outbox.subscriptions where owner is not null").await? < i64::from(count) {
        if began.elapsed() > super::outbox::GIVE_UP {
            return Err(CliError::failed("the relay did not take all handlers up in time"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Records events of this type for a while, at a steady rate, and gives their number.
async fn produce(outbox: &Outbox, kind: &str) -> Result<u32, CliError> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) * BATCH / PER_SECOND);
    let (began, mut events) = (Instant::now(), 0);
    while began.elapsed() < SPAN {
        ticks.tick().await;
        let insert = "insert into outbox.events (type, aggregate_type, aggregate_id, payload)
                      select $1, 'order', (n % 10000)::text, json_build_object('n', n, 'note', repeat('x', 270))
                        from generate_series($2, $3) n";
        let (first, last) = (i64::from(events), i64::from(events + BATCH - 1));
        sqlx::query(insert).bind(kind).bind(first).bind(last).execute(&outbox.pool).await.map_err(CliError::failed)?;
        events += BATCH;
    }
    Ok(events)
}
