//! A line: what a session and its transport share. Records on their way out, bytes on their way in, and which transport is
//! attached. One transport at a time: when another one attaches, the previous one, which may be half dead, sends and receives
//! nothing more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use super::queue::{NeverSent, Queue};
use crate::feed::access::Connection;

/// Bytes that a transport sends at once, near enough.
const FRAME: usize = 32 * 1024;
/// Bytes that wait for a client before no more are made for it.
const MOST_UNSENT: usize = 128 * 1024;
/// Frames and bodies of a client that wait for its session.
const INBOX: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    WebSockets,
    ServerSentEvents,
    LongPolling,
}

/// A connection of the hub, as its session and its transport see it.
pub struct Line {
    pub id: Uuid,
    pub transport: Transport,
    /// Of stateful reconnect: a client may come back to it.
    pub is_stateful: bool,
    state: Mutex<State>,
    /// For transports: there is something to send, or another one has taken over.
    outgoing: Notify,
    /// For the session: something was taken, acknowledged, attached or detached.
    changed: Notify,
    inbox: mpsc::Sender<Heard>,
    _connection: Connection,
}

/// Bytes from the client. `attachment`: the number of the transport; 0 for a body, which no other transport overtakes.
pub struct Heard {
    pub attachment: u64,
    pub bytes: Bytes,
}

struct State {
    queue: Queue,
    /// Rises with every transport.
    attachment: u64,
    presence: Presence,
    heard_at: Instant,
    is_cut: bool,
}

/// Whether a transport is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Attached,
    /// Since then there is none.
    Away(Instant),
}

/// The next step of a transport.
#[derive(Debug)]
pub enum Chunk {
    Send(Bytes),
    /// The connection is over.
    End,
    /// Another transport has taken over.
    Replaced,
}

/// The right of one transport to send, until it is dropped or another one takes over.
pub struct Attachment {
    pub line: Arc<Line>,
    pub number: u64,
}

impl Line {
    /// With the other end of what is heard, for the session.
    pub fn new(id: Uuid, transport: Transport, is_stateful: bool, connection: Connection) -> (Arc<Self>, mpsc::Receiver<Heard>) {
        let (inbox, heard) = mpsc::channel(INBOX);
        let now = Instant::now();
        let state =
            State { queue: Queue::new(MOST_UNSENT), attachment: 0, presence: Presence::Away(now), heard_at: now, is_cut: false };
        let line = Self {
            id,
            transport,
            is_stateful,
            state: Mutex::new(state),
            outgoing: Notify::new(),
            changed: Notify::new(),
            inbox,
            _connection: connection,
        };
        (Arc::new(line), heard)
    }

    /// `None`: the connection is over, or ends.
    pub fn attach(self: &Arc<Self>) -> Option<Attachment> {
        let mut state = self.state();
        // A poll may still fetch the last record.
        if state.is_cut || (state.queue.is_closed() && self.transport != Transport::LongPolling) {
            return None;
        }
        state.attachment += 1;
        (state.presence, state.heard_at) = (Presence::Attached, Instant::now());
        if state.queue.keeps() {
            state.queue.resume();
        }
        let number = state.attachment;
        drop(state);
        self.tell_both();
        Some(Attachment { line: Arc::clone(self), number })
    }

    /// Takes what the client has sent, when there is room for it. `false`: the connection is over.
    pub async fn hear(&self, attachment: u64, bytes: Bytes) -> bool {
        self.state().heard_at = Instant::now();
        self.inbox.send(Heard { attachment, bytes }).await.is_ok()
    }

    /// The client is there, although it has said nothing.
    pub fn heard(&self) {
        self.state().heard_at = Instant::now();
    }

    pub fn heard_at(&self) -> Instant {
        self.state().heard_at
    }

    pub fn presence(&self) -> Presence {
        self.state().presence
    }

    pub fn has_room(&self) -> bool {
        self.state().queue.has_room()
    }

    /// Bytes that wait for the client, or for its acknowledgement.
    pub fn bytes(&self) -> usize {
        self.state().queue.bytes()
    }

    pub fn progress(&self) -> u64 {
        self.state().queue.progress()
    }

    pub fn keep(&self, most_bytes: usize) {
        self.state().queue.keep(most_bytes);
    }

    pub fn keeps(&self) -> bool {
        self.state().queue.keeps()
    }

    pub fn push(&self, record: Bytes) {
        self.state().queue.push(record);
        self.outgoing.notify_waiters();
    }

    /// A record that stateful reconnect does not count.
    pub fn push_aside(&self, record: Bytes) {
        self.state().queue.push_aside(record);
        self.outgoing.notify_waiters();
    }

    pub fn acknowledge(&self, number: u64) -> Result<(), NeverSent> {
        self.state().queue.acknowledge(number)
    }

    /// Nothing more is sent but `last`.
    pub fn close(&self, last: Option<Bytes>) {
        self.state().queue.close(last);
        self.outgoing.notify_waiters();
    }

    /// Whether the client has everything and the transport is gone.
    pub fn is_done(&self) -> bool {
        let state = self.state();
        state.queue.is_done() && state.presence != Presence::Attached
    }

    /// Ends whatever transport there still is.
    pub fn cut(&self) {
        self.state().is_cut = true;
        self.tell_both();
    }

    /// Returns when something has changed that the session wants to know. For one task.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn tell_both(&self) {
        self.outgoing.notify_waiters();
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attachment {
    /// The next bytes to send; waits for them.
    pub async fn next(&self) -> Chunk {
        loop {
            let outgoing = self.line.outgoing.notified();
            tokio::pin!(outgoing);
            // Before the look, or what comes between the two would be missed.
            outgoing.as_mut().enable();
            if let Some(chunk) = self.look() {
                return chunk;
            }
            outgoing.await;
        }
    }

    fn look(&self) -> Option<Chunk> {
        let mut state = self.line.state();
        if state.attachment != self.number {
            return Some(Chunk::Replaced);
        }
        if state.is_cut {
            return Some(Chunk::End);
        }
        let taken = state.queue.take(FRAME);
        let is_done = state.queue.is_done();
        drop(state);
        match taken {
            Some(bytes) => {
                self.line.changed.notify_one();
                Some(Chunk::Send(bytes))
            }
            None => is_done.then_some(Chunk::End),
        }
    }

    /// Returns when this transport has nothing to do here any more, whatever it is waiting for.
    pub async fn over(&self) {
        loop {
            let outgoing = self.line.outgoing.notified();
            tokio::pin!(outgoing);
            outgoing.as_mut().enable();
            {
                let state = self.line.state();
                if state.is_cut || state.attachment != self.number {
                    return;
                }
            }
            outgoing.await;
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut state = self.line.state();
        if state.attachment == self.number {
            let now = Instant::now();
            (state.presence, state.heard_at) = (Presence::Away(now), now);
            drop(state);
            self.line.changed.notify_one();
        }
    }
}
