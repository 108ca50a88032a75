//! Channels: each has one event in flight. The crate hands an event that the broker returned to whichever confirmation of its channel
//! comes next, and the broker confirms several at once: with many in flight on one channel, 3 of 334 that no queue took were seen to
//! pass for delivered.
//! It also means that a channel which the broker closes over an event takes no other event with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::Channel;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Confirmation, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::publication::Publication;

/// For those that are being closed and still count.
const SPARE: usize = 8;

/// The channels of one connection: opened when they are needed, kept when they are not.
pub struct Channels {
    pub connection: Arc<Connection>,
    idle: Mutex<Vec<Channel>>,
    room: Arc<Semaphore>,
}

/// A channel that nobody else uses.
pub struct Taken {
    pub channel: Channel,
    _room: OwnedSemaphorePermit,
}

impl Channels {
    pub fn of(connection: Connection) -> Self {
        let allowed = usize::from(connection.configuration().channel_max());
        let room = Arc::new(Semaphore::new(allowed.saturating_sub(SPARE).max(1)));
        Self { connection: Arc::new(connection), idle: Mutex::default(), room }
    }

    /// A channel in confirm mode; waits while the broker allows no more of them.
    pub async fn take(&self) -> lapin::Result<Taken> {
        let room = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        let idle = self.lock().pop();
        let channel = match idle.filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => {
                let channel = self.connection.create_channel().await?;
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                channel
            }
        };
        Ok(Taken { channel, _room: room })
    }

    /// For a channel on which nothing is in flight. One that is not given back is closed.
    pub fn give_back(&self, taken: Taken) {
        self.lock().push(taken.channel);
    }

    /// Sends an event and waits for the broker's word. Whatever fails from here on, the broker may have it.
    pub async fn publish(self: Arc<Self>, taken: Taken, publication: Publication) -> lapin::Result<Confirmation> {
        let Publication { exchange, routing_key, properties, body, .. } = publication;
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let confirm = taken.channel.basic_publish(exchange, routing_key, options, &body, properties).await?;
        let confirmation = confirm.await?;
        self.give_back(taken);
        Ok(confirmation)
    }

    // Nothing can panic while it is held; and if it could, the channels would still be channels.
    fn lock(&self) -> MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
