//! Properties of librdkafka: the settings of outboxd as its properties, and further ones for experts. A property that would break
//! a promise is refused, and so is one that a setting of outboxd writes.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::settings::{Secret, Section};

/// Requests of one event by librdkafka itself, beyond the first. Few, because the relay knows better: after them comes the reason
/// of the broker, after more only a timeout. A change of leader does not count.
const RETRIES: u32 = 3;

/// Headers and key come on top of the payload.
const ROOM_FOR_HEADERS: u64 = 64 * 1024;
/// The bounds that librdkafka has for its own bound.
const SMALLEST_BOUND: u64 = 1_000_000;
const LARGEST_BOUND: u64 = 1_000_000_000;

/// Refused, with the reason in the message.
const REFUSED: &[(&str, &str)] = &[
    ("acks", ACKNOWLEDGED),
    ("request.required.acks", ACKNOWLEDGED),
    ("delivery.report.only.error", ACKNOWLEDGED),
    ("enable.idempotence", ORDERED),
    ("enable.gapless.guarantee", ORDERED),
    ("queuing.strategy", ORDERED),
    ("max.in.flight", ORDERED),
    ("max.in.flight.requests.per.connection", ORDERED),
    ("retries", ORDERED),
    ("message.send.max.retries", ORDERED),
    ("transactional.id", "would need a transaction around every event"),
    ("transaction.timeout.ms", "would need a transaction around every event"),
    ("allow.auto.create.topics", "would hide a mistyped topic"),
    ("test.mock.num.brokers", "would publish to no real broker"),
    ("test.mock.broker.rtt", "would publish to no real broker"),
    ("enabled_events", "would hide what librdkafka reports"),
    ("log.queue", "would hide what librdkafka reports"),
    ("bootstrap.servers", "is what the setting brokers is for"),
    ("metadata.broker.list", "is what the setting brokers is for"),
    ("client.id", "is what the setting client_id is for"),
    ("security.protocol", "follows from the settings tls and sasl_mechanism"),
    ("sasl.mechanism", "is what the setting sasl_mechanism is for"),
    ("sasl.mechanisms", "is what the setting sasl_mechanism is for"),
    ("sasl.username", "is what the setting username is for"),
    ("sasl.password", "is what the setting password is for"),
    ("ssl.ca.pem", "is what the setting ca is for"),
    ("ssl.certificate.pem", "is what the setting client_certificate is for"),
    ("ssl.key.pem", "is what the setting client_key is for"),
    ("enable.ssl.certificate.verification", "is what the setting insecure_skip_verify is for"),
    ("compression.codec", "is what the setting compression is for"),
    ("compression.type", "is what the setting compression is for"),
    ("linger.ms", "is what the setting linger is for"),
    ("queue.buffering.max.ms", "is what the setting linger is for"),
    ("message.timeout.ms", "is what the setting confirm_timeout is for"),
    ("delivery.timeout.ms", "is what the setting confirm_timeout is for"),
    ("message.max.bytes", "follows from the setting max_payload"),
];
/// Partitioners: how the partition of a key is chosen. Each of these gives a key one partition; the default is what clients in Java use.
const PARTITIONERS: &[&str] = &["partitioner", "msg_partitioner"];
const CONSISTENT: &[&str] = &["murmur2_random", "murmur2", "consistent_random", "consistent", "fnv1a_random", "fnv1a"];
const ACKNOWLEDGED: &str = "would count an event as delivered that is not";
const ORDERED: &str = "would lose the order of events or their protection against duplicates";

/// The properties that the settings mean.
pub fn of(section: &Section<'_>, brokers: &[String], connect_timeout: Duration, confirm_timeout: Duration) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Debug);
    let confirm = confirm_timeout.as_millis().to_string();
    let bound = section.bytes("max_payload").saturating_add(ROOM_FOR_HEADERS).clamp(SMALLEST_BOUND, LARGEST_BOUND);
    for (name, value) in [
        ("bootstrap.servers", brokers.join(",")),
        ("client.id", section.text("client_id")),
        ("acks", "all".to_owned()),
        ("enable.idempotence", "true".to_owned()),
        ("allow.auto.create.topics", "false".to_owned()),
        ("retries", RETRIES.to_string()),
        // After this librdkafka forgets an event, so it never sends one that we have given up.
        ("message.timeout.ms", confirm.clone()),
        ("request.timeout.ms", confirm.clone()),
        ("socket.timeout.ms", confirm),
        ("socket.connection.setup.timeout.ms", connect_timeout.as_millis().max(1_000).to_string()),
        ("socket.keepalive.enable", "true".to_owned()),
        ("reconnect.backoff.max.ms", "1000".to_owned()),
        // How long a topic may be unknown: a new one needs a moment to reach every broker.
        ("topic.metadata.propagation.max.ms", "1000".to_owned()),
        ("message.max.bytes", bound.to_string()),
        ("linger.ms", (section.duration("linger").as_secs_f64() * 1_000.0).to_string()),
        ("compression.codec", section.text("compression")),
        // The partition of a key is the one that clients in Java choose.
        ("partitioner", "murmur2_random".to_owned()),
    ] {
        config.set(name, value);
    }
    set_security(section, &mut config);
    config
}

fn set_security(section: &Section<'_>, config: &mut ClientConfig) {
    let (is_encrypted, mechanism) = (section.boolean("tls"), section.text("sasl_mechanism"));
    let logs_in = mechanism != "none";
    let protocol = match (is_encrypted, logs_in) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if logs_in {
        config.set("sasl.mechanism", mechanism).set("sasl.username", section.text("username"));
        config.set("sasl.password", section.text("password"));
    }
    if !is_encrypted {
        return;
    }
    match section.optional_text("ca") {
        Some(ca) => config.set("ssl.ca.pem", ca),
        // Where the platform keeps its certificates; an OpenSSL that was built in does not know.
        None => config.set("ssl.ca.location", "probe"),
    };
    for (name, property) in [("client_certificate", "ssl.certificate.pem"), ("client_key", "ssl.key.pem")] {
        if let Some(pem) = section.optional_text(name) {
            config.set(property, pem);
        }
    }
    if section.boolean("insecure_skip_verify") {
        config.set("enable.ssl.certificate.verification", "false");
    }
}

/// Additional properties for experts. `None`: a mistake was reported.
pub fn read_extra(section: &Section<'_>) -> Option<BTreeMap<String, Secret>> {
    let extra = section.secret_map("properties");
    let mut is_valid = true;
    for (name, value) in &extra {
        if let Some(problem) = problem(name, value) {
            section.mistake(&format!("properties.{name}"), &problem);
            is_valid = false;
        }
    }
    is_valid.then_some(extra)
}

// The value is not repeated: it may be a secret.
fn problem(name: &str, value: &Secret) -> Option<String> {
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Some(format!("cannot be set: it {why}"));
    }
    if PARTITIONERS.contains(&name) && !CONSISTENT.contains(&value.expose().trim()) {
        return Some(format!("got a partitioner that {ORDERED}, expected one of {}", CONSISTENT.join(", ")));
    }
    match ClientConfig::new().set(name, value.expose()).create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(_, text, ..)) => Some(text.replace(value.expose(), "***")),
        Err(error) => Some(error.to_string()),
    }
}
