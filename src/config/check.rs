//! From a resolved table to the typed sections, with the rules that concern more than one value. Never stops at a mistake: the check
//! reports it and continues with the default.

use std::net::SocketAddr;
use std::time::Duration;

use toml::{Table, Value};
use tracing_subscriber::EnvFilter;

use super::adopt::read_adoptions;
use super::alerts::read_alerts;
use super::console::read_console;
use super::contracts::read_contracts;
use super::erasure::read_erasure;
use super::feed::{check_feed, read_clients, read_feed};
use super::handler::read_handlers;
use super::hub::{check_hub, read_hub};
use super::projections::read_projections;
use super::rules::{at_least, count, report_name};
use super::{Config, Database, Http, Log, LogFormat, Outbox, Relay, WakeUp, adoption_path, fields};
use crate::settings::{Field, FieldType, Mistakes, Secret, Section, address_hint, format_bytes, format_duration, parse_address};

/// Includes the lists, so that `[[handler]]` gets a suggestion.
const ROOT_ONLY: &[Field] = &[
    Field::new(fields::HANDLERS, FieldType::TextList, "", "Handlers."),
    Field::new(fields::ADOPT, FieldType::TextList, "", "Adopted tables."),
    Field::new(fields::CLIENTS, FieldType::TextList, "", "Clients of the feed."),
    Field::new(fields::PROJECTIONS, FieldType::TextList, "", "Projections."),
];

const SHORTEST_LEASE: Duration = Duration::from_secs(3);
const SHORTEST_POLL: Duration = Duration::from_micros(100);
/// The limit of Postgres for one value.
const LARGEST_PAYLOAD: u64 = 1 << 30;

/// Reads everything; the result is valid only if no mistake was added.
pub(super) fn read_config(document: &Table, mistakes: &Mistakes) -> Config {
    let mut sections = document.clone();
    let handlers = sections.remove(fields::HANDLERS).unwrap_or(Value::Array(Vec::new()));
    let adopted = sections.remove(fields::ADOPT);
    let clients = sections.remove(fields::CLIENTS);
    let projections = sections.remove(fields::PROJECTIONS);
    let channels = sections.get_mut("alerts").and_then(Value::as_table_mut).and_then(|alerts| alerts.remove(fields::CHANNELS));
    let tokens = sections.get_mut("console").and_then(Value::as_table_mut).and_then(|console| console.remove(fields::TOKENS));
    let root = Section::open("", &sections, fields::SECTIONS, ROOT_ONLY, mistakes);
    let mut config = Config {
        database: read_database(&root.table("database"), is_text(&sections, "database", "url")),
        outbox: read_outbox(&root.table("outbox")),
        relay: read_relay(&root.table("relay")),
        http: read_http(&root.table("http")),
        log: read_log(&root.table("log")),
        alerts: read_alerts(&root.table("alerts"), channels.as_ref(), mistakes),
        contracts: read_contracts(&root.table("contracts")),
        feed: read_feed(&root.table("feed")),
        hub: read_hub(&root.table("hub")),
        erasure: read_erasure(&root.table("erasure")),
        console: read_console(&root.table("console"), tokens.as_ref(), mistakes),
        clients: clients.map(|list| read_clients(&list, mistakes)).unwrap_or_default(),
        handlers: read_handlers(&handlers, mistakes),
        adopt: adopted.map(|list| read_adoptions(&list, mistakes)).unwrap_or_default(),
    };
    config.handlers.extend(projections.map(|list| read_projections(&list, mistakes)).unwrap_or_default());
    check_together(&root, &config, mistakes);
    config
}

/// Whether a value is absent or a text. Other types were reported when the section was opened.
fn is_text(document: &Table, section: &str, name: &str) -> bool {
    document.get(section).and_then(|table| table.get(name)).is_none_or(Value::is_str)
}

fn read_database(section: &Section<'_>, url_is_text: bool) -> Database {
    let url = section.text("url");
    if let (true, Err(error)) = (url_is_text, postgres_url(&url)) {
        section.mistake("url", &error);
    }
    at_least(section, "connect_timeout", Duration::from_millis(1), "");
    Database {
        url: Secret::new(url),
        max_connections: count(section, "max_connections"),
        connect_timeout: section.duration("connect_timeout"),
        statement_timeout: section.duration("statement_timeout"),
        lock_timeout: section.duration("lock_timeout"),
        follow_new_timeline: section.text("on_new_timeline") == "follow",
    }
}

/// The address usually contains a password, so the error does not repeat it.
fn postgres_url(text: &str) -> Result<(), String> {
    const EXPECTED: &str = "expected postgres://user:password@host:port/database";
    if text.is_empty() {
        return Err(format!("is not set, and neither is the environment variable \"DATABASE_URL\"; {EXPECTED}"));
    }
    let url = parse_address(text).map_err(|problem| format!("is not an address: {problem}, {EXPECTED}"))?;
    match url.scheme() {
        "postgres" | "postgresql" => Ok(()),
        other => Err(format!("got an address that begins with \"{other}:\", {EXPECTED}")),
    }
}

fn read_outbox(section: &Section<'_>) -> Outbox {
    let schema = section.text("schema");
    if schema.starts_with("pg_") || schema == "information_schema" {
        section.mistake("schema", &format!("got {schema:?}, which Postgres reserves; expected a name such as \"outbox\""));
    } else if !is_schema(&schema) {
        let text = format!("got {schema:?}, expected at most 63 lower-case letters, digits and underscores, with no digit first");
        section.mistake("schema", &text);
    }
    let max_payload = section.bytes("max_payload");
    if !(1..=LARGEST_PAYLOAD).contains(&max_payload) {
        section
            .mistake("max_payload", &format!("got \"{}\", expected 1B to 1GiB, the limit of Postgres", format_bytes(max_payload)));
    }
    at_least(section, "retention_interval", Duration::from_secs(1), "");
    Outbox {
        schema,
        max_payload,
        migrate: section.boolean("migrate"),
        retention: section.duration("retention"),
        retention_interval: section.duration("retention_interval"),
        retention_chunk: count(section, "retention_chunk"),
        inbox_retention: section.duration("inbox_retention"),
    }
}

fn is_schema(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    starts_well && name.len() <= 63 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn read_relay(section: &Section<'_>) -> Relay {
    report_name(section);
    at_least(section, "poll_interval", SHORTEST_POLL, "");
    at_least(section, "idle_poll_interval", section.duration("poll_interval"), ", the poll_interval");
    at_least(section, "flush_interval", Duration::from_millis(1), "");
    // An owner renews its lease with every flush; it must have several tries before the lease expires.
    let flushes = section.duration("flush_interval") * 3;
    let why = if flushes > SHORTEST_LEASE { ", 3 times the flush_interval" } else { "" };
    at_least(section, "lease", flushes.max(SHORTEST_LEASE), why);
    Relay {
        name: section.text("name"),
        wake_up: if section.text("wake_up") == "poll" { WakeUp::Poll } else { WakeUp::Listen },
        poll_interval: section.duration("poll_interval"),
        idle_poll_interval: section.duration("idle_poll_interval"),
        linger: section.duration("linger"),
        lease: section.duration("lease"),
        flush_interval: section.duration("flush_interval"),
        drain_timeout: section.duration("drain_timeout"),
        memory: section.bytes("memory"),
        durability_gate: section.boolean("durability_gate"),
    }
}

fn read_http(section: &Section<'_>) -> Http {
    let listen = section.optional_text("listen").and_then(|text| {
        let address = text.parse::<SocketAddr>().ok();
        if address.is_none() {
            let hint = address_hint(&text).map(|hint| format!("; {hint}")).unwrap_or_default();
            let expected = "expected an address such as \"127.0.0.1:9187\", or \"\" for none";
            section.mistake("listen", &format!("got {text:?}, {expected}{hint}"));
        }
        address
    });
    Http { listen, stall_after: section.duration("stall_after") }
}

fn read_log(section: &Section<'_>) -> Log {
    let filter = section.text("filter");
    if let Err(error) = EnvFilter::try_new(&filter) {
        section.mistake(
            "filter",
            &format!("got {filter:?}, expected a level or a list such as \"info,outboxd::relay=debug\" ({error})"),
        );
    }
    let format = if section.text("format") == "json" { LogFormat::Json } else { LogFormat::Text };
    Log { format, filter }
}

/// The rules between two sections.
fn check_together(root: &Section<'_>, config: &Config, mistakes: &Mistakes) {
    let relay = root.table("relay");
    if config.relay.memory < config.outbox.max_payload {
        let (memory, payload) = (format_bytes(config.relay.memory), format_bytes(config.outbox.max_payload));
        relay.mistake(
            "memory",
            &format!("got \"{memory}\", expected at least outbox.max_payload (\"{payload}\"): it could never be read"),
        );
    }
    at_least(&root.table("http"), "stall_after", config.relay.idle_poll_interval * 2, ", twice relay.idle_poll_interval");
    for (index, handler) in config.handlers.iter().enumerate() {
        if handler.timeout > config.relay.drain_timeout {
            let (timeout, drain) = (format_duration(handler.timeout), format_duration(config.relay.drain_timeout));
            mistakes.add(
                format!("{}.timeout", super::handler_path(index, &handler.name)),
                format!(
                    "got \"{timeout}\", expected at most relay.drain_timeout (\"{drain}\"): every stop would interrupt attempts"
                ),
            );
        }
    }
    check_feed(&config.feed, &config.clients, &config.handlers, mistakes);
    check_hub(&config.hub, &config.feed, mistakes);
    for adoption in config.adopt.iter().filter(|adoption| adoption.table.schema() == config.outbox.schema) {
        mistakes.add(adoption_path(&adoption.table), "is a table of the outbox itself, not of an application");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes_of(text: &str) -> Vec<String> {
        let mistakes = Mistakes::default();
        let text = format!("{text}\n[database]\nurl = \"postgres://localhost/app\"");
        read_config(&text.parse().expect("valid TOML"), &mistakes);
        mistakes.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_said_is_a_valid_configuration() {
        assert_eq!(mistakes_of(""), Vec::<String>::new());
    }

    #[test]
    fn values_that_only_together_make_no_sense_are_reported() {
        for (text, want) in [
            ("relay.lease = \"2s\"", "relay.lease: got \"2s\", expected at least \"3s\""),
            (
                "relay.lease = \"5s\"\nrelay.flush_interval = \"2s\"",
                "relay.lease: got \"5s\", expected at least \"6s\", 3 times the flush_interval",
            ),
            (
                "relay.idle_poll_interval = \"1ms\"",
                "relay.idle_poll_interval: got \"1ms\", expected at least \"2ms\", the poll_interval",
            ),
            ("relay.poll_interval = \"0s\"", "relay.poll_interval: got \"0s\", expected at least \"100us\""),
            (
                "relay.memory = \"1MiB\"\noutbox.max_payload = \"2MiB\"",
                "relay.memory: got \"1MiB\", expected at least outbox.max_payload (\"2MiB\"): it could never be read",
            ),
            (
                "http.stall_after = \"400ms\"",
                "http.stall_after: got \"400ms\", expected at least \"500ms\", twice relay.idle_poll_interval",
            ),
            (
                "handlers = [{ name = \"a\", kind = \"k\", timeout = \"31s\" }]",
                "handlers.a.timeout: got \"31s\", expected at most relay.drain_timeout (\"30s\"): every stop would interrupt attempts",
            ),
        ] {
            assert_eq!(mistakes_of(text), [want], "{text}");
        }
    }

    #[test]
    fn values_of_a_shape_that_no_type_knows_are_reported() {
        for (text, want) in [
            ("outbox.schema = \"Outbox\"", "outbox.schema: got \"Outbox\", expected at most 63 lower-case letters"),
            ("outbox.schema = \"9a\"", "outbox.schema: got \"9a\""),
            ("outbox.schema = \"a;b\"", "outbox.schema: got \"a;b\""),
            ("outbox.max_payload = \"2GiB\"\nrelay.memory = \"4GiB\"", "outbox.max_payload: got \"2GiB\", expected 1B to 1GiB"),
            ("http.listen = \":9187\"", "http.listen: got \":9187\", expected an address such as \"127.0.0.1:9187\""),
            ("log.filter = \"a=loud\"", "log.filter: got \"a=loud\", expected a level"),
            ("relay.name = \"a b\"", "relay.name: got \"a b\", expected letters, digits"),
            ("[[handler]]\nname = \"x\"", "unknown key \"handler\"; did you mean \"handlers\"?"),
            ("[handlers.x]\nkind = \"k\"", "handlers: got a table, expected a list"),
        ] {
            let mistakes = mistakes_of(text);
            assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
            assert!(mistakes[0].starts_with(want), "{text}: {}", mistakes[0]);
        }
    }

    #[test]
    fn a_wrong_database_address_is_not_repeated() {
        for text in ["mysql://root:hunter2@db/x", "hunter2", ""] {
            let error = postgres_url(text).expect_err(text);
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(postgres_url("postgresql:///app?host=/run/postgresql"), Ok(()));
    }

    #[test]
    fn an_empty_listen_address_serves_nothing_and_any_interface_is_allowed() {
        let http = |text: &str| read_config(&text.parse().expect("valid TOML"), &Mistakes::default()).http.listen;
        assert_eq!(http("http.listen = \"\""), None);
        assert_eq!(http("http.listen = \"0.0.0.0:80\"").map(|address| address.port()), Some(80));
        assert_eq!(http("").map(|address| address.to_string()).as_deref(), Some("127.0.0.1:9187"));
    }
}
