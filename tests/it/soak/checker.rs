//! Accounts for every event of a soak, and tells the history of those that went wrong.
//! Judges only what writers, receiver and database have written down; never asks the relay.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use sqlx::Row;
use uuid::Uuid;

use super::killer::{Act, Killer};
use super::writers::Ledger;
use super::{Arrivals, CONCURRENCY, Given, PARTITIONS, hash};
use crate::support::TestDatabase;

/// Violations of one kind that are told in full.
const TOLD: usize = 5;
/// An outcome that a disturbance took away was at most so old: flush interval, and a machine that is busy.
const UNRECORDED: Duration = Duration::from_secs(3);
/// An instance that has lost its lease or its sessions notices after at most so long.
const NOTICED: Duration = Duration::from_secs(1);

pub struct Checker<'a> {
    database: &'a TestDatabase,
    arrivals: &'a Arrivals,
    killer: &'a Killer,
    ledger: &'a Ledger,
    /// Hash of the payload of every event in the table.
    events: HashMap<Uuid, u64>,
    violations: Vec<(Option<Uuid>, String)>,
}

impl<'a> Checker<'a> {
    pub async fn new(database: &'a TestDatabase, ledger: &'a Ledger, arrivals: &'a Arrivals, killer: &'a Killer) -> Self {
        let rows: Vec<(Uuid, String)> = sqlx::query_as("select id, payload::text from events")
            .fetch_all(database.pool())
            .await
            .expect("the events can be read");
        let events = rows.into_iter().map(|(id, payload)| (id, hash(payload.as_bytes()))).collect();
        Self { database, arrivals, killer, ledger, events, violations: Vec::new() }
    }

    pub fn violation(&mut self, event: Option<Uuid>, what: String) {
        self.violations.push((event, what));
    }

    /// All checks; `took` is the length of the run.
    pub async fn check(&mut self, took: Duration) {
        self.check_log();
        self.check_loss_and_phantoms();
        self.check_order_at_receiver();
        self.check_duplicates(took);
        self.check_effects().await;
        self.check_deliveries().await;
        self.check_instances();
    }

    /// The log has what was committed and nothing else.
    fn check_log(&mut self) {
        let committed = self.ledger.committed.lock().expect("no writer panicked");
        for id in committed.iter().filter(|id| !self.events.contains_key(id)) {
            self.violations.push((Some(*id), "committed and not in the log".to_owned()));
        }
        if committed.len() != self.events.len() {
            self.violations.push((None, format!("{} events were committed, the log has {}", committed.len(), self.events.len())));
        }
    }

    fn check_loss_and_phantoms(&mut self) {
        let mut accepted = HashSet::new();
        for receipt in &self.arrivals.receipts {
            match self.events.get(&receipt.id) {
                None => self.violations.push((Some(receipt.id), "received and never committed".to_owned())),
                Some(body) if *body != receipt.body => {
                    self.violations.push((Some(receipt.id), "received with other bytes than committed".to_owned()));
                }
                Some(_) => {}
            }
            if receipt.given.is_accepted() {
                accepted.insert(receipt.id);
            }
        }
        for id in self.events.keys().filter(|id| !accepted.contains(id)) {
            self.violations.push((Some(*id), "lost: committed and never accepted by the receiver".to_owned()));
        }
        if self.arrivals.badly_signed > 0 {
            self.violations.push((None, format!("{} requests were not signed", self.arrivals.badly_signed)));
        }
    }

    /// Counters have no gaps, so nothing of a key may even be tried before everything older of it was accepted.
    fn check_order_at_receiver(&mut self) {
        let mut newest: HashMap<i64, i64> = HashMap::new();
        for receipt in &self.arrivals.receipts {
            let Some(key) = receipt.key else { continue };
            let newest = newest.entry(key).or_default();
            if receipt.version > *newest + 1 {
                let what = format!("out of order: key {key} version {} arrived when {newest} was accepted", receipt.version);
                self.violations.push((Some(receipt.id), what));
            }
            if receipt.given.is_accepted() {
                *newest = (*newest).max(receipt.version);
            }
        }
    }

    /// Twice only after a disturbance or an answer that came too late, and not more often than what can have been under way.
    fn check_duplicates(&mut self, took: Duration) {
        let mut accepted: HashMap<Uuid, (Instant, Given)> = HashMap::new();
        let (mut duplicates, mut late) = (0_usize, 0_usize);
        for receipt in self.arrivals.receipts.iter().filter(|receipt| receipt.given.is_accepted()) {
            let Some((first, given)) = accepted.insert(receipt.id, (receipt.at, receipt.given)) else { continue };
            duplicates += 1;
            if given == Given::AcceptedLate {
                late += 1;
            } else if !self.was_disturbed(first, receipt.at) {
                let what = format!("accepted again without a reason: after {:?}", receipt.at - first);
                self.violations.push((Some(receipt.id), what));
            }
        }
        let disturbances = self.killer.disturbances.len() - self.killer.count(Act::Stopped);
        // Per disturbance: what is in flight, and what a quarter of a second brings (flush interval, the flush itself, a busy machine).
        let rate = self.events.len() as f64 / took.as_secs_f64();
        let bound = disturbances * (CONCURRENCY * PARTITIONS + (rate / 4.0) as usize);
        let failures = self.arrivals.receipts.len() - accepted.len() - duplicates;
        eprintln!(
            "soak: {} requests, {failures} refused or broken, {duplicates} duplicates ({late} after late answers, bound {bound}), {rate:.0} events/s",
            self.arrivals.receipts.len(),
        );
        if duplicates - late > bound {
            self.violations.push((None, format!("{duplicates} duplicates, at most {bound} can be explained")));
        }
    }

    /// Whether a disturbance took away the outcome of an attempt: it began when the outcome cannot have been recorded yet. Of an
    /// instance that is frozen, whatever it begins before it notices counts, too.
    fn was_disturbed(&self, first: Instant, again: Instant) -> bool {
        self.killer.disturbances.iter().any(|disturbance| {
            let last = if disturbance.act == Act::Killed { disturbance.ended } else { disturbance.ended + NOTICED };
            disturbance.act != Act::Stopped
                && disturbance.began <= again
                && disturbance.began <= first + UNRECORDED
                && first <= last
        })
    }

    /// The function's effect: once each, and in order.
    async fn check_effects(&mut self) {
        self.collect(
            "effects of the function are not one: ",
            "select event, count(*)::text from soak.effects group by 1 having count(*) > 1",
        )
        .await;
        self.collect(
            "lost: no effect of the function ",
            "select id, '' from outbox.events e where not exists (select from soak.effects f where f.event = e.id)",
        )
        .await;
        self.collect(
            "phantom: an effect without event ",
            "select event, '' from soak.effects f where not exists (select from outbox.events e where f.event = e.id)",
        )
        .await;
        self.collect(
            "out of order: effect of the function after version ",
            "select event, before::text || ' came ' || version
               from (select event, version, lag(version) over (partition by key order by serial) as before
                       from soak.effects where key is not null) f
              where version <= before",
        )
        .await;
    }

    /// One row per event and handler, all of them delivered, and nothing left over.
    async fn check_deliveries(&mut self) {
        self.collect(
            "is not delivered: ",
            "select e.id, s.handler || ' ' || d.state from outbox.deliveries d
               join outbox.events e using (seq) join outbox.subscriptions s on s.id = d.subscription
              where d.state <> 'delivered'",
        )
        .await;
        self.collect(
            "has a number of rows that is wrong: ",
            "select e.id, h.handler || ' ' || count(d.seq) from outbox.events e
              cross join (select handler, array_agg(id) as ids from outbox.subscriptions group by 1) h
               left join outbox.deliveries d on d.seq = e.seq and d.subscription = any (h.ids)
              group by e.id, h.handler having count(d.seq) <> 1",
        )
        .await;
        let strays = self.database.count("deliveries d where not exists (select from events e where e.seq = d.seq)").await;
        if strays > 0 {
            self.violation(None, format!("{strays} deliveries of events that do not exist"));
        }
    }

    async fn collect(&mut self, what: &str, sql: &'static str) {
        let rows: Vec<(Uuid, String)> =
            sqlx::query_as(sql).fetch_all(self.database.pool()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        self.violations.extend(rows.into_iter().map(|(id, more)| (Some(id), format!("{what}{more}"))));
    }

    fn check_instances(&mut self) {
        self.violations.extend(self.killer.complaints.iter().map(|complaint| (None, complaint.clone())));
        for log in self.killer.all_logs() {
            let bugs = log.lines().filter(|line| line.contains("panicked") || line.contains("this is a bug"));
            self.violations.extend(bugs.map(|line| (None, format!("an instance says: {line}"))));
        }
    }

    /// Tells what is wrong; gives how much.
    pub async fn report(&self) -> usize {
        let mut told: HashMap<&str, usize> = HashMap::new();
        for (event, what) in &self.violations {
            let kind = what.split(':').next().unwrap_or(what);
            let told = told.entry(kind).or_default();
            *told += 1;
            if *told > TOLD {
                continue;
            }
            eprintln!("VIOLATION {}: {what}", event.map(|id| id.to_string()).unwrap_or_default());
            if let Some(id) = event {
                self.tell_history(*id).await;
            }
        }
        for (kind, count) in told {
            eprintln!("VIOLATIONS {count} x {kind}");
        }
        if !self.violations.is_empty() {
            self.keep_logs();
        }
        self.violations.len()
    }

    fn keep_logs(&self) {
        let directory = std::env::temp_dir().join(format!("outboxd-soak-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the temporary directory can be written to");
        for (life, log) in self.killer.all_logs().iter().enumerate() {
            std::fs::write(directory.join(format!("life-{life}.log")), log).expect("the temporary directory can be written to");
        }
        eprintln!("the logs of the instances are in {}", directory.display());
    }

    /// Everything that anybody knows of an event.
    async fn tell_history(&self, id: Uuid) {
        let start = self.arrivals.receipts.first().map_or_else(Instant::now, |receipt| receipt.at);
        let since = |at: Instant| at.saturating_duration_since(start);
        for sql in [
            "select 'event: ' || e::text from outbox.events e where id = $1",
            "select 'delivery: ' || d::text from outbox.deliveries d join outbox.events e using (seq) where e.id = $1",
            "select 'attempt: ' || a::text from outbox.attempts a join outbox.events e using (seq) where e.id = $1 order by a.at",
            "select 'effect: ' || f::text from soak.effects f where event = $1 order by serial",
            "select 'neighbour: ' || n.seq || ' ' || n.tx || ' ' || n.payload || ' ' || coalesce(d::text, '-')
               from outbox.events e join outbox.events n on n.aggregate_id = e.aggregate_id
               left join outbox.deliveries d on d.seq = n.seq
              where e.id = $1 and n.seq <> e.seq and abs((n.payload ->> 'version')::bigint - (e.payload ->> 'version')::bigint) <= 2
              order by n.seq",
        ] {
            let rows = sqlx::query(sql).bind(id).fetch_all(self.database.pool()).await.expect("the history can be read");
            rows.iter().for_each(|row| eprintln!("    {}", row.get::<String, _>(0)));
        }
        let own = self.arrivals.receipts.iter().find(|receipt| receipt.id == id);
        let near = |receipt: &&super::Receipt| {
            receipt.id == id
                || own.is_some_and(|own| own.key.is_some() && receipt.key == own.key && (receipt.version - own.version).abs() <= 2)
        };
        for receipt in self.arrivals.receipts.iter().filter(near) {
            eprintln!("    {:.3?} receipt {} version {} {:?}", since(receipt.at), receipt.id, receipt.version, receipt.given);
        }
        for disturbance in &self.killer.disturbances {
            eprintln!("    {:.3?} - {:.3?} {:?}", since(disturbance.began), since(disturbance.ended), disturbance.act);
        }
        let text = id.to_string();
        for (instance, log) in self.killer.all_logs().iter().enumerate() {
            log.lines().filter(|line| line.contains(&text)).for_each(|line| eprintln!("    life {instance}: {line}"));
        }
    }
}
