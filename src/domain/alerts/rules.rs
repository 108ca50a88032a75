//! When an alert fires, grows worse, and is over: one function of what was, what was measured, the policy and the time.
//! A threshold is reached with `>=`: counts jump. Where a value can hover, it must fall well below before the alert is over.

use std::time::Duration;

use super::{Alert, AlertKind, AlertStatus, Sample, Severity};
use crate::domain::Timestamp;

/// The thresholds, as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertPolicy {
    /// Growth since people were last told that makes dead letters news again.
    pub dead_letters_factor: u64,
    /// Time after which dead letters that are still there are news again.
    pub dead_letters_again: Duration,
    pub backlog_age: Duration,
    /// How long the backlog must be that old, or young again.
    pub backlog_for: Duration,
    /// Age above which an old backlog is critical.
    pub backlog_critical: Duration,
    pub circuit_open_for: Duration,
    pub paused_for: Duration,
    pub not_polling_for: Duration,
    pub database_for: Duration,
    /// Failures in a row after which a channel is one that failed.
    pub channel_failures: u64,
    /// Changes wait this long for others, to be told together.
    pub group_wait: Duration,
    /// Time after which a firing alert is told again; zero: never.
    pub repeat_interval: Duration,
}

/// What was measured about one subject.
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
    Database(Option<Duration>),
    ChannelFailed,
    ConfigReloadFailed,
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

    /// What an alert was about is gone: a handler was forgotten, a channel is no longer configured.
    pub fn gone(alert: &Alert) -> Self {
        let measure = match alert.kind {
            AlertKind::DeadLetters => Measure::DeadLetters,
            AlertKind::BacklogAge => Measure::BacklogAge(None),
            AlertKind::CircuitOpen => Measure::CircuitOpen { open: None, is_fault: false },
            AlertKind::HandlerPaused => Measure::Paused(None),
            AlertKind::RelayNotPolling => Measure::NotPolling(None),
            AlertKind::Database => Measure::Database(None),
            AlertKind::ChannelFailed => Measure::ChannelFailed,
            AlertKind::ConfigReloadFailed => Measure::ConfigReloadFailed,
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
            Measure::Database(_) => AlertKind::Database,
            Measure::ChannelFailed => AlertKind::ChannelFailed,
            Measure::ConfigReloadFailed => AlertKind::ConfigReloadFailed,
        }
    }

    pub fn key(&self) -> String {
        super::key(self.kind(), &self.subject)
    }

    /// How long it has been so, where the measure knows.
    fn lasted(&self) -> Option<Duration> {
        match self.measure {
            Measure::CircuitOpen { open, .. } => open,
            Measure::Paused(lasted) | Measure::NotPolling(lasted) | Measure::Database(lasted) => lasted,
            _ => None,
        }
    }

    fn age_seconds(&self) -> Option<u64> {
        match self.measure {
            Measure::BacklogAge(age) => age.map(|age| age.as_secs()),
            _ => None,
        }
    }
}

/// What a measure says by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Holds(Severity),
    /// Not bad enough to begin, not good enough to end.
    Between,
    Clear,
}

/// The alert after one more look; `None`: there is none. A change that people are told of raises the revision.
pub fn step(known: Option<Alert>, seen: &Observation, policy: &AlertPolicy, now: Timestamp) -> Option<Alert> {
    let judgement = judge(seen, policy);
    match (known, judgement) {
        (None, Judgement::Holds(severity)) => Some(begin(None, seen, severity, policy, now)),
        (None, _) => None,
        (Some(alert), judgement) => match (alert.status, judgement) {
            (AlertStatus::Resolved, Judgement::Holds(severity)) => Some(begin(Some(&alert), seen, severity, policy, now)),
            (AlertStatus::Resolved, _) => Some(alert),
            (AlertStatus::Pending, Judgement::Holds(severity)) => Some(ripen(alert, seen, severity, policy, now)),
            // It was never told, so nothing is left of it but what was there before.
            (AlertStatus::Pending, _) => {
                (alert.revision > 0).then(|| Alert { status: AlertStatus::Resolved, clear_since: None, ..alert })
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
        Measure::CircuitOpen { open: Some(_), is_fault: true } => Holds(Severity::Warning),
        Measure::CircuitOpen { open, .. } => lasts(open, policy.circuit_open_for, Severity::Warning),
        Measure::Paused(lasted) => lasts(lasted, policy.paused_for, Severity::Info),
        Measure::NotPolling(lasted) => lasts(lasted, policy.not_polling_for, Severity::Critical),
        Measure::Database(lasted) => lasts(lasted, policy.database_for, Severity::Critical),
        Measure::ChannelFailed if seen.count >= policy.channel_failures => Holds(Severity::Warning),
        Measure::ChannelFailed if seen.count > 0 => Between,
        Measure::ConfigReloadFailed if seen.count > 0 => Holds(Severity::Warning),
        Measure::DeadLetters | Measure::BacklogAge(_) | Measure::ChannelFailed | Measure::ConfigReloadFailed => Clear,
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
        // A person who snoozed this condition has snoozed it, however often it comes back meanwhile.
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
    // It does not get better while it lasts: whoever was called at night should not find a warning.
    let alert = Alert { severity: before.max(severity), clear_since: None, ..look(alert, seen, now) };
    let has_grown = alert.kind == AlertKind::DeadLetters
        && alert.count >= alert.told_count.max(1).saturating_mul(policy.dead_letters_factor.max(2));
    if alert.severity > before || has_grown {
        // An acknowledgement is of what was known then.
        return news(Alert { status: AlertStatus::Firing, acknowledged_by: None, ..alert }, now);
    }
    let is_due_again = alert.kind == AlertKind::DeadLetters
        && alert.status == AlertStatus::Firing
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
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{at, policy};
    use super::*;

    const MINUTE: u64 = 60;

    fn dead(count: u64) -> Observation {
        Observation::new("billing", Measure::DeadLetters, count)
    }

    fn old(seconds: u64) -> Observation {
        Observation::new("billing", Measure::BacklogAge(Some(Duration::from_secs(seconds))), 1)
    }

    /// Status, severity and revision after each look, at its second.
    fn life(looks: &[(u64, Observation)]) -> Vec<String> {
        let mut alert = None;
        let look = |(second, seen): &(u64, Observation)| {
            alert = step(alert.take(), seen, &policy(), at(*second));
            let told = |alert: &Alert| format!("{} {} {}", alert.status, alert.severity, alert.revision);
            alert.as_ref().map_or_else(|| "-".to_owned(), told)
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn dead_letters_fire_at_once_grow_by_the_factor_and_resolve_at_zero() {
        let looks = [(0, 0), (1, 3), (2, 29), (3, 30), (4, 299), (5, 1_000), (6, 1), (7, 0), (8, 0), (9, 1)];
        assert_eq!(
            life(&looks.map(|(second, count)| (second, dead(count)))),
            [
                "-",
                "firing critical 1",
                "firing critical 1",
                "firing critical 2",
                "firing critical 2",
                "firing critical 3",
                "firing critical 3",
                "resolved critical 4",
                "resolved critical 4",
                "firing critical 5",
            ]
        );
    }

    #[test]
    fn dead_letters_that_stay_are_news_every_day() {
        let day = 86_400;
        let looks = [(0, 5), (day - 1, 5), (day, 5), (day + 1, 5), (2 * day, 5)];
        let revisions: Vec<_> = life(&looks.map(|(second, count)| (second, dead(count))));
        assert_eq!(
            revisions,
            ["firing critical 1", "firing critical 1", "firing critical 2", "firing critical 2", "firing critical 3"]
        );
    }

    #[test]
    fn a_backlog_must_be_old_for_a_while_and_young_for_a_while() {
        let looks = [
            (0, old(300)),
            (119, old(400)),
            (120, old(401)),
            (200, old(1_799)),
            (201, old(1_800)),
            (300, old(300)), // worse stays worse
            (310, old(299)),
            (320, old(150)), // between the two thresholds
            (330, old(149)),
            (400, old(150)), // back between them: it was not over
            (410, old(100)),
            (529, old(0)),
            (530, old(0)),
        ];
        assert_eq!(
            life(&looks),
            [
                "pending warning 0",
                "pending warning 0",
                "firing warning 1",
                "firing warning 1",
                "firing critical 2",
                "firing critical 2",
                "firing critical 2",
                "firing critical 2",
                "firing critical 2",
                "firing critical 2",
                "firing critical 2",
                "firing critical 2",
                "resolved critical 3",
            ]
        );
        assert_eq!(life(&[(0, old(300)), (60, old(200)), (61, old(300)), (179, old(300))]).last().unwrap(), "pending warning 0");
    }

    #[test]
    fn what_lasts_fires_when_it_has_lasted_and_resolves_when_it_is_over() {
        let open = |seconds: Option<u64>, is_fault| Measure::CircuitOpen { open: seconds.map(Duration::from_secs), is_fault };
        let lasting = |seconds: u64| Some(Duration::from_secs(seconds));
        let table = [
            (open(Some(299), false), "-"),
            (open(Some(300), false), "firing warning 1"),
            (open(Some(0), true), "firing warning 1"),
            (open(None, false), "-"),
            (Measure::Paused(lasting(4 * 3600 - 1)), "-"),
            (Measure::Paused(lasting(4 * 3600)), "firing info 1"),
            (Measure::NotPolling(lasting(59)), "-"),
            (Measure::NotPolling(lasting(60)), "firing critical 1"),
            (Measure::Database(lasting(59)), "-"),
            (Measure::Database(lasting(60)), "firing critical 1"),
            (Measure::Database(None), "-"),
        ];
        for (measure, want) in table {
            assert_eq!(life(&[(0, Observation::new("x", measure.clone(), 1))]), [want], "{measure:?}");
        }
        // An open circuit that is probed again stays what it is until it closes.
        let looks = [open(Some(300), false), open(Some(1), false), open(None, false)];
        let looks = looks.map(|measure| (1, Observation::new("x", measure, 1)));
        assert_eq!(life(&looks), ["firing warning 1", "firing warning 1", "resolved warning 2"]);
    }

    #[test]
    fn a_channel_fails_after_several_failures_and_recovers_with_the_next_success() {
        let failed = |count| (0, Observation::new("slack", Measure::ChannelFailed, count));
        assert_eq!(
            life(&[failed(1), failed(2), failed(5), failed(1), failed(0)]),
            ["-", "-", "firing warning 1", "firing warning 1", "resolved warning 2"]
        );
    }

    #[test]
    fn what_is_gone_is_over() {
        for kind in AlertKind::ALL {
            let alert = Alert { kind: *kind, ..super::super::tests::alert() };
            let gone = Observation::gone(&alert);
            assert_eq!((gone.kind(), gone.key()), (*kind, alert.key()));
            let first = step(Some(alert), &gone, &policy(), at(200));
            let last = step(first, &gone, &policy(), at(320)).expect("it is remembered");
            assert_eq!(last.status, AlertStatus::Resolved, "{kind}");
        }
    }

    #[test]
    fn a_refused_configuration_is_told_until_one_is_taken() {
        let refused = Observation::config_reload(Some("handlers.x: unknown key".to_owned()));
        let fired = step(None, &refused, &policy(), at(0)).expect("it fires");
        assert_eq!((fired.key().as_str(), fired.detail.as_deref()), ("config_reload_failed", Some("handlers.x: unknown key")));
        let over = step(Some(fired), &Observation::config_reload(None), &policy(), at(1)).expect("it is remembered");
        assert_eq!(over.status, AlertStatus::Resolved);
    }

    #[test]
    fn what_was_acknowledged_stays_so_until_it_grows_worse() {
        let fired = step(None, &dead(1), &policy(), at(0)).expect("it fires");
        let known = Alert { status: AlertStatus::Acknowledged, acknowledged_by: Some("ann".to_owned()), ..fired };
        let same = step(Some(known.clone()), &dead(9), &policy(), at(86_400 * 2)).expect("it lasts");
        assert_eq!((same.status, same.revision), (AlertStatus::Acknowledged, known.revision));
        let worse = step(Some(same), &dead(10), &policy(), at(86_400 * 2)).expect("it lasts");
        assert_eq!((worse.status, worse.acknowledged_by, worse.revision), (AlertStatus::Firing, None, known.revision + 1));
    }

    #[test]
    fn since_when_is_told_by_the_measure_if_it_knows() {
        let paused = Observation::new("x", Measure::Paused(Some(Duration::from_secs(5 * 3600))), 0);
        let fired = step(None, &paused, &policy(), at(100_000)).expect("it fires");
        assert_eq!(fired.started_at, at(100_000 - 5 * 3600));
        assert_eq!(step(None, &dead(1), &policy(), at(7)).map(|alert| alert.started_at), Some(at(7)));
    }

    fn looks() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
        proptest::collection::vec((0u64..200, 0u64..50, 0u64..2_500), 1..60)
    }

    proptest! {
        /// Whatever is measured: a revision never falls, it moves by one, and only together with the moment of the change.
        #[test]
        fn a_change_is_told_once(looks in looks()) {
            let (mut second, mut dead_one, mut old_one) = (0, None::<Alert>, None::<Alert>);
            for (pause, count, age) in looks {
                second += pause;
                for (alert, seen) in [(&mut dead_one, dead(count)), (&mut old_one, old(age))] {
                    let before = alert.clone();
                    *alert = step(alert.take(), &seen, &policy(), at(second));
                    let (was, is) = (before.as_ref().map_or(0, |a| a.revision), alert.as_ref().map_or(0, |a| a.revision));
                    prop_assert!(is == was || is == was + 1);
                    if is == was + 1 {
                        prop_assert_eq!(alert.as_ref().map(|a| a.changed_at), Some(at(second)));
                    }
                    let active = |a: &Option<Alert>| a.as_ref().is_some_and(|a| a.status.is_active());
                    prop_assert!(active(&before) == active(alert) || is == was + 1, "it began or ended untold");
                }
                prop_assert_eq!(dead_one.as_ref().is_some_and(|a| a.status.is_active()), count > 0);
            }
        }

        /// A backlog that never stays old for long enough calls nobody.
        #[test]
        fn a_flapping_backlog_is_silent(flaps in proptest::collection::vec(1u64..119, 1..50)) {
            let (mut second, mut alert) = (0, None);
            for held in flaps {
                alert = step(alert, &old(400), &policy(), at(second));
                second += held;
                alert = step(alert, &old(400), &policy(), at(second));
                second += 1;
                alert = step(alert, &old(3 * MINUTE), &policy(), at(second));
                prop_assert!(alert.is_none());
                second += 1;
            }
        }
    }
}
