//! Many writers on few streams, in three ways at once, while their connections are killed: no version twice, none missing, every fold that of a reference.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use outboxd::uow::sourcing::Root;
use outboxd::uow::{Command, Error, Pipeline, Registry, UnitOfWork};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::account::{Account, earned};
use crate::support::TestDatabase;

const WRITERS: u64 = 16;
const STREAMS: u64 = 10;
const EACH: u64 = 40;

/// Appends one event with an id that the writer knows, so that it can ask what became of it.
struct Append {
    key: String,
    id: Uuid,
    points: i64,
    is_locked: bool,
}

impl Command for Append {
    type Output = ();
    type Error = Error;

    async fn run(&self, work: &mut UnitOfWork) -> Result<(), Error> {
        let mut account = match self.is_locked {
            true => Root::<Account>::load_locked(&self.key, work).await?,
            false => Root::<Account>::load(&self.key, work).await?,
        };
        account.record_as(self.id, earned(self.points));
        account.save(work).await?;
        Ok(())
    }
}

async fn append_in_sql(pool: &PgPool, key: &str, id: Uuid, points: i64) -> Result<(), sqlx::Error> {
    let events = json!([{ "id": id, "type": "points.earned", "headers": { "version": 2 }, "payload": { "points": points, "reason": "sql" } }]);
    sqlx::query("select outbox.append('account', $1, 'any', $2)").bind(key).bind(events).execute(pool).await.map(drop)
}

/// Repeats each append until it is acknowledged, whatever happens to connections; gives what it knows to be there.
async fn write(writer: u64, pool: PgPool) -> Vec<(String, Uuid, i64)> {
    let pipeline = Pipeline::new(pool.clone(), Registry::new()).attempts(20);
    let mut known = Vec::new();
    for n in 0..EACH {
        let (key, id) = (format!("hot-{}", (writer * 7 + n * 3) % STREAMS), Uuid::new_v4());
        let points = i64::try_from(writer * EACH + n).expect("it is small");
        loop {
            let appended = match (writer + n) % 3 {
                0 => append_in_sql(&pool, &key, id, points).await.is_ok(),
                way => pipeline.send(&Append { key: key.clone(), id, points, is_locked: way == 1 }).await.is_ok(),
            };
            if appended {
                break;
            }
        }
        known.push((key, id, points));
    }
    known
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_writers_on_ten_streams_lose_nothing_and_write_nothing_twice() {
    let database = TestDatabase::create().await;
    let writing = (0..WRITERS).map(|writer| tokio::spawn(write(writer, database.pool().clone())));
    let is_over = Arc::new(AtomicBool::new(false));
    let killing = tokio::spawn({
        let (is_over, pool) = (Arc::clone(&is_over), database.pool().clone());
        async move {
            let mut killed = 0_u32;
            while !is_over.load(Ordering::SeqCst) {
                let one = "select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity where datname = current_database()
                             and pid <> pg_backend_pid() and state <> 'idle' order by random() limit 1) a";
                killed +=
                    sqlx::query_scalar::<_, i64>(one).fetch_one(&pool).await.map_or(0, |count| u32::try_from(count).unwrap_or(0));
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            }
            killed
        }
    });
    let mut reference: BTreeMap<String, (i64, u64)> = BTreeMap::new();
    let mut ids = Vec::new();
    for written in futures_util::future::join_all(writing).await {
        for (key, id, points) in written.expect("no panic") {
            let (total, events) = reference.entry(key).or_default();
            (*total, *events) = (*total + points, *events + 1);
            ids.push(id);
        }
    }
    is_over.store(true, Ordering::SeqCst);
    assert!(killing.await.expect("no panic") > 0, "connections were killed");

    assert_eq!(database.count("events").await, i64::try_from(WRITERS * EACH).expect("it is small"));
    let present: i64 = sqlx::query_scalar("select count(*) from events where id = any ($1)")
        .bind(&ids)
        .fetch_one(database.pool())
        .await
        .expect("a count");
    assert_eq!(present, i64::try_from(ids.len()).expect("it is small"));
    let holes = "(select s.version, count(*) as events, min(v.version) as first, max(v.version) as last, count(e.seq) as there
                    from streams s join stream_events v on v.stream = s.id left join events e on e.seq = v.seq and e.aggregate_version = v.version
                   group by s.id) x where not (version = events and version = last and first = 1 and there = events)";
    assert_eq!(database.count(holes).await, 0);
    let disorder = "stream_events a join stream_events b on b.stream = a.stream and b.version = a.version + 1 where b.seq < a.seq";
    assert_eq!(database.count(disorder).await, 0, "sequence numbers rise with versions");
    let mut work = UnitOfWork::begin(database.pool(), &Arc::new(Registry::new())).await.expect("it begins");
    for (key, (points, events)) in reference {
        let account = Root::<Account>::load(&key, &mut work).await.expect("it is loaded");
        assert_eq!(account.state(), &Account { points, events }, "{key}");
        assert!(Root::<Account>::verify_state(&key, &mut work).await.expect("it is looked at"), "{key}");
    }
}
