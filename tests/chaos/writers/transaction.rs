//! One transaction of a writer, and what it writes into the ledger when it has ended.

use std::sync::atomic::Ordering;

use sqlx::{AssertSqlSafe, Executor, Row};
use uuid::Uuid;

use super::{UNKNOWN_EVERY, Way, Writer};
use crate::ledger::{Event, EventNumber, Fate, hash};
use crate::plan::{FUNCTION, UNKNOWN_KEY, WRITERS, event_type, is_poison, long_key, oddity};

/// Counters that all writers change; those of one writer alone come behind them.
const SHARED_KEYS: u16 = 300;

/// The events of the transaction under way, and what would become of them if nothing more came.
pub(super) struct Draft {
    events: Vec<(EventNumber, Event)>,
    fate: Fate,
}

impl Default for Draft {
    fn default() -> Self {
        Self { events: Vec::new(), fate: Fate::RolledBack }
    }
}

const BUMP: &str = "update chaos.keys set version = version + $2 where key = $1 returning version";
const INSERT: &str = "insert into outbox.events (id, type, aggregate_type, aggregate_id, payload)
    select id, $2, case when key is not null then 'counter' end, key, payload::json
      from unnest($1::uuid[], $3::text[], $4::text[]) with ordinality as t (id, key, payload, place) order by place";

impl Writer {
    pub(super) async fn follow(&mut self, way: Way, draft: &mut Draft) -> Result<(), sqlx::Error> {
        self.execute("begin").await?;
        if way == Way::Unflushed {
            self.execute("set local synchronous_commit = off").await?;
        }
        if way == Way::EarlyNumber {
            let touch = format!("update chaos.others set touched = touched + 1 where writer = {}", self.number);
            self.execute(&touch).await?;
            self.pause(0..12).await;
        }
        for key in self.draw_keys(way) {
            if way == Way::Savepoint {
                self.vanish(key).await?;
            }
            let count = match way {
                _ if key == UNKNOWN_KEY => 1,
                Way::Many => self.rng.u32(200..800),
                _ => self.rng.u32(0..8) / 7 + 1,
            };
            self.record(key, count, draft).await?;
        }
        if draft.events.is_empty() {
            self.record(0, 1, draft).await?;
        }
        self.end(way, draft).await
    }

    async fn end(&mut self, way: Way, draft: &mut Draft) -> Result<(), sqlx::Error> {
        match way {
            Way::Prepared => return self.prepare(draft).await,
            Way::RolledBack => return self.execute("rollback").await,
            Way::Vanishes => return Err(sqlx::Error::WorkerCrashed),
            Way::Long => self.pause(1_000..4_000).await,
            _ if self.rng.u32(0..20) == 0 => self.pause(0..30).await,
            _ => {}
        }
        // From here on only the answer tells.
        draft.fate = Fate::Unknown;
        self.execute("commit").await?;
        draft.fate = if way == Way::Unflushed { Fate::Unflushed } else { Fate::Committed };
        Ok(())
    }

    /// Sorted, so that no two writers wait for each other.
    fn draw_keys(&mut self, way: Way) -> Vec<u16> {
        let own = SHARED_KEYS + self.number;
        let mut keys: Vec<u16> = (0..way.keys(&mut self.rng))
            .map(|_| match self.rng.u32(0..6) {
                // What stays open for long holds up the others only now and then.
                _ if way == Way::Long && self.rng.u32(0..4) > 0 => own,
                // A few keys get a third of the events: what stands in line behind a failure is what is interesting.
                0 | 1 => self.rng.u16(1..=12),
                _ => self.rng.u16(1..=SHARED_KEYS),
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        // Behind all others, so that it stays sorted.
        keys.extend(self.is_time_for_unknown().then_some(UNKNOWN_KEY));
        keys
    }

    fn is_time_for_unknown(&mut self) -> bool {
        let now = self.application.clock.now();
        let is_time = self.number == 1 && now >= self.unknown_at + UNKNOWN_EVERY;
        self.unknown_at = if is_time { now } else { self.unknown_at };
        is_time
    }

    /// An event and its counter that vanish while their transaction goes on.
    async fn vanish(&mut self, key: u16) -> Result<(), sqlx::Error> {
        self.execute("savepoint step").await?;
        self.record(key, 1, &mut Draft::default()).await?;
        self.execute("rollback to savepoint step").await
    }

    /// Changes the counter and records as many events of it, after the lock on it.
    async fn record(&mut self, key: u16, count: u32, draft: &mut Draft) -> Result<(), sqlx::Error> {
        let version = if key == 0 { 0 } else { self.bump(key, count).await? };
        let first = self.application.ledger.draw(count);
        let (mut ids, mut keys, mut payloads) = (Vec::<Uuid>::new(), Vec::<Option<String>>::new(), Vec::<String>::new());
        for place in 0..count {
            let number = first + place;
            let version = if key == 0 { 0 } else { version - (count - 1 - place) };
            let poison = is_poison(self.application.seed, number, FUNCTION);
            let odd = oddity(self.application.seed, number).map(|odd| format!(",{}", odd.member)).unwrap_or_default();
            let payload = format!(
                r#"{{"n":{number}, "key":{key},"version":{version}, "writer":{},"poison":{poison},"big":9007199254740993{odd}}}"#,
                self.number
            );
            let event = Event { key, version, fate: Fate::RolledBack, body: hash(payload.as_bytes()), at: 0 };
            // Entered already: if this writer never comes back to it, the event was rolled back.
            self.application.ledger.enter(number, event);
            draft.events.push((number, event));
            ids.push(self.application.ledger.id(number));
            keys.push(if key == 0 { long_key(self.application.seed, number) } else { Some(key.to_string()) });
            payloads.push(payload);
        }
        let insert = sqlx::query(INSERT).bind(ids).bind(event_type(key)).bind(keys).bind(payloads);
        let connection = self.connection.as_mut().expect("a writer in a transaction has a connection");
        connection.execute(insert).await.map(drop)
    }

    async fn bump(&mut self, key: u16, count: u32) -> Result<u32, sqlx::Error> {
        let bump = sqlx::query(BUMP).bind(i32::from(key)).bind(i64::from(count));
        let connection = self.connection.as_mut().expect("a writer in a transaction has a connection");
        let version: i64 = connection.fetch_one(bump).await?.get(0);
        Ok(u32::try_from(version).expect("a small counter"))
    }

    async fn prepare(&mut self, draft: &mut Draft) -> Result<(), sqlx::Error> {
        let application = std::sync::Arc::clone(&self.application);
        let Ok(_permit) = application.prepared_room.try_acquire() else { return self.execute("rollback").await };
        let name = format!("chaos_{}_{}", self.number, self.rng.u64(..));
        draft.fate = Fate::Unknown;
        match self.execute(&format!("prepare transaction '{name}'")).await {
            Ok(()) => {}
            // A transaction that has notified cannot be prepared: the bell rings only while a relay sleeps.
            Err(sqlx::Error::Database(refused)) if refused.code().as_deref() == Some("0A000") => {
                draft.fate = Fate::RolledBack;
                return self.execute("rollback").await;
            }
            Err(gone) => {
                self.unresolved = Some((name, false));
                return Err(gone);
            }
        }
        self.application.prepared.fetch_add(1, Ordering::Relaxed);
        self.pause(20..1_000).await;
        let commits = self.rng.bool();
        if self.end_prepared(&name, commits).await {
            draft.fate = if commits { Fate::Committed } else { Fate::RolledBack };
        }
        Ok(())
    }

    /// Ends a prepared transaction; one that survived a crash of the server is still there. Gives whether it was told how it went;
    /// otherwise it is tried again on the next connection, where it may be gone because it had ended.
    pub(super) async fn end_prepared(&mut self, name: &str, commits: bool) -> bool {
        let verb = if commits { "commit" } else { "rollback" };
        let ended = self.execute(&format!("{verb} prepared '{name}'")).await;
        if let Err(error) = &ended
            && error.as_database_error().and_then(|error| error.code()).as_deref() != Some("42704")
        {
            self.connection = None;
            self.unresolved = Some((name.to_owned(), commits));
        }
        ended.is_ok()
    }

    pub(super) fn enter(&mut self, draft: Draft) {
        let (at, Draft { events, fate }) = (self.application.clock.now(), draft);
        match fate {
            Fate::Committed | Fate::Unflushed => drop(self.application.committed.fetch_add(events.len() as u64, Ordering::Relaxed)),
            Fate::Unknown => drop(self.application.lost_answers.fetch_add(1, Ordering::Relaxed)),
            Fate::RolledBack => {}
        }
        for (number, event) in events {
            self.application.ledger.enter(number, Event { fate, at, ..event });
        }
    }

    async fn execute(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        debug_assert!(self.number <= WRITERS);
        let connection = self.connection.as_mut().expect("a writer in a transaction has a connection");
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(drop)
    }
}
