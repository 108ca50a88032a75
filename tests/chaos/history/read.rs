//! Reads the history of a run that has come to rest: from the ledgers, from the database, from the relays' logs.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{DeadLetter, History, Move, Restart, Table, Why};
use crate::clients::Reading;
use crate::clock::Clock;
use crate::database::Database;
use crate::faults::{Fault, Leaves, Target, World};
use crate::ledger::{Event, EventNumber, Given, Receipt, number_of};
use crate::monitor::Sightings;
use crate::plan::{FUNCTION, HANDLERS, STRICT, is_unknown};
use crate::relays::time_of;

/// Events that a handler of the crowd wants and has no row of.
pub const PASSED_OVER: &str = "select e.id, s.handler from outbox.subscriptions s
   join outbox.events e on s.type_patterns is null or e.type like any (s.type_patterns)
  where s.handler like 'crowd-%'
    and not exists (select from outbox.deliveries d where d.subscription = s.id and d.seq = e.seq and d.state = 'delivered')";

/// What a relay says when it has lost what it had in memory, or may have.
const LOSSES: [&str; 4] = ["starting over from what is stored", "lease lost", "could not renew the leases", "is refused"];

pub async fn read(world: &World, events: Vec<Event>, readings: Vec<Reading>, sightings: Sightings, is_stuck: bool) -> History {
    let (seed, clock, database) = (world.seed, world.clock, &*world.database);
    let mut complaints = sightings.complaints;
    let mut receipts: Vec<Vec<Receipt>> = Vec::new();
    for receiver in &world.receivers {
        let mut arrivals = receiver.arrivals();
        receipts.push(std::mem::take(&mut arrivals.receipts));
        if arrivals.badly_signed > 0 {
            complaints.push(format!("{} requests were not signed", arrivals.badly_signed));
        }
    }
    let mut odd_rows = odd_rows(database, seed).await;
    receipts.push(effects(database, seed, clock, &events, &mut odd_rows).await);
    let mut restarts = Vec::new();
    for relay in &world.relays {
        complaints.extend(relay.complaints());
        for line in relay.logs().await.iter().flat_map(|log| log.lines()) {
            if line.contains("panicked") || line.contains("this is a bug") {
                complaints.push(format!("relay {} says: {line}", relay.number));
            }
            if LOSSES.iter().any(|loss| line.contains(loss)) {
                restarts.extend(time_of(line, clock).map(|at| Restart { relay: relay.number as u8, at }));
            }
        }
    }
    let mut faults = world.faults();
    faults.extend(unknown(&events, &receipts[STRICT]));
    History {
        seed,
        stored: stored(database, seed, events.len(), &mut odd_rows).await,
        dead: dead(database, seed).await,
        moves: moves(database, clock).await,
        tables: tables(database).await,
        events,
        receipts,
        readings,
        faults,
        restarts,
        idle: sightings.idle,
        samples: sightings.samples,
        odd_rows,
        complaints,
        is_stuck,
    }
}

/// The first 404 to each event of the key that a receiver does not know: a fault as any other, after which all handlers go on.
fn unknown(events: &[Event], receipts: &[Receipt]) -> Vec<Fault> {
    let mut seen = HashSet::new();
    let is_of_unknown = |number: EventNumber| events.get(number as usize).is_some_and(|event| is_unknown(event.key, STRICT));
    let first = receipts.iter().filter(|receipt| {
        receipt.given == Given::NotFound && receipt.event.is_some_and(|number| is_of_unknown(number) && seen.insert(number))
    });
    first
        .map(|receipt| Fault {
            name: "receiver: one key answers 404 for good".to_owned(),
            target: Target::Receiver(receipt.handler),
            leaves: Leaves::NoDoubt,
            began: receipt.at,
            ended: receipt.at,
        })
        .collect()
}

async fn stored(database: &Database, seed: u64, count: usize, odd: &mut Vec<(Option<EventNumber>, String)>) -> Vec<bool> {
    let rows: Vec<(Uuid,)> = database.rows("select id from outbox.events").await;
    let mut stored = vec![false; count];
    for (id,) in rows {
        match number_of(seed, id).filter(|number| (*number as usize) < count) {
            Some(number) => stored[number as usize] = true,
            None => odd.push((None, format!("the log has an event {id} that nobody has written"))),
        }
    }
    stored
}

/// Effects of the function, as if it were a receiver that accepts.
async fn effects(
    database: &Database,
    seed: u64,
    clock: Clock,
    events: &[Event],
    odd: &mut Vec<(Option<EventNumber>, String)>,
) -> Vec<Receipt> {
    let sql =
        "select event, relay, coalesce(payload, ''), (extract(epoch from at) * 1000000)::bigint from chaos.effects order by serial";
    let rows: Vec<(Uuid, String, String, i64)> = database.rows(sql).await;
    let mut receipts = Vec::with_capacity(rows.len());
    for (id, relay, payload, at) in rows {
        let event = number_of(seed, id);
        if event.is_none_or(|number| number.to_string() != payload) {
            odd.push((event, format!("an effect of {id} was made with the payload of {payload}")));
        }
        receipts.push(Receipt {
            event,
            handler: FUNCTION as u8,
            relay: relay.trim_start_matches("relay_").parse().unwrap_or(u8::MAX),
            attempt: 0,
            body: event.and_then(|number| events.get(number as usize)).map_or(0, |event| event.body),
            given: Given::Accepted,
            at: clock.at_micros(at),
            is_replay: false,
        });
    }
    receipts
}

/// Event, handler, attempts, reason, the attempt that decided it, whether that one was answered 404.
type Buried = (Uuid, String, i32, Option<String>, Option<i32>, bool);

async fn dead(database: &Database, seed: u64) -> Vec<DeadLetter> {
    // A replay counts its attempts anew, so that the newest is not always the one with the highest number.
    let sql = "select e.id, s.handler, d.attempts, case when d.detail is not null and d.error is not null then d.reason end,
                      case when a.outcome = 'permanent' or d.reason in ('not_found', 'exhausted') then a.attempt end,
                      coalesce(a.reason = 'not_found', false)
                 from outbox.deliveries d join outbox.events e using (seq) join outbox.subscriptions s on s.id = d.subscription
                 left join lateral (select * from outbox.attempts a where a.subscription = d.subscription and a.seq = d.seq
                                     order by a.at desc, a.attempt desc limit 1) a on true
                where d.state = 'dead'";
    let rows: Vec<Buried> = database.rows(sql).await;
    let handlers: HashMap<&str, u8> = HANDLERS.iter().zip(0..).map(|(handler, number)| (handler.name, number)).collect();
    let dead = rows.into_iter().filter_map(|(id, handler, attempts, reason, last_final, was_unknown)| {
        let (event, handler) = (number_of(seed, id)?, *handlers.get(handler.as_str())?);
        let reason = match reason.as_deref() {
            None => Why::Untold,
            Some("not_found") => Why::NotFound,
            Some("exhausted") => Why::Exhausted,
            Some(_) => Why::Other,
        };
        Some(DeadLetter { event, handler, attempts, last_final, reason, was_unknown })
    });
    dead.collect()
}

/// Rows that are unfinished, missing, or of nobody. Where only failures are recorded, none may be unfinished.
async fn odd_rows(database: &Database, seed: u64) -> Vec<(Option<EventNumber>, String)> {
    let mut odd = Vec::new();
    for (what, sql) in [
        (
            "is not finished: ",
            "select e.id, s.handler || ' ' || d.state from outbox.deliveries d join outbox.events e using (seq)
               join outbox.subscriptions s on s.id = d.subscription where d.state in ('retrying', 'waiting') limit 1000",
        ),
        (
            "has a number of rows that is wrong: ",
            "select e.id, h.handler || ' ' || count(d.seq) from outbox.events e
              cross join (select handler, array_agg(id) as ids from outbox.subscriptions
                           where handler in ('ordered', 'project') group by 1) h
               left join outbox.deliveries d on d.seq = e.seq and d.subscription = any (h.ids)
              group by e.id, h.handler having count(d.seq) <> 1 limit 1000",
        ),
        ("was passed over by ", PASSED_OVER),
        (
            "a delivery of an event that is not in the log: ",
            "select '00000000-0000-0000-0000-000000000000'::uuid, d.seq::text from outbox.deliveries d
              where not exists (select from outbox.events e where e.seq = d.seq) limit 1000",
        ),
        (
            "an attempt of an event that is not in the log: ",
            "select '00000000-0000-0000-0000-000000000000'::uuid, a.seq::text from outbox.attempts a
              where not exists (select from outbox.events e where e.seq = a.seq) limit 1000",
        ),
    ] {
        let rows: Vec<(Uuid, String)> = database.rows(sql).await;
        odd.extend(rows.into_iter().map(|(id, more)| (number_of(seed, id), format!("{what}{more}"))));
    }
    odd
}

/// In the order of the fields of a move.
type Witnessed =
    (i64, String, i32, i64, i64, Option<String>, Option<String>, Option<i64>, i64, i64, bool, bool, Option<i64>, Option<i64>);

async fn moves(database: &Database, clock: Clock) -> Vec<Move> {
    let sql = "select (extract(epoch from at) * 1000000)::bigint, role, subscription, epoch_before, epoch, owner_before, owner,
                      (extract(epoch from lease_before) * 1000000)::bigint, read_before, read_to, is_position, same_window,
                      window_before, window_seq
                 from chaos.moves order by serial";
    let rows: Vec<Witnessed> = database.rows(sql).await;
    rows.into_iter()
        .map(|row| Move {
            at: clock.at_micros(row.0),
            role: row.1,
            subscription: row.2,
            epoch_before: row.3,
            epoch: row.4,
            owner_before: row.5,
            owner: row.6,
            lease_before: row.7.map_or(0, |at| clock.at_micros(at)),
            read_before: row.8,
            read_to: row.9,
            is_position: row.10,
            same_window: row.11,
            window_before: row.12,
            window: row.13,
        })
        .collect()
}

/// After a vacuum: what is still dead then is held by somebody. Without `index_cleanup` it leaves dead pointers where few pages have any, and they
/// would be counted.
async fn tables(database: &Database) -> Vec<Table> {
    database.execute("vacuum (analyze, index_cleanup on)").await;
    let sql = "select relname::text, n_dead_tup, pg_total_relation_size(relid),
                      relname in ('subscriptions', 'instances', 'alerts', 'alert_lease', 'alert_notices', 'alert_channels', 'incarnation', 'replays')
                 from pg_stat_user_tables where schemaname = 'outbox'";
    let rows: Vec<(String, i64, i64, bool)> = database.rows(sql).await;
    rows.into_iter().map(|(name, dead_rows, bytes, is_small)| Table { name, dead_rows, bytes, is_small }).collect()
}
