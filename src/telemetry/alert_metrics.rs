//! The metrics of the alerts: firing alerts, and the results of sending. Resolved once, like those of a handler.

use metrics::{Counter, Gauge};

use super::metrics as list;
use crate::domain::alerts::Severity;

/// Handles of the series that all channels share.
#[derive(Debug, Clone)]
pub struct AlertMetrics {
    firing: Vec<Gauge>,
}

/// Handles of one channel's series.
#[derive(Debug, Clone)]
pub struct ChannelMetrics {
    sent: Counter,
    failed: Counter,
}

impl AlertMetrics {
    /// Creates the series at zero. Install a recorder first: handles made before go nowhere.
    #[expect(clippy::new_without_default, reason = "it registers series, which a default value should not do")]
    pub fn new() -> Self {
        Self { firing: Severity::ALL.iter().map(|severity| list::ALERTS_FIRING.gauge(&[severity.as_str()])).collect() }
    }

    /// So many alerts of each severity fire.
    pub fn firing(&self, count: impl Fn(Severity) -> usize) {
        for (gauge, severity) in self.firing.iter().zip(Severity::ALL) {
            gauge.set(count(*severity) as f64);
        }
    }
}

impl ChannelMetrics {
    /// Creates the series of a channel at zero.
    pub fn new(channel: &str) -> Self {
        let counter = |outcome| list::ALERT_NOTIFICATIONS.counter(&[channel, outcome]);
        Self { sent: counter("sent"), failed: counter("failed") }
    }

    /// One try ended.
    pub fn tried(&self, is_sent: bool) {
        if is_sent { self.sent.increment(1) } else { self.failed.increment(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorder::tests::{rendered, value};
    use super::*;

    #[test]
    fn every_series_exists_at_zero_and_shows_what_was_told() {
        let text = rendered(|| {
            AlertMetrics::new().firing(|severity| usize::from(severity == Severity::Critical));
            let slack = ChannelMetrics::new("slack");
            slack.tried(true);
            slack.tried(false);
            slack.tried(false);
            drop(ChannelMetrics::new("mail"));
        });
        for (series, want) in [
            (r#"outboxd_alerts_firing{severity="critical"}"#, 1.0),
            (r#"outboxd_alerts_firing{severity="warning"}"#, 0.0),
            (r#"outboxd_alert_notifications_total{channel="slack",outcome="sent"}"#, 1.0),
            (r#"outboxd_alert_notifications_total{channel="slack",outcome="failed"}"#, 2.0),
            (r#"outboxd_alert_notifications_total{channel="mail",outcome="sent"}"#, 0.0),
        ] {
            assert_eq!(value(&text, series), Some(want), "{series}");
        }
    }
}
