//! A connected broker. Knows when the broker blocks publishers, and what it has not confirmed then. Closes the connection when
//! the last clone is dropped: in order if the broker still answers, by force if not.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use lapin::{Confirmation, Connection};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::channels::Channels;
use super::socket::Socket;
use crate::domain::Notification;

/// How soon it is noticed that the broker blocks publishers, for which there is no future.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What is kept beyond that is forgotten: it was published by a relay that lost its part of the events to another one since.
const MOST_KEPT: usize = 1024;
/// For the broker to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A published event and the word of the broker about it. Independent of the delivery that began it.
pub type Pending = BoxFuture<'static, lapin::Result<Confirmation>>;

/// How waiting ended.
pub enum Waited<T> {
    Done(T),
    /// The broker takes nothing from us, for want of memory or disk.
    Blocked,
    Late,
}

/// The identity by which a repeated publication of the same event is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    id: Uuid,
    is_replay: bool,
}

/// The connection; its clones are the same one.
#[derive(Clone)]
pub struct Broker(Arc<Open>);

struct Open {
    channels: Arc<Channels>,
    unconfirmed: Mutex<HashMap<Identity, Pending>>,
    socket: Arc<Socket>,
}

impl Identity {
    pub fn of(notification: &Notification) -> Self {
        Self { id: notification.id, is_replay: notification.is_replay }
    }
}

impl Broker {
    pub fn new(connection: Connection, socket: Arc<Socket>) -> Self {
        Self(Arc::new(Open { channels: Arc::new(Channels::of(connection)), unconfirmed: Mutex::default(), socket }))
    }

    pub fn channels(&self) -> &Arc<Channels> {
        &self.0.channels
    }

    pub fn is_alive(&self) -> bool {
        self.0.channels.connection.status().connected()
    }

    pub fn is_blocked(&self) -> bool {
        self.0.channels.connection.status().blocked()
    }

    /// The largest part of an event that is no body.
    pub fn largest_frame(&self) -> usize {
        self.0.channels.connection.configuration().frame_max() as usize
    }

    /// Waits until the deadline, or until the broker blocks us.
    pub async fn wait<T>(&self, mut future: impl Future<Output = T> + Unpin, deadline: Instant) -> Waited<T> {
        loop {
            let next_look = deadline.min(Instant::now() + LOOK_EVERY);
            match timeout_at(next_look, &mut future).await {
                Ok(done) => return Waited::Done(done),
                Err(_) if self.is_blocked() => return Waited::Blocked,
                Err(_) if Instant::now() >= deadline => return Waited::Late,
                Err(_) => {}
            }
        }
    }

    /// Keeps what was published and cannot be confirmed while the broker blocks us. It arrives when the broker has room again, and
    /// published a second time it would arrive twice.
    pub fn keep(&self, identity: Identity, pending: Pending) {
        self.with_unconfirmed(|kept| {
            if kept.len() >= MOST_KEPT {
                kept.clear();
            }
            kept.insert(identity, pending);
        });
    }

    /// The confirmation of an earlier attempt at the same event on this connection.
    pub fn kept(&self, identity: Identity) -> Option<Pending> {
        self.with_unconfirmed(|kept| kept.remove(&identity))
    }

    // Nothing can panic while it is held.
    fn with_unconfirmed<T>(&self, act: impl FnOnce(&mut HashMap<Identity, Pending>) -> T) -> T {
        act(&mut self.0.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let (connection, socket) = (Arc::clone(&self.channels.connection), Arc::clone(&self.socket));
        // Without a runtime the socket is shut down at once.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = timeout(GOODBYE, connection.close(200, "OK".into())).await;
                drop(socket);
            });
        }
    }
}
