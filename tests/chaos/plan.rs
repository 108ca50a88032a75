//! What a run is: its seed, its length, the handlers and their settings. Everything random follows from the seed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Relays, each in a place of its own.
pub const RELAYS: usize = 3;
pub const WRITERS: u16 = 12;
pub const CONCURRENCY: usize = 16;
/// Events that one attempt of a handler's answer may take; longer is too late.
pub const PATIENCE: Duration = Duration::from_secs(2);
pub const LEASE: Duration = Duration::from_secs(3);
pub const SECRET: &str = "whsec_Y2hhb3NjaGFvc2NoYW9zY2hhb3NjaGFvc2NoYW9z";

/// Of the clients of the feed.
pub const TOKEN: &str = "token-of-the-clients-of-the-run";

/// Types of events; what is filtered wants only the second.
pub const MOVED: &str = "counter.moved";
pub const AUDITED: &str = "counter.audited";

/// What the run knows of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandlerPlan {
    pub name: &'static str,
    /// Only events of the type `AUDITED`.
    pub is_filtered: bool,
    pub keeps_order: bool,
    /// A row per delivery; otherwise only of what did not succeed at once.
    pub records_all: bool,
    /// A function in the database instead of a receiver.
    pub is_function: bool,
    pub partitions: usize,
    /// Attempts before an event is given up.
    pub max_attempts: u32,
}

/// More than any outage can spend.
const PATIENT: u32 = 1_000;

const WEBHOOK: HandlerPlan = HandlerPlan {
    name: "",
    is_filtered: false,
    keeps_order: true,
    records_all: true,
    is_function: false,
    partitions: 1,
    max_attempts: PATIENT,
};

pub const HANDLERS: [HandlerPlan; 5] = [
    HandlerPlan { name: "ordered", partitions: 2, ..WEBHOOK },
    HandlerPlan { name: "loose", partitions: 2, keeps_order: false, records_all: false, ..WEBHOOK },
    HandlerPlan { name: "filtered", is_filtered: true, records_all: false, ..WEBHOOK },
    // Its delays add up to more than the longest outage: only what it never takes uses them up.
    HandlerPlan { name: "strict", records_all: false, max_attempts: 10, ..WEBHOOK },
    HandlerPlan { name: "project", is_function: true, ..WEBHOOK },
];
pub const RECEIVERS: usize = 4;
pub const STRICT: usize = 3;
pub const FUNCTION: usize = 4;

/// The counter that one receiver does not know: it answers 404 to every event of it, for good.
pub const UNKNOWN_KEY: u16 = 400;

impl HandlerPlan {
    /// Whether it wants an event of this key; the type follows from the key, so that versions of a key have no gaps for anybody.
    pub fn wants(self, key: u16) -> bool {
        !self.is_filtered || is_audited(key)
    }
}

pub fn is_audited(key: u16) -> bool {
    key != 0 && key.is_multiple_of(4)
}

pub fn event_type(key: u16) -> &'static str {
    if is_audited(key) { AUDITED } else { MOVED }
}

/// How long a run goes on: until all of what is given is reached, and every kind of fault has happened once.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub minutes: f64,
    pub events: u64,
    /// Events that the slowest handler may be behind before the writers wait.
    pub backlog: u64,
    /// Handlers beside those that are watched one by one: they make the tail and the recorder serve many.
    pub crowd: usize,
    /// It is more than the short form.
    pub is_long: bool,
}

/// Events of the short form: as many as come by while every fault happens once.
const SHORT: u64 = 6_000;
/// Handlers of the crowd, unless it is said how many.
const CROWD: usize = 6;

impl Plan {
    pub fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let parse = |name: &str| {
            let text = number(name)?.replace('_', "");
            Some(text.parse::<f64>().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
        };
        let (minutes, events) = (parse("OUTBOXD_CHAOS_MINUTES"), parse("OUTBOXD_CHAOS_EVENTS"));
        let is_long = minutes.is_some() || events.is_some();
        Self {
            seed: parse("OUTBOXD_CHAOS_SEED").map_or_else(|| fastrand::u64(..1 << 32), |seed| seed as u64),
            minutes: minutes.unwrap_or(0.0),
            events: events.map_or(if is_long { 0 } else { SHORT }, |events| events as u64),
            // The long form goes on while a handler counts its attempts one by one, death after death: it catches up at the end.
            crowd: parse("OUTBOXD_CHAOS_CROWD").map_or(CROWD, |crowd| crowd as usize),
            backlog: parse("OUTBOXD_CHAOS_BACKLOG").map_or(if is_long { 1_000_000 } else { 2_000 }, |events| events as u64),
            is_long,
        }
    }

    /// How to repeat it, as far as the scheduler allows.
    pub fn command(&self) -> String {
        let Self { seed, minutes, events, crowd, .. } = self;
        if self.is_long {
            format!("make chaos SEED={seed} MINUTES={minutes} EVENTS={events} BACKLOG={} CROWD={crowd}", self.backlog)
        } else {
            format!("OUTBOXD_CHAOS_SEED={seed} OUTBOXD_CHAOS_CROWD={crowd} cargo test --test chaos")
        }
    }
}

/// Whether a receiver answers 404 to every event of this key. No person mends it.
pub fn is_unknown(key: u16, handler: usize) -> bool {
    key == UNKNOWN_KEY && handler == STRICT
}

/// Whether a handler refuses an event for good, until a person has mended it; what is no `jsonb` no person can mend for the function.
pub fn is_poison(seed: u64, event: u32, handler: usize) -> bool {
    fingerprint(&(seed, event, handler, "poison")).is_multiple_of(1_009)
        || (handler == FUNCTION && oddity(seed, event).is_some_and(|oddity| !oddity.is_jsonb))
}

/// A member of a payload that `json` takes as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oddity {
    pub member: &'static str,
    /// Postgres can turn it into `jsonb`, so that the function can be called with it.
    pub is_jsonb: bool,
}

const ODDITIES: [Oddity; 6] = [
    Oddity { member: r#""note":"x\u0000""#, is_jsonb: false },
    Oddity { member: r#""note":"\ud800""#, is_jsonb: false },
    Oddity { member: r#""note":"\udc00\ud800""#, is_jsonb: false },
    Oddity { member: r#""note":1e200000"#, is_jsonb: false },
    Oddity { member: r#""note":123456789012345678901234567890.5e300"#, is_jsonb: true },
    Oddity { member: r#""note":"\\u0000 \ud83d\ude00","note":[[[[[]]]]]"#, is_jsonb: true },
];

/// What is odd about the payload of an event; few have anything.
pub fn oddity(seed: u64, event: u32) -> Option<Oddity> {
    let drawn = fingerprint(&(seed, event, "oddity"));
    drawn.is_multiple_of(307).then(|| ODDITIES[(drawn / 307) as usize % ODDITIES.len()])
}

/// A key longer than any index takes, and different for each event; few events have one, and only such as belong to no counter.
pub fn long_key(seed: u64, event: u32) -> Option<String> {
    let drawn = fingerprint(&(seed, event, "key"));
    let length = [2_600, 2_720, 8_000, 60_000][(drawn / 4) as usize % 4];
    let mut rng = fastrand::Rng::with_seed(drawn);
    drawn.is_multiple_of(4).then(|| (0..length).map(|_| rng.alphanumeric()).collect())
}

/// A hash that is the same in every run.
pub fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The configuration of the relay in one place; its own way to the database and its own path at the receivers tell who it is.
pub fn configuration(place: usize, database_url: &str, feed: &str, receivers: &[String], crowd: usize) -> String {
    let common = format!(
        "timeout = \"{}s\"\ncircuit = {{ first_probe = \"200ms\", max_probe = \"1s\" }}\nconcurrency = {CONCURRENCY}\n",
        PATIENCE.as_secs()
    );
    let mut text = format!(
        "http.listen = \"\"\n[database]\nurl = \"{database_url}\"\nstatement_timeout = \"3s\"\nlock_timeout = \"1s\"\n\
         connect_timeout = \"2s\"\n[relay]\nlease = \"{}s\"\nflush_interval = \"50ms\"\ndrain_timeout = \"10s\"\n[feed]\nevents = [\"*\"]\nlisten = \"{feed}\"\n\
         heartbeat = \"1s\"\n[[clients]]\nname = \"all\"\ntokens = [\"{TOKEN}\"]\n\n",
        LEASE.as_secs()
    );
    for (number, handler) in HANDLERS.iter().enumerate() {
        text += &format!("[[handlers]]\nname = \"{}\"\npartitions = {}\n{common}", handler.name, handler.partitions);
        let max_attempts = handler.max_attempts;
        text += &format!("retry = {{ base = \"50ms\", factor = 2.0, max_delay = \"1s\", max_attempts = {max_attempts} }}\n");
        text += &match receivers.get(number) {
            Some(url) => {
                format!("kind = \"webhook\"\nurl = \"{url}/{place}\"\nsecrets = [\"{SECRET}\"]\nrequest_timeout = \"2s\"\n")
            }
            None => "kind = \"sql\"\nfunction = \"chaos.apply\"\nstatement_timeout = \"2s\"\nlock_timeout = \"500ms\"\n".to_owned(),
        };
        text += if handler.is_filtered { "events = [\"counter.audited\"]\n" } else { "" };
        text += if handler.keeps_order { "" } else { "ordering = \"none\"\n" };
        text += if handler.records_all { "record = \"all\"\n\n" } else { "record = \"failures\"\n\n" };
    }
    // Each with a row for every event that it wants, so that one that was passed over shows.
    for number in 0..crowd {
        let wants = if number % 3 == 1 { "events = [\"counter.audited\"]\n" } else { "" };
        text += &format!("[[handlers]]\nname = \"crowd-{number}\"\nkind = \"discard\"\nrecord = \"all\"\n{common}{wants}\n");
    }
    text
}
