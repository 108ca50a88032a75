//! When an alert fires, grows worse, and is over: one function of the previous state, the measurement, the policy and the time.
//!
//! A threshold is reached with `>=`, because counts jump. A value that can hover must fall well below its threshold before the
//! alert is over.
//!
//! An alert is `pending` while its condition holds but not yet for long enough. A pending alert is stored, so that a new owner
//! does not start the wait anew, and it is not sent to any channel. A change that an operator must know of raises the *revision*
//! of the alert; `notices` compares revisions.

use std::time::Duration;

use super::{Alert, AlertKind, AlertStatus, Sample, Severity};
use crate::domain::Timestamp;

/// The thresholds, as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertPolicy {
    /// Growth since the last notice that makes dead letters news again.
    pub dead_letters_factor: u64,
    /// Time after which dead letters that are still there are news again; zero: never.
    pub dead_letters_again: Duration,
    pub backlog_age: Duration,
    /// How long the backlog must be that old, or young again.
    pub backlog_for: Duration,
    /// Age above which an old backlog is critical.
    pub backlog_critical: Duration,
    pub circuit_open_for: Duration,
    /// Age of the oldest event that a client has not read; zero: never told.
    pub cursor_lag: Duration,
    pub paused_for: Duration,
    pub not_polling_for: Duration,
    pub database_for: Duration,
    /// Failures in a row after which a channel is one that failed.
    pub channel_failures: u64,
    /// Changes wait this long for others, to be sent together.
    pub group_wait: Duration,
    /// Time after which a firing alert is sent again; zero: never.
    pub repeat_interval: Duration,
}

/// The measurement of one subject.
#[derive(Debug, Clone, PartialEq)]
pub enum Measure {
    DeadLetters,
    /// `None`: nothing is unfinished.
    BacklogAge(Option<Duration>),
    /// `None`: closed. `is_fault`: the handler cannot work for any event, whatever the time.
    CircuitOpen {
        open: Option<Duration>,
        is_fault: bool,
    },
    Paused(Option<Duration>),
    NotPolling(Option<Duration>),
    /// `None`: it reads and records.
    Stuck(Option<Duration>),
    Database(Option<Duration>),
    ChannelFailed,
    ConfigReloadFailed,
    AdoptionBroken,
    /// `None`: the client has read everything.
    CursorLag(Option<Duration>),
}

/// One look at one condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    pub subject: String,
    pub measure: Measure,
    /// How many events (failures, for a channel) it concerns.
    pub count: u64,
    pub detail: Option<String>,
    pub sample: Option<Sample>,
}

impl Observation {
    pub fn new(subject: impl Into<String>, measure: Measure, count: u64) -> Self {
        Self { subject: subject.into(), measure, count, detail: None, sample: None }
    }

    #[must_use]
    pub fn detail(self, detail: Option<String>) -> Self {
        Self { detail, ..self }
    }

    #[must_use]
    pub fn sample(self, sample: Option<Sample>) -> Self {
        Self { sample, ..self }
    }

    /// The last reload of the configuration: `Some` says why it was refused.
    pub fn config_reload(refused: Option<String>) -> Self {
        Self::new("", Measure::ConfigReloadFailed, u64::from(refused.is_some())).detail(refused)
    }

    /// The cursor `name` of a client: so many places of the feed lie behind it, the first of them so old.
    pub fn cursor_lag((client, name): (&str, &str), behind: u64, oldest: Option<Duration>) -> Self {
        Self::new(format!("{client}/{name}"), Measure::CursorLag(oldest), behind)
    }

    /// An adopted table that is broken, and what is wrong with it.
    pub fn broken_adoption(table: String, why: String) -> Self {
        Self::new(table, Measure::AdoptionBroken, 1).detail(Some(why))
    }

    /// The subject of the alert is gone: a handler was forgotten, a channel is no longer configured.
    pub fn gone(alert: &Alert) -> Self {
        let measure = match alert.kind {
            AlertKind::DeadLetters => Measure::DeadLetters,
            AlertKind::BacklogAge => Measure::BacklogAge(None),
            AlertKind::CircuitOpen => Measure::CircuitOpen { open: None, is_fault: false },
            AlertKind::HandlerPaused => Measure::Paused(None),
            AlertKind::RelayNotPolling => Measure::NotPolling(None),
            AlertKind::HandlerStuck => Measure::Stuck(None),
            AlertKind::Database => Measure::Database(None),
            AlertKind::ChannelFailed => Measure::ChannelFailed,
            AlertKind::ConfigReloadFailed => Measure::ConfigReloadFailed,
            AlertKind::AdoptionBroken => Measure::AdoptionBroken,
            AlertKind::CursorLag => Measure::CursorLag(None),
        };
        Self::new(&alert.subject, measure, 0)
    }

    pub fn kind(&self) -> AlertKind {
        match self.measure {
            Measure::DeadLetters => AlertKind::DeadLetters,
            Measure::BacklogAge(_) => AlertKind::BacklogAge,
            Measure::CircuitOpen { .. } => AlertKind::CircuitOpen,
            Measure::Paused(_) => AlertKind::HandlerPaused,
            Measure::NotPolling(_) => AlertKind::RelayNotPolling,
            Measure::Stuck(_) => AlertKind::HandlerStuck,
            Measure::Database(_) => AlertKind::Database,
            Measure::ChannelFailed => AlertKind::ChannelFailed,
            Measure::ConfigReloadFailed => AlertKind::ConfigReloadFailed,
            Measure::AdoptionBroken => AlertKind::AdoptionBroken,
            Measure::CursorLag(_) => AlertKind::CursorLag,
        }
    }

    pub fn key(&self) -> String {
        super::key(self.kind(), &self.subject)
    }

    /// How long it has been so, where the measure knows.
    fn lasted(&self) -> Option<Duration> {
        match self.measure {
            Measure::CircuitOpen { open, .. } => open,
            Measure::Paused(lasted) | Measure::NotPolling(lasted) | Measure::Stuck(lasted) | Measure::Database(lasted) => lasted,
            _ => None,
        }
    }

    fn age_seconds(&self) -> Option<u64> {
        match self.measure {
            Measure::BacklogAge(age) | Measure::CursorLag(age) => age.map(|age| age.as_secs()),
            _ => None,
        }
    }
}

/// The severity and state that follow from a measurement alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Holds(Severity),
    /// Not bad enough to begin, not good enough to end.
    Between,
    Clear,
}

/// The alert after one more look; `None`: there is none. A change that is sent raises the revision.
pub fn step(known: Option<Alert>, seen: &Observation, policy: &AlertPolicy, now: Timestamp) -> Option<Alert> {
    let judgement = judge(seen, policy);
    match (known, judgement) {
        (None, Judgement::Holds(severity)) => Some(begin(None, seen, severity, policy, now)),
        (None, _) => None,
        (Some(alert), judgement) => match (alert.status, judgement) {
            (AlertStatus::Resolved, Judgement::Holds(severity)) => Some(begin(Some(&alert), seen, severity, policy, now)),
            (AlertStatus::Resolved, _) => Some(alert),
            (AlertStatus::Pending, Judgement::Holds(severity)) => Some(ripen(alert, seen, severity, policy, now)),
            // It was never sent, so only its previous state is left.
            (AlertStatus::Pending, _) => {
                (alert.revision > 0).then_some(Alert { status: AlertStatus::Resolved, clear_since: None, ..alert })
            }
            (_, Judgement::Holds(severity)) => Some(go_on(alert, seen, severity, policy, now)),
            (_, Judgement::Between) => Some(Alert { clear_since: None, ..look(alert, seen, now) }),
            (_, Judgement::Clear) => Some(calm_down(alert, hold_time(seen, policy), now)),
        },
    }
}

fn judge(seen: &Observation, policy: &AlertPolicy) -> Judgement {
    use Judgement::{Between, Clear, Holds};
    let lasts = |lasted: Option<Duration>, bound, severity| match lasted {
        Some(lasted) if lasted >= bound => Holds(severity),
        Some(_) => Between,
        None => Clear,
    };
    match seen.measure {
        Measure::DeadLetters if seen.count >= 1 => Holds(Severity::Critical),
        Measure::BacklogAge(Some(age)) if age >= policy.backlog_critical => Holds(Severity::Critical),
        Measure::BacklogAge(Some(age)) if age >= policy.backlog_age => Holds(Severity::Warning),
        Measure::BacklogAge(Some(age)) if age >= policy.backlog_age / 2 => Between,
        Measure::CursorLag(_) if policy.cursor_lag.is_zero() => Clear,
        Measure::CursorLag(Some(age)) if age >= policy.cursor_lag => Holds(Severity::Warning),
        Measure::CursorLag(Some(age)) if age >= policy.cursor_lag / 2 => Between,
        Measure::CircuitOpen { open: Some(_), is_fault: true } => Holds(Severity::Warning),
        Measure::CircuitOpen { open, .. } => lasts(open, policy.circuit_open_for, Severity::Warning),
        Measure::Paused(lasted) => lasts(lasted, policy.paused_for, Severity::Info),
        Measure::NotPolling(lasted) | Measure::Stuck(lasted) => lasts(lasted, policy.not_polling_for, Severity::Critical),
        Measure::Database(lasted) => lasts(lasted, policy.database_for, Severity::Critical),
        Measure::ChannelFailed if seen.count >= policy.channel_failures => Holds(Severity::Warning),
        Measure::ChannelFailed if seen.count > 0 => Between,
        Measure::ConfigReloadFailed if seen.count > 0 => Holds(Severity::Warning),
        Measure::AdoptionBroken if seen.count > 0 => Holds(Severity::Critical),
        Measure::DeadLetters
        | Measure::BacklogAge(_)
        | Measure::ChannelFailed
        | Measure::ConfigReloadFailed
        | Measure::AdoptionBroken
        | Measure::CursorLag(_) => Clear,
    }
}

/// How long a condition must hold, or be clear. The others know by themselves how long they have lasted.
fn hold_time(seen: &Observation, policy: &AlertPolicy) -> Duration {
    if matches!(seen.measure, Measure::BacklogAge(_)) { policy.backlog_for } else { Duration::ZERO }
}

fn begin(last: Option<&Alert>, seen: &Observation, severity: Severity, policy: &AlertPolicy, now: Timestamp) -> Alert {
    let alert = Alert {
        kind: seen.kind(),
        subject: seen.subject.clone(),
        severity,
        status: AlertStatus::Pending,
        started_at: seen.lasted().map_or(now, |lasted| now.before(lasted)),
        last_seen_at: now,
        changed_at: last.map_or(now, |last| last.changed_at),
        revision: last.map_or(0, |last| last.revision),
        count: seen.count,
        age_seconds: seen.age_seconds(),
        detail: seen.detail.clone(),
        sample: seen.sample.clone(),
        told_count: 0,
        told_at: now,
        clear_since: None,
        // An operator who snoozed this condition has snoozed it, however often it comes back meanwhile.
        snoozed_until: last.and_then(|last| last.snoozed_until),
        acknowledged_by: None,
    };
    ripen(alert, seen, severity, policy, now)
}

/// Fires once the condition has held for long enough.
fn ripen(alert: Alert, seen: &Observation, severity: Severity, policy: &AlertPolicy, now: Timestamp) -> Alert {
    let alert = Alert { severity, ..look(alert, seen, now) };
    if now.since(alert.started_at) < hold_time(seen, policy) {
        return alert;
    }
    news(Alert { status: AlertStatus::Firing, ..alert }, now)
}

fn go_on(alert: Alert, seen: &Observation, severity: Severity, policy: &AlertPolicy, now: Timestamp) -> Alert {
    let before = alert.severity;
    // The severity does not fall while the alert lasts: an operator who was called at night should not find a warning.
    let alert = Alert { severity: before.max(severity), clear_since: None, ..look(alert, seen, now) };
    let has_grown = alert.kind == AlertKind::DeadLetters
        && alert.count >= alert.told_count.max(1).saturating_mul(policy.dead_letters_factor.max(2));
    if alert.severity > before || has_grown {
        // An acknowledgement is of what was known then.
        return news(Alert { status: AlertStatus::Firing, acknowledged_by: None, ..alert }, now);
    }
    let is_due_again = alert.kind == AlertKind::DeadLetters
        && alert.status == AlertStatus::Firing
        && !policy.dead_letters_again.is_zero()
        && now.since(alert.told_at) >= policy.dead_letters_again;
    if is_due_again { news(alert, now) } else { alert }
}

fn calm_down(alert: Alert, clear_for: Duration, now: Timestamp) -> Alert {
    let clear_since = alert.clear_since.unwrap_or(now);
    if now.since(clear_since) < clear_for {
        return Alert { clear_since: Some(clear_since), ..alert };
    }
    let over = Alert { status: AlertStatus::Resolved, clear_since: None, acknowledged_by: None, ..alert };
    Alert { changed_at: now, revision: over.revision + 1, ..over }
}

fn look(alert: Alert, seen: &Observation, now: Timestamp) -> Alert {
    Alert {
        last_seen_at: now,
        count: seen.count,
        age_seconds: seen.age_seconds(),
        detail: seen.detail.clone(),
        sample: seen.sample.clone().or(alert.sample),
        ..alert
    }
}

fn news(alert: Alert, now: Timestamp) -> Alert {
    Alert { changed_at: now, revision: alert.revision + 1, told_count: alert.count, told_at: now, ..alert }
}

#[cfg(test)]
mod tests;
