//! The events that a connection follows: first those that it has missed, by pages, then those at the end of the feed. Holds one
//! batch at a time, and reads nothing while the client takes nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;

use super::calls::Wanted;
use super::protocol;
use crate::feed::access::Client;
use crate::feed::problem::Problem;
use crate::feed::reader::{Reader, Shown, Trouble};
use crate::feed::routes::{place_of, problem_of};
use crate::feed::tail::Waiting;
use crate::feed::{Cursor, Feed, Refusal, Start};

/// Events of one read.
const BATCH: usize = 100;

/// The events that a connection follows, and the form in which they are sent.
pub struct Following {
    client: Arc<Client>,
    reader: Reader,
    moves: watch::Receiver<u64>,
    pending: VecDeque<Shown>,
    /// There was nothing more at the last look.
    is_at_end: bool,
    /// After a read that failed.
    retry_at: Option<Instant>,
    /// The last cursor that the client knows; `None`: it wants no bookmarks.
    told: Option<Cursor>,
    bookmark_at: Instant,
    bookmark_every: Duration,
    /// The call whose items the events are; `None`: they are calls of the client.
    pub stream: Option<String>,
    _waiting: Waiting,
}

/// Where following begins.
pub struct Beginning {
    pub reader: Reader,
    /// What was removed before it.
    pub gap: Option<Value>,
    has_bookmarks: bool,
}

impl Beginning {
    /// Finds where a client begins.
    pub async fn find(feed: &Feed, client: &Client, wanted: Wanted) -> Result<Self, Problem> {
        let Wanted { bounds, has_bookmarks, start } = wanted;
        let filter = client.filter().narrowed(bounds.types, bounds.subject);
        let source = || Arc::clone(&feed.source);
        match Reader::open(source(), client, filter.clone(), start).await {
            Ok(reader) => Ok(Self { reader, gap: None, has_bookmarks }),
            Err(trouble @ Trouble::Refused(Refusal::Expired { .. }, Some(cursor))) => {
                let gap = problem_of(&feed.source, &trouble, place_of(start)).to_json();
                let opening = Reader::open(source(), client, filter, Start::At(cursor)).await;
                let reader = opening.map_err(|trouble| problem_of(&feed.source, &trouble, None))?;
                Ok(Self { reader, gap: Some(gap), has_bookmarks })
            }
            Err(trouble) => Err(problem_of(&feed.source, &trouble, place_of(start))),
        }
    }
}

impl Beginning {
    /// For the client; `head` is where the feed ends.
    pub fn describe(&self, head: Cursor) -> Value {
        let [cursor, head] = [self.reader.cursor(), head].map(|cursor| self.reader.source().cursors.text(cursor));
        let mut told = json!({ "cursor": cursor, "head": head });
        if let Some(gap) = &self.gap {
            told["gap"] = gap.clone();
        }
        told
    }
}

/// Where the feed ends now.
pub async fn head(feed: &Feed, client: &Client) -> Result<Cursor, Problem> {
    let opening = Reader::open(Arc::clone(&feed.source), client, client.filter().clone(), Start::Latest).await;
    opening.map(|reader| reader.cursor()).map_err(|trouble| problem_of(&feed.source, &trouble, None))
}

impl Following {
    pub fn new(feed: &Feed, client: Arc<Client>, beginning: Beginning, bookmark_every: Duration, stream: Option<String>) -> Self {
        let Beginning { reader, has_bookmarks, .. } = beginning;
        Self {
            client,
            moves: feed.source.tail.moves(),
            _waiting: feed.source.tail.wait(),
            told: has_bookmarks.then(|| reader.cursor()),
            reader,
            pending: VecDeque::new(),
            is_at_end: false,
            retry_at: None,
            bookmark_at: Instant::now() + bookmark_every,
            bookmark_every,
            stream,
        }
    }

    /// The next record for the client, if one is ready.
    pub fn next(&mut self) -> Option<Bytes> {
        if let Some(shown) = self.pending.pop_front() {
            if let Some(told) = &mut self.told {
                *told = shown.cursor;
                self.bookmark_at = Instant::now() + self.bookmark_every;
            }
            return Some(match &self.stream {
                Some(id) => protocol::stream_item(id, &shown.form.json),
                None => protocol::event(&shown.form.json, &self.reader.source().cursors.text(shown.cursor)),
            });
        }
        let cursor = self.reader.cursor();
        let is_due = Instant::now() >= self.bookmark_at || !self.is_at_end;
        let told = self.told.as_mut().filter(|told| **told != cursor && is_due)?;
        *told = cursor;
        self.bookmark_at = Instant::now() + self.bookmark_every;
        Some(protocol::call("cursor", self.reader.source().cursors.text(cursor).into()))
    }

    /// Whether there may be more to read now.
    pub fn should_read(&self) -> bool {
        !self.is_at_end && self.retry_at.is_none_or(|at| Instant::now() >= at)
    }

    /// Reads what comes next. `Ok(Some)`: the record about events that are gone. `Err`: it cannot go on from where it stands.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Problem> {
        self.moves.mark_unchanged();
        self.retry_at = None;
        match self.reader.read(BATCH).await {
            Ok(batch) => {
                self.client.sends(&batch);
                self.is_at_end = batch.is_up_to_date;
                self.pending.extend(batch.events);
                Ok(None)
            }
            // Retention has overtaken the client.
            Err(trouble @ Trouble::Refused(Refusal::Expired { .. }, Some(cursor))) => {
                let gap = problem_of(self.reader.source(), &trouble, Some(self.reader.cursor().place())).to_json();
                self.reader.go_on_from(cursor);
                Ok(Some(protocol::call("gap", gap)))
            }
            Err(Trouble::Store(error)) => {
                debug!(client = self.client.name(), %error, "could not read the feed for a connection of the hub, trying again");
                self.retry_at = Some(Instant::now() + Duration::from_millis(500 + fastrand::u64(..500)));
                Ok(None)
            }
            Err(trouble) => Err(problem_of(self.reader.source(), &trouble, Some(self.reader.cursor().place()))),
        }
    }

    /// Returns when there is more to read, unless that is known already.
    pub async fn moved(&mut self) {
        if self.retry_at.is_some() || self.moves.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.is_at_end = false;
    }

    /// When to look again, whatever happens.
    pub fn look_at(&self) -> Option<Instant> {
        let has_bookmark = self.told.is_some_and(|told| told != self.reader.cursor());
        self.retry_at.or(has_bookmark.then_some(self.bookmark_at))
    }
}
