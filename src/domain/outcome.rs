//! Verdicts: the result of one attempt, as data and not as an error. The reasons are a closed set that the table `attempts`,
//! metric labels, log fields and the command line share.

#![warn(missing_docs)]

use std::fmt;
use std::time::Duration;

/// The class of an attempt's result. `policy` decides the consequence of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// The receiver had it already.
    Duplicate,
    /// This attempt failed, another may succeed. Spends an attempt.
    Retry,
    /// The receiver asks for less. Slows the handler down, spends nothing.
    BackPressure,
    /// The handler seems unable to work for any event: credentials, address, trust. Unless other events contradict it, the circuit opens and
    /// nothing is spent.
    HandlerFault,
    /// This event will never be accepted. A dead letter now.
    Permanent,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 6] =
        [Self::Delivered, Self::Duplicate, Self::Retry, Self::BackPressure, Self::HandlerFault, Self::Permanent];

    /// The name in tables, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Duplicate => "duplicate",
            Self::Retry => "retry",
            Self::BackPressure => "back_pressure",
            Self::HandlerFault => "handler_fault",
            Self::Permanent => "permanent",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! reasons {
    ($($variant:ident = $text:literal, $help:literal;)*) => {
        /// Why an attempt ended as it did.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Reason { $(#[doc = $help] $variant,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for it in tables, labels and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// One sentence for display.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

reasons! {
    Ok = "ok", "The receiver accepted the event.";
    Duplicate = "duplicate", "The receiver had the event already.";
    Dns = "dns", "The host name could not be resolved.";
    ConnectionRefused = "connection_refused", "No process listens at the address.";
    ConnectionReset = "connection_reset", "The connection broke.";
    ConnectTimeout = "connect_timeout", "No connection within the connect timeout.";
    Timeout = "timeout", "No complete answer within the timeout; the receiver may have the event.";
    Tls = "tls", "The TLS handshake failed.";
    Untrusted = "untrusted", "The receiver's certificate is not trusted, or the receiver does not trust that of outboxd.";
    ServerError = "server_error", "The receiver reported an error of its own (5xx).";
    ClientError = "client_error", "The receiver refused this event (4xx).";
    Throttled = "throttled", "The receiver asked for fewer requests.";
    Unauthorized = "unauthorized", "The receiver did not accept the credentials.";
    NotFound = "not_found", "The address, topic or function does not exist.";
    Gone = "gone", "The receiver reports that it is gone for good (410).";
    Redirected = "redirected", "The receiver redirects; redirects are not followed, change the address.";
    TooLarge = "too_large", "The event is larger than the handler or the receiver accepts.";
    InvalidAnswer = "invalid_answer", "The answer broke the protocol.";
    EgressBlocked = "egress_blocked", "The address is one that the egress rules forbid.";
    Misconfigured = "misconfigured", "The handler's configuration does not work.";
    Conflict = "conflict", "A lock, deadlock or serialisation conflict in the database.";
    Database = "database", "The database failed.";
    Refused = "refused", "The function or program reported an error.";
    Unconvertible = "unconvertible", "The function cannot take the payload, for example because it is not valid jsonb.";
    Panicked = "panicked", "The handler panicked.";
    Crashed = "crashed", "The relay, or the session in which the function ran, died while the event was being handled.";
    Exhausted = "exhausted", "All attempts are used up.";
    Expired = "expired", "Older than the handler's max_age.";
    Operator = "operator", "An operator decided.";
    Unroutable = "unroutable", "The broker has no queue, stream or subscriber for the event.";
    Full = "full", "The queue, the stream or the broker is full or short of memory or disk.";
    Nacked = "nacked", "The broker did not take responsibility for the event.";
    Unaddressable = "unaddressable", "The event has no value for its address or a header, or one that the receiver does not accept.";
    Unreadable = "unreadable", "The event, or its ordering key, cannot be read from the database; nothing was sent.";
    Contract = "contract", "The event has no valid form in the version of its contract that the handler gets; nothing was sent.";
    Unstorable = "unstorable", "Postgres refused to store the outcome of this delivery.";
    Failed = "failed", "The handler reported another failure.";
}

impl Reason {
    /// The reason with this word.
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }

    /// It makes the handler useless for any event, and waiting does not fix it.
    pub const fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Unauthorized
                | Self::NotFound
                | Self::Gone
                | Self::Redirected
                | Self::Unroutable
                | Self::Untrusted
                | Self::EgressBlocked
                | Self::Misconfigured
        )
    }

    /// There was no room: it passes, and says nothing about the event.
    pub const fn is_fullness(self) -> bool {
        matches!(self, Self::Full | Self::Nacked | Self::Throttled)
    }

    /// No receiver was reached: the reason says nothing about the event and everything about the receiver.
    pub const fn is_unreachable(self) -> bool {
        matches!(self, Self::Dns | Self::ConnectionRefused | Self::ConnectTimeout | Self::Tls)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which events a fault or back-pressure concerns, as far as the handler can know from one attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// It may be this event alone: other events show whether it is.
    #[default]
    Unknown,
    /// At first all events with the same address, where the address depends on the event.
    Destination,
    /// Not this event: the attempt ended because of another one, and perhaps was never made. Nothing is spent.
    Another,
    /// Every event: there is no connection, or none that could be used.
    Everyone,
}

/// The result of one attempt, in the words of the handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The class of the result.
    pub outcome: Outcome,
    /// Why, from a closed set.
    pub reason: Reason,
    /// Bytes left and no answer came: the receiver may have the event.
    pub ambiguous: bool,
    /// Protocol status, for example the HTTP status.
    pub status: Option<u16>,
    /// The receiver's words or the error, for display; bounded by the handler, without secrets.
    pub detail: String,
    /// The receiver asked not to be called again earlier than this from now.
    pub retry_after: Option<Duration>,
    /// Which events a fault or back-pressure concerns.
    pub reach: Reach,
}

impl Verdict {
    /// The receiver has it.
    pub fn delivered() -> Self {
        Self::of(Outcome::Delivered, Reason::Ok, "")
    }

    /// The receiver had it already.
    pub fn duplicate() -> Self {
        Self::of(Outcome::Duplicate, Reason::Duplicate, "")
    }

    /// This attempt failed, another may succeed.
    pub fn retry(reason: Reason, detail: impl Into<String>) -> Self {
        Self::of(Outcome::Retry, reason, detail)
    }

    /// The receiver asks for less; nothing is sent to it before `after`.
    pub fn back_pressure(reason: Reason, after: Option<Duration>, detail: impl Into<String>) -> Self {
        Self { retry_after: after, ..Self::of(Outcome::BackPressure, reason, detail) }
    }

    /// No event can be delivered: credentials, address, trust. Costs the event no attempt.
    pub fn handler_fault(reason: Reason, detail: impl Into<String>) -> Self {
        Self::of(Outcome::HandlerFault, reason, detail)
    }

    /// This event will never be accepted: a dead letter now.
    pub fn permanent(reason: Reason, detail: impl Into<String>) -> Self {
        Self::of(Outcome::Permanent, reason, detail)
    }

    /// The receiver may have the event all the same.
    #[must_use]
    pub fn ambiguous(mut self) -> Self {
        self.ambiguous = true;
        self
    }

    /// The status with which the receiver answered.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The receiver asked for no attempt before this has passed.
    #[must_use]
    pub fn not_before(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }

    /// A fault or back-pressure that may concern the address of the event alone: its routing key, subject, topic, stream.
    #[must_use]
    pub fn of_destination(mut self) -> Self {
        self.reach = Reach::Destination;
        self
    }

    /// A failure that another event has caused: the receiver ended what they shared.
    #[must_use]
    pub fn of_another(mut self) -> Self {
        self.reach = Reach::Another;
        self
    }

    /// A fault that every event meets, because it was met before any event was looked at.
    #[must_use]
    pub fn of_everyone(mut self) -> Self {
        self.reach = Reach::Everyone;
        self
    }

    /// Whether this fault may be that of the event alone. No event changes what a connection is refused for.
    pub fn may_be_of_the_event(&self) -> bool {
        self.outcome == Outcome::HandlerFault
            && self.reach != Reach::Everyone
            && !self.reason.is_unreachable()
            && !matches!(self.reason, Reason::Untrusted | Reason::EgressBlocked)
    }

    /// Whether the receiver has taken or judged the event: a fault of another one is not the handler's then.
    pub fn speaks_for_handler(&self) -> bool {
        self.is_delivered() || (self.outcome == Outcome::Permanent && self.status.is_some())
    }

    /// Whether the receiver has it.
    pub fn is_delivered(&self) -> bool {
        matches!(self.outcome, Outcome::Delivered | Outcome::Duplicate)
    }

    fn of(outcome: Outcome, reason: Reason, detail: impl Into<String>) -> Self {
        Self { outcome, reason, ambiguous: false, status: None, detail: detail.into(), retry_after: None, reach: Reach::Unknown }
    }
}
