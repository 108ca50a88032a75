//! What is sent to each channel, how the channel is doing, and what goes out next. One try at a time per channel, at most one a
//! second, and after a failure ever later. Touches no database; what must be stored is returned as rows.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use tracing::{debug, info, warn};

use crate::channels::{Channel, SendFailure};
use crate::config::{Alerts, ChannelConfig};
use crate::domain::alerts::{
    Alert, AlertKind, AlertStatus, Change, Due, Listener, Notice, Notices, Severity, Told, batch, next_notice,
};
use crate::domain::{Backoff, Timestamp};
use crate::store::alerts::{ChannelRow, NoticeRow};
use crate::telemetry::ChannelMetrics;

/// Between the beginnings of two tries of one channel.
const PACE: Duration = Duration::from_secs(1);

/// The longest pause after failures. Shorter than Alertmanager's memory, so that one lost refresh does not end an alert.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// One channel, and what it knows.
pub(super) struct Line {
    listener: Listener,
    channel: Arc<dyn Channel>,
    timeout: Duration,
    /// By the key of the alert.
    told: HashMap<String, Told>,
    pub row: ChannelRow,
    /// The part of `told` that is not stored yet.
    unsaved: HashSet<String>,
    is_row_unsaved: bool,
    is_busy: bool,
    next_try: Instant,
    metrics: ChannelMetrics,
}

/// A try that has ended.
pub(super) struct Sent {
    pub line: usize,
    notices: Notices,
    result: Result<(), SendFailure>,
}

/// The inputs of a look at the lines.
pub(super) struct Situation<'a> {
    pub alerts: &'a [Alert],
    pub config: &'a Alerts,
    pub relay: &'a str,
    pub now: Timestamp,
    /// No other instance can have taken over. If not, only notices are sent that do no harm when two instances send them.
    pub is_owner: bool,
}

impl Line {
    pub fn new(config: &ChannelConfig, channel: Arc<dyn Channel>) -> Self {
        let listener = Listener {
            name: config.name.clone(),
            severity: config.severity,
            refresh: channel.refresh(),
            wants_acknowledgements: channel.wants_acknowledgements(),
        };
        Self {
            listener,
            channel,
            timeout: config.timeout,
            told: HashMap::new(),
            row: empty_row(config),
            unsaved: HashSet::new(),
            is_row_unsaved: false,
            is_busy: false,
            next_try: Instant::now(),
            metrics: ChannelMetrics::new(&config.name),
        }
    }

    /// Takes up what is stored of it.
    pub fn take_up(&mut self, row: Option<ChannelRow>, notices: &[NoticeRow], now: Timestamp) {
        let mine = notices.iter().filter(|notice| notice.channel == self.listener.name);
        self.told = mine.map(|notice| (notice.alert.clone(), notice.told.clone())).collect();
        self.unsaved.clear();
        self.is_row_unsaved = false;
        let kind = self.row.kind.clone();
        if let Some(row) = row {
            self.row = ChannelRow { kind, ..row };
        }
        let pause = self.row.retry_at.map_or(Duration::ZERO, |retry_at| retry_at.since(now));
        // The last owner may have sent it something at this moment.
        self.next_try = Instant::now() + pause.max(PACE).min(LONGEST_PAUSE);
    }

    /// The next try, if one is due.
    pub fn begin(&mut self, place: usize, situation: &Situation<'_>) -> Option<BoxFuture<'static, Sent>> {
        if self.is_busy || Instant::now() < self.next_try {
            return None;
        }
        let notices = self.next(situation)?;
        self.is_busy = true;
        self.next_try = Instant::now() + PACE;
        let (channel, timeout) = (Arc::clone(&self.channel), self.timeout);
        Some(Box::pin(async move {
            let attempt = AssertUnwindSafe(tokio::time::timeout(timeout, channel.send(&notices))).catch_unwind();
            let result = match attempt.await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(SendFailure::transient(format!("no answer within {timeout:?}"))),
                Err(_) => Err(SendFailure::transient("the channel panicked; this is a bug, please report it")),
            };
            Sent { line: place, notices, result }
        }))
    }

    fn next(&self, situation: &Situation<'_>) -> Option<Notices> {
        let Situation { alerts, config, now, .. } = situation;
        let due = |alert: &'_ Alert| {
            let told = self.told.get(&alert.key());
            next_notice(alert, told, &self.listener, &config.policy, *now).filter(|due| may_go(alert, *due, situation.is_owner))
        };
        let (alerts, dues): (Vec<&Alert>, Vec<Due>) = alerts.iter().filter_map(|alert| Some((alert, due(alert)?))).unzip();
        let chosen = batch(&dues, self.channel.most_alerts(), &config.policy, *now);
        let notice = |place: usize| {
            let (alert, change) = (alerts[place], dues[place].change);
            let told = self.told.get(&alert.key()).filter(|told| told.is_firing);
            Notice { change, alert: alert.clone(), thread: told.and_then(|told| told.thread.clone()) }
        };
        let notices: Vec<Notice> = chosen.into_iter().map(notice).collect();
        (!notices.is_empty()).then(|| Notices {
            id: self.id_of(&notices),
            relay: situation.relay.to_owned(),
            external_url: config.external_url.clone(),
            at: *now,
            notices,
        })
    }

    /// The same for the same content: what a dead owner has sent and not noted, its successor sends under the same id.
    fn id_of(&self, notices: &[Notice]) -> String {
        let mut hash = Sha256::new();
        hash.update(self.listener.name.as_bytes());
        for notice in notices {
            let told = self.told.get(&notice.alert.key()).map_or(0, |told| told.sent_at.as_micros());
            let (key, started_at) = (notice.alert.key(), notice.alert.started_at.as_micros());
            hash.update(format!("\n{key} {started_at} {} {} {told}", notice.alert.revision, notice.change.as_str()).as_bytes());
        }
        hash.finalize()[..16].iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes everything");
            text
        })
    }

    /// Enters how a try ended. `draw` is in [0, 1).
    pub fn enter(&mut self, sent: Sent, now: Timestamp, draw: f64) {
        self.is_busy = false;
        self.is_row_unsaved = true;
        self.metrics.tried(sent.result.is_ok());
        let alerts = sent.notices.notices.len();
        match sent.result {
            Ok(()) => {
                if self.row.failures > 0 {
                    info!(channel = self.listener.name, "the alert channel works again");
                }
                self.row = ChannelRow { last_sent_at: Some(now), failures: 0, retry_at: None, ..self.row.clone() };
                debug!(channel = self.listener.name, alerts, "alerts were sent");
                sent.notices.notices.iter().for_each(|notice| self.remember(notice, &sent.notices));
            }
            Err(failure) => {
                let failures = self.row.failures.saturating_add(1);
                let pause = if failure.is_permanent { LONGEST_PAUSE } else { pauses().delay(failures, draw) };
                let pause = pause.max(failure.retry_after.unwrap_or_default());
                let (channel, retry_in) = (self.listener.name.as_str(), pause);
                warn!(channel, alerts, failures, error = %failure, ?retry_in, "could not send alerts");
                self.next_try = Instant::now() + pause;
                self.row = ChannelRow {
                    failures,
                    last_error: Some(failure.text),
                    failed_at: Some(now),
                    retry_at: Some(now.after(pause)),
                    ..self.row.clone()
                };
            }
        }
    }

    fn remember(&mut self, notice: &Notice, notices: &Notices) {
        let (alert, key) = (&notice.alert, notice.alert.key());
        let before = self.told.get(&key).filter(|told| told.is_firing);
        // A refresh says nothing new: a change in between is still to be sent.
        let revision = match (notice.change, before) {
            (Change::Refreshed, Some(before)) => before.revision,
            _ => alert.revision,
        };
        let is_firing = alert.status != AlertStatus::Resolved;
        let thread = before.and_then(|told| told.thread.clone()).or_else(|| Some(notices.id.clone())).filter(|_| is_firing);
        self.told.insert(key.clone(), Told { revision, is_firing, sent_at: notices.at, thread });
        self.unsaved.insert(key);
    }

    /// The notices that are not stored yet, until [`Line::saved`].
    pub fn unsaved(&self) -> (Option<&ChannelRow>, Vec<NoticeRow>) {
        let channel = || self.listener.name.clone();
        let told = |key: &String| Some(NoticeRow { alert: key.clone(), channel: channel(), told: self.told.get(key)?.clone() });
        (self.is_row_unsaved.then_some(&self.row), self.unsaved.iter().filter_map(told).collect())
    }

    pub fn saved(&mut self) {
        self.unsaved.clear();
        self.is_row_unsaved = false;
    }

    pub fn name(&self) -> &str {
        &self.listener.name
    }
}

/// Without the lease two instances may send the same. A refresh changes nothing then; and that the database is away can only be sent by
/// the one that looked after the alerts when it went away.
fn may_go(alert: &Alert, due: Due, is_owner: bool) -> bool {
    is_owner || due.change == Change::Refreshed || alert.kind == AlertKind::Database
}

fn pauses() -> Backoff {
    Backoff::exponential(Duration::from_secs(1), 2.0, LONGEST_PAUSE, 0.2).expect("these numbers make a backoff")
}

fn empty_row(config: &ChannelConfig) -> ChannelRow {
    let (name, kind) = (config.name.clone(), config.kind.clone());
    ChannelRow { name, kind, last_sent_at: None, failures: 0, last_error: None, failed_at: None, retry_at: None }
}

/// The log is a channel, too, whatever else there is: under a name that no other channel has.
pub(super) fn log_line(lines: &[Line]) -> Line {
    let name = ["log", "relay-log", "outboxd-log"].into_iter().find(|name| lines.iter().all(|line| line.name() != *name));
    let config = ChannelConfig {
        name: name.unwrap_or("the-log").to_owned(),
        kind: "log".to_owned(),
        severity: Severity::Info,
        timeout: Duration::from_secs(1),
        settings: toml::Table::new(),
    };
    Line::new(&config, crate::channels::log_channel())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alerts::AlertPolicy;

    struct Nobody;

    impl Channel for Nobody {
        fn send<'a>(&'a self, _: &'a Notices) -> BoxFuture<'a, Result<(), SendFailure>> {
            Box::pin(async { Err(SendFailure::transient("nobody is there")) })
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn line() -> Line {
        let config = ChannelConfig {
            name: "slack".to_owned(),
            kind: "slack".to_owned(),
            severity: Severity::Info,
            timeout: Duration::from_secs(1),
            settings: toml::Table::new(),
        };
        Line::new(&config, Arc::new(Nobody))
    }

    fn config() -> Alerts {
        let kinds = crate::config::Kinds { handlers: |_| None, channels: |_| None };
        crate::config::parse("", &crate::config::FakeEnvironment::with_database(), kinds).expect("the defaults").alerts
    }

    fn next(line: &Line, alerts: &[Alert], second: i64, is_owner: bool) -> Option<Notices> {
        let config = config();
        line.next(&Situation { alerts, config: &config, relay: "orders", now: at(second), is_owner })
    }

    fn sent(notices: Notices, result: Result<(), SendFailure>) -> Sent {
        Sent { line: 0, notices, result }
    }

    #[test]
    fn what_was_told_is_remembered_under_the_first_id_until_it_is_over() {
        let (mut line, alert) = (line(), Alert::example(at(100)));
        let first = next(&line, std::slice::from_ref(&alert), 110, true).expect("it fires");
        line.enter(sent(first.clone(), Ok(())), at(110), 0.0);
        assert_eq!(next(&line, std::slice::from_ref(&alert), 111, true), None);

        let over = Alert { status: AlertStatus::Resolved, revision: 3, changed_at: at(200), ..alert };
        let last = next(&line, &[over], 210, true).expect("it is over");
        assert_eq!((last.notices[0].change, last.notices[0].thread.as_ref()), (Change::Resolved, Some(&first.id)));
        assert_ne!(last.id, first.id);
        line.enter(sent(last, Ok(())), at(210), 0.0);
        assert_eq!(line.unsaved().1.len(), 1);
        assert_eq!(line.unsaved().1[0].told, Told { revision: 3, is_firing: false, sent_at: at(210), thread: None });
    }

    #[test]
    fn a_successor_that_tells_the_same_uses_the_same_id() {
        let alerts = [Alert::example(at(100))];
        let (first, second) = (next(&line(), &alerts, 110, true), next(&line(), &alerts, 140, true));
        assert_eq!(first.map(|notices| notices.id), second.map(|notices| notices.id));
    }

    #[test]
    fn failures_are_counted_and_wait_ever_longer() {
        let (mut line, alerts) = (line(), [Alert::example(at(100))]);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let notices = next(&line, &alerts, 110, true).expect("it was never told");
            line.enter(sent(notices, Err(SendFailure::transient("no"))), at(110), 0.5);
            pauses.push(line.row.retry_at.expect("it failed").since(at(110)).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        assert_eq!((line.row.failures, line.row.last_error.as_deref()), (9, Some("no")));
        let wish = SendFailure { retry_after: Some(Duration::from_secs(600)), ..SendFailure::transient("later") };
        line.enter(sent(next(&line, &alerts, 110, true).expect("still"), Err(wish)), at(110), 0.5);
        assert_eq!(line.row.retry_at, Some(at(710)));
    }

    #[tokio::test]
    async fn a_channel_has_one_try_at_a_time_and_at_most_one_a_second() {
        let (mut line, config, alerts) = (line(), config(), [Alert::example(at(100))]);
        let situation = Situation { alerts: &alerts, config: &config, relay: "orders", now: at(110), is_owner: true };
        let began = Instant::now();
        let attempt = line.begin(0, &situation).expect("it is due");
        line.next_try = began;
        assert!(line.begin(0, &situation).is_none(), "one is under way");
        let ended = attempt.await;
        assert!(ended.result.is_err());
        line.is_busy = false;
        assert!(line.begin(0, &situation).is_some(), "it was not told yet");
        assert!(line.next_try >= began + PACE);
    }

    #[test]
    fn a_successor_waits_as_long_as_the_channel_asked_its_predecessor_to() {
        let mut line = line();
        let began = Instant::now();
        let row = ChannelRow { failures: 4, retry_at: Some(at(160)), ..line.row.clone() };
        line.take_up(Some(row), &[], at(100));
        assert!(line.next_try >= began + Duration::from_secs(60));
        assert_eq!(line.row.failures, 4);
    }

    #[test]
    fn without_the_lease_only_what_does_no_harm_goes_out() {
        let alert = Alert::example(at(100));
        assert_eq!(next(&line(), std::slice::from_ref(&alert), 110, false), None);
        let database = Alert { kind: AlertKind::Database, subject: String::new(), ..alert };
        assert!(next(&line(), &[database], 110, false).is_some());
    }

    #[test]
    fn the_log_gets_a_name_that_is_free() {
        let config = ChannelConfig { name: "log".to_owned(), ..ChannelConfig::clone(&named("x")) };
        assert_eq!(log_line(&[]).name(), "log");
        assert_eq!(log_line(&[Line::new(&config, Arc::new(Nobody))]).name(), "relay-log");
    }

    fn named(name: &str) -> ChannelConfig {
        let timeout = Duration::from_secs(1);
        ChannelConfig {
            name: name.to_owned(),
            kind: "k".to_owned(),
            severity: Severity::Info,
            timeout,
            settings: toml::Table::new(),
        }
    }

    #[test]
    fn the_policy_of_the_defaults_is_usable() {
        let AlertPolicy { group_wait, repeat_interval, .. } = config().policy;
        assert!(group_wait < repeat_interval);
    }
}
