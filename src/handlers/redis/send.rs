//! Attempts: sends entries and receives their ids, within one deadline. Entries that leave at the same moment leave in one
//! pipeline. Never adds an entry twice: it repeats a command only if the server did not understand it.

use std::borrow::Cow;
use std::time::Duration;

use redis::{Pipeline, RedisError, RedisResult};

use super::super::envelope::Envelope;
use super::super::failure::{Failure, failed};
use super::RedisStreams;
use super::classify::{self, Setback};
use super::connection::Connection;
use super::entry::{Entry, Repeats, is_entry_id};
use crate::domain::{Notification, Outcome, Reason, Verdict};

/// An event that can be sent.
struct Addressed<'n> {
    stream: Cow<'n, str>,
    notification: &'n Notification,
    envelope: Envelope<'n>,
}

/// The id of an entry; `None`: there is no stream.
type Added = RedisResult<Option<String>>;

impl RedisStreams {
    /// One attempt at each event. Dropped before its end, it gives the connection up, because it is unknown whether the connection works.
    pub(super) async fn attempt_all(&self, notifications: Vec<&Notification>) -> Vec<Verdict> {
        let addressed: Vec<_> = notifications.into_iter().map(|notification| self.address(notification)).collect();
        let entries: Vec<_> = addressed.iter().flatten().map(Addressed::entry).collect();
        let mut verdicts = self.add_all(&entries).await.into_iter();
        let verdict = |addressed: &Result<_, Verdict>| match addressed {
            Ok(_) => verdicts.next().expect("each entry has a verdict"),
            Err(refusal) => refusal.clone(),
        };
        addressed.iter().map(verdict).collect()
    }

    fn address<'n>(&'n self, notification: &'n Notification) -> Result<Addressed<'n>, Verdict> {
        let envelope = self.layout.envelope(notification)?;
        let stream = self.stream.render(notification).map_err(|missing| missing.verdict("stream"))?;
        if stream.is_empty() {
            return Err(Verdict::permanent(Reason::Unaddressable, "the event makes an empty text of stream, which is no key"));
        }
        Ok(Addressed { stream, notification, envelope })
    }

    /// A verdict for each entry.
    async fn add_all(&self, entries: &[Entry<'_>]) -> Vec<Verdict> {
        if entries.is_empty() {
            return Vec::new();
        }
        let held = match self.link.get(Connection::is_alive, || self.server.connect()).await {
            Ok(held) => held,
            Err(verdict) => return vec![verdict; entries.len()],
        };
        let doubt = self.link.doubt(&held);
        let Ok(ends) = tokio::time::timeout(self.confirm_timeout, self.exchange(&held.connection, entries)).await else {
            return vec![self.too_late(self.confirm_timeout); entries.len()];
        };
        if !ends.iter().any(|end| end.as_ref().is_err_and(|setback| setback.is_connection_over)) {
            doubt.settle();
        }
        let verdict = |end: Result<(), Setback>| end.map_or_else(|setback| self.about(setback.verdict), |()| Verdict::delivered());
        let judged: Vec<Verdict> = ends.into_iter().map(verdict).collect();
        let is_over = |verdict: &Verdict| verdict.reason == Reason::ConnectionReset;
        // The server hangs up on all that share the connection, after an error of the protocol for example.
        let is_shared = judged.iter().any(is_over) && (judged.len() > 1 || held.had_company());
        let excused = |verdict: Verdict| if is_shared && is_over(&verdict) { verdict.of_another() } else { verdict };
        judged.into_iter().map(excused).collect()
    }

    /// Adds the entries and waits until they are where they must be.
    async fn exchange(&self, connection: &Connection, entries: &[Entry<'_>]) -> Vec<Result<(), Setback>> {
        let added = self.add(connection, entries).await;
        let mut ends: Vec<_> = entries.iter().zip(added).map(|(entry, added)| self.end(entry, added)).collect();
        if ends.iter().any(Result::is_ok)
            && let Err(halt) = connection.barrier.pass(&connection.commands).await
        {
            ends.iter_mut().filter(|end| end.is_ok()).for_each(|end| *end = Err(self.server.halted(&halt)));
        }
        ends
    }

    fn end(&self, entry: &Entry<'_>, added: Added) -> Result<(), Setback> {
        match added {
            Ok(Some(id)) if is_entry_id(&id) => Ok(()),
            Ok(Some(_)) => Err(classify::no_entry_id(self.link.target())),
            Ok(None) => Err(classify::no_stream(entry.stream)),
            Err(error) => Err(self.server.setback(&error)),
        }
    }

    async fn add(&self, connection: &Connection, entries: &[Entry<'_>]) -> Vec<Added> {
        let mut added = self.send(connection, entries).await;
        let not_understood = |added: &Added| added.as_ref().is_err_and(classify::is_about_repeats);
        if connection.knows_repeats() && added.iter().any(not_understood) {
            connection.forget_repeats();
            let places: Vec<usize> = (0..added.len()).filter(|place| not_understood(&added[*place])).collect();
            let again: Vec<_> = places.iter().map(|place| entries[*place]).collect();
            for (place, answer) in places.into_iter().zip(self.send(connection, &again).await) {
                added[place] = answer;
            }
        }
        added
    }

    /// One pipeline; what becomes of one entry says nothing of the others.
    async fn send(&self, connection: &Connection, entries: &[Entry<'_>]) -> Vec<Added> {
        let mut pipeline = Pipeline::with_capacity(entries.len());
        pipeline.ignore_errors();
        for entry in entries {
            // A replay adds another entry, even if the server remembers the first.
            let knows = !entry.notification.is_replay && connection.knows_repeats();
            pipeline.add_command(self.form.command(entry, if knows { Repeats::AreKnown } else { Repeats::AddAgain }));
        }
        let answers: RedisResult<Vec<Added>> = pipeline.query_async(&mut connection.commands.clone()).await;
        answers.unwrap_or_else(|error: RedisError| entries.iter().map(|_| Err(error.clone())).collect())
    }

    /// A stream that is missing, or none, is the fault of the configuration if it is every event's stream, and otherwise of none in particular.
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

impl Addressed<'_> {
    fn entry(&self) -> Entry<'_> {
        Entry { stream: &self.stream, notification: self.notification, envelope: &self.envelope }
    }
}
