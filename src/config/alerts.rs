//! `[alerts]` and its `[[alerts.channels]]`: the thresholds, and the settings of every channel. The settings of a channel's kind
//! stay a raw table.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::{Table, Value};
use url::Url;

use super::fields::{CHANNEL_COMMON, CHANNEL_IDENTITY};
use super::rules::{at_least, is_name, report_name};
use super::{Alerts, ChannelConfig, channel_path};
use crate::domain::alerts::{AlertPolicy, Severity};
use crate::settings::{Mistakes, Secret, Section, format_duration};

/// Reads the section; `channels` was taken out of it.
pub(super) fn read_alerts(section: &Section<'_>, channels: Option<&Value>, mistakes: &Mistakes) -> Alerts {
    at_least(section, "interval", Duration::from_millis(100), "");
    at_least(section, "heartbeat_interval", Duration::from_secs(1), "");
    let backlog = section.duration("backlog_age");
    at_least(section, "backlog_age", Duration::from_secs(1), "");
    at_least(section, "backlog_critical", backlog, ", the backlog_age");
    let policy = AlertPolicy {
        dead_letters_factor: section.integer("dead_letters_factor").unsigned_abs(),
        dead_letters_again: section.duration("dead_letters_again"),
        backlog_age: backlog,
        backlog_for: section.duration("backlog_for"),
        backlog_critical: section.duration("backlog_critical"),
        circuit_open_for: section.duration("circuit_open_for"),
        cursor_lag: section.duration("cursor_lag"),
        paused_for: section.duration("paused_for"),
        not_polling_for: section.duration("not_polling_for"),
        database_for: section.duration("database_for"),
        channel_failures: section.integer("channel_failures").unsigned_abs(),
        group_wait: section.duration("group_wait"),
        repeat_interval: section.duration("repeat_interval"),
    };
    Alerts {
        enabled: section.boolean("enabled"),
        interval: section.duration("interval"),
        policy,
        include_payload: section.boolean("include_payload"),
        external_url: read_url(section, "external_url").map(String::from),
        heartbeat_url: read_url(section, "heartbeat_url").map(Secret::new),
        heartbeat_interval: section.duration("heartbeat_interval"),
        channels: channels.map(|list| read_channels(list, mistakes)).unwrap_or_default(),
    }
}

/// The message does not repeat the text: an address may contain credentials.
fn read_url(section: &Section<'_>, name: &str) -> Option<Url> {
    let text = section.optional_text(name)?;
    let url = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if url.is_none() {
        section.mistake(name, "expected an http or https URL such as \"https://example.org/x\"");
    }
    url
}

fn read_channels(list: &Value, mistakes: &Mistakes) -> Vec<ChannelConfig> {
    let Some(entries) = list.as_array() else {
        let text = format!("got a {}, expected a list: write every channel as [[alerts.channels]]", list.type_str());
        mistakes.add("alerts.channels", text);
        return Vec::new();
    };
    let channels: Vec<_> = entries.iter().enumerate().map(|(index, entry)| read_entry(index, entry, mistakes)).collect();
    let (mut seen, mut reported) = (BTreeSet::new(), BTreeSet::new());
    for channel in channels.iter().filter(|channel| is_name(&channel.name)) {
        if !seen.insert(&channel.name) && reported.insert(&channel.name) {
            let path = format!("alerts.channels.{}", channel.name);
            mistakes.add(path, "the name is given more than once; every channel needs its own");
        }
    }
    channels
}

fn read_entry(index: usize, entry: &Value, mistakes: &Mistakes) -> ChannelConfig {
    let Some(table) = entry.as_table() else {
        let text = format!("got {entry}, expected a table: write every channel as [[alerts.channels]]");
        mistakes.add(channel_path(index, ""), text);
        return read_channel(index, &Table::new(), &Mistakes::default());
    };
    read_channel(index, table, mistakes)
}

fn read_channel(index: usize, entry: &Table, mistakes: &Mistakes) -> ChannelConfig {
    // The remaining keys belong to the kind, which reports unknown ones.
    let is_common = |key: &String| CHANNEL_IDENTITY.iter().chain(CHANNEL_COMMON).any(|field| field.name == *key);
    let (common, settings): (Table, Table) = entry.clone().into_iter().partition(|(key, _)| is_common(key));
    let name = common.get("name").and_then(Value::as_str).unwrap_or_default();
    let section = Section::open(&channel_path(index, name), &common, CHANNEL_IDENTITY, CHANNEL_COMMON, mistakes);
    report_name(&section);
    let timeout = section.duration("timeout");
    if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
        let (got, longest) = (format_duration(timeout), format_duration(LONGEST_TIMEOUT));
        section.mistake("timeout", &format!("got \"{got}\", expected more than nothing and at most \"{longest}\""));
    }
    ChannelConfig {
        name: section.text("name"),
        kind: section.text("kind"),
        severity: section.text("severity").parse().unwrap_or(Severity::Info),
        timeout,
        settings,
    }
}

/// A channel that needs longer to accept an alert is not reliable.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FakeEnvironment;
    use crate::config::fields::Kinds;

    const NO_KINDS: Kinds = Kinds { handlers: |_| None, channels: |_| None };

    fn read(text: &str) -> Result<Alerts, Vec<String>> {
        let config = crate::config::parse(text, &FakeEnvironment::with_database(), NO_KINDS);
        config.map(|config| config.alerts).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nothing_said_gives_the_thresholds_of_the_documentation() {
        let alerts = read("").expect("valid");
        assert!(alerts.enabled && !alerts.include_payload && alerts.channels.is_empty() && alerts.heartbeat_url.is_none());
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let policy = alerts.policy;
        assert_eq!((policy.backlog_age, policy.backlog_for, policy.backlog_critical), (minutes(5), minutes(2), minutes(30)));
        assert_eq!((policy.circuit_open_for, policy.paused_for), (minutes(5), minutes(240)));
        assert_eq!((policy.group_wait, policy.repeat_interval), (Duration::from_secs(10), minutes(240)));
    }

    #[test]
    fn mistakes_stand_where_a_person_would_look_and_repeat_no_address() {
        for (text, want) in [
            ("[alerts]\nheartbeat_url = \"hunter2\"", "alerts.heartbeat_url: expected an http or https URL"),
            (
                "[alerts]\nbacklog_critical = \"1s\"",
                "alerts.backlog_critical: got \"1s\", expected at least \"5m\", the backlog_age",
            ),
            ("[alerts]\nintervall = \"1s\"", "alerts: unknown key \"intervall\"; did you mean \"interval\"?"),
            ("[[alerts.channels]]\nname = \"a b\"\nkind = \"k\"", "alerts.channels #1.name: got \"a b\", expected letters"),
            (
                "[[alerts.channels]]\nname = \"a\"\nkind = \"k\"\ntimeout = \"2m\"",
                "alerts.channels.a.timeout: got \"2m\", expected",
            ),
            (
                "[[alerts.channels]]\nname = \"a\"\nkind = \"k\"\nseverity = \"bad\"",
                "alerts.channels.a.severity: got \"bad\", expected \"info\" or \"warning\" or \"critical\"",
            ),
            ("[alerts]\nchannels = 7", "alerts.channels: got a integer, expected a list"),
            ("[alerts]\nchannels = [7]", "alerts.channels #1: got 7, expected a table"),
            (
                "[[alerts.channels]]\nname = \"a\"\nkind = \"k\"\n[[alerts.channels]]\nname = \"a\"\nkind = \"k\"",
                "alerts.channels.a: the name is given more than once",
            ),
        ] {
            let mistakes = read(text).expect_err(text);
            assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
            assert!(mistakes[0].starts_with(want) && !mistakes[0].contains("hunter2"), "{text}: {}", mistakes[0]);
        }
    }

    #[test]
    fn what_the_kind_owns_is_left_to_it_with_its_secrets_filled_in() {
        let text = "[[alerts.channels]]\nname = \"a\"\nkind = \"k\"\nseverity = \"critical\"\nurl = \"${HOOK}\"";
        let environment = FakeEnvironment::with_database().variable("HOOK", "https://hooks.example.org/hunter2");
        let alerts = crate::config::parse(text, &environment, NO_KINDS).expect("valid").alerts;
        assert_eq!(alerts.channels[0].severity, Severity::Critical);
        assert_eq!(alerts.channels[0].settings["url"].as_str(), Some("https://hooks.example.org/hunter2"));
        assert!(!format!("{alerts:?}").contains("hunter2"));
    }
}
