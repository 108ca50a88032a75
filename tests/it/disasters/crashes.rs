//! Crashes of the server: what it takes back was never delivered, and what outlives it arrives.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use outboxd::launcher::Postgres;
use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use super::{change, connect, number, record, relay_at, server_with_outbox, wait_until_ready};
use crate::support::Recorder;

/// Inserts as fast as it can without waiting for the disk, until it is told to stop or the server goes; gives how many were committed.
fn produce(url: &str, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    let url = url.to_owned();
    tokio::spawn(async move {
        let mut connection = connect(&url).await;
        connection.execute("set synchronous_commit = off").await.expect("set");
        let mut committed = 0;
        while !stop.load(SeqCst) {
            let insert = "insert into outbox.events (type, payload) values ('t', '{\"n\": 0}')";
            if connection.execute(insert).await.is_err() {
                break;
            }
            committed += 1;
        }
        committed
    })
}

/// The WAL writer is stopped, so that nothing is flushed but by a commit that waits, and the postmaster is killed under load.
/// Seen, once in some runs: three events were delivered that the crash took back. What had been read waited for the flush over another
/// connection, and that one, new, told of the log after the crash.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_delivered_that_a_crash_takes_back_although_nobody_writes_the_log_by_himself() {
    let (mut server, url) = server_with_outbox(&[("wal_writer_delay", "10s")]).await;
    let recorder = Recorder::new();
    let relay = relay_at(&url, &recorder);
    let mut committed = 0;
    for _ in 0..3 {
        wait_until_ready(&relay).await;
        let mut connection = connect(&url).await;
        let writer = number(&mut connection, "select pid::bigint from pg_stat_activity where backend_type = 'walwriter'").await;
        let writer = i32::try_from(writer).expect("a process id");
        // SAFETY: takes two numbers; the process belongs to a server of this test.
        unsafe { libc::kill(writer, libc::SIGSTOP) };
        let stop = Arc::new(AtomicBool::new(false));
        let producer = produce(&url, Arc::clone(&stop));
        recorder.wait_for(recorder.delivered().len() + 100).await;
        server = change(server, Postgres::kill).await;
        // A stopped process would hold the memory of the dead server for ever.
        // SAFETY: the same process; it is stopped and cannot have ended by itself.
        unsafe { libc::kill(writer, libc::SIGKILL) };
        stop.store(true, SeqCst);
        committed += producer.await.expect("the producer works");
        server = change(server, |server| server.start_again().expect("the server starts again")).await;
    }
    let mut connection = connect(&url).await;
    record(&mut connection, [1]).await;
    let kept: BTreeSet<Uuid> = sqlx::query_scalar("select id from outbox.events")
        .fetch_all(&mut connection)
        .await
        .expect("the events can be read")
        .into_iter()
        .collect();
    recorder.wait_for_ids(kept.len()).await;
    relay.stop().await.expect("the relay stops");

    let delivered: BTreeSet<Uuid> = recorder.delivered().iter().map(|notification| notification.id).collect();
    assert_eq!(delivered.difference(&kept).count(), 0, "delivered, and taken back by the crash");
    assert_eq!(delivered.len(), kept.len());
    assert!(committed > kept.len(), "nothing was taken back, so nothing was tried: {committed} committed, {} kept", kept.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_was_prepared_before_a_restart_is_delivered_when_it_commits_and_never_when_it_rolls_back() {
    let (mut server, url) = server_with_outbox(&[]).await;
    let recorder = Recorder::new();
    let relay = relay_at(&url, &recorder);
    record(&mut connect(&url).await, [1]).await;
    recorder.wait_for(1).await;
    for (name, number) in [("kept", 2), ("gone", 3)] {
        let mut connection = connect(&url).await;
        connection.execute("begin").await.expect("begun");
        record(&mut connection, [number]).await;
        connection.execute(sqlx::AssertSqlSafe(format!("prepare transaction '{name}'"))).await.expect("prepared");
    }
    record(&mut connect(&url).await, [4]).await;
    recorder.wait_for(2).await;

    for crash in [false, true] {
        server = change(server, move |server| {
            if crash {
                server.kill()
            } else {
                server.stop_fast()
            }
            server.start_again().expect("the server starts again");
        })
        .await;
        wait_until_ready(&relay).await;
        record(&mut connect(&url).await, [if crash { 6 } else { 5 }]).await;
        recorder.wait_for_ids(if crash { 4 } else { 3 }).await;
    }
    let mut connection = PgConnection::connect(&url).await.expect("the server takes connections");
    connection.execute("rollback prepared 'gone'").await.expect("it outlived the crash");
    connection.execute("commit prepared 'kept'").await.expect("it outlived the crash");
    record(&mut connection, [7]).await;
    recorder.wait_for_ids(6).await;
    relay.stop().await.expect("the relay stops");
    drop(server);

    assert_eq!(recorder.numbers().into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([1, 2, 4, 5, 6, 7]));
}
