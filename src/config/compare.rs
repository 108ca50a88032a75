//! Comparison: which settings outside the handlers differ between two configurations, and which of these a running relay can
//! apply. A test compares the list with the declarations, so that no setting is forgotten.

use super::Config;

/// A setting that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    pub path: &'static str,
    /// A running relay applies it; the other settings need a restart.
    pub is_live: bool,
}

/// Every setting outside the lists that differs, in the order of the file. `[[adopt]]` is not compared, because it does not affect a
/// relay.
pub fn compare(old: &Config, new: &Config) -> Vec<Difference> {
    let differing = SETTINGS.iter().filter(|setting| (setting.differs)(old, new));
    differing.map(|setting| Difference { path: setting.path, is_live: setting.is_live }).collect()
}

struct Setting {
    path: &'static str,
    is_live: bool,
    differs: fn(&Config, &Config) -> bool,
}

macro_rules! settings {
    ($($path:literal, $is_live:literal, $($part:ident).+;)*) => {
        &[$(Setting { path: $path, is_live: $is_live, differs: |old, new| old.$($part).+ != new.$($part).+ },)*]
    };
}

const SETTINGS: &[Setting] = settings! {
    "database.url", false, database.url;
    "database.max_connections", false, database.max_connections;
    "database.connect_timeout", false, database.connect_timeout;
    "database.statement_timeout", false, database.statement_timeout;
    "database.lock_timeout", false, database.lock_timeout;
    "database.on_new_timeline", false, database.follow_new_timeline;
    "outbox.schema", false, outbox.schema;
    "outbox.max_payload", false, outbox.max_payload;
    "outbox.migrate", false, outbox.migrate;
    "outbox.retention", true, outbox.retention;
    "outbox.retention_interval", true, outbox.retention_interval;
    "outbox.retention_chunk", true, outbox.retention_chunk;
    "outbox.inbox_retention", true, outbox.inbox_retention;
    "relay.name", false, relay.name;
    "relay.wake_up", false, relay.wake_up;
    "relay.poll_interval", true, relay.poll_interval;
    "relay.idle_poll_interval", true, relay.idle_poll_interval;
    "relay.linger", true, relay.linger;
    "relay.lease", true, relay.lease;
    "relay.flush_interval", true, relay.flush_interval;
    "relay.drain_timeout", true, relay.drain_timeout;
    "relay.memory", true, relay.memory;
    "relay.durability_gate", true, relay.durability_gate;
    "http.listen", false, http.listen;
    "http.stall_after", false, http.stall_after;
    "log.format", false, log.format;
    "log.filter", false, log.filter;
    "alerts.enabled", false, alerts.enabled;
    "alerts.interval", false, alerts.interval;
    "alerts.group_wait", false, alerts.policy.group_wait;
    "alerts.repeat_interval", false, alerts.policy.repeat_interval;
    "alerts.dead_letters_factor", false, alerts.policy.dead_letters_factor;
    "alerts.dead_letters_again", false, alerts.policy.dead_letters_again;
    "alerts.backlog_age", false, alerts.policy.backlog_age;
    "alerts.backlog_for", false, alerts.policy.backlog_for;
    "alerts.backlog_critical", false, alerts.policy.backlog_critical;
    "alerts.circuit_open_for", false, alerts.policy.circuit_open_for;
    "alerts.cursor_lag", false, alerts.policy.cursor_lag;
    "alerts.paused_for", false, alerts.policy.paused_for;
    "alerts.not_polling_for", false, alerts.policy.not_polling_for;
    "alerts.database_for", false, alerts.policy.database_for;
    "alerts.channel_failures", false, alerts.policy.channel_failures;
    "alerts.include_payload", false, alerts.include_payload;
    "alerts.external_url", false, alerts.external_url;
    "alerts.heartbeat_url", false, alerts.heartbeat_url;
    "alerts.heartbeat_interval", false, alerts.heartbeat_interval;
    "alerts.channels", false, alerts.channels;
    "contracts.path", true, contracts.path;
    "contracts.cloudevents_type", true, contracts.naming.cloudevents_type;
    "contracts.dataschema", true, contracts.naming.dataschema;
    "feed.events", true, feed.events;
    "feed.start", true, feed.start;
    "feed.listen", false, feed.listen;
    "feed.certificate", true, feed.certificate;
    "feed.certificate_key", true, feed.certificate_key;
    "feed.source", false, feed.source;
    "feed.max_wait", false, feed.max_wait;
    "feed.heartbeat", false, feed.heartbeat;
    "feed.max_connections", false, feed.max_connections;
    "feed.memory", false, feed.memory;
    "feed.origins", false, feed.origins;
    "feed.cursors", false, feed.cursors;
    "feed.cursor_keys", false, feed.cursor_keys;
    "feed.ticket_key", false, feed.ticket_key;
    "hub.path", false, hub.path;
    "hub.keep_alive", false, hub.keep_alive;
    "hub.client_timeout", false, hub.client_timeout;
    "hub.reconnect_buffer", false, hub.reconnect_buffer;
    "erasure.ledger", false, erasure.ledger;
    "erasure.functions", true, erasure.functions;
    "console.listen", false, console.listen;
    "console.path", false, console.path;
    "console.hosts", true, console.hosts;
    "console.redact", true, console.redact;
    "console.proxy", true, console.proxy;
    "console.tokens", true, console.tokens;
};

#[cfg(test)]
mod tests {
    use super::super::{FakeEnvironment, fields, parse};
    use super::*;
    use crate::settings::FieldType;

    fn config(text: &str) -> Config {
        parse(text, &FakeEnvironment::with_database(), fields::Kinds { handlers: |_| None, channels: |_| None })
            .unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
    }

    #[test]
    fn every_declared_setting_is_compared() {
        let mut declared = Vec::new();
        for section in fields::SECTIONS {
            let FieldType::Table(inner) = section.field_type else { panic!("{} is a table", section.name) };
            declared.extend(inner.iter().map(|field| format!("{}.{}", section.name, field.name)));
            declared.extend((section.name == "alerts").then(|| format!("alerts.{}", fields::CHANNELS)));
            declared.extend((section.name == "console").then(|| format!("console.{}", fields::TOKENS)));
        }
        assert_eq!(SETTINGS.iter().map(|setting| setting.path.to_owned()).collect::<Vec<_>>(), declared);
    }

    #[test]
    fn what_differs_is_named_with_whether_it_can_be_taken_up() {
        let (old, new) = (config(""), config("[relay]\nlinger = \"7ms\"\n[http]\nlisten = \"\""));
        let named: Vec<_> = compare(&old, &new).into_iter().map(|difference| (difference.path, difference.is_live)).collect();
        assert_eq!(named, [("relay.linger", true), ("http.listen", false)]);
        assert_eq!(compare(&old, &old), []);
    }
}
