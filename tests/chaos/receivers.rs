//! The receivers: each answers one handler, fails now and then by itself and thoroughly when a fault says so, and writes everything down.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use outboxd::handlers::Signer;
use outboxd::settings::Secret;

use crate::clock::Clock;
use crate::ledger::{EventNumber, Given, Receipt, hash, number_of};
use crate::plan::{PATIENCE, RECEIVERS, SECRET, STRICT, UNKNOWN_KEY, is_poison};
use crate::support::{Answer, Proxy, Received, Receiver};

/// How a receiver is disposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// 503 with `Retry-After`.
    AsksToWait,
    /// 500 to everything.
    Fails,
    /// 404 to everything, as a router whose route has gone.
    KnowsNothing,
    /// Takes the request and never answers.
    Hangs,
    /// Takes the event and says so when nobody waits any more.
    AnswersLate,
}

/// Everything that arrived at one receiver.
#[derive(Default)]
pub struct Arrivals {
    pub receipts: Vec<Receipt>,
    /// By number: whether it was accepted or refused for good.
    settled: Vec<bool>,
    pub settled_count: u64,
    pub badly_signed: u64,
}

impl Arrivals {
    fn enter(&mut self, receipt: Receipt) {
        if let Some(number) = receipt.event.filter(|_| receipt.given.is_final()) {
            let number = number as usize;
            if self.settled.len() <= number {
                self.settled.resize(number + 1 + number / 4, false);
            }
            self.settled_count += u64::from(!std::mem::replace(&mut self.settled[number], true));
        }
        self.receipts.push(receipt);
    }

    /// Whether this event was accepted or refused for good.
    pub fn is_settled(&self, event: EventNumber) -> bool {
        self.settled.get(event as usize).is_some_and(|settled| *settled)
    }
}

/// One receiver with the proxy before it.
pub struct Place {
    receiver: Receiver,
    pub proxy: Proxy,
    state: Arc<State>,
}

struct State {
    handler: usize,
    seed: u64,
    clock: Clock,
    signer: Signer,
    mood: Mutex<Mood>,
    /// Poison with a lower number is mended.
    mended_below: Mutex<u32>,
    rng: Mutex<Rng>,
    arrivals: Mutex<Arrivals>,
}

/// One for each handler that has one.
pub async fn start(seed: u64, clock: Clock) -> Vec<Place> {
    let mut places = Vec::new();
    for handler in 0..RECEIVERS {
        places.push(Place::start(handler, seed, clock).await);
    }
    places
}

impl Place {
    async fn start(handler: usize, seed: u64, clock: Clock) -> Self {
        let state = Arc::new(State {
            handler,
            seed,
            clock,
            signer: Signer::new(&[Secret::new(SECRET)]).expect("a valid secret"),
            mood: Mutex::new(Mood::Well),
            mended_below: Mutex::new(0),
            rng: Mutex::new(Rng::with_seed(seed ^ 0x7265_6300 ^ handler as u64)),
            arrivals: Mutex::default(),
        });
        let answering = Arc::clone(&state);
        let receiver = Receiver::answering(move |request| answering.answer(request)).await;
        let proxy = Proxy::to(receiver.address()).await;
        Self { receiver, proxy, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.proxy.address())
    }

    pub fn set_mood(&self, mood: Mood) {
        *lock(&self.state.mood) = mood;
    }

    /// From now on it takes what it refused for good so far.
    pub fn mend_below(&self, number: u32) {
        *lock(&self.state.mended_below) = number;
    }

    pub fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        lock(&self.state.arrivals)
    }

    /// The receiver's own log keeps every header; the receipts are all we need.
    pub fn forget(&self) {
        self.receiver.clear();
    }
}

impl State {
    fn answer(&self, request: &Received) -> Answer {
        let event = request.id.parse().ok().and_then(|id| number_of(self.seed, id));
        let is_poison =
            event.is_some_and(|number| is_poison(self.seed, number, self.handler) && number >= *lock(&self.mended_below));
        let (given, answer) = match *lock(&self.mood) {
            Mood::Well if self.handler == STRICT && is_of_unknown_key(request.body()) => {
                (Given::NotFound, Answer::status(404).body(&b"no such counter"[..]))
            }
            mood => self.draw_answer(mood, is_poison),
        };
        let receipt = Receipt {
            event,
            handler: self.handler as u8,
            relay: request.request.path.trim_start_matches('/').parse().unwrap_or(u8::MAX),
            attempt: request.header("webhook-attempt").and_then(|text| text.parse().ok()).unwrap_or(0),
            body: hash(request.body()),
            given,
            at: self.clock.now(),
            is_replay: request.header("webhook-replay").is_some(),
        };
        let is_signed = self.is_signed(request);
        let mut arrivals = lock(&self.arrivals);
        arrivals.badly_signed += u64::from(!is_signed);
        arrivals.enter(receipt);
        answer
    }

    fn draw_answer(&self, mood: Mood, is_poison: bool) -> (Given, Answer) {
        match mood {
            Mood::Well => {}
            Mood::AsksToWait => return (Given::Throttled, Answer::status(503).header("retry-after", "1")),
            Mood::Fails => return (Given::Refused, Answer::status(500)),
            Mood::KnowsNothing => return (Given::NotFound, Answer::status(404)),
            // Longer than anybody waits, and not for ever: a connection that is never closed is never given back.
            Mood::Hangs => return (Given::Dropped, Answer::Close.after(PATIENCE * 4)),
            Mood::AnswersLate => return (Given::AcceptedUnsaid, Answer::ok().after(PATIENCE + Duration::from_millis(500))),
        }
        let mut rng = lock(&self.rng);
        if is_poison {
            return (Given::Poison, Answer::status(422).body(any_bytes(&mut rng)));
        }
        match rng.u32(0..10_000) {
            0..=99 => (Given::Refused, Answer::status(500).body(any_bytes(&mut rng))),
            100..=129 => (Given::Throttled, Answer::status(503).header("retry-after", "0")),
            130..=144 => (Given::Dropped, Answer::Reset),
            145..=154 => (Given::Dropped, Answer::Close),
            155..=204 => (Given::Accepted, Answer::ok().after(Duration::from_millis(rng.u64(5..200)))),
            205..=206 => (Given::AcceptedUnsaid, Answer::ok().after(PATIENCE + Duration::from_millis(500))),
            207..=212 => (Given::AcceptedUnsaid, Answer::Raw(b"HTTP/1.1 200 Scripted\r\ncontent-length: 9\r\n\r\nhalf".to_vec())),
            _ => (Given::Accepted, Answer::ok()),
        }
    }

    fn is_signed(&self, request: &Received) -> bool {
        let timestamp = request.header("webhook-timestamp").and_then(|text| text.parse().ok());
        let signature = request.header("webhook-signature");
        timestamp
            .zip(signature)
            .is_some_and(|(timestamp, signature)| self.signer.verify(&request.id, timestamp, request.body(), signature))
    }
}

fn is_of_unknown_key(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains(&format!("\"key\":{UNKNOWN_KEY},"))
}

/// What an answer can say: nothing, text, text with a NUL, bytes that are no text in any encoding.
fn any_bytes(rng: &mut Rng) -> Vec<u8> {
    match rng.u32(0..4) {
        0 => Vec::new(),
        1 => b"no such order".to_vec(),
        2 => b"{\"error\":\"a\0b\\u0000\\ud800\"}".to_vec(),
        _ => (0..rng.usize(1..5_000)).map(|_| rng.u8(..)).collect(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no script panics")
}
