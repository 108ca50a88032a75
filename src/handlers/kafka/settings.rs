//! The settings of the kind: declared once, read into values that work or into mistakes that say what to write instead.

use std::time::Duration;

use rdkafka::ClientConfig;

use super::super::envelope::{self, Layout};
use super::super::redaction::Redaction;
use super::super::template::Template;
use super::super::tls;
use super::super::waits::{self, Waits};
use super::properties;
use super::topic;
use crate::settings::{Field, FieldType, Section, address_hint};

pub const FIELDS: &[Field] = &[
    Field::required(
        "brokers",
        FieldType::TextList,
        "Some brokers of the cluster, each as host:port; the client learns the others from the first that answers.",
    ),
    Field::required("topic", FieldType::Text, "Topic to publish to, a template such as \"orders\" or \"{aggregate_type}.events\"."),
    Field::new(
        "partition_key",
        FieldType::Text,
        "",
        "Partition key, a template such as \"{header:tenant}\"; empty: the event's key, or its id if it has no key.",
    ),
    envelope::FORMAT,
    envelope::SOURCE,
    envelope::SUBJECT,
    envelope::HEADERS,
    envelope::FORWARD_HEADERS,
    envelope::MAX_PAYLOAD,
    Field::new("tls", FieldType::Boolean, "false", "Encrypt the connections."),
    tls::CA,
    tls::CLIENT_CERTIFICATE,
    tls::CLIENT_KEY,
    tls::SKIP_VERIFY,
    Field::new(
        "sasl_mechanism",
        FieldType::Choice(&["none", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
        "none",
        "Mechanism for the log-in with username and password.",
    ),
    Field::new("username", FieldType::Text, "", "User to log in as; needs sasl_mechanism."),
    Field::new("password", FieldType::Secret, "", "Password to log in with; needs sasl_mechanism."),
    Field::new(
        "compression",
        FieldType::Choice(&["none", "gzip", "snappy", "lz4"]),
        "none",
        "How batches are compressed on the way and in the log of the broker.",
    ),
    Field::new("linger", FieldType::Duration, "5ms", "How long an event waits for others that share its request."),
    Field::new("client_id", FieldType::Text, "outboxd", "Name of this client in the logs and quotas of the brokers."),
    waits::CONNECT_TIMEOUT,
    waits::CONFIRM_TIMEOUT,
    Field::new(
        "properties",
        FieldType::SecretMap,
        "",
        "Further properties of librdkafka, for experts; properties that would break a guarantee of outboxd are refused.",
    ),
];

/// The least that librdkafka, which looks for expired events once a second, can keep to.
const SHORTEST_CONFIRM: Duration = Duration::from_secs(1);

/// Settings that work.
pub struct Settings {
    /// The brokers, for display.
    pub target: String,
    pub config: ClientConfig,
    pub topic: Template,
    pub partition_key: Option<Template>,
    pub layout: Layout,
    pub connect_timeout: Duration,
    pub confirm_timeout: Duration,
    pub redaction: Redaction,
}

/// Reads them all before it gives up, so that every mistake is reported in one run.
pub fn read(section: &Section<'_>) -> Option<Settings> {
    let brokers = read_brokers(section);
    let topic = read_topic(section);
    let partition_key = read_partition_key(section);
    let layout = Layout::read(section, |name| name.underscored);
    let is_secure = check_security(section);
    let waits = read_waits(section);
    let extra = properties::read_extra(section);
    let (brokers, waits) = (brokers?, waits?);
    let (topic, partition_key, layout) = (topic?, partition_key?, layout?);
    is_secure.then_some(())?;
    let mut config = properties::of(section, &brokers, waits.connect, waits.confirm);
    extra?.iter().for_each(|(name, value)| _ = config.set(name, value.expose()));
    Some(Settings {
        target: brokers.join(", "),
        config,
        topic,
        partition_key,
        layout,
        connect_timeout: waits.connect,
        confirm_timeout: waits.confirm,
        redaction: redaction(section),
    })
}

fn read_brokers(section: &Section<'_>) -> Option<Vec<String>> {
    let brokers = section.texts("brokers");
    if !section.is_set("brokers") {
        return None; // reported when the section was opened
    }
    if brokers.is_empty() {
        section.mistake("brokers", "got none, expected addresses such as [\"kafka-1.example.org:9092\"]");
        return None;
    }
    let wrong: Vec<&String> = brokers.iter().filter(|broker| !is_address(broker)).collect();
    for broker in &wrong {
        let hint = match address_hint(broker) {
            Some(_) if broker.contains(',') => "; write each broker as an entry of its own".to_owned(),
            Some(hint) => format!("; {hint}"),
            None => String::new(),
        };
        section.mistake("brokers", &format!("got {broker:?}, expected host and port such as \"kafka-1.example.org:9092\"{hint}"));
    }
    wrong.is_empty().then_some(brokers)
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (is_bracketed && "[:]%".contains(c));
    !host.is_empty() && host.chars().all(is_host) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn read_topic(section: &Section<'_>) -> Option<Template> {
    if !section.is_set("topic") {
        return None; // reported when the section was opened
    }
    let topic = Template::read(section, "topic")?;
    let problem = match topic.constant() {
        Some(name) => topic::problem(name),
        None => topic.literals().find_map(topic::problem_in_part),
    };
    match problem {
        None => Some(topic),
        Some(problem) => {
            section.mistake("topic", &format!("got {:?}: {problem}", section.text("topic")));
            None
        }
    }
}

/// `Some(None)`: the key of the event.
fn read_partition_key(section: &Section<'_>) -> Option<Option<Template>> {
    if section.text("partition_key").is_empty() {
        return Some(None);
    }
    let template = Template::read(section, "partition_key")?;
    if template.constant().is_some() {
        section.mistake("partition_key", "got the same for every event, which would put all of them into one partition");
        return None;
    }
    Some(Some(template))
}

/// Whether the settings about security fit together and work.
fn check_security(section: &Section<'_>) -> bool {
    let is_encrypted = section.boolean("tls");
    // librdkafka takes the same texts, but only once it connects, and says less about what is wrong with them.
    let is_readable = tls::read(section, b"", is_encrypted).is_some();
    let mut fits = true;
    let mut mistake = |name: &str, text: &str| {
        section.mistake(name, text);
        fits = false;
    };
    for name in ["ca", "client_certificate", "client_key", "insecure_skip_verify"] {
        if section.is_set(name) && !is_encrypted {
            mistake(name, "has no effect without tls = true");
        }
    }
    let logs_in = section.text("sasl_mechanism") != "none";
    for name in ["username", "password"] {
        match (logs_in, section.optional_text(name).is_some()) {
            (true, false) => mistake(name, "is missing: sasl_mechanism needs it"),
            (false, true) => mistake(name, "has no effect without sasl_mechanism"),
            _ => {}
        }
    }
    is_readable && fits
}

fn read_waits(section: &Section<'_>) -> Option<Waits> {
    let (waits, confirm) = (Waits::read(section), section.duration("confirm_timeout"));
    if confirm < SHORTEST_CONFIRM {
        section.mistake("confirm_timeout", "expected at least \"1s\"");
        return None;
    }
    if section.duration("linger") >= confirm {
        section.mistake("linger", "expected less than confirm_timeout: no event would ever be sent in time");
        return None;
    }
    waits
}

fn redaction(section: &Section<'_>) -> Redaction {
    let extra = section.secret_map("properties");
    // Only what librdkafka itself calls a secret: hiding "true" or "1000" everywhere would only garble texts.
    let secret = extra.iter().filter(|(name, _)| name.contains("password") || name.contains("secret") || name.contains("pem"));
    Redaction::new(
        section.secret("password").iter().chain(section.secret("client_key").iter()).chain(secret.map(|(_, value)| value)),
    )
}
