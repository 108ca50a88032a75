//! The Prometheus recorder behind `/metrics`.
//! Optional: a program that embeds the relay may have a recorder of its own, or none. Never listens on a port itself.

use std::time::Duration;

use metrics::{Recorder, set_global_recorder, with_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::metrics::{METRICS, MetricKind, RELAY_INFO};

/// Why there is no recorder of ours.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("could not install the metrics recorder; this process has one already")]
    Taken,
}

/// The installed recorder.
#[derive(Debug, Clone)]
pub struct Telemetry {
    handle: PrometheusHandle,
}

impl Telemetry {
    /// How often `upkeep` must run. Measured with 100,000 deliveries a second (unoptimised build): every 5 s it holds 16 MiB of
    /// single measurements and then keeps a thread for 43 ms; every second it is a fifth of both.
    pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

    /// Makes the recorder of this process and describes every metric to it. Handles of metrics are made after this.
    pub fn install(relay_name: &str) -> Result<Self, InstallError> {
        let recorder = build();
        let handle = recorder.handle();
        set_global_recorder(recorder).map_err(|_| InstallError::Taken)?;
        describe(relay_name);
        Ok(Self { handle })
    }

    /// All metrics in the Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves what histograms have gathered into their buckets. Without it (or a scrape, which does the same) they keep
    /// every single measurement, for ever.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// Gives the recorder of this process, which may belong to the embedding program, the help and unit of every metric.
/// `Telemetry::install` has done it; for programs with a recorder of their own.
pub fn describe(relay_name: &str) {
    with_recorder(describe_to);
    RELAY_INFO.gauge(&[env!("CARGO_PKG_VERSION"), relay_name]).set(1.0);
}

fn build() -> PrometheusRecorder {
    METRICS.iter().fold(PrometheusBuilder::new(), with_buckets).build_recorder()
}

fn with_buckets(builder: PrometheusBuilder, metric: &super::metrics::Metric) -> PrometheusBuilder {
    match metric.kind {
        MetricKind::Histogram(buckets) => builder
            .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
            .expect("every declared histogram has buckets"),
        MetricKind::Counter | MetricKind::Gauge => builder,
    }
}

fn describe_to(recorder: &dyn Recorder) {
    for metric in METRICS {
        let (name, unit, help) = (metric.name.into(), Some(metric.unit), metric.help.into());
        match metric.kind {
            MetricKind::Counter => recorder.describe_counter(name, unit, help),
            MetricKind::Gauge => recorder.describe_gauge(name, unit, help),
            MetricKind::Histogram(_) => recorder.describe_histogram(name, unit, help),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{
        AlertMetrics, ChannelMetrics, ClientMetrics, ConsoleMetrics, ContractUse, CursorMetrics, FeedMetrics, FeedTailMetrics,
        HandlerMetrics, HubMetrics, RelayMetrics,
    };
    use super::*;

    /// A recorder that only `act` sees, for tests that run side by side.
    pub(crate) fn local(act: impl FnOnce()) -> Telemetry {
        let recorder = build();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe("test");
            act();
        });
        Telemetry { handle }
    }

    /// What `/metrics` says after `act`.
    pub(crate) fn rendered(act: impl FnOnce()) -> String {
        local(act).render()
    }

    /// The value of one series in the text format.
    pub(crate) fn value(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn every_declared_metric_is_rendered_with_its_help_and_type() {
        let text = rendered(|| {
            HandlerMetrics::new("billing", "webhook");
            RelayMetrics::new().adopted([("public.outbox".to_owned(), false)].into_iter());
            AlertMetrics::new();
            ChannelMetrics::new("log");
            FeedMetrics::new();
            FeedTailMetrics::new();
            ClientMetrics::new("acme");
            CursorMetrics::new("acme", "main");
            HubMetrics::new("acme");
            ConsoleMetrics::new();
            ContractUse::default().of_handler("billing", std::iter::once(("order.placed", 1)));
        });
        for metric in METRICS {
            assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
            assert!(text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.as_str())), "{}", metric.name);
        }
    }

    #[test]
    fn nothing_is_rendered_that_is_not_declared() {
        let text = rendered(|| {
            HandlerMetrics::new("billing", "webhook");
            RelayMetrics::new();
            AlertMetrics::new();
            ChannelMetrics::new("log");
        });
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        types.for_each(|name| assert!(METRICS.iter().any(|metric| metric.name == name), "{name}"));
    }

    #[test]
    fn the_relay_says_who_it_is() {
        let series = format!(r#"outboxd_relay_info{{version="{}",relay="test"}}"#, env!("CARGO_PKG_VERSION"));
        assert_eq!(value(&rendered(|| ()), &series), Some(1.0));
    }
}
