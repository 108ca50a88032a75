//! The metrics of the console and of the API beside it. Made only where `[console]` is configured.

use metrics::Counter;

use super::metrics as list;

/// How a request was answered, or what refused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleAnswer {
    /// A page, a file, an answer of the API.
    Served,
    /// The request is incomplete, or asks for something that does not exist.
    Invalid,
    /// No token, or none that is known; no session.
    Unauthorized,
    /// The caller lacks the role or the right.
    Forbidden,
    /// A host that is not configured (421).
    Misdirected,
    /// A change that a page of another site requested.
    CrossSite,
    /// Too many failed logins.
    Limited,
    /// The database is not available.
    Unavailable,
}

impl ConsoleAnswer {
    pub const ALL: [Self; 8] = [
        Self::Served,
        Self::Invalid,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Misdirected,
        Self::CrossSite,
        Self::Limited,
        Self::Unavailable,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Misdirected => "misdirected",
            Self::CrossSite => "cross_site",
            Self::Limited => "limited",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The result of checking a token, at the login page or as a bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    Accepted,
    Refused,
    /// Not checked: too many failures of this peer.
    Limited,
}

impl Login {
    pub const ALL: [Self; 3] = [Self::Accepted, Self::Refused, Self::Limited];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Limited => "limited",
        }
    }
}

/// The metrics of the listener of the console.
#[derive(Debug, Clone)]
pub struct ConsoleMetrics {
    answers: [Counter; ConsoleAnswer::ALL.len()],
    logins: [Counter; Login::ALL.len()],
    payloads: Counter,
}

impl ConsoleMetrics {
    /// Creates the series at zero. Install a recorder first: handles made before go nowhere.
    #[expect(clippy::new_without_default, reason = "it registers series, which a default value should not do")]
    pub fn new() -> Self {
        Self {
            answers: ConsoleAnswer::ALL.map(|answer| list::CONSOLE_REQUESTS.counter(&[answer.as_str()])),
            logins: Login::ALL.map(|login| list::CONSOLE_LOGINS.counter(&[login.as_str()])),
            payloads: list::CONSOLE_PAYLOADS.counter(&[]),
        }
    }

    pub fn answered(&self, answer: ConsoleAnswer) {
        self.answers[answer as usize].increment(1);
    }

    pub fn login(&self, login: Login) {
        self.logins[login as usize].increment(1);
    }

    /// A payload was shown.
    pub fn showed_payload(&self) {
        self.payloads.increment(1);
    }
}
