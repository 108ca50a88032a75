//! One outbox with a receiver that fails some events once and refuses some for good, a function, dead letters that alert somebody, and
//! relays that come to a bad end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outboxd::failpoints::VARIABLE;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Answer, Binary, NewRow, Received, Receiver, Running, TestDatabase, deadline, eventually};

const KEYS: i64 = 4;

/// What a relay may have in flight; so much may arrive late when it stood still.
const CONCURRENCY: usize = 4;

/// Events recorded while a relay is to meet its point.
const ENOUGH: usize = 300;

const APPLICATION: &str = "
    create schema app;
    create table app.effects (place bigserial, n bigint);
    create function app.take(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language sql as $$
        insert into app.effects (n) values ((payload ->> 'n')::bigint)
    $$";

/// What the events of this number are for the receiver.
fn type_of(number: i64) -> &'static str {
    match number % 12 {
        3 | 5 => "flaky",
        7 => "poison",
        _ => "plain",
    }
}

/// What the receiver knows.
#[derive(Default)]
struct World {
    /// What was answered with success, in this order.
    delivered: Mutex<Vec<Uuid>>,
    /// Takes what it refused before.
    is_mended: AtomicBool,
    /// So many requests are answered as if the credentials were wrong.
    to_refuse: AtomicUsize,
}

impl World {
    fn answer(&self, received: &Received) -> Answer {
        if self.to_refuse.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Answer::status(401);
        }
        match type_of(received.json()["n"].as_i64().expect("every payload has a number")) {
            "flaky" if received.attempt == 1 => return Answer::status(503),
            "poison" if !self.is_mended.load(SeqCst) => return Answer::status(422),
            _ => {}
        }
        self.delivered.lock().expect("nobody panics with it").push(received.id.parse().expect("the id of an event"));
        Answer::ok()
    }

    fn delivered(&self) -> Vec<Uuid> {
        self.delivered.lock().expect("nobody panics with it").clone()
    }
}

pub struct Scene {
    pub database: TestDatabase,
    receiver: Receiver,
    channel: Receiver,
    world: Arc<World>,
    binary: Binary,
    /// Every event that was committed.
    numbers: BTreeMap<Uuid, i64>,
    /// What was recorded as delivered when a relay died, and how often the receiver had taken it by then.
    settled_before: BTreeMap<Uuid, usize>,
    /// Requests that may have been under way when a relay stood still.
    late: usize,
    alerts: bool,
}

impl Scene {
    /// The scene in which this point is passed.
    pub async fn new(point: &str) -> Self {
        let database = TestDatabase::create().await;
        database.execute(APPLICATION).await;
        let world = Arc::new(World::default());
        // Everything for a while: if others were taken meanwhile, the fault would be that of the events.
        world.to_refuse.store(if point == "circuit-recorded" { 30 } else { 0 }, SeqCst);
        let answering = Arc::clone(&world);
        let receiver = Receiver::answering(move |received| answering.answer(received)).await;
        let channel = Receiver::start().await;
        let alerts = point.starts_with("alert");
        let mut config = format!(
            "[[handlers]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}\"\nconcurrency = {CONCURRENCY}\non_dead_letter = \"continue\"\n\
             [handlers.retry]\nbase = \"50ms\"\njitter = 0.0\n[handlers.circuit]\nfirst_probe = \"100ms\"\nmax_probe = \"200ms\"\n\
             [[handlers]]\nname = \"take\"\nkind = \"sql\"\nfunction = \"app.take\"\n",
            receiver.url()
        );
        if alerts {
            config += "[alerts]\ninterval = \"150ms\"\ngroup_wait = \"200ms\"\n[[alerts.channels]]\nname = \"people\"\nkind = \"webhook\"\n";
            config += &format!("url = \"{}\"\nsecrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n", channel.url());
        }
        if point.starts_with("retention") {
            config += "[outbox]\nretention = \"1ms\"\nretention_interval = \"1s\"\n";
        }
        let config = Binary::relay_config(database.url(), &config);
        // Many relays share one server here.
        let binary = Binary::with_config(&config.replace("[http]", "max_connections = 5\n[http]")).env("OUTBOXD_ACTOR", "ann");
        let (numbers, settled_before) = (BTreeMap::new(), BTreeMap::new());
        Self { database, receiver, channel, world, binary, numbers, settled_before, late: 0, alerts }
    }

    /// Commits so many events, in turn over the keys.
    pub async fn record(&mut self, count: usize) {
        let first = 1 + i64::try_from(self.numbers.len()).expect("few");
        let numbers: Vec<i64> = (first..).take(count).collect();
        let row = |number: &i64| NewRow::new(type_of(*number)).of("order", number % KEYS).payload(json!({ "n": number }));
        let ids = self.database.insert_events(numbers.iter().map(row)).await;
        self.numbers.extend(ids.into_iter().zip(numbers));
    }

    /// From now on the receiver takes what it refused.
    pub fn mend(&self) {
        self.world.is_mended.store(true, SeqCst);
    }

    pub async fn replay(&self) {
        let finished = self.binary.run(&["replay", "--all", "--yes", "--detach"]).await;
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }

    pub fn start(&self) -> Running {
        self.binary.spawn(&["run"])
    }

    /// A relay that works until everything has its outcome, and stops in an orderly way.
    pub async fn settle(&self) {
        let running = self.start();
        self.wait_until_settled().await;
        if self.alerts {
            self.channel.wait_for(1).await;
        }
        running.wait_for_output("relay started").await;
        running.terminate();
        let finished = running.finish().await;
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }

    /// A relay that is killed at this point, while events go on being recorded.
    pub async fn relay_dies_at(&mut self, point: &str) {
        let mut running = self.armed(point, "kill").spawn(&["run"]);
        self.record_until(&format!("the relay dies at {point}"), |_| !running.is_running()).await;
        self.died(running).await;
    }

    /// A relay that is killed at this point after it was told to stop.
    pub async fn relay_dies_while_it_stops_at(&mut self, point: &str) {
        let running = self.armed(point, "kill").spawn(&["run"]);
        self.wait_until_settled().await;
        running.wait_for_output("relay started").await;
        running.terminate();
        self.died(running).await;
    }

    /// A command that is killed at this point.
    pub async fn command_dies_at(&mut self, point: &str, arguments: &[&str]) {
        let running = self.armed(point, "kill").spawn(arguments);
        self.died(running).await;
    }

    async fn died(&mut self, running: Running) {
        let finished = running.finish().await;
        assert_eq!(finished.code, None, "it was not killed: {}", finished.stderr);
        self.remember_what_is_settled().await;
    }

    /// A relay that stands still at this point, until it is thawed. What it had open at the database has been ended, as the server does
    /// after a minute (`idle_in_transaction_session_timeout`).
    pub async fn relay_stops_at(&mut self, point: &str) -> Running {
        let running = self.armed(point, "stop").spawn(&["run"]);
        let status = format!("/proc/{}/stat", running.pid());
        let is_stopped = |_: &Self| std::fs::read_to_string(&status).is_ok_and(|text| text.contains(") T "));
        self.record_until(&format!("the relay stands still at {point}"), is_stopped).await;
        self.database
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                  where datname = current_database() and application_name = 'outboxd relay' and state like 'idle in transaction%'",
            )
            .await;
        self.remember_what_is_settled().await;
        self.late = CONCURRENCY;
        running
    }

    fn armed(&self, point: &str, action: &str) -> Binary {
        self.binary.clone().env(VARIABLE, &format!("{point}={action}"))
    }

    async fn record_until(&mut self, claim: &str, mut is_true: impl FnMut(&Self) -> bool) {
        let began = self.numbers.len();
        let recording = async {
            while !is_true(self) {
                if self.numbers.len() < began + ENOUGH {
                    self.record(2).await;
                }
                // Paces the producer; the condition is looked at, not the time.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(tokio::time::timeout(deadline(), recording).await.is_ok(), "never became true: {claim}");
    }

    /// Waits until every event has its outcome with both handlers.
    pub async fn wait_until_settled(&self) {
        let poison = if self.world.is_mended.load(SeqCst) { 0 } else { self.count_poison() };
        let want = (self.numbers.len() - poison, self.numbers.len() as i64, poison as i64, 0);
        let claim = format!("{want:?} were delivered, took effect, are dead letters, are open");
        eventually(&claim, || async { (self.outcomes().await == want).then_some(()) }).await;
    }

    fn count_poison(&self) -> usize {
        self.numbers.values().filter(|number| type_of(**number) == "poison").count()
    }

    /// Different events that the receiver took, effects of the function, dead letters, and what is still owed.
    async fn outcomes(&self) -> (usize, i64, i64, i64) {
        let delivered: BTreeSet<Uuid> = self.world.delivered().into_iter().collect();
        let open = self.database.count("event_states where state in ('pending', 'retrying', 'waiting')").await;
        let held = self.database.count("replays where state = 'running'").await;
        let effects = self.database.count("app.effects").await;
        (delivered.len(), effects, self.database.count("deliveries where state = 'dead'").await, open + held)
    }

    async fn remember_what_is_settled(&mut self) {
        let settled: Vec<Uuid> = sqlx::query_scalar(
            "select e.id from deliveries d join events e using (seq) join subscriptions s on s.id = d.subscription
              where d.state = 'delivered' and s.handler = 'hook'",
        )
        .fetch_all(self.database.pool())
        .await
        .expect("the deliveries can be read");
        let times = times(&self.world.delivered());
        self.settled_before.extend(settled.into_iter().map(|id| (id, times[&id])));
    }

    /// Every outcome and every attempt, as it was written.
    pub async fn recorded(&self) -> BTreeMap<String, String> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "select concat_ws(' ', 'delivery', subscription, seq), row_to_json(d)::text from deliveries d union all
             select concat_ws(' ', 'attempt', subscription, seq, attempt), row_to_json(a)::text from attempts a",
        )
        .fetch_all(self.database.pool())
        .await
        .expect("the deliveries can be read");
        rows.into_iter().collect()
    }

    /// Every row that was there before is as it was, or retention has removed it.
    pub async fn check_untouched(&self, before: &BTreeMap<String, String>) {
        for (name, now) in self.recorded().await {
            if let Some(row) = before.get(&name) {
                assert_eq!(*row, now, "the late one wrote");
            }
        }
    }

    /// What has to be true in the end, wherever a relay died.
    pub async fn check(&self) {
        self.check_receiver();
        self.check_effects().await;
    }

    /// Over, but for dropping the database. Idle connections of all the scenes would leave the server none for those that still play.
    pub async fn close(self) -> Self {
        self.database.pool().close().await;
        self
    }

    fn check_receiver(&self) {
        let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for received in self.receiver.received() {
            let first = bodies.entry(received.id.clone()).or_insert_with(|| received.body().to_vec());
            assert_eq!(first, received.body(), "{} came with other bytes", received.id);
        }
        let (delivered, mut seen) = (self.world.delivered(), BTreeSet::new());
        let mut last: BTreeMap<i64, i64> = BTreeMap::new();
        for id in &delivered {
            let number = *self.numbers.get(id).unwrap_or_else(|| panic!("{id} was never committed"));
            if seen.insert(*id) && type_of(number) != "poison" {
                let before = last.insert(number % KEYS, number).unwrap_or_default();
                assert!(before < number, "{number} came after {before}");
            }
        }
        let times = times(&delivered);
        let again: Vec<_> = self.settled_before.iter().filter(|(id, before)| times[id] > **before).collect();
        assert!(again.len() <= self.late, "delivered again although it was recorded: {again:?}");
    }

    async fn check_effects(&self) {
        let effects: Vec<i64> = sqlx::query_scalar("select n from app.effects order by place")
            .fetch_all(self.database.pool())
            .await
            .expect("the effects can be read");
        for key in 0..KEYS {
            let of_key = |numbers: Vec<i64>| numbers.into_iter().filter(|number| number % KEYS == key).collect::<Vec<_>>();
            let mut want = of_key(self.numbers.values().copied().collect());
            want.sort_unstable();
            assert_eq!(of_key(effects.clone()), want, "key {key}");
        }
    }
}

fn times(delivered: &[Uuid]) -> BTreeMap<Uuid, usize> {
    delivered.iter().fold(BTreeMap::new(), |mut times, id| {
        *times.entry(*id).or_default() += 1;
        times
    })
}
