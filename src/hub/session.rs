//! One connection of the hub, from its handshake to its last record. However it ends, the client is told whether it may come
//! back, and loses nothing if it comes back with its cursor.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};

use super::Hub;
use super::acknowledging::acknowledge;
use super::admission::Admitted;
use super::calls::{Method, Wanted, mistake};
use super::following::{Beginning, Following, head};
use super::line::{Heard, Line, Presence, Transport};
use super::numbers::Numbers;
use super::protocol::{self, Handshake, Message, Records, Unreadable};
use crate::feed::access::Client;
use crate::feed::problem::Problem;
use crate::feed::query::Bounds;
use crate::telemetry::{HubEnd, HubMetrics};

/// From the beginning until the handshake, and no longer than a client may be silent.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// A client of stateful reconnect may come back for so long, and no longer than it may be silent.
const RETURN: Duration = Duration::from_secs(15);
/// When the relay stops, its clients are notified one after the other.
const SPREAD: Duration = Duration::from_millis(1_000);
/// For the last record to reach the client.
const LAST_WORDS: Duration = Duration::from_millis(800);

/// Bytes of answers that are made for a client that takes nothing.
const MOST_OWED: usize = 64 * 1024;

pub struct Session {
    hub: Arc<Hub>,
    client: Arc<Client>,
    /// Of what the client may see, this connection sees no more.
    bounds: Bounds,
    line: Arc<Line>,
    heard: mpsc::Receiver<Heard>,
    records: Records,
    numbers: Numbers,
    following: Option<Following>,
    is_open: bool,
    began: Instant,
    /// When this client is notified that the relay stops.
    stop_at: Option<Instant>,
    /// How much the client had taken at the last look, and since when that has not changed.
    progress: (u64, Instant),
    /// Bytes of answers that were made although there was no room.
    owed: usize,
}

/// Why a connection ends, and the last record of it.
struct Ending {
    reason: HubEnd,
    last: Option<Bytes>,
}

impl Ending {
    fn new(reason: HubEnd, error: &str, may_reconnect: bool) -> Self {
        Self { reason, last: Some(protocol::close(Some(error), may_reconnect)) }
    }

    fn left() -> Self {
        Self { reason: HubEnd::Left, last: None }
    }
}

impl From<Unreadable> for Ending {
    fn from(error: Unreadable) -> Self {
        Self::new(HubEnd::Invalid, &format!("The connection ended: {error}."), false)
    }
}

/// Starts the session of a connection.
pub fn start(hub: &Arc<Hub>, admitted: Admitted, line: Arc<Line>, heard: mpsc::Receiver<Heard>) {
    let now = Instant::now();
    let session = Session {
        hub: Arc::clone(hub),
        client: admitted.client,
        bounds: admitted.bounds,
        line,
        heard,
        records: Records::default(),
        numbers: Numbers::default(),
        following: None,
        is_open: false,
        began: now,
        stop_at: None,
        progress: (0, now),
        owed: 0,
    };
    let lasting = &hub.feed.lasting;
    lasting.tasks.spawn(lasting.cut.clone().run_until_cancelled_owned(session.run()));
}

impl Session {
    async fn run(mut self) {
        let metrics = HubMetrics::new(self.client.name());
        let ending = match self.serve().await {
            Err(ending) => ending,
            Ok(never) => match never {},
        };
        self.following = None;
        metrics.closed(ending.reason);
        let (client, connection, reason) = (self.client.name(), self.line.id, ending.reason.as_str());
        match ending.reason {
            HubEnd::Slow | HubEnd::Invalid | HubEnd::Diverged => {
                info!(client, %connection, reason, "closed a connection of the hub")
            }
            _ => debug!(client, %connection, reason, "a connection of the hub ended"),
        }
        self.line.close(ending.last);
        let line = Arc::clone(&self.line);
        timeout(LAST_WORDS, async {
            while !line.is_done() {
                tokio::select! {
                    () = line.changed() => {}
                    // Of what the client still sends nothing is wanted, but its transport must not wait for us.
                    _ = self.heard.recv() => {}
                }
            }
        })
        .await
        .ok();
        self.hub.lines.remove(self.line.id);
        self.line.cut();
    }

    async fn serve(&mut self) -> Result<Infallible, Ending> {
        loop {
            let has_room = self.line.has_room();
            self.check(Instant::now(), has_room)?;
            // Also without room: what the client acknowledges makes some.
            if let Some(record) = self.records.next()? {
                // Apart from the rest: an idle connection should not hold the memory of a call.
                Box::pin(self.enter(&record)).await?;
                continue;
            }
            if let Ok(heard) = self.heard.try_recv() {
                self.hear(&heard);
                continue;
            }
            if has_room && self.send().await? {
                continue;
            }
            self.wait(has_room).await;
        }
    }

    /// Ends the connection if it is time for it.
    fn check(&mut self, now: Instant, has_room: bool) -> Result<(), Ending> {
        let (settings, line) = (&self.hub.settings, &self.line);
        if self.hub.feed.stop.is_cancelled() {
            // A poll that comes later would find no listener any more.
            let spread = if line.transport == Transport::LongPolling { Duration::ZERO } else { SPREAD };
            let draw = || now + spread.mul_f64(fastrand::f64());
            if now >= *self.stop_at.get_or_insert_with(draw) {
                return Err(Ending::new(HubEnd::Stopped, "The server stops; connect again.", true));
            }
        }
        if !self.hub.feed.doors.knows(&self.client) {
            return Err(Ending::new(HubEnd::Changed, "The rights of this client have changed; connect again.", true));
        }
        let is_silent = now >= line.heard_at() + settings.client_timeout;
        match line.presence() {
            Presence::Attached if is_silent && line.transport != Transport::LongPolling => return Err(silent()),
            Presence::Away(_) if is_silent && line.transport == Transport::LongPolling => return Err(silent()),
            Presence::Away(_) if line.transport == Transport::LongPolling => {}
            Presence::Away(since) if !line.keeps() || now >= since + settings.client_timeout.min(RETURN) => {
                return Err(Ending::left());
            }
            _ => {}
        }
        if !self.is_open && now >= self.began + settings.client_timeout.min(HANDSHAKE) {
            let last = Some(protocol::handshake_answer(Some("The handshake did not come in time.")));
            return Err(Ending { reason: HubEnd::Invalid, last });
        }
        let progress = line.progress();
        if has_room || self.progress.0 != progress {
            self.progress = (progress, now);
            if has_room {
                self.owed = 0;
            }
        } else if now >= self.progress.1 + settings.client_timeout {
            return Err(Ending::new(
                HubEnd::Slow,
                "The client took nothing for too long; connect again and go on from the last cursor.",
                true,
            ));
        }
        Ok(())
    }

    /// Sends what is ready, or reads more of it. `false`: there is nothing now.
    async fn send(&mut self) -> Result<bool, Ending> {
        let Some(following) = &mut self.following else { return Ok(false) };
        let mut has_sent = false;
        while self.line.has_room()
            && let Some(record) = following.next()
        {
            self.line.push(record);
            has_sent = true;
        }
        if has_sent || !following.should_read() {
            return Ok(has_sent);
        }
        if let Some((brownout, left)) = self.client.brownout() {
            let problem = Problem::brownout(&brownout, left);
            return Err(Ending::new(HubEnd::Brownout, &problem.to_json().to_string(), true));
        }
        match following.read().await {
            Ok(gap) => gap.into_iter().for_each(|gap| self.line.push(gap)),
            Err(problem) => return Err(Ending::new(HubEnd::Diverged, &problem.to_json().to_string(), true)),
        }
        Ok(true)
    }

    async fn wait(&mut self, has_room: bool) {
        let until = self.look_at(has_room);
        let feed = &self.hub.feed;
        let moved = async {
            match &mut self.following {
                Some(following) if has_room => following.moved().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = feed.stop.cancelled(), if self.stop_at.is_none() => {}
            () = feed.doors.changed(&self.client) => {}
            heard = self.heard.recv() => if let Some(heard) = heard { self.hear(&heard) },
            () = self.line.changed() => {}
            () = moved => {}
            () = sleep_until(until) => {}
        }
    }

    /// When [`Self::check`] or [`Self::send`] has something to do, whatever happens.
    fn look_at(&self, has_room: bool) -> Instant {
        let timeout = self.hub.settings.client_timeout;
        let mut until = self.line.heard_at().max(Instant::now()) + timeout;
        let is_polled = self.line.transport == Transport::LongPolling;
        match self.line.presence() {
            Presence::Attached if is_polled => {}
            Presence::Away(since) if !is_polled => until = until.min(since + timeout.min(RETURN)),
            _ => until = until.min(self.line.heard_at() + timeout),
        }
        let handshake = (!self.is_open).then(|| self.began + timeout.min(HANDSHAKE));
        let slow = (!has_room).then(|| self.progress.1 + timeout);
        let following = self.following.as_ref().filter(|_| has_room).and_then(Following::look_at);
        [self.stop_at, handshake, slow, following].into_iter().flatten().fold(until, Instant::min)
    }

    fn hear(&mut self, heard: &Heard) {
        if self.numbers.is_of_old_transport(heard.attachment) {
            return;
        }
        if self.numbers.enter_transport(heard.attachment) {
            self.records = Records::default();
        }
        self.records.push(&heard.bytes);
    }

    async fn enter(&mut self, record: &[u8]) -> Result<(), Ending> {
        if !self.is_open {
            return self.open(record);
        }
        let message = Message::read(record)?;
        if !self.numbers.takes(&message) {
            return Ok(());
        }
        let is_counted = message.is_counted();
        let before = self.line.bytes();
        match message {
            Message::Call { id, target, arguments } => self.call(id, &target, arguments).await,
            Message::Stream { id, target, arguments } => self.stream(id, &target, arguments).await,
            Message::Cancel { id } => self.cancel(&id),
            Message::Close => return Err(Ending::left()),
            Message::Ack { sequence } => {
                self.line.acknowledge(sequence).map_err(|_| Ending::from(Unreadable::Invalid))?;
            }
            Message::Sequence { sequence } => self.numbers.begin_at(sequence)?,
            Message::Ping | Message::Other | Message::Unknown => {}
        }
        if is_counted && self.line.keeps() {
            self.line.push_aside(protocol::ack(self.numbers.latest()));
        }
        if !self.line.has_room() {
            self.owed += self.line.bytes().saturating_sub(before);
        }
        if self.owed > MOST_OWED {
            let error = "The client calls and does not take the answers; connect again.";
            return Err(Ending::new(HubEnd::Slow, error, true));
        }
        Ok(())
    }

    fn open(&mut self, record: &[u8]) -> Result<(), Ending> {
        let refused = |text: &str| Ending { reason: HubEnd::Invalid, last: Some(protocol::handshake_answer(Some(text))) };
        let handshake = Handshake::read(record).map_err(|_| refused("The handshake is not the JSON that the protocol has."))?;
        handshake.check(self.line.is_stateful).map_err(|text| refused(&text))?;
        if handshake.version == 2 {
            self.line.keep(usize::try_from(self.hub.settings.reconnect_buffer).unwrap_or(usize::MAX));
        }
        self.is_open = true;
        self.line.push_aside(protocol::handshake_answer(None));
        Ok(())
    }

    async fn call(&mut self, id: Option<String>, target: &str, arguments: Vec<Value>) {
        let result = match Method::find(target, false) {
            Ok(Method::Unsubscribe) => self.unsubscribe(),
            Ok(Method::Ack) => acknowledge(&self.hub.feed, &self.client, arguments).await,
            Ok(_) => self.subscribe(arguments).await,
            Err(error) => Err(mistake(&error)),
        };
        // A call without an id wants no answer.
        if let Some(id) = id {
            self.answer(&id, result);
        }
    }

    /// Takes the place of what was followed before: a connection has one cursor.
    async fn subscribe(&mut self, arguments: Vec<Value>) -> Result<Value, String> {
        self.refuse_beside_stream()?;
        let beginning = self.begin(arguments).await?;
        let head = head(&self.hub.feed, &self.client).await.map_err(|problem| problem.to_json().to_string())?;
        let result = beginning.describe(head);
        self.follow(beginning, None);
        Ok(result)
    }

    fn unsubscribe(&mut self) -> Result<Value, String> {
        self.refuse_beside_stream()?;
        self.following = None;
        Ok(Value::Null)
    }

    async fn stream(&mut self, id: String, target: &str, arguments: Vec<Value>) {
        let begun = match Method::find(target, true) {
            Ok(_) if self.following.is_some() => {
                Err(mistake("this connection follows the feed already; end that first, or use another one"))
            }
            Ok(_) => self.begin(arguments).await,
            Err(error) => Err(mistake(&error)),
        };
        match begun {
            Ok(beginning) => {
                let gap = beginning.gap.clone();
                self.follow(beginning, Some(id));
                gap.into_iter().for_each(|gap| self.line.push(protocol::call("gap", gap)));
            }
            Err(error) => self.answer(&id, Err(error)),
        }
    }

    fn cancel(&mut self, id: &str) {
        if self.following.as_ref().is_some_and(|following| following.stream.as_deref() == Some(id)) {
            self.following = None;
            self.answer(id, Ok(Value::Null));
        }
    }

    fn refuse_beside_stream(&self) -> Result<(), String> {
        match &self.following {
            Some(Following { stream: Some(_), .. }) => {
                Err(mistake("this connection has a stream; cancel it first, or use another one"))
            }
            _ => Ok(()),
        }
    }

    async fn begin(&self, arguments: Vec<Value>) -> Result<Beginning, String> {
        let wanted =
            Wanted::read(&self.hub.feed.source.cursors, arguments, self.bounds.clone()).map_err(|error| mistake(&error))?;
        if let Some((brownout, left)) = self.client.brownout() {
            return Err(Problem::brownout(&brownout, left).to_json().to_string());
        }
        Beginning::find(&self.hub.feed, &self.client, wanted).await.map_err(|problem| problem.to_json().to_string())
    }

    fn follow(&mut self, beginning: Beginning, stream: Option<String>) {
        let (feed, client) = (&self.hub.feed, Arc::clone(&self.client));
        self.following = Some(Following::new(feed, client, beginning, self.hub.settings.keep_alive, stream));
    }

    fn answer(&self, id: &str, result: Result<Value, String>) {
        self.line.push(protocol::completion(id, result));
    }
}

fn silent() -> Ending {
    Ending::new(HubEnd::Silent, "The client said nothing for too long; connect again.", true)
}
