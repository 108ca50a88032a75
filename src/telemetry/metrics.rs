//! The list of all metrics: name, kind, unit, help and labels. The handles, the help on `/metrics` and `docs/metrics.md` are made
//! from it. Never measures anything itself.

use std::fmt::Write;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Unit, with_recorder};

use crate::domain::Reason;

/// One metric, as declared.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub unit: Unit,
    /// Names of the labels; their values come from closed sets and from the configuration.
    pub labels: &'static [&'static str],
    /// One sentence for display.
    pub help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricKind {
    Counter,
    Gauge,
    /// Upper bounds of the buckets, ascending, in the unit of the metric.
    Histogram(&'static [f64]),
}

use MetricKind::{Counter as C, Gauge as G, Histogram as H};

/// From a local function to a receiver that sits out its timeout.
const DELIVERY_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Fine where the relay's own promise lies (a few milliseconds), coarse up to a day of retries.
const END_TO_END_BUCKETS: &[f64] = &[
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
    3600.0, 21600.0, 86400.0,
];

const FLUSH_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:expr, $unit:ident, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric =
                Metric { name: $name, kind: $kind, unit: Unit::$unit, labels: &[$($label),*], help: $help };
        )*

        /// All of them, in the order of the documentation.
        pub const METRICS: &[Metric] = &[$($constant,)*];
    };
}

metrics! {
    RELAY_INFO = "outboxd_relay_info", G, Count, ["version", "relay"], "Always 1; the version and the name of the relay.";
    EVENTS_FETCHED = "outboxd_events_fetched_total", C, Count, ["handler"], "Events read from the log for a handler.";
    DELIVERIES = "outboxd_deliveries_total", C, Count, ["handler", "kind", "outcome"],
        "Attempts that ended, by outcome; delivered and duplicate are the successful ones.";
    ATTEMPTS_FAILED = "outboxd_attempts_failed_total", C, Count, ["handler", "reason"], "Attempts that did not succeed, by reason.";
    DELIVERY_DURATION = "outboxd_delivery_duration_seconds", H(DELIVERY_BUCKETS), Seconds, ["handler", "kind"],
        "Duration of one attempt, of any outcome.";
    END_TO_END = "outboxd_end_to_end_seconds", H(END_TO_END_BUCKETS), Seconds, ["handler"],
        "Time from `occurred_at` of an event to its successful delivery, including retries.";
    PENDING_DELIVERIES = "outboxd_pending_deliveries", G, Count, ["handler", "state"],
        "Unfinished deliveries: ready (in the log), in_flight, retrying (due later), waiting (behind an earlier event of their key).";
    OLDEST_PENDING_AGE = "outboxd_oldest_pending_age_seconds", G, Seconds, ["handler"],
        "Time since the commit of the oldest unfinished event of the handler, as the relay saw it; while the handler is stuck, at least the time that it has been stuck; 0 if there is none.";
    DEAD_LETTERS = "outboxd_dead_letters", G, Count, ["handler"], "Dead letters that wait for the decision of an operator.";
    DEAD_LETTERS_ADDED = "outboxd_dead_letters_total", C, Count, ["handler", "reason"], "Deliveries that became dead letters, by reason.";
    REPLAYED = "outboxd_replayed_total", C, Count, ["handler", "outcome"],
        "Replayed dead letters by outcome: delivered, or dead again.";
    CIRCUIT_STATE = "outboxd_handler_circuit_state", G, Count, ["handler", "state"],
        "1 for the current state of the handler's circuit (closed, open, half_open), 0 for the others.";
    PAUSED = "outboxd_handler_paused", G, Count, ["handler"], "1 while the handler is paused by an operator.";
    CONCURRENCY = "outboxd_handler_concurrency", G, Count, ["handler"],
        "Maximum number of deliveries in flight; lower than configured after back-pressure.";
    DESTINATIONS = "outboxd_destinations_in_trouble", G, Count, ["handler"],
        "Routing keys, subjects, topics or streams of the handler that accept no events although others do; their events wait. At most 1,000 per partition.";
    STUCK = "outboxd_handler_stuck", G, Count, ["handler"],
        "1 while a loop of the handler keeps failing, or has stopped reporting: it cannot read or cannot record.";
    LAST_HANDLER_READ = "outboxd_handler_last_read_timestamp_seconds", G, Seconds, ["handler"],
        "Unix time of the last successful read of the handler, or of the last time that it skipped a read on purpose; of several partitions the oldest; 0 before the first.";
    LAST_HANDLER_FLUSH = "outboxd_handler_last_flush_timestamp_seconds", G, Seconds, ["handler"],
        "Unix time of the last successful flush of the handler; of several partitions the oldest; 0 before the first.";
    WAITING_UNTIL = "outboxd_handler_waiting_until_timestamp_seconds", G, Seconds, ["handler"],
        "Unix time until which the handler waits because its receiver asked for a pause (Retry-After); 0 while it does not wait.";
    READY = "outboxd_ready", G, Count, [], "1 while this instance is ready, as /readyz says; 0 while it is not.";
    LEASES_HELD = "outboxd_leases_held", G, Count, [], "Subscriptions that this instance owns.";
    LEASES_LOST = "outboxd_leases_lost_total", C, Count, [], "Leases lost before the relay gave them back: another instance acquired them, or the database was away for too long.";
    LAST_READ = "outboxd_last_read_timestamp_seconds", G, Seconds, [],
        "Unix time of the last read of the log, or of the last time that a read was skipped on purpose; 0 before the first.";
    DATABASE_ERRORS = "outboxd_database_errors_total", C, Count, ["operation"], "Failed operations at the database: connect, lease, read, flush, listen, retention, alerts, observe.";
    WAKE_UPS = "outboxd_wake_ups_total", C, Count, ["source"],
        "Ends of sleeps by a notification (bell), and reads of the log by the poll: once a second for the whole relay while producers notify, else once for each subscription.";
    FLUSH_DURATION = "outboxd_flush_duration_seconds", H(FLUSH_BUCKETS), Seconds, [],
        "Duration of the transaction that records outcomes and the position.";
    RETENTION_REMOVED = "outboxd_retention_removed_total", C, Count, [], "Finished events removed by retention.";
    ALERTS_FIRING = "outboxd_alerts_firing", G, Count, ["severity"],
        "Alerts that fire or are acknowledged; reported by the instance that sends alerts, 0 on the others.";
    ALERT_NOTIFICATIONS = "outboxd_alert_notifications_total", C, Count, ["channel", "outcome"],
        "Messages to alert channels, by outcome: sent, failed; the channel heartbeat is the heartbeat URL.";
    RELOADS = "outboxd_reloads_total", C, Count, ["outcome"],
        "Readings of the configuration while the relay ran: applied, unchanged, or refused.";
    RELOAD_REFUSED = "outboxd_reload_refused", G, Count, [],
        "1 while the relay keeps its old configuration because the new one was refused.";
    ADOPTION_BROKEN = "outboxd_adoption_broken", G, Count, ["table"],
        "1 while an adopted table has lost its trigger, or the trigger fails or is not as configured.";
    MEMORY = "outboxd_memory_bytes", G, Bytes, [], "Bytes of events held in memory, queued and in flight, over all handlers.";
    CONTRACT_DELIVERIES = "outboxd_contract_deliveries_total", C, Count, ["type", "version", "receiver"],
        "Events sent in a version of a contract, by receiver: handler:NAME or client:NAME. The types and versions are those of the configuration.";
    FEED_PLACES = "outboxd_feed_places_total", C, Count, [], "Events to which this instance has given a place in the feed.";
    FEED_LAST_PLACE = "outboxd_feed_last_place", G, Count, [],
        "The last place that this instance has given; 0 on an instance that has given none.";
    FEED_REQUESTS = "outboxd_feed_requests_total", C, Count, ["client", "answer"],
        "Requests of clients, by answer: page, empty, event (how far handlers are), stream, negotiated and hub (a connection of SignalR was prepared, has begun), contracts, ticket, cursor (one that the server keeps was read, stored or removed), invalid, unauthorized, diverged (409), expired (410), busy (429), unavailable and brownout (503). Without a known token the client is empty.";
    FEED_EVENTS = "outboxd_feed_events_sent_total", C, Count, ["client"], "Events sent to a client, on pages, on streams and by the hub.";
    FEED_UNAVAILABLE = "outboxd_feed_events_unavailable_total", C, Count, ["client"], "Events without a valid form in the version that the client reads, and damaged events. The client got an event outboxd.unavailable instead of each.";
    FEED_CONNECTIONS = "outboxd_feed_connections", G, Count, ["client"], "Open requests of a client: streams, connections of the hub, and requests that wait for a page.";
    FEED_CURSOR_LAG = "outboxd_feed_cursor_lag_events", G, Count, ["client", "cursor"],
        "Places of the feed behind a cursor that a client has left to the server, those that the client may not see included; as of the last look, every `alerts.interval`.";
    FEED_CURSOR_AGE = "outboxd_feed_cursor_lag_seconds", G, Seconds, ["client", "cursor"],
        "Time since the first event behind a cursor that a client has left to the server happened; 0 when there is none.";
    HUB_CLOSED = "outboxd_hub_closed_total", C, Count, ["client", "reason"],
        "Connections of the hub that ended, by reason: left, stopped (the relay stops), changed (the configuration of the client changed), slow (it did not accept waiting messages), silent, invalid (it violated the protocol), diverged (it cannot continue from its cursor), brownout (a version that it reads is not sent for a while).";
    FEED_TAIL_BYTES = "outboxd_feed_tail_bytes", G, Bytes, [], "Bytes of events that are kept in memory for clients at the end of the feed.";
    CONSOLE_REQUESTS = "outboxd_console_requests_total", C, Count, ["answer"],
        "Requests to the console and to /api/v1, by answer: served, invalid, unauthorized, forbidden (the role or the right is missing), misdirected (a host that is not configured), cross_site (a change that another site requested), limited (too many failed logins), unavailable (no database).";
    CONSOLE_LOGINS = "outboxd_console_logins_total", C, Count, ["outcome"],
        "Tokens presented to the console: accepted at the login page, refused, or limited (not checked, because the peer failed too often).";
    CONSOLE_PAYLOADS = "outboxd_console_payloads_shown_total", C, Count, [], "Payloads that the console showed; the log names the viewer.";
    FEED_READ_DURATION = "outboxd_feed_read_duration_seconds", H(FLUSH_BUCKETS), Seconds, [], "Duration of one read at the end of the feed, for all clients together.";
}

/// All our metrics carry the same metadata; a recorder may filter by it.
const METADATA: Metadata<'static> = Metadata::new("outboxd", Level::INFO, None);

impl Metric {
    /// The counter of one series, created at zero. `values` are those of `labels`, in their order.
    pub(super) fn counter(&self, values: &[&str]) -> Counter {
        with_recorder(|recorder| recorder.register_counter(&self.key(values), &METADATA))
    }

    /// The gauge of one series, created at zero.
    pub(super) fn gauge(&self, values: &[&str]) -> Gauge {
        with_recorder(|recorder| recorder.register_gauge(&self.key(values), &METADATA))
    }

    /// The histogram of one series, created empty.
    pub(super) fn histogram(&self, values: &[&str]) -> Histogram {
        with_recorder(|recorder| recorder.register_histogram(&self.key(values), &METADATA))
    }

    fn key(&self, values: &[&str]) -> Key {
        debug_assert_eq!(self.labels.len(), values.len(), "{} takes the labels {:?}", self.name, self.labels);
        let labels: Vec<Label> =
            self.labels.iter().zip(values).map(|(label, value)| Label::new(*label, (*value).to_owned())).collect();
        Key::from_parts(self.name, labels)
    }
}

impl MetricKind {
    /// The word for it in the exposition format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// The page `docs/metrics.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Served on `/metrics` in the Prometheus text format. This page is generated from `src/telemetry/metrics.rs`;\n\
         `UPDATE_DOCS=1 cargo test --lib telemetry` updates it. Every series of every configured handler exists from the\n\
         start, at zero. Labels come from closed sets: never an event id, a key, an address or the text of an error.\n\n\
         | Name | Type | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let Metric { name, kind, help, .. } = metric;
        writeln!(page, "| `{name}` | {} | {} | {help} |", kind.as_str(), labels.join(", ")).expect("a string takes all text");
    }
    page.push_str("\n## Reasons\n\nThe values of `reason`, here as in the attempts table, the logs and the command line.\n\n");
    page.push_str("| Reason | Meaning |\n|---|---|\n");
    for reason in failures() {
        writeln!(page, "| `{reason}` | {} |", reason.help()).expect("a string takes all text");
    }
    page
}

/// The reasons that an attempt can fail for; the others have no failure to count.
pub(super) fn failures() -> impl Iterator<Item = Reason> {
    Reason::ALL.iter().copied().filter(|reason| is_failure(*reason))
}

pub(super) const fn is_failure(reason: Reason) -> bool {
    !matches!(reason, Reason::Ok | Reason::Duplicate)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_say_what_they_count_in_base_units() {
        let mut seen = HashSet::new();
        for metric in METRICS {
            let name = metric.name;
            assert!(seen.insert(name), "{name} is declared twice");
            assert!(name.starts_with("outboxd_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == MetricKind::Counter, "{name}: _total marks counters and only them");
            match metric.unit {
                Unit::Seconds => assert!(name.ends_with("_seconds"), "{name}"),
                Unit::Bytes => assert!(name.ends_with("_bytes"), "{name}"),
                Unit::Count => assert!(!name.contains("_seconds") && !name.contains("_bytes"), "{name}"),
                other => panic!("{name}: {other:?} is not a base unit"),
            }
        }
    }

    #[test]
    fn help_is_one_sentence_without_what_a_table_cannot_hold() {
        for Metric { name, help, .. } in METRICS {
            assert!(help.ends_with('.') && !help.contains(['|', '\n', '"', '\\']), "{name}: {help}");
        }
    }

    #[test]
    fn buckets_ascend() {
        for Metric { name, kind, .. } in METRICS {
            if let MetricKind::Histogram(buckets) = kind {
                assert!(buckets.is_sorted_by(|a, b| a < b), "{name}");
            }
        }
    }

    #[test]
    fn the_committed_page_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).expect("docs/metrics.md can be written");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == markdown(), "docs/metrics.md is stale; run UPDATE_DOCS=1 cargo test --lib telemetry");
    }
}
