//! Alerts: conditions that an operator must know of. An alert fires, can grow worse, be acknowledged and be resolved. `rules`
//! decides when; `notices` decides what each channel is sent, and when.
//!
//! Never counts and never sends: counts, what a channel was last sent, and the time are arguments.

mod notices;
mod rules;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use uuid::Uuid;

use super::Timestamp;
use super::advice::circuit_command;

pub use notices::{Change, Due, Listener, Told, batch, next_notice};
pub use rules::{AlertPolicy, Measure, Observation, step};

macro_rules! closed_set {
    ($(#[$attribute:meta])* $name:ident { $($(#[$help:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$help])* $variant,)* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for it in tables, labels, configuration and commands.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                Self::ALL.iter().copied().find(|known| known.as_str() == text).ok_or(())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

closed_set! {
    /// The condition.
    AlertKind {
        /// A handler has dead letters.
        DeadLetters = "dead_letters",
        /// The oldest unfinished event of a handler is old.
        BacklogAge = "backlog_age",
        /// The circuit of a handler is open.
        CircuitOpen = "circuit_open",
        /// An operator has paused a handler and not come back.
        HandlerPaused = "handler_paused",
        /// No relay owns a handler.
        RelayNotPolling = "relay_not_polling",
        /// A handler cannot read or cannot record, although it has a relay.
        HandlerStuck = "handler_stuck",
        /// The database cannot be used.
        Database = "database",
        /// A channel does not accept notices.
        ChannelFailed = "channel_failed",
        /// A new configuration was refused; the old one is in force.
        ConfigReloadFailed = "config_reload_failed",
        /// An adopted table records no events, or not those that the configuration says.
        AdoptionBroken = "adoption_broken",
        /// A client of the feed has not read for long, as the cursor says that it has left to the server.
        CursorLag = "cursor_lag",
    }
}

closed_set! {
    /// How bad it is, ascending.
    Severity {
        Info = "info",
        Warning = "warning",
        Critical = "critical",
    }
}

closed_set! {
    /// Where an alert is in its life.
    AlertStatus {
        /// The condition holds, not yet for long enough. Nothing is sent.
        Pending = "pending",
        Firing = "firing",
        /// An operator knows. Nothing is repeated until it grows worse or is over.
        Acknowledged = "acknowledged",
        Resolved = "resolved",
    }
}

impl AlertStatus {
    /// Whether the condition was sent and holds.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Firing | Self::Acknowledged)
    }
}

/// One condition, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Alert {
    #[schema(value_type = String)]
    pub kind: AlertKind,
    /// The handler, channel, table or cursor it is about; empty: the relay as a whole.
    pub subject: String,
    #[schema(value_type = String)]
    pub severity: Severity,
    #[schema(value_type = String)]
    pub status: AlertStatus,
    /// Since when the condition holds, as far as that is known.
    pub started_at: Timestamp,
    pub last_seen_at: Timestamp,
    /// Of the last change that is sent.
    pub changed_at: Timestamp,
    /// Rises with every such change.
    pub revision: u64,
    /// How many events (failures, for a channel) it concerns.
    pub count: u64,
    /// The age of the oldest event, where that is what is wrong.
    pub age_seconds: Option<u64>,
    /// Details beyond the kind: a reason, an error.
    pub detail: Option<String>,
    pub sample: Option<Sample>,
    /// `count` when channels were last sent that it has grown, and when that was.
    pub told_count: u64,
    pub told_at: Timestamp,
    /// Since when the condition looks over; `None`: it holds.
    pub clear_since: Option<Timestamp>,
    /// Nothing is sent before this moment.
    pub snoozed_until: Option<Timestamp>,
    pub acknowledged_by: Option<String>,
}

/// One event as an example of what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Sample {
    pub event: Uuid,
    pub event_type: String,
    pub error: Option<String>,
    /// Only if the configuration wants payloads to leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

impl Alert {
    /// Its name everywhere: `dead_letters/billing`, `database`.
    pub fn key(&self) -> String {
        key(self.kind, &self.subject)
    }

    /// An alert as it may look, for trying out a channel and for tests: dead letters that fired and grew.
    pub fn example(at: Timestamp) -> Self {
        let sample = Sample {
            event: Uuid::from_u128(0x018f_0000_0000_7000_8000_0000_0000_0001),
            event_type: "order.placed".to_owned(),
            error: Some("server_error (500): the receiver is on fire".to_owned()),
            payload: None,
        };
        Self {
            kind: AlertKind::DeadLetters,
            subject: "billing".to_owned(),
            severity: Severity::Critical,
            status: AlertStatus::Firing,
            started_at: at,
            last_seen_at: at,
            changed_at: at,
            revision: 2,
            count: 3,
            age_seconds: None,
            detail: None,
            sample: Some(sample),
            told_count: 3,
            told_at: at,
            clear_since: None,
            snoozed_until: None,
            acknowledged_by: None,
        }
    }

    pub fn is_snoozed(&self, now: Timestamp) -> bool {
        self.snoozed_until.is_some_and(|until| until > now)
    }

    /// The handler it is about.
    pub fn handler(&self) -> Option<&str> {
        let is_of_relay = matches!(
            self.kind,
            AlertKind::Database
                | AlertKind::ChannelFailed
                | AlertKind::ConfigReloadFailed
                | AlertKind::AdoptionBroken
                | AlertKind::CursorLag
        );
        (!is_of_relay && !self.subject.is_empty()).then_some(self.subject.as_str())
    }

    /// The command that shows it, or fixes it where one command can.
    pub fn command(&self) -> String {
        let name = &self.subject;
        match self.kind {
            AlertKind::DeadLetters => format!("outboxd dead-letters list --handler {name}"),
            AlertKind::BacklogAge => "outboxd status".to_owned(),
            AlertKind::CircuitOpen => circuit_command(name, self.detail.as_deref()),
            AlertKind::Database => "outboxd check --connect".to_owned(),
            AlertKind::HandlerPaused => format!("outboxd handlers resume {name}"),
            AlertKind::RelayNotPolling => "outboxd status".to_owned(),
            AlertKind::HandlerStuck => "outboxd doctor".to_owned(),
            AlertKind::ChannelFailed => format!("outboxd alerts test {name}"),
            AlertKind::ConfigReloadFailed => "outboxd check".to_owned(),
            AlertKind::AdoptionBroken => "outboxd doctor".to_owned(),
            AlertKind::CursorLag => "outboxd feed status".to_owned(),
        }
    }
}

/// [`Alert::key`] of an alert that need not exist.
pub fn key(kind: AlertKind, subject: &str) -> String {
    if subject.is_empty() { kind.to_string() } else { format!("{kind}/{subject}") }
}

/// The notices that one channel is sent together.
#[derive(Debug, Clone, PartialEq)]
pub struct Notices {
    /// The same for the same content, so that a receiver recognises what it has seen.
    pub id: String,
    /// Names the deployment.
    pub relay: String,
    /// Where operators look, if anywhere.
    pub external_url: Option<String>,
    pub at: Timestamp,
    pub notices: Vec<Notice>,
}

/// One alert among the notices of a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    pub change: Change,
    pub alert: Alert,
    /// The id of the first notice to this channel; `None`: this is the first.
    pub thread: Option<String>,
}

impl Notices {
    /// Whether all of them are over.
    pub fn is_resolved(&self) -> bool {
        self.notices.iter().all(|notice| notice.change == Change::Resolved)
    }

    /// The worst of what is not over; of all, if all is over.
    pub fn severity(&self) -> Severity {
        let worst =
            |over: bool| self.notices.iter().filter(|n| over || n.change != Change::Resolved).map(|n| n.alert.severity).max();
        worst(false).or_else(|| worst(true)).unwrap_or(Severity::Info)
    }
}

/// Long enough to be of use, short enough for a line.
pub const SAMPLE_ERROR_CHARS: usize = 300;

/// How long a resolved alert is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn at(second: u64) -> Timestamp {
        Timestamp::from_micros(second.cast_signed() * 1_000_000)
    }

    pub(super) fn policy() -> AlertPolicy {
        AlertPolicy {
            dead_letters_factor: 10,
            dead_letters_again: Duration::from_secs(86_400),
            backlog_age: Duration::from_secs(300),
            backlog_for: Duration::from_secs(120),
            backlog_critical: Duration::from_secs(1_800),
            circuit_open_for: Duration::from_secs(300),
            cursor_lag: Duration::from_secs(86_400),
            paused_for: Duration::from_secs(4 * 3600),
            not_polling_for: Duration::from_secs(60),
            database_for: Duration::from_secs(60),
            channel_failures: 3,
            group_wait: Duration::from_secs(10),
            repeat_interval: Duration::from_secs(4 * 3600),
        }
    }

    /// Fired and raised once, at second 100.
    pub(super) fn alert() -> Alert {
        Alert::example(at(100))
    }

    #[test]
    fn a_key_names_the_kind_and_what_it_is_about() {
        assert_eq!(alert().key(), "dead_letters/billing");
        assert_eq!(key(AlertKind::Database, ""), "database");
        for kind in AlertKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert!(Alert { kind: *kind, ..alert() }.command().starts_with("outboxd "), "{kind}");
        }
    }

    #[test]
    fn the_worst_that_is_not_over_decides() {
        let notice = |change, severity| Notice { change, alert: Alert { severity, ..alert() }, thread: None };
        let told = |notices| Notices { id: String::new(), relay: String::new(), external_url: None, at: at(0), notices };
        let mixed = told(vec![notice(Change::Resolved, Severity::Critical), notice(Change::Fired, Severity::Info)]);
        assert_eq!((mixed.severity(), mixed.is_resolved()), (Severity::Info, false));
        let over = told(vec![notice(Change::Resolved, Severity::Critical), notice(Change::Resolved, Severity::Info)]);
        assert_eq!((over.severity(), over.is_resolved()), (Severity::Critical, true));
    }
}
