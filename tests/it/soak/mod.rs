//! The soak: a randomised run of the built binary, two instances of it, that are killed, frozen and cut off while sixteen writers
//! commit in every way a transaction can go. Afterwards every event is accounted for: nothing lost, nothing made up, order per key
//! kept, nothing twice without a reason. `OUTBOXD_SOAK_EVENTS` says how many events, `OUTBOXD_SOAK_SEED` repeats a run as far as
//! the scheduler allows.

mod checker;
mod killer;
mod writers;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use outboxd::handlers::Signer;
use outboxd::settings::Secret;
use serde_json::Value;
use uuid::Uuid;

use crate::support::{Answer, Binary, Received, Receiver, TestDatabase};
use checker::Checker;
use killer::{Act, Killer};

const SHORT_RUN: usize = 20_000;
const SECRET: &str = "whsec_c29hayBzb2FrIHNvYWsgc29hayBzb2FrIHNvYWs=";
const CONCURRENCY: usize = 16;
const PARTITIONS: usize = 2;
/// Longer than any retry, lease or pause of the receiver: without progress for so long something is stuck.
const STALLED_AFTER: Duration = Duration::from_secs(45);

/// One request at the receiver.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub id: Uuid,
    pub key: Option<i64>,
    pub version: i64,
    /// Hash of the body, for the comparison of bytes.
    pub body: u64,
    pub given: Given,
    pub at: Instant,
}

/// What the receiver answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    Accepted,
    /// Accepted, but said so after the relay's patience.
    AcceptedLate,
    Refused,
    Throttled,
    Reset,
}

impl Given {
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted | Self::AcceptedLate)
    }
}

/// Everything that arrived, in order.
#[derive(Default)]
pub struct Arrivals {
    pub receipts: Vec<Receipt>,
    accepted: HashSet<Uuid>,
    pub badly_signed: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_loses_nothing_makes_nothing_up_and_keeps_the_order() {
    let seed = number("OUTBOXD_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let events = number("OUTBOXD_SOAK_EVENTS").map_or(SHORT_RUN, |events| usize::try_from(events).expect("a number of events"));
    eprintln!("soak: OUTBOXD_SOAK_SEED={seed} OUTBOXD_SOAK_EVENTS={events}");
    let database = TestDatabase::create().await;
    database.execute(writers::TABLES).await;
    let arrivals = Arc::new(Mutex::new(Arrivals::default()));
    let receiver = receiver(seed, Arc::clone(&arrivals)).await;
    let binary = Binary::with_config(&configuration(&database, &receiver));
    let killer = Killer::start(binary, database.pool().clone(), seed, 2);
    let began = Instant::now();

    let stop = Arc::new(AtomicBool::new(false));
    let disturbing = tokio::spawn(killer.disturb(Arc::clone(&stop)));
    let forgetting = tokio::spawn(forget(receiver));
    let ledger = writers::write(&database, seed, events).await;
    let written_in = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let mut killer = disturbing.await.expect("the killer goes on to its end");
    let stalled = quiesce(&database, &arrivals).await;
    let drained_in = began.elapsed();
    let open = open_transactions(&database).await;
    if !stalled {
        killer.stop_all().await;
    }
    forgetting.abort();

    eprintln!(
        "soak: {} events in {} transactions written in {written_in:.1?}, delivered after {drained_in:.1?}; {} long, {} prepared, \
         {} not prepared because the bell rang; {} undone events",
        ledger.count.load(Ordering::Relaxed),
        ledger.transactions.load(Ordering::Relaxed),
        ledger.long.load(Ordering::Relaxed),
        ledger.prepared.load(Ordering::Relaxed),
        ledger.not_prepared.load(Ordering::Relaxed),
        ledger.undone.lock().expect("no writer panicked").len(),
    );
    eprintln!(
        "soak: {} killed, {} frozen, {} cut off, {} stopped",
        killer.count(Act::Killed),
        killer.count(Act::Frozen),
        killer.count(Act::CutOff),
        killer.count(Act::Stopped)
    );
    let arrivals = std::mem::take(&mut *arrivals.lock().expect("no script panicked"));
    let mut checker = Checker::new(&database, &ledger, &arrivals, &killer).await;
    if stalled {
        checker.violation(None, format!("nothing moved for {STALLED_AFTER:?} although something is not finished"));
    }
    if open > 0 {
        checker.violation(None, format!("{open} sessions of the relay are idle in a transaction at the end"));
    }
    checker.check(drained_in).await;
    let violations = checker.report().await;
    assert_eq!(violations, 0, "the soak with OUTBOXD_SOAK_SEED={seed} OUTBOXD_SOAK_EVENTS={events} found violations, see above");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.replace('_', "").parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

fn configuration(database: &TestDatabase, receiver: &Receiver) -> String {
    let common = r#"
timeout = "2s"
retry = { base = "50ms", factor = 2.0, max_delay = "1s", max_attempts = 1000 }
circuit = { first_probe = "200ms", max_probe = "1s" }
"#;
    format!(
        r#"
database.url = "{}"
http.listen = ""
relay = {{ lease = "3s", flush_interval = "50ms", drain_timeout = "10s" }}

[[handlers]]
name = "hook"
kind = "webhook"
url = "{}"
secrets = ["{SECRET}"]
partitions = {PARTITIONS}
concurrency = {CONCURRENCY}
{common}
[[handlers]]
name = "project"
kind = "sql"
function = "soak.apply"
{common}"#,
        database.url(),
        receiver.url()
    )
}

/// A receiver that fails in every way, and writes down what arrives.
async fn receiver(seed: u64, arrivals: Arc<Mutex<Arrivals>>) -> Receiver {
    let signer = Signer::new(&[Secret::new(SECRET)]).expect("a valid secret");
    let rng = Mutex::new(Rng::with_seed(seed ^ 0x0072_6563));
    Receiver::answering(move |request| {
        let (given, answer) = draw_answer(&mut rng.lock().expect("no script panics"));
        let is_signed = is_signed(&signer, request);
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let id = request.id.parse().unwrap_or_default();
        let version = body["version"].as_i64().unwrap_or_default();
        let mut arrivals = arrivals.lock().expect("no script panics");
        arrivals.badly_signed += usize::from(!is_signed);
        if given.is_accepted() {
            arrivals.accepted.insert(id);
        }
        let receipt = Receipt { id, key: body["key"].as_i64(), version, body: hash(request.body()), given, at: Instant::now() };
        arrivals.receipts.push(receipt);
        answer
    })
    .await
}

fn draw_answer(rng: &mut Rng) -> (Given, Answer) {
    match rng.u32(0..10_000) {
        0..=299 => (Given::Refused, Answer::status(500)),
        300..=396 => (Given::Throttled, Answer::status(503).header("retry-after", "0")),
        // Each holds the whole partition for a second: rare, or the run consists of pauses.
        397..=399 => (Given::Throttled, Answer::status(503).header("retry-after", "1")),
        400..=414 => (Given::Reset, Answer::Reset),
        415..=424 => (Given::Reset, Answer::Close),
        425..=474 => (Given::Accepted, Answer::ok().after(Duration::from_millis(rng.u64(5..200)))),
        475..=476 => (Given::AcceptedLate, Answer::ok().after(Duration::from_millis(2_500))),
        _ => (Given::Accepted, Answer::ok()),
    }
}

fn is_signed(signer: &Signer, request: &Received) -> bool {
    let timestamp = request.header("webhook-timestamp").and_then(|text| text.parse().ok());
    let signature = request.header("webhook-signature");
    timestamp.zip(signature).is_some_and(|(timestamp, signature)| signer.verify(&request.id, timestamp, request.body(), signature))
}

pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The receiver's own log holds every header of a million requests; the receipts are all we need.
async fn forget(receiver: Receiver) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        receiver.clear();
    }
}

/// Waits until everything is delivered. `true`: something is stuck.
async fn quiesce(database: &TestDatabase, arrivals: &Mutex<Arrivals>) -> bool {
    let expected = database.count("events").await;
    let (mut before, mut moved) = ((0, 0, 0), Instant::now());
    loop {
        let delivered = database.count("deliveries where state = 'delivered'").await;
        let unfinished = database.count("deliveries where state in ('retrying', 'waiting')").await;
        let accepted = arrivals.lock().expect("no script panics").accepted.len() as i64;
        if unfinished == 0 && delivered >= 2 * expected && accepted >= expected {
            return false;
        }
        let now = (delivered, unfinished, accepted);
        if now != before {
            (before, moved) = (now, Instant::now());
        } else if moved.elapsed() > STALLED_AFTER {
            eprintln!("soak: stuck with {delivered} delivered, {unfinished} unfinished, {accepted} accepted of {expected} events");
            return true;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Sessions of the relay that are idle in a transaction and stay so.
async fn open_transactions(database: &TestDatabase) -> i64 {
    let mut least = i64::MAX;
    for _ in 0..5 {
        let idle = "pg_stat_activity where datname = current_database() and application_name like 'outboxd%' \
                    and application_name <> 'outboxd test' and state like 'idle in transaction%'";
        least = least.min(database.count(idle).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    least
}
