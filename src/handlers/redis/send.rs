//! One attempt: an entry out, its id in, within one deadline. Adds twice only where the first was not understood, so not at all.

use std::time::Duration;

use redis::RedisError;

use super::super::failure::{Failure, failed};
use super::RedisStreams;
use super::classify::{self, Setback};
use super::connection::Connection;
use super::entry::{Entry, Repeats, is_entry_id};
use crate::domain::{Notification, Outcome, Reason, Verdict};

impl RedisStreams {
    /// One attempt at one event. Dropped before its end, it gives the connection up: nobody knows then whether it works.
    pub(super) async fn attempt(&self, notification: &Notification) -> Verdict {
        self.try_to_add(notification).await.err().unwrap_or_else(Verdict::delivered)
    }

    async fn try_to_add(&self, notification: &Notification) -> Result<(), Verdict> {
        let envelope = self.layout.envelope(notification)?;
        let stream = self.stream.render(notification).map_err(|missing| missing.verdict("stream"))?;
        if stream.is_empty() {
            return Err(Verdict::permanent(Reason::Unaddressable, "the event makes an empty text of stream, which is no key"));
        }
        let held = self.link.get(Connection::is_alive, || self.server.connect()).await?;
        let doubt = self.link.doubt(&held);
        let entry = Entry { stream: &stream, notification, envelope: &envelope };
        match tokio::time::timeout(self.confirm_timeout, self.exchange(&held.connection, &entry)).await {
            Ok(Ok(())) => {
                doubt.settle();
                Ok(())
            }
            Ok(Err(Setback { verdict, is_connection_over })) => {
                if !is_connection_over {
                    doubt.settle();
                }
                Err(self.about(verdict))
            }
            Err(_) => Err(self.too_late(self.confirm_timeout)),
        }
    }

    /// Adds the entry and waits until it is where it must be.
    async fn exchange(&self, connection: &Connection, entry: &Entry<'_>) -> Result<(), Setback> {
        match self.add(connection, entry).await {
            Ok(Some(id)) if is_entry_id(&id) => {}
            Ok(Some(_)) => return Err(classify::no_entry_id(self.link.target())),
            Ok(None) => return Err(classify::no_stream(entry.stream)),
            Err(error) => return Err(self.server.setback(&error)),
        }
        connection.barrier.pass(&connection.commands).await.map_err(|halt| self.server.halted(&halt))
    }

    /// The id of the entry; `None`: there is no stream.
    async fn add(&self, connection: &Connection, entry: &Entry<'_>) -> Result<Option<String>, RedisError> {
        let send = async |repeats| self.form.command(entry, repeats).query_async(&mut connection.commands.clone()).await;
        // Whoever asks for a replay wants another entry, even if the server remembers the first.
        if entry.notification.is_replay || !connection.knows_repeats() {
            return send(Repeats::AddAgain).await;
        }
        match send(Repeats::AreKnown).await {
            Err(error) if classify::is_about_repeats(&error) => {
                connection.forget_repeats();
                send(Repeats::AddAgain).await
            }
            answer => answer,
        }
    }

    /// A stream that is missing, or none, is the fault of the configuration if it is every event's, and else of nobody in particular.
    fn about(&self, verdict: Verdict) -> Verdict {
        match verdict.reason {
            Reason::NotFound if self.stream.constant().is_none() => Verdict { outcome: Outcome::Retry, ..verdict },
            _ => verdict,
        }
    }

    fn too_late(&self, limit: Duration) -> Verdict {
        failed(Failure::Timeout, format!("no answer from {} within {limit:?}", self.link.target()))
    }
}
