//! Moves against a model: random writers that overlap, random stops in the middle, random moves; every run must deliver exactly what the
//! model owes, once each, and every move must tell the model's numbers. Prints its seed; `OUTBOXD_MOVES_SEED` repeats one.

use std::collections::BTreeMap;
use std::time::Duration;

use outboxd::Verdict;
use outboxd::domain::Record;
use outboxd::store::{self, Move, MoveKind, MoveTarget};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::migrated;
use crate::support::{Recorder, TestDatabase, eventually, relay};

const ROUNDS: usize = 8;

/// What the model knows of one event.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: Uuid,
    is_committed: bool,
    /// The handler still has to get it.
    is_owed: bool,
}

/// A writer with its transaction open, and the numbers of its events.
struct Writer {
    connection: PgConnection,
    seqs: Vec<i64>,
}

struct World {
    database: TestDatabase,
    random: fastrand::Rng,
    events: BTreeMap<i64, Known>,
    open: Vec<Writer>,
    record: Record,
    partitions: u16,
}

impl World {
    async fn begin(&mut self) {
        let mut connection = self.database.connect().await;
        sqlx::query("begin").execute(&mut connection).await.expect("a transaction begins");
        let mut seqs = Vec::new();
        for _ in 0..self.random.usize(1..60) {
            let insert = "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('t', 'order', $1, '{}') returning seq, id";
            let (seq, id): (i64, Uuid) = sqlx::query_as(insert)
                .bind(self.random.u8(0..8).to_string())
                .fetch_one(&mut connection)
                .await
                .expect("the event is well formed");
            self.events.insert(seq, Known { id, is_committed: false, is_owed: false });
            seqs.push(seq);
        }
        self.open.push(Writer { connection, seqs });
    }

    async fn end_one(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let place = self.random.usize(0..self.open.len());
        let Writer { mut connection, seqs } = self.open.swap_remove(place);
        let commits = self.random.u8(0..5) > 0;
        sqlx::query(if commits { "commit" } else { "rollback" }).execute(&mut connection).await.expect("it ends");
        connection.close().await.expect("the session ends");
        for seq in seqs {
            match commits {
                true => {
                    let known = self.events.get_mut(&seq).expect("it was inserted");
                    (known.is_committed, known.is_owed) = (true, true);
                }
                false => drop(self.events.remove(&seq)),
            }
        }
    }

    fn owed(&self) -> Vec<Uuid> {
        let owed = self.events.values().filter(|known| known.is_committed && known.is_owed);
        owed.map(|known| known.id).collect()
    }

    /// Runs a relay until it has delivered some or all of what is owed, and checks that it delivered nothing else, and nothing twice.
    async fn run(&mut self, to_the_end: bool) {
        let recorder = Recorder::answering_later(|_, _| async {
            tokio::time::sleep(Duration::from_micros(300)).await; // a receiver takes its time
            Verdict::delivered()
        });
        let (record, partitions) = (self.record, self.partitions);
        let relay = relay(&self.database)
            .configured_handler("billing", recorder.handler(), |config| (config.record, config.partitions) = (record, partitions))
            .start()
            .expect("the relay starts");
        eventually("billing is registered", || async {
            (self.database.count("subscriptions").await == i64::from(partitions)).then_some(())
        })
        .await;
        let owed = self.owed();
        let enough = if to_the_end || owed.is_empty() { owed.len() } else { self.random.usize(0..owed.len()) };
        recorder.wait_for(enough).await;
        if to_the_end {
            eventually("the position is stored", || async {
                (self.database.count("event_states where state = 'pending'").await == 0).then_some(())
            })
            .await;
        }
        relay.stop().await.expect("the relay stops");
        let mut delivered: Vec<Uuid> = recorder.calls().iter().map(|notification| notification.id).collect();
        let calls = delivered.len();
        delivered.sort_unstable();
        delivered.dedup();
        assert_eq!(delivered.len(), calls, "something was delivered twice in one run");
        for id in &delivered {
            assert!(owed.contains(id), "{id} was not owed");
        }
        for known in self.events.values_mut() {
            known.is_owed &= delivered.binary_search(&known.id).is_err();
        }
        if to_the_end {
            assert_eq!(self.owed(), Vec::<Uuid>::new(), "owed and not delivered");
        }
    }

    /// Moves the handler as a person would, and the model with it.
    async fn move_somewhere(&mut self) {
        let committed: Vec<(i64, Uuid)> =
            self.events.iter().filter(|(_, known)| known.is_committed).map(|(seq, known)| (*seq, known.id)).collect();
        let target = match (self.random.u8(0..8), committed.is_empty()) {
            (0, _) => MoveTarget::Beginning,
            (1, _) | (_, true) => MoveTarget::Now,
            _ => MoveTarget::Event(committed[self.random.usize(0..committed.len())].1),
        };
        let kind = [MoveKind::Rewind, MoveKind::Skip, MoveKind::Restart][self.random.usize(0..3)];
        let pool = self.database.pool();
        let first_seq = store::find_move_target(pool, target).await.expect("it is found").expect("it is there");
        // What waits behind a key has a row, and stays owed however far forward the handler moves.
        let parked: Vec<i64> = sqlx::query_scalar("select seq from deliveries where state in ('retrying', 'waiting')")
            .fetch_all(pool)
            .await
            .expect("they are read");
        let planned = store::plan_move(pool, "billing", first_seq).await.expect("it is counted").expect("it is registered");
        let request = Move { handler: "billing", kind, first_seq, actor: store::Actor::cli("ada"), reason: None, asked: "{}" };
        let done = store::move_handler(pool, &request).await.expect("it moves").expect("it is registered");

        let (mut skipped, mut again) = (0, 0);
        for (seq, known) in self.events.iter_mut().filter(|(_, known)| known.is_committed) {
            if *seq < first_seq && known.is_owed && kind != MoveKind::Rewind && !parked.contains(seq) {
                (known.is_owed, skipped) = (false, skipped + 1);
            }
            let has_row = parked.contains(seq);
            if *seq >= first_seq && (!known.is_owed || has_row) {
                again += 1;
                known.is_owed = has_row || kind != MoveKind::Skip;
            }
        }
        let context = format!("{kind:?} to {target:?}, number {first_seq}");
        assert_eq!(planned.again, again, "planned to deliver again: {context}");
        assert_eq!(done.again, if kind == MoveKind::Skip { 0 } else { again }, "delivered again: {context}");
        assert_eq!(done.skipped, skipped, "skipped: {context}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_moved_every_event_is_delivered_as_often_as_it_is_owed() {
    let given = std::env::var("OUTBOXD_MOVES_SEED").ok().and_then(|text| text.parse().ok());
    for (record, partitions) in [(Record::All, 1), (Record::Failures, 1), (Record::All, 3), (Record::Failures, 3)] {
        let seed = given.unwrap_or_else(|| fastrand::u64(..));
        println!("OUTBOXD_MOVES_SEED={seed} with {record:?} and {partitions} partitions");
        let (random, events, open) = (fastrand::Rng::with_seed(seed), BTreeMap::new(), Vec::new());
        let mut world = World { database: migrated().await, random, events, open, record, partitions };
        world.run(true).await;
        for _ in 0..ROUNDS {
            for _ in 0..world.random.usize(1..5) {
                world.begin().await;
            }
            for _ in 0..world.random.usize(0..5) {
                world.end_one().await;
            }
            for _ in 0..world.random.usize(0..3) {
                world.move_somewhere().await;
            }
            let to_the_end = world.random.u8(0..3) == 0;
            world.run(to_the_end).await;
        }
        while !world.open.is_empty() {
            world.end_one().await;
        }
        world.move_somewhere().await;
        world.run(true).await;
    }
}
