//! The application of the soak: writers that change counters and record events in every way a transaction can go.
//! They remember what they committed and what they took back; nobody disturbs them, so what they remember is true.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::TestDatabase;

pub const WRITERS: u64 = 16;
/// Counters that all writers change.
const SHARED_KEYS: i32 = 300;
/// Counters of one writer alone begin here: a transaction that stays open on one of them holds up nobody.
const OWN_KEYS: i32 = 1_000;

/// The tables of the application, and the function of the `sql` handler: it fails now and then, and early for some events.
pub const TABLES: &str = "
    create schema soak;
    create table soak.keys (key integer primary key, version bigint not null default 0) with (fillfactor = 30);
    insert into soak.keys (key) select generate_series(1, 300) union all select generate_series(1001, 1016);
    create table soak.others (writer integer primary key, touched bigint not null default 0) with (fillfactor = 30);
    insert into soak.others (writer) select generate_series(1, 16);
    create table soak.effects (serial bigint generated always as identity, event uuid, key text, version bigint, at timestamptz default clock_timestamp());
    create function soak.apply(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language plpgsql as $$
    begin
        if random() < 0.0007 then
            raise exception 'failed at random';
        elsif hashtextextended(id::text, 0) % 60 = 0
              and exists (select from outbox.events e where e.id = apply.id and clock_timestamp() < e.occurred_at + interval '400 ms') then
            raise exception 'not yet';
        end if;
        insert into soak.effects (event, key, version) values (id, key, (payload ->> 'version')::bigint);
    end $$;";

const INSERT: &str = r#"
    with bumped as (update soak.keys set version = version + 1 where key = $2::int returning version)
    insert into outbox.events (id, type, aggregate_type, aggregate_id, payload)
    select $1, 'counter.moved', 'counter', $2::int::text,
           format('{"key":%s, "version":%s,"writer":%s,"big":9007199254740993}', $2::int, version, $3::int)::json
      from bumped"#;
const INSERT_WITHOUT_KEY: &str = r#"
    insert into outbox.events (id, type, payload) values ($1, 'noise.made', format('{"writer":%s}', $2::int)::json)"#;

/// What the writers did.
#[derive(Default)]
pub struct Ledger {
    pub committed: Mutex<Vec<Uuid>>,
    pub undone: Mutex<Vec<Uuid>>,
    pub count: AtomicUsize,
    pub transactions: AtomicU64,
    pub long: AtomicU64,
    pub prepared: AtomicU64,
    /// Transactions that could not be prepared, because the bell had rung in them.
    pub not_prepared: AtomicU64,
}

/// How a transaction goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    EarlyNumber,
    RolledBack,
    Savepoint,
    SeveralKeys,
    NotFlushed,
    WithoutKey,
    Prepared,
    Long,
}

impl Way {
    fn draw(rng: &mut Rng) -> Self {
        match rng.u32(0..10_000) {
            0..=4_999 => Self::Plain,
            5_000..=6_199 => Self::EarlyNumber,
            6_200..=6_999 => Self::RolledBack,
            7_000..=7_699 => Self::Savepoint,
            7_700..=8_799 => Self::SeveralKeys,
            8_800..=9_399 => Self::NotFlushed,
            9_400..=9_939 => Self::WithoutKey,
            9_940..=9_989 => Self::Prepared,
            _ => Self::Long,
        }
    }
}

/// Writes until that many events are committed.
pub async fn write(database: &TestDatabase, seed: u64, events: usize) -> Arc<Ledger> {
    let ledger = Arc::new(Ledger::default());
    // The server of the tests allows ten, and other tests prepare, too.
    let prepared = Arc::new(Semaphore::new(4));
    let mut writers = JoinSet::new();
    for number in 1..=WRITERS {
        let mut writer = Writer {
            number: i32::try_from(number).expect("a small number"),
            rng: Rng::with_seed(seed.wrapping_mul(31).wrapping_add(number)),
            connection: database.connect().await,
            ledger: Arc::clone(&ledger),
            prepared: Arc::clone(&prepared),
            ids: Vec::new(),
        };
        writers.spawn(async move {
            while writer.ledger.count.load(Ordering::Relaxed) < events {
                writer.transaction().await;
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("the transactions of the soak are well formed");
    }
    ledger
}

struct Writer {
    number: i32,
    rng: Rng,
    connection: PgConnection,
    ledger: Arc<Ledger>,
    prepared: Arc<Semaphore>,
    /// Events of the transaction under way.
    ids: Vec<Uuid>,
}

impl Writer {
    async fn transaction(&mut self) {
        let way = Way::draw(&mut self.rng);
        self.ledger.transactions.fetch_add(1, Ordering::Relaxed);
        self.execute("begin").await;
        match way {
            Way::NotFlushed => self.execute("set local synchronous_commit = off").await,
            Way::EarlyNumber => self.take_number_early().await,
            Way::Plain | Way::RolledBack | Way::SeveralKeys | Way::Savepoint | Way::WithoutKey | Way::Prepared | Way::Long => {}
        }
        for key in self.draw_keys(way) {
            self.lock(key).await;
            if way == Way::Savepoint {
                self.savepoint(key).await;
            }
            for _ in 0..if self.rng.u32(0..8) == 0 { 2 } else { 1 } {
                self.insert(key).await;
            }
        }
        if way == Way::WithoutKey || self.ids.is_empty() {
            self.insert_without_key().await;
        }
        match way {
            Way::Prepared => self.end_prepared().await,
            Way::Long => {
                self.ledger.long.fetch_add(1, Ordering::Relaxed);
                self.pause(2_000..5_000).await;
                self.end(true).await;
            }
            Way::RolledBack => self.end(false).await,
            _ => {
                if self.rng.u32(0..20) == 0 {
                    self.pause(0..30).await;
                }
                self.end(true).await;
            }
        }
    }

    /// The transaction gets its number now and the lock on its counter later: what made an order by (tx, seq) wrong.
    async fn take_number_early(&mut self) {
        self.execute(&format!("update soak.others set touched = touched + 1 where writer = {}", self.number)).await;
        self.pause(0..12).await;
    }

    /// Sorted, so that no two writers wait for each other.
    fn draw_keys(&mut self, way: Way) -> Vec<i32> {
        let count = match way {
            Way::SeveralKeys => self.rng.usize(2..=5),
            Way::WithoutKey => 0,
            _ => 1,
        };
        let is_shared = match way {
            Way::Long => self.rng.u32(0..4) == 0,
            _ => true,
        };
        let mut keys: Vec<i32> = (0..count)
            .map(|_| match is_shared {
                // A few keys get a third of the events: what stands in line behind a failure is what is interesting.
                true if self.rng.u32(0..3) == 0 => self.rng.i32(1..=12),
                true => self.rng.i32(1..=SHARED_KEYS),
                false => OWN_KEYS + self.number,
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    async fn lock(&mut self, key: i32) {
        let lock = sqlx::query("select version from soak.keys where key = $1 for update").bind(key);
        self.connection.execute(lock).await.expect("a counter can be locked");
    }

    async fn insert(&mut self, key: i32) {
        let id = self.draw_id();
        let insert = sqlx::query(INSERT).bind(id).bind(key).bind(self.number);
        self.connection.execute(insert).await.expect("the event is well formed");
        self.ids.push(id);
    }

    async fn insert_without_key(&mut self) {
        let id = self.draw_id();
        let insert = sqlx::query(INSERT_WITHOUT_KEY).bind(id).bind(self.number);
        self.connection.execute(insert).await.expect("the event is well formed");
        self.ids.push(id);
    }

    /// An event and its counter that vanish while their transaction goes on.
    async fn savepoint(&mut self, key: i32) {
        self.execute("savepoint step").await;
        self.insert(key).await;
        self.execute("rollback to savepoint step").await;
        let vanished = self.ids.pop().expect("an event was inserted");
        self.ledger.undone.lock().expect("no writer panics with the lock").push(vanished);
    }

    async fn end(&mut self, commits: bool) {
        self.execute(if commits { "commit" } else { "rollback" }).await;
        self.enter(commits);
    }

    async fn end_prepared(&mut self) {
        let Ok(permit) = Arc::clone(&self.prepared).try_acquire_owned() else { return self.end(true).await };
        let name = format!("soak_{}_{}", self.number, self.rng.u64(..));
        // A transaction that has notified cannot be prepared: the bell rings only while a relay sleeps.
        if sqlx::raw_sql(AssertSqlSafe(format!("prepare transaction '{name}'"))).execute(&mut self.connection).await.is_err() {
            self.ledger.not_prepared.fetch_add(1, Ordering::Relaxed);
            return self.end(false).await;
        }
        self.ledger.prepared.fetch_add(1, Ordering::Relaxed);
        self.pause(20..1_000).await;
        let commits = self.rng.bool();
        self.execute(&format!("{} prepared '{name}'", if commits { "commit" } else { "rollback" })).await;
        drop(permit);
        self.enter(commits);
    }

    fn enter(&mut self, commits: bool) {
        let ids = std::mem::take(&mut self.ids);
        if commits {
            self.ledger.count.fetch_add(ids.len(), Ordering::Relaxed);
        }
        let list = if commits { &self.ledger.committed } else { &self.ledger.undone };
        list.lock().expect("no writer panics with the lock").extend(ids);
    }

    fn draw_id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.rng.u128(..).to_be_bytes()).into_uuid()
    }

    async fn pause(&mut self, millis: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.u64(millis))).await;
    }

    async fn execute(&mut self, sql: &str) {
        let executed = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connection).await;
        executed.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}
