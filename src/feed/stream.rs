//! A stream of events (`text/event-stream`) for one client: first the events that it has missed, then new ones. Holds one batch
//! at a time: a slow client falls behind the tail and reads pages, and costs no other client anything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::Feed;
use super::access::{Client, Connection};
use super::cursor::Cursor;
use super::problem::Problem;
use super::reader::{Batch, Reader, Trouble};
use super::seal::Cursors;
use super::tail::Waiting;

/// Events of one batch: what one client holds in memory at most, beside what its socket does.
const BATCH: usize = 100;
/// After this a stream ends, and its client comes back with its cursor: what has changed on the way is noticed, and what hangs goes.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Milliseconds until a client comes back, before the draw.
const RETRY_MILLIS: u64 = 1_000;
/// Spread of that when the feed stops, so that not all come back at the same moment.
const RETRY_SPREAD_MILLIS: u64 = 4_000;

/// One stream. Ends when the feed stops, when the client is configured otherwise, and after an hour.
pub(super) struct Stream {
    feed: Arc<Feed>,
    client: Arc<Client>,
    reader: Reader,
    moves: watch::Receiver<u64>,
    /// Made and not sent yet.
    ready: VecDeque<Bytes>,
    /// The last cursor that the client was sent.
    told: Cursor,
    heartbeat_at: Instant,
    ends_at: Instant,
    has_ended: bool,
    _waiting: Waiting,
    _connection: Connection,
}

impl Stream {
    /// A stream that begins where the reader stands. `gap`: what was removed before that.
    pub fn new(feed: Arc<Feed>, client: Arc<Client>, reader: Reader, gap: Option<&Problem>, connection: Connection) -> Self {
        let (waiting, moves) = (feed.source.tail.wait(), feed.source.tail.moves());
        let now = Instant::now();
        let mut ready = VecDeque::from([Bytes::from(format!("retry: {}\n\n", RETRY_MILLIS + fastrand::u64(..RETRY_MILLIS)))]);
        ready.extend(gap.map(gap_frame));
        // A client that meets nothing but silence has a cursor all the same.
        ready.push_back(bookmark(&feed.source.cursors, reader.cursor()));
        Self {
            moves,
            told: reader.cursor(),
            ready,
            heartbeat_at: now + feed.settings.heartbeat,
            ends_at: now + LONGEST - Duration::from_secs(fastrand::u64(..600)),
            has_ended: false,
            feed,
            client,
            reader,
            _waiting: waiting,
            _connection: connection,
        }
    }

    /// The next bytes to send; `None`: the stream has ended.
    pub async fn next(&mut self) -> Option<Bytes> {
        while self.ready.is_empty() && !self.has_ended {
            self.step().await;
        }
        self.ready.pop_front()
    }

    async fn step(&mut self) {
        // A client that catches up has not waited for a long time, and may have lost its rights meanwhile.
        if self.feed.stop.is_cancelled() || !self.feed.doors.knows(&self.client) {
            return self.wait().await;
        }
        if self.client.brownout().is_some() {
            return self.end(None); // the client comes back, and is told why
        }
        self.moves.mark_unchanged();
        let read = self.reader.read(BATCH).await;
        if !self.feed.doors.knows(&self.client) {
            return self.end(None); // it was read with rights that a reload has changed meanwhile
        }
        match read {
            Ok(batch) if !batch.events.is_empty() => self.send(batch),
            Ok(batch) if batch.is_up_to_date => self.wait().await,
            // The filter lets little through. The client is sent its cursor, in case that the connection breaks meanwhile.
            Ok(_) => self.tell_cursor(),
            Err(trouble) => self.enter(&trouble).await,
        }
    }

    fn send(&mut self, batch: Batch) {
        self.client.sends(&batch);
        self.told = batch.events.last().map_or(self.told, |event| event.cursor);
        self.ready.extend(batch.events.iter().map(|event| event.form.frame.clone()));
        self.heartbeat_at = Instant::now() + self.feed.settings.heartbeat;
    }

    /// Waits for something to look at, or for the end.
    async fn wait(&mut self) {
        let moved = async {
            if self.moves.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = self.feed.stop.cancelled() => {
                // All clients of this instance are notified at once; they come back one after the other.
                let retry = RETRY_MILLIS / 2 + fastrand::u64(..RETRY_SPREAD_MILLIS);
                self.end(Some(Bytes::from(format!("retry: {retry}\n\n"))));
            }
            () = self.feed.doors.changed(&self.client) => self.end(None),
            () = sleep_until(self.ends_at) => self.end(None),
            () = moved => {}
            () = sleep_until(self.heartbeat_at) => {
                // Something has to be sent now and then, or a proxy on the way takes the connection for dead.
                self.ready.push_back(Bytes::from_static(b": \n\n"));
                self.heartbeat_at = Instant::now() + self.feed.settings.heartbeat;
                self.tell_cursor();
            }
        }
    }

    fn tell_cursor(&mut self) {
        let cursor = self.reader.cursor();
        if self.told != cursor {
            self.told = cursor;
            self.ready.push_back(bookmark(&self.feed.source.cursors, cursor));
        }
    }

    /// A stream that has begun cannot be answered with a status any more.
    async fn enter(&mut self, trouble: &Trouble) {
        match trouble {
            // Retention has overtaken the client.
            Trouble::Refused(super::cursor::Refusal::Expired { .. }, Some(cursor)) => {
                let problem = super::routes::problem_of(&self.feed.source, trouble, Some(self.reader.cursor().place()));
                self.ready.push_back(gap_frame(&problem));
                self.reader.go_on_from(*cursor);
                self.tell_cursor();
            }
            Trouble::Store(error) => {
                debug!(client = self.client.name(), %error, "could not read the feed for a stream, trying again");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(500 + fastrand::u64(..500))) => {}
                    () = self.feed.stop.cancelled() => self.end(None),
                }
                if Instant::now() >= self.heartbeat_at {
                    self.ready.push_back(Bytes::from_static(b": \n\n"));
                    self.heartbeat_at = Instant::now() + self.feed.settings.heartbeat;
                }
            }
            // The client comes back with its cursor and gets the reason.
            _ => self.end(None),
        }
    }

    fn end(&mut self, last: Option<Bytes>) {
        self.tell_cursor();
        self.ready.extend(last);
        self.has_ended = true;
    }
}

/// A cursor without an event: the client keeps it, and its program sees nothing.
fn bookmark(cursors: &Cursors, cursor: Cursor) -> Bytes {
    Bytes::from(format!("id: {}\n\n", cursors.text(cursor)))
}

fn gap_frame(problem: &Problem) -> Bytes {
    Bytes::from(format!("event: gap\ndata: {}\n\n", problem.to_json()))
}
