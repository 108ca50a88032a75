//! The next read of a projection: the live version reads up to now, every other version up to the position of the live one.
//! A read returns a part of one window, in order of seq, and a position after each event.

use super::Projector;
use crate::domain::{Notification, OpenWindow, Position, Stretch, follow};
use crate::relay::reader::{self, Plan, Segment};
use crate::store::{self, Room, StoreError, Unreadable};

/// Events of one read, at most.
pub(super) const MOST_ROWS: i64 = 1_000;

/// An event, or one that could not be read.
pub(super) enum Item {
    Event(Box<Notification>),
    Unreadable(Unreadable),
}

impl Item {
    /// As far as it could be read.
    pub fn notification(&self) -> &Notification {
        match self {
            Self::Event(notification) => notification,
            Self::Unreadable(unreadable) => &unreadable.notification,
        }
    }

    pub fn seq(&self) -> i64 {
        self.notification().seq
    }
}

/// A stretch of the log that was read.
pub(super) struct Ahead {
    /// The events before the window.
    base: Position,
    window: OpenWindow,
    pub items: Vec<Item>,
    pub end: Position,
    /// The window goes on behind it.
    pub has_more: bool,
}

impl Ahead {
    /// Leaves out what is for a handler alone: a projection has had the event that a correction corrects.
    fn of(name: &str, head: &Position, segment: Segment, real_window: Option<OpenWindow>) -> Self {
        let Segment { notifications, unreadable, end, has_more, .. } = segment;
        let of_end =
            || OpenWindow { snapshot: end.snapshot.clone(), low_seq: end.low_seq, high_seq: end.high_seq, seq: end.high_seq };
        let window = real_window.or_else(|| end.window.clone()).unwrap_or_else(of_end);
        let events = notifications.into_iter().filter(|notification| notification.is_for(name)).map(Item::Event);
        let mut items: Vec<Item> = events.chain(unreadable.into_iter().map(Item::Unreadable)).collect();
        items.sort_by_key(Item::seq);
        Self { base: Position { window: None, ..head.clone() }, window, items, end, has_more }
    }

    /// The position behind so many of the events.
    pub fn position_behind(&self, count: usize) -> Position {
        if count >= self.items.len() {
            return self.end.clone();
        }
        self.at(self.items[count - 1].seq())
    }

    /// The position just before the first event, in a window also where the window was read whole: an operator may move over the event.
    pub fn position_before_first(&self) -> Position {
        self.at(self.items[0].seq() - 1)
    }

    fn at(&self, seq: i64) -> Position {
        self.base.inside(OpenWindow { seq, ..self.window.clone() })
    }
}

impl Projector {
    /// Reads the next stretch, of so many events at most. `None`: there is none.
    pub(super) async fn read_ahead(&self, rows: i64) -> Result<Option<Ahead>, StoreError> {
        let room = Room { rows, bytes: i64::try_from(self.post.shared.memory_per_loop() / 2).unwrap_or(i64::MAX).max(1) };
        let plan = Plan {
            head: self.position.clone(),
            until: None,
            room,
            recorded: None,
            expects_large: self.expects_large,
            durability_gate: self.post.shared.options().durability_gate,
        };
        if self.standing.is_live {
            return self.read_live(plan).await;
        }
        let Some(live) = &self.standing.live else { return Ok(None) };
        match follow(&self.position, live) {
            Stretch::Nothing | Stretch::Ahead => Ok(None),
            Stretch::Window(until) => self.read_until(plan, until).await,
            Stretch::Page { window, up_to, is_open: true } => self.read_part(plan, window, up_to).await,
            Stretch::Page { window, up_to, is_open: false } => {
                let window = self.begin_window(window).await?;
                self.read_part(plan, window, up_to).await
            }
        }
    }

    async fn read_live(&self, plan: Plan) -> Result<Option<Ahead>, StoreError> {
        let selection = std::sync::Arc::clone(&self.selection);
        let segment = reader::read_segment(self.post.shared.connections.log.clone(), selection, plan).await?;
        // Nothing may be concluded from what is not durable yet.
        let is_nothing = segment.end == self.position && segment.notifications.is_empty() && segment.unreadable.is_empty();
        Ok((!is_nothing).then(|| Ahead::of(&self.post.handler.config.name, &self.position, segment, None)))
    }

    /// A window that ends where the live version is; by pages, if it is large or something in it cannot be read.
    async fn read_until(&self, plan: Plan, until: Position) -> Result<Option<Ahead>, StoreError> {
        let whole = Plan { until: Some(until.clone()), ..plan.clone() };
        if let Some(segment) = reader::read_tail(&self.post.shared.connections.log, &self.selection, &whole).await? {
            let is_nothing = segment.end == self.position && segment.notifications.is_empty();
            return Ok((!is_nothing).then(|| Ahead::of(&self.post.handler.config.name, &self.position, segment, None)));
        }
        let Position { snapshot, low_seq, high_seq, .. } = until;
        let window = self.begin_window(OpenWindow { snapshot, low_seq, high_seq, seq: 0 }).await?;
        let up_to = window.high_seq;
        self.read_part(plan, window, up_to).await
    }

    /// A page of a window, up to and including a number.
    async fn read_part(&self, plan: Plan, window: OpenWindow, up_to: i64) -> Result<Option<Ahead>, StoreError> {
        let base = Position { window: None, ..self.position.clone() };
        let bounded = OpenWindow { seq: window.seq.min(up_to), high_seq: up_to, ..window.clone() };
        let head = base.inside(bounded);
        let pool = &self.post.shared.connections.log;
        let mut segment = reader::read_page(pool, &self.selection, &plan, head, false, None).await?;
        if up_to < window.high_seq {
            // The bound is where the live version is in the window, and not the end of the window.
            let seq = segment.end.window.as_ref().map_or(up_to, |inside| inside.seq);
            segment.end = base.inside(OpenWindow { seq, ..window.clone() });
        } else if let Some(inside) = &mut segment.end.window {
            inside.low_seq = window.low_seq;
        }
        Ok(Some(Ahead::of(&self.post.handler.config.name, &self.position, segment, Some(window))))
    }

    /// The window with the number before its first event.
    async fn begin_window(&self, window: OpenWindow) -> Result<OpenWindow, StoreError> {
        let acquiring = self.post.shared.connections.log.acquire().await;
        let mut connection = acquiring.map_err(StoreError::query("read the log"))?;
        let opened = store::open_window(&mut connection, &self.position).await?;
        Ok(OpenWindow { seq: opened.window.seq.min(window.high_seq), ..window })
    }
}
