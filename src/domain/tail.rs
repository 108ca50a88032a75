//! The tail, as a data structure: the end of the log, read once for all followers. `relay::tail` drives it and explains why it
//! exists.
//!
//! A cache of reads: it holds no position of any subscription. A *follower* is a loop that reads from the tail. It has joined at
//! one of two moments: its reading head was the end of the tail, or the beginning of a window that the tail remembers. From then
//! on this holds: the inbox of the follower contains every event that it wants between its head and the end of the tail, in
//! order. Random histories test it.
//!
//! The tail drops a follower whose inbox has no room. The inbox is discarded and the follower reads on from its own head. That
//! loses nothing, because no position had passed the events in the inbox.
//!
//! A follower that was added after a window was requested does not join through that window: the read did not ask for the types
//! that it wants (`generation`).
//!
//! Time is an argument: a monotonic reading.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::routing::Routes;
use super::share::{Hashes, Share};
use super::{EventFilter, Notification, Position, Snapshot};

/// The events that the reader has read, and the followers.
#[derive(Debug)]
pub struct Tail {
    bounds: TailBounds,
    end: Option<Position>,
    /// The last windows, for those who come from behind: each begins where the one before it ends, the last ends at `end`.
    windows: VecDeque<Window>,
    /// Bytes of the events in them.
    bytes: usize,
    routes: Routes,
    followers: BTreeMap<u32, Follower>,
    next: u32,
    /// The server splits events into partitions as [`Share`] does; without it none of them can follow.
    splits: bool,
    /// Rises with every follower, whose filter the reads before it did not ask for.
    generation: u64,
}

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub struct TailBounds {
    pub windows: usize,
    pub bytes: usize,
    /// How long a window is remembered. Events that an operator erases must not come out of it hours later.
    pub time: Duration,
    /// Bytes that a follower may leave in its inbox.
    pub inbox_bytes: usize,
}

#[derive(Debug)]
struct Window {
    begin: Snapshot,
    events: Vec<Arc<Notification>>,
    bytes: usize,
    generation: u64,
    at: Duration,
}

#[derive(Debug)]
struct Follower {
    generation: u64,
    share: Share,
    /// Events that it may leave in its inbox.
    room: usize,
    /// `None`: it reads for itself.
    inbox: Option<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    events: Vec<Arc<Notification>>,
    bytes: usize,
}

/// The content of a follower's inbox.
#[derive(Debug)]
pub enum Taken {
    /// It does not follow: it reads for itself, from the head that it has.
    Left,
    /// Everything it wants between its head and this position.
    Read { events: Vec<Arc<Notification>>, end: Position },
}

impl Tail {
    pub fn new(bounds: TailBounds) -> Self {
        Self {
            bounds,
            end: None,
            windows: VecDeque::new(),
            bytes: 0,
            routes: Routes::default(),
            followers: BTreeMap::new(),
            next: 0,
            splits: false,
            generation: 0,
        }
    }

    /// Adds a follower that may join from now on, and may leave `room` events in its inbox; `filter` must be routable. Returns its number.
    pub fn add(&mut self, filter: EventFilter, share: Share, room: usize) -> u32 {
        self.next += 1;
        self.generation += 1;
        self.routes.add(self.next, filter);
        self.followers.insert(self.next, Follower { generation: self.generation, share, room, inbox: None });
        self.next
    }

    /// Changes how many bytes a follower may leave in its inbox.
    pub fn bound_inboxes(&mut self, bytes: usize) {
        self.bounds.inbox_bytes = bytes;
    }

    /// Bytes of what is remembered for those who come from behind.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn remove(&mut self, number: u32) {
        self.routes.remove(number);
        self.followers.remove(&number);
    }

    pub fn count(&self) -> usize {
        self.followers.len()
    }

    /// The filter of the next read, at most so many types, and the generation to hand back with the result.
    pub fn wanted(&self, most_types: usize) -> (EventFilter, u64) {
        (self.routes.union(most_types), self.generation)
    }

    /// The end of the tail, to which a loop that is behind has to read; `None`: there is no tail.
    pub fn end(&self) -> Option<&Position> {
        self.end.as_ref()
    }

    /// Begins anew, or (`None`) ends. Drops every follower; returns those that followed. `splits`: the server splits events as [`Share`] does.
    pub fn begin(&mut self, end: Option<Position>, splits: bool) -> Vec<u32> {
        (self.end, self.splits) = (end, splits);
        self.windows.clear();
        self.bytes = 0;
        let followed = self.followers.iter_mut().filter_map(|(number, follower)| follower.inbox.take().map(|_| *number));
        followed.collect()
    }

    /// The next window has been read, asked for as of `generation`. Gives the followers that have to look: they want some of it, or were left.
    pub fn push(&mut self, events: Vec<Arc<Notification>>, end: Position, generation: u64, now: Duration) -> Vec<u32> {
        let Some(before) = self.end.replace(end) else {
            self.end = None;
            return Vec::new();
        };
        let mut concerned = Vec::new();
        // The window was not asked for what they want.
        for (number, follower) in self.followers.iter_mut().filter(|(_, follower)| follower.generation > generation) {
            concerned.extend(follower.inbox.take().map(|_| *number));
        }
        for event in &events {
            let mut hashes = Hashes::default();
            for number in self.routes.find(event) {
                let Some(follower) = self.followers.get_mut(&number) else { continue };
                if follower.share.has(event, &mut hashes)
                    && follower.offer(event, &self.bounds).is_some()
                    && concerned.last() != Some(&number)
                {
                    concerned.push(number);
                }
            }
        }
        concerned.sort_unstable();
        concerned.dedup();
        if self.end.as_ref().is_none_or(|end| end.snapshot != before.snapshot) || !events.is_empty() {
            let bytes = events.iter().map(|event| event.bytes()).sum();
            self.bytes += bytes;
            self.windows.push_back(Window { begin: before.snapshot, events, bytes, generation, at: now });
        }
        self.forget(now);
        concerned
    }

    /// Keeps no more windows than the bounds say, and none for longer.
    pub fn forget(&mut self, now: Duration) {
        let TailBounds { windows, bytes, time, .. } = self.bounds;
        let is_old = |window: &Window| now.saturating_sub(window.at) > time;
        while self.windows.len() > windows || self.bytes > bytes || self.windows.front().is_some_and(is_old) {
            self.bytes -= self.windows.pop_front().map_or(0, |window| window.bytes);
        }
    }

    /// A follower that has read up to `head` joins, if the tail stands there or remembers what came since.
    pub fn join(&mut self, number: u32, head: &Snapshot, now: Duration) -> bool {
        self.forget(now);
        let Some(end) = &self.end else { return false };
        let Some(follower) = self.followers.get_mut(&number) else { return false };
        if !self.splits && !follower.share.is_whole() {
            return false;
        }
        let first = match self.windows.iter().position(|window| window.begin == *head) {
            Some(first) => first,
            None if end.snapshot == *head => self.windows.len(),
            None => return false,
        };
        let since = self.windows.range(first..);
        if since.clone().any(|window| window.generation < follower.generation) {
            return false;
        }
        follower.inbox = Some(Inbox::default());
        for event in since.flat_map(|window| &window.events).filter(|event| self.routes.is_wanted_by(number, event)) {
            if follower.share.has(event, &mut Hashes::default()) {
                follower.offer(event, &self.bounds);
            }
        }
        follower.inbox.is_some()
    }

    #[cfg(test)]
    pub fn follows(&self, number: u32) -> bool {
        self.followers.get(&number).is_some_and(|follower| follower.inbox.is_some())
    }

    /// Whether there are followers.
    pub fn is_followed(&self) -> bool {
        self.followers.values().any(|follower| follower.inbox.is_some())
    }

    pub fn leave(&mut self, number: u32) {
        if let Some(follower) = self.followers.get_mut(&number) {
            follower.inbox = None;
        }
    }

    /// The events for a follower since its last call; its head is the end of the tail then.
    pub fn take(&mut self, number: u32) -> Taken {
        let inbox = self.followers.get_mut(&number).and_then(|follower| follower.inbox.as_mut());
        match (inbox, &self.end) {
            (Some(inbox), Some(end)) => Taken::Read { events: std::mem::take(inbox).events, end: end.clone() },
            _ => Taken::Left,
        }
    }
}

impl Follower {
    /// Puts an event into the inbox. One that has no room is left: what it has not taken it reads again. `None`: it does not follow.
    fn offer(&mut self, event: &Arc<Notification>, bounds: &TailBounds) -> Option<()> {
        let inbox = self.inbox.as_mut()?;
        inbox.bytes += event.bytes();
        inbox.events.push(Arc::clone(event));
        if inbox.events.len() > self.room || inbox.bytes > bounds.inbox_bytes {
            self.inbox = None;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
