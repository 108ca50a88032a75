//! The metrics of the feed: places, pages, connections. Made only where `[feed]` is configured.

use metrics::{Counter, Gauge, Histogram};

use super::metrics as list;

/// How a request of a client ended, or what refused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedAnswer {
    /// A page of events.
    Page,
    /// A page without an event.
    Empty,
    /// How far handlers are with an event.
    Event,
    /// A stream that has begun.
    Stream,
    /// A connection of the hub was negotiated.
    Negotiated,
    /// A connection of the hub has begun.
    Hub,
    /// The list of contracts.
    Contracts,
    /// A ticket was made.
    Ticket,
    /// A cursor that the server keeps was read, stored or removed.
    Cursor,
    /// The client asked for what there is not, or for what it has to ask otherwise: 400, 404, 405, 412, 428.
    Invalid,
    /// No token, or none that is known.
    Unauthorized,
    /// 409: the cursor belongs to another history.
    Diverged,
    /// 410: what comes after the cursor is gone.
    Expired,
    /// Too many connections.
    Busy,
    /// More requests than the rate of the client allows.
    Limited,
    /// The database is not available.
    Unavailable,
    /// A version that the client reads is in a brownout.
    Brownout,
}

impl FeedAnswer {
    pub const ALL: [Self; 17] = [
        Self::Page,
        Self::Empty,
        Self::Event,
        Self::Stream,
        Self::Negotiated,
        Self::Hub,
        Self::Contracts,
        Self::Ticket,
        Self::Cursor,
        Self::Invalid,
        Self::Unauthorized,
        Self::Diverged,
        Self::Expired,
        Self::Busy,
        Self::Limited,
        Self::Unavailable,
        Self::Brownout,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Empty => "empty",
            Self::Event => "event",
            Self::Stream => "stream",
            Self::Negotiated => "negotiated",
            Self::Hub => "hub",
            Self::Contracts => "contracts",
            Self::Ticket => "ticket",
            Self::Cursor => "cursor",
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::Diverged => "diverged",
            Self::Expired => "expired",
            Self::Busy => "busy",
            Self::Limited => "limited",
            Self::Unavailable => "unavailable",
            Self::Brownout => "brownout",
        }
    }
}

/// The metrics of the publisher.
#[derive(Debug, Clone)]
pub struct FeedMetrics {
    published: Counter,
    last_place: Gauge,
}

impl FeedMetrics {
    /// Creates the series at zero. Install a recorder first: handles made before go nowhere.
    #[expect(clippy::new_without_default, reason = "it registers series, which a default value should not do")]
    pub fn new() -> Self {
        Self { published: list::FEED_PLACES.counter(&[]), last_place: list::FEED_LAST_PLACE.gauge(&[]) }
    }

    /// This many events have got a place, up to this last place.
    pub fn published(&self, places: u64, last_place: Option<i64>) {
        self.published.increment(places);
        if let Some(place) = last_place {
            self.last_place.set(place as f64);
        }
    }
}

/// The metrics of one client at the listener of the feed.
#[derive(Debug, Clone)]
pub struct ClientMetrics {
    answers: [Counter; FeedAnswer::ALL.len()],
    events: Counter,
    unavailable: Counter,
    connections: Gauge,
}

impl ClientMetrics {
    /// Creates the series of a client at zero. The name of the client is that of the configuration, so the labels are a closed set.
    pub fn new(client: &str) -> Self {
        Self {
            answers: FeedAnswer::ALL.map(|answer| list::FEED_REQUESTS.counter(&[client, answer.as_str()])),
            events: list::FEED_EVENTS.counter(&[client]),
            unavailable: list::FEED_UNAVAILABLE.counter(&[client]),
            connections: list::FEED_CONNECTIONS.gauge(&[client]),
        }
    }

    pub fn answered(&self, answer: FeedAnswer) {
        self.answers[answer as usize].increment(1);
    }

    /// `unavailable`: the events that were replaced by `outboxd.unavailable`.
    pub fn sent(&self, events: u64, unavailable: u64) {
        self.events.increment(events);
        self.unavailable.increment(unavailable);
    }

    pub fn connected(&self) {
        self.connections.increment(1.0);
    }

    pub fn disconnected(&self) {
        self.connections.decrement(1.0);
    }
}

/// How far one cursor is behind that a client has left to the server.
#[derive(Debug, Clone)]
pub struct CursorMetrics {
    behind: Gauge,
    oldest: Gauge,
}

impl CursorMetrics {
    /// Creates the series at zero. Both names are those of the configuration, so the labels are a closed set.
    pub fn new(client: &str, cursor: &str) -> Self {
        Self { behind: list::FEED_CURSOR_LAG.gauge(&[client, cursor]), oldest: list::FEED_CURSOR_AGE.gauge(&[client, cursor]) }
    }

    pub fn lags(&self, behind: u64, oldest: Option<std::time::Duration>) {
        self.behind.set(behind as f64);
        self.oldest.set(oldest.unwrap_or_default().as_secs_f64());
    }
}

/// Why a connection of the hub ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubEnd {
    /// The client closed the connection, or the connection broke.
    Left,
    /// The relay stops.
    Stopped,
    /// The configuration of the client has changed.
    Changed,
    /// It did not accept waiting messages.
    Slow,
    /// It sent nothing for too long.
    Silent,
    /// It violated the protocol.
    Invalid,
    /// It cannot continue from its cursor, for example because the history has diverged.
    Diverged,
    /// A version that it reads is not sent for a while.
    Brownout,
}

impl HubEnd {
    pub const ALL: [Self; 8] =
        [Self::Left, Self::Stopped, Self::Changed, Self::Slow, Self::Silent, Self::Invalid, Self::Diverged, Self::Brownout];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Stopped => "stopped",
            Self::Changed => "changed",
            Self::Slow => "slow",
            Self::Silent => "silent",
            Self::Invalid => "invalid",
            Self::Diverged => "diverged",
            Self::Brownout => "brownout",
        }
    }
}

/// The metrics of one client at the hub.
#[derive(Debug, Clone)]
pub struct HubMetrics([Counter; HubEnd::ALL.len()]);

impl HubMetrics {
    /// Creates the series of a client at zero.
    pub fn new(client: &str) -> Self {
        Self(HubEnd::ALL.map(|end| list::HUB_CLOSED.counter(&[client, end.as_str()])))
    }

    pub fn closed(&self, end: HubEnd) {
        self.0[end as usize].increment(1);
    }
}

/// The metrics of the shared tail of the feed.
#[derive(Debug, Clone)]
pub struct FeedTailMetrics {
    bytes: Gauge,
    reads: Histogram,
}

impl FeedTailMetrics {
    #[expect(clippy::new_without_default, reason = "it registers series, which a default value should not do")]
    pub fn new() -> Self {
        Self { bytes: list::FEED_TAIL_BYTES.gauge(&[]), reads: list::FEED_READ_DURATION.histogram(&[]) }
    }

    pub fn holds(&self, bytes: usize) {
        self.bytes.set(bytes as f64);
    }

    /// One page was read for clients.
    pub fn read(&self, took: std::time::Duration) {
        self.reads.record(took.as_secs_f64());
    }
}
