//! Notices: what to send to a channel about an alert, and when. Compares the alert with what this channel was last sent (its
//! revision and state). A channel that was unavailable is therefore sent what is true now, and not everything that happened
//! meanwhile.
//!
//! Refreshes go on while an alert is snoozed. A receiver such as Alertmanager forgets an alert that is not refreshed and reports
//! it as resolved, which would be wrong.

use std::time::Duration;

use super::{Alert, AlertKind, AlertPolicy, AlertStatus, Severity};
use crate::domain::Timestamp;

/// Why a channel is sent a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    Fired,
    /// It grew worse, or is news again.
    Raised,
    /// It is still firing, and `repeat_interval` is over.
    Repeated,
    /// It is still firing; only for receivers that forget an alert that is not refreshed. It calls no operator.
    Refreshed,
    Acknowledged,
    Resolved,
}

impl Change {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Raised => "raised",
            Self::Repeated => "repeated",
            Self::Refreshed => "refreshed",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// The last notice of an alert that a channel was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub revision: u64,
    /// The channel was sent that it fires, and not that it is over.
    pub is_firing: bool,
    pub sent_at: Timestamp,
    /// The id of the first notice of this firing.
    pub thread: Option<String>,
}

/// How a channel listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    /// Milder alerts are not for it.
    pub severity: Severity,
    /// It forgets an alert that is not refreshed within this time, and repeats alerts on its own.
    pub refresh: Option<Duration>,
    /// It wants to know that an operator knows.
    pub wants_acknowledgements: bool,
}

/// A notice, and from when on it may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub change: Change,
    pub at: Timestamp,
}

/// The next notice of this alert for this channel; `None`: there is nothing new.
pub fn next_notice(alert: &Alert, told: Option<&Told>, listener: &Listener, policy: &AlertPolicy, now: Timestamp) -> Option<Due> {
    if alert.severity < listener.severity || is_about(alert, &listener.name) {
        return None;
    }
    let believed = told.filter(|told| told.is_firing);
    let refresh = believed.and_then(|told| Some(Due { change: Change::Refreshed, at: told.sent_at.after(listener.refresh?) }));
    if alert.is_snoozed(now) {
        // A receiver that forgets would say that it is over, which is not true.
        return refresh.filter(|_| alert.status.is_active());
    }
    let changed = |change| Some(Due { change, at: alert.changed_at.after(policy.group_wait) });
    let is_news = believed.is_some_and(|told| told.revision < alert.revision);
    match (alert.status, believed) {
        (AlertStatus::Pending, _) | (AlertStatus::Acknowledged | AlertStatus::Resolved, None) => None,
        (AlertStatus::Firing, None) => changed(Change::Fired),
        (AlertStatus::Firing, Some(_)) if is_news => changed(Change::Raised),
        (AlertStatus::Firing, Some(told)) => refresh.or_else(|| {
            let is_repeated = !policy.repeat_interval.is_zero();
            is_repeated.then(|| Due { change: Change::Repeated, at: told.sent_at.after(policy.repeat_interval) })
        }),
        (AlertStatus::Acknowledged, Some(_)) if is_news && listener.wants_acknowledgements => changed(Change::Acknowledged),
        (AlertStatus::Acknowledged, Some(_)) => refresh,
        (AlertStatus::Resolved, Some(_)) => changed(Change::Resolved),
    }
}

/// Which of these go out together now; empty: none is due yet. Once one has waited for long enough, all go that are known,
/// those included that would follow within a `group_wait`. `dues` are the results of [`next_notice`].
pub fn batch(dues: &[Due], most: usize, policy: &AlertPolicy, now: Timestamp) -> Vec<usize> {
    if !dues.iter().any(|due| due.at <= now) {
        return Vec::new();
    }
    let mut together: Vec<usize> = (0..dues.len()).filter(|place| dues[*place].at <= now.after(policy.group_wait)).collect();
    together.sort_by_key(|place| dues[*place].at);
    together.truncate(most.max(1));
    together
}

/// A channel is not sent its own trouble: the notice would not arrive, and when it does the trouble is over.
fn is_about(alert: &Alert, channel: &str) -> bool {
    alert.kind == AlertKind::ChannelFailed && alert.subject == channel
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{alert, at, policy};
    use super::*;

    fn listener() -> Listener {
        Listener { name: "slack".to_owned(), severity: Severity::Info, refresh: None, wants_acknowledgements: false }
    }

    fn told(revision: u64, is_firing: bool, second: u64) -> Told {
        Told { revision, is_firing, sent_at: at(second), thread: None }
    }

    fn due(change: Change, second: u64) -> Option<Due> {
        Some(Due { change, at: at(second) })
    }

    #[test]
    fn a_channel_is_told_what_is_and_what_it_does_not_know_yet() {
        use AlertStatus::{Acknowledged, Firing, Pending, Resolved};
        let repeat = 4 * 3600;
        // The alert changed at second 100 and has revision 2.
        let table = [
            (Firing, None, due(Change::Fired, 110)),
            (Firing, Some(told(1, true, 50)), due(Change::Raised, 110)),
            (Firing, Some(told(2, true, 111)), due(Change::Repeated, 111 + repeat)),
            (Firing, Some(told(1, false, 50)), due(Change::Fired, 110)),
            (Resolved, None, None), // it came and went before a notice was sent
            (Resolved, Some(told(1, false, 50)), None),
            (Resolved, Some(told(1, true, 50)), due(Change::Resolved, 110)),
            (Acknowledged, None, None),
            (Acknowledged, Some(told(1, true, 50)), None),
            (Pending, None, None),
            (Pending, Some(told(1, true, 50)), None),
        ];
        for (status, told, want) in table {
            let alert = Alert { status, ..alert() };
            assert_eq!(next_notice(&alert, told.as_ref(), &listener(), &policy(), at(200)), want, "{status} {told:?}");
        }
    }

    #[test]
    fn a_receiver_that_forgets_is_told_again_and_not_repeated_to() {
        let forgetful = Listener { refresh: Some(Duration::from_secs(60)), ..listener() };
        let known = told(2, true, 111);
        for status in [AlertStatus::Firing, AlertStatus::Acknowledged] {
            let alert = Alert { status, ..alert() };
            assert_eq!(next_notice(&alert, Some(&known), &forgetful, &policy(), at(200)), due(Change::Refreshed, 171));
        }
        let snoozed = Alert { snoozed_until: Some(at(900)), ..alert() };
        assert_eq!(next_notice(&snoozed, Some(&known), &forgetful, &policy(), at(200)), due(Change::Refreshed, 171));
        assert_eq!(next_notice(&snoozed, None, &forgetful, &policy(), at(200)), None);
    }

    #[test]
    fn an_acknowledgement_is_for_those_who_want_it() {
        let pager = Listener { wants_acknowledgements: true, ..listener() };
        let alert = Alert { status: AlertStatus::Acknowledged, ..alert() };
        assert_eq!(next_notice(&alert, Some(&told(1, true, 50)), &pager, &policy(), at(200)), due(Change::Acknowledged, 110));
        assert_eq!(next_notice(&alert, Some(&told(2, true, 111)), &pager, &policy(), at(200)), None);
    }

    #[test]
    fn a_snooze_is_silent_and_the_truth_comes_after_it() {
        for status in [AlertStatus::Firing, AlertStatus::Resolved] {
            let snoozed = Alert { status, snoozed_until: Some(at(500)), ..alert() };
            let known = told(1, true, 50);
            assert_eq!(next_notice(&snoozed, Some(&known), &listener(), &policy(), at(499)), None);
            assert!(next_notice(&snoozed, Some(&known), &listener(), &policy(), at(500)).is_some());
        }
    }

    #[test]
    fn mild_alerts_and_its_own_trouble_are_not_for_a_channel() {
        let strict = Listener { severity: Severity::Critical, ..listener() };
        let mild = Alert { severity: Severity::Warning, ..alert() };
        assert_eq!(next_notice(&mild, None, &strict, &policy(), at(200)), None);
        let own = Alert { kind: AlertKind::ChannelFailed, subject: "slack".to_owned(), ..alert() };
        assert_eq!(next_notice(&own, None, &listener(), &policy(), at(200)), None);
        assert!(next_notice(&Alert { subject: "mail".to_owned(), ..own }, None, &listener(), &policy(), at(200)).is_some());
    }

    #[test]
    fn without_an_interval_nothing_is_repeated() {
        let once = AlertPolicy { repeat_interval: Duration::ZERO, ..policy() };
        assert_eq!(next_notice(&alert(), Some(&told(2, true, 111)), &listener(), &once, at(1_000_000)), None);
    }

    #[test]
    fn what_is_due_takes_along_what_would_follow_soon() {
        let dues = [110, 115, 121, 130].map(|second| Due { change: Change::Fired, at: at(second) });
        assert_eq!(batch(&dues, 100, &policy(), at(109)), Vec::<usize>::new());
        assert_eq!(batch(&dues, 100, &policy(), at(110)), [0, 1]);
        assert_eq!(batch(&dues, 100, &policy(), at(111)), [0, 1, 2]);
        assert_eq!(batch(&dues, 1, &policy(), at(111)), [0]);
    }

    proptest! {
        /// An alert that does not change is sent at most once per `repeat_interval`, however often it is evaluated.
        #[test]
        fn nobody_is_flooded(looks in proptest::collection::vec(1u64..4_000, 1..200)) {
            let (alert, policy) = (alert(), policy());
            let (mut second, mut known, mut sent) = (100, None::<Told>, Vec::new());
            for pause in looks {
                second += pause;
                let next = next_notice(&alert, known.as_ref(), &listener(), &policy, at(second));
                if next.is_some_and(|next| next.at <= at(second)) {
                    sent.push(second);
                    known = Some(told(alert.revision, true, second));
                }
            }
            prop_assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= policy.repeat_interval.as_secs()));
        }
    }
}
