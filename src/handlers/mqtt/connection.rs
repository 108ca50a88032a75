//! One session with a broker: what it granted, which delivery may send now, and how the session ended. The task that moves its
//! packets belongs to it and ends with it.
//!
//! Never reconnects: the client library would connect again by itself and send again what was not acknowledged. So it gets a
//! single stream, and after the first error everything that was in flight is an ambiguous attempt, for the relay to judge.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rumqttc::{AsyncClient, ConnAck, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Packet, PublishResult};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::classify::{self, End};
use super::dial::Stream;
use super::message::Message;
use crate::domain::{Reason, Verdict};

/// The largest packet of MQTT.
pub const LARGEST: u32 = 268_435_460;
/// More than a handler ever has in flight.
const MOST_PLACES: u16 = 2048;
/// Packets that are written before the stream is flushed.
const BATCH: usize = 64;
/// How long leaving politely may take.
const GOODBYE: Duration = Duration::from_millis(200);

/// A session; its clones are the same one. Dropping the last of them ends it.
#[derive(Clone)]
pub struct Connection(Arc<Session>);

struct Session {
    client: AsyncClient,
    granted: Granted,
    state: Arc<State>,
    _leave: DropGuard,
}

/// The state that the session and its task share.
struct State {
    places: Arc<Semaphore>,
    /// Events that were sent and not answered.
    in_flight: AtomicUsize,
    ended: OnceLock<End>,
    /// Cancelled once it has ended.
    over: CancellationToken,
    leave: CancellationToken,
}

/// The limits that the broker granted when the session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Largest packet, in bytes.
    pub largest: u32,
    /// Events that may be unacknowledged at once.
    pub at_once: u16,
    pub takes_qos_2: bool,
    pub takes_qos_1: bool,
    pub takes_retained: bool,
}

/// There is no answer. `sent`: the broker may have the event.
#[derive(Debug, PartialEq, Eq)]
pub struct NoAnswer {
    pub sent: bool,
}

impl Connection {
    /// Begins a session on a stream. Dropping the future closes it.
    pub async fn open(stream: Stream, mut options: MqttOptions) -> Result<Self, ConnectionError> {
        options.set_socket_connector(only(stream)).set_max_request_batch(BATCH);
        // The crate makes room for as many at once, whether they come or not.
        options.set_outgoing_inflight_upper_limit(MOST_PLACES);
        let (client, mut events) = AsyncClient::builder(options).unbounded().build();
        let granted = loop {
            if let Event::Incoming(Packet::ConnAck(answer)) = events.poll().await? {
                break Granted::by(&answer);
            }
        };
        let (leave, over) = (CancellationToken::new(), CancellationToken::new());
        let places = Arc::new(Semaphore::new(granted.places() as usize));
        let state = Arc::new(State { places, in_flight: AtomicUsize::new(0), ended: OnceLock::new(), over, leave: leave.clone() });
        tokio::spawn(run(events, client.clone(), Arc::clone(&state)));
        Ok(Self(Arc::new(Session { client, granted, state, _leave: leave.drop_guard() })))
    }

    pub fn granted(&self) -> Granted {
        self.0.granted
    }

    pub fn is_open(&self) -> bool {
        self.0.state.ended.get().is_none()
    }

    /// How it ended.
    pub fn end(&self) -> End {
        let without_reason = || End::of(Verdict::retry(Reason::ConnectionReset, "the session ended"));
        self.0.state.ended.get().cloned().unwrap_or_else(without_reason)
    }

    /// Ends the session for all deliveries, for this reason: it is in doubt.
    pub fn give_up(&self, end: End) {
        self.0.state.end(end);
        self.0.state.leave.cancel();
    }

    /// Waits until one more event may be unacknowledged. `None`: the session has ended.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places().acquire_owned().await.ok()
    }

    /// Waits until no event is unacknowledged, and keeps it so. `None`: the session has ended.
    pub async fn every_place(&self) -> Option<OwnedSemaphorePermit> {
        self.places().acquire_many_owned(self.0.granted.places()).await.ok()
    }

    fn places(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.state.places)
    }

    /// Sends an event and waits for its acknowledgement; the caller bounds the time. Dropping the future takes nothing back.
    pub async fn exchange(&self, message: Message) -> Result<PublishResult, NoAnswer> {
        let in_flight = &self.0.state.in_flight;
        in_flight.fetch_add(1, Ordering::SeqCst);
        let sending = self.0.client.publish_tracked(message.topic, message.payload, message.options);
        let Ok(notice) = sending.await else {
            in_flight.fetch_sub(1, Ordering::SeqCst);
            return Err(NoAnswer { sent: false });
        };
        let answer = tokio::select! {
            biased; // an answer that came before the end is one
            answer = notice.wait_async() => answer.ok(),
            // Packets that the client library had not taken from its queue by then stay there without an answer.
            () = self.0.state.over.cancelled() => None,
        };
        let answer = answer.ok_or(NoAnswer { sent: true })?;
        in_flight.fetch_sub(1, Ordering::SeqCst);
        Ok(answer)
    }

    /// Whether one event was unanswered when the session ended. Too many may be counted, never too few.
    pub fn had_one_in_flight(&self) -> bool {
        self.0.state.in_flight.load(Ordering::SeqCst) == 1
    }
}

impl State {
    fn end(&self, end: End) {
        let _ = self.ended.set(end); // the first reason is what happened
        self.places.close();
        self.over.cancel();
    }
}

impl Granted {
    fn by(answer: &ConnAck) -> Self {
        let properties = answer.properties.as_ref();
        let most_qos = properties.and_then(|said| said.max_qos).unwrap_or(2);
        Self {
            largest: properties.and_then(|said| said.max_packet_size).unwrap_or(LARGEST).min(LARGEST),
            at_once: properties.and_then(|said| said.receive_max).unwrap_or(u16::MAX),
            takes_qos_1: most_qos >= 1,
            takes_qos_2: most_qos >= 2,
            takes_retained: properties.and_then(|said| said.retain_available) != Some(0),
        }
    }

    fn places(self) -> u32 {
        self.at_once.clamp(1, MOST_PLACES).into()
    }
}

/// Moves packets until the session ends or no delivery uses it. Deliveries that wait for an answer see the end of `events`.
async fn run(mut events: EventLoop, client: AsyncClient, state: Arc<State>) {
    loop {
        tokio::select! {
            moved = events.poll() => if let Err(error) = moved {
                return state.end(classify::ended(&error));
            },
            () = state.leave.cancelled() => break,
        }
    }
    // After a disconnect packet the broker does not report a client that vanished. A broker in doubt is not waited for.
    if state.ended.get().is_none() && client.try_disconnect_now().is_ok() {
        let _ = tokio::time::timeout(GOODBYE, events.poll()).await;
    }
}

/// Gives this stream, once.
fn only(stream: Stream) -> impl Fn(String, NetworkOptions) -> std::future::Ready<io::Result<Stream>> {
    let stream = Mutex::new(Some(stream));
    move |_, _| {
        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(stream.ok_or_else(|| io::Error::other("a session has one stream")))
    }
}
