//! The settings of the kind: declared once, read into values that work or into mistakes that say what to write instead.

use std::fmt;
use std::time::Duration;

use rumqttc::QoS;
use url::Url;

use super::super::envelope::{self, Layout};
use super::super::template::Template;
use super::super::tls;
use super::super::waits::{self, Waits};
use super::message::{Composer, flaw_of_literal, flaw_of_text, flaw_of_topic};
use crate::settings::{Field, FieldType, Secret, Section, format_duration, parse_address};

pub const FIELDS: &[Field] = &[
    Field::required("url", FieldType::Text, "The broker: mqtt://host:port, or mqtts://host:port for TLS."),
    Field::required("topic", FieldType::Text, "Topic to publish to, a template such as \"orders/{type}/{aggregate_id}\"."),
    Field::new("username", FieldType::Text, "", "User name to connect with."),
    Field::new("password", FieldType::Secret, "", "Password to connect with."),
    Field::new(
        "client_id",
        FieldType::Text,
        "",
        "Client identifier; two relays with the same one would disconnect each other. Absent: a different one for every relay.",
    ),
    Field::new("qos", FieldType::Integer(0, 2), "1", "Quality of service: 1 or 2."),
    Field::new("retain", FieldType::Boolean, "false", "The broker keeps the last event of each topic for later subscribers."),
    Field::new(
        "require_subscriber",
        FieldType::Boolean,
        "false",
        "Hold events while the broker reports that their topic has no subscriber; needs qos = 1.",
    ),
    Field::new(
        "message_expiry",
        FieldType::Duration,
        "",
        "Time after which the broker drops events that no subscriber has fetched. Absent: never.",
    ),
    envelope::FORMAT,
    envelope::SOURCE,
    envelope::SUBJECT,
    envelope::HEADERS,
    envelope::FORWARD_HEADERS,
    envelope::MAX_PAYLOAD,
    Field::new("keep_alive", FieldType::Duration, "30s", "Time without traffic after which the client sends a ping."),
    waits::CONNECT_TIMEOUT,
    waits::CONFIRM_TIMEOUT,
    tls::CA,
    tls::CLIENT_CERTIFICATE,
    tls::CLIENT_KEY,
    tls::SKIP_VERIFY,
];

const PLAIN_PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// Settings that work.
pub struct Settings {
    pub address: Address,
    pub credentials: (Option<String>, Option<Secret>),
    pub client_id: String,
    /// Then another client may have the same.
    pub has_configured_id: bool,
    pub keep_alive_seconds: u16,
    pub connect_timeout: Duration,
    pub confirm_timeout: Duration,
    /// The broker must have a subscriber for the event.
    pub must_be_routed: bool,
    pub composer: Composer,
    pub tls: rustls::ClientConfig,
}

/// Where the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    pub is_tls: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Reads them all before it gives up, so that every mistake is reported in one run.
pub fn read(section: &Section<'_>) -> Option<Settings> {
    let address = read_address(section);
    let tls = tls::read(section, b"", address.as_ref().is_some_and(|address| address.is_tls));
    let (username, client_id) = (read_text(section, "username"), read_text(section, "client_id"));
    let (topic, qos, layout) = (read_topic(section), read_qos(section), Layout::read(section, |name| name.bare));
    let expiry = read_seconds(section, "message_expiry", u32::MAX);
    let keep_alive = read_seconds(section, "keep_alive", u16::MAX.into());
    let waits = Waits::read(section);
    let must_be_routed = read_must_be_routed(section);
    Some(Settings {
        address: address?,
        credentials: (username?, section.secret("password")),
        has_configured_id: section.is_set("client_id"),
        client_id: client_id?.unwrap_or_else(|| unique_id(section)),
        keep_alive_seconds: keep_alive?.and_then(|seconds| u16::try_from(seconds).ok())?,
        connect_timeout: waits?.connect,
        confirm_timeout: waits?.confirm,
        must_be_routed: must_be_routed?,
        composer: Composer::new(topic?, layout?, qos?, section.boolean("retain"), expiry?),
        tls: tls?,
    })
}

// The text itself is never repeated: it may contain a password.
fn read_address(section: &Section<'_>) -> Option<Address> {
    if !section.is_set("url") {
        return None; // reported when the section was opened
    }
    let problem = match parse_address(section.text("url").trim()) {
        Ok(url) => match address(&url) {
            Ok(address) => return Some(address),
            Err(problem) => problem,
        },
        Err(problem) => problem,
    };
    section.mistake("url", &format!("{problem}, expected a URL such as \"mqtts://broker.example.org:8883\""));
    None
}

fn address(url: &Url) -> Result<Address, String> {
    let (is_tls, default_port) = match url.scheme() {
        "mqtt" => (false, PLAIN_PORT),
        "mqtts" => (true, TLS_PORT),
        other => return Err(format!("got the scheme \"{other}\"")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("got credentials, which belong into username and password".to_owned());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("got more than a host and a port".to_owned());
    }
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err("got no host".to_owned());
    }
    Ok(Address { host: host.to_owned(), port: url.port().unwrap_or(default_port), is_tls })
}

fn read_topic(section: &Section<'_>) -> Option<Template> {
    if !section.is_set("topic") {
        return None; // reported when the section was opened
    }
    let topic = Template::read(section, "topic")?;
    let flaw = match topic.constant() {
        Some(whole) => flaw_of_topic(whole),
        None => topic.literals().find_map(flaw_of_literal),
    };
    match flaw {
        None => Some(topic),
        Some(flaw) => {
            section.mistake("topic", &format!("{flaw}, expected a topic such as \"orders/{{type}}\""));
            None
        }
    }
}

fn read_qos(section: &Section<'_>) -> Option<QoS> {
    match section.integer("qos") {
        1 => Some(QoS::AtLeastOnce),
        2 => Some(QoS::ExactlyOnce),
        _ => {
            section.mistake("qos", "got 0, expected 1 or 2: with 0 a broker acknowledges nothing, and a loss would go unnoticed");
            None
        }
    }
}

// With 2 the broker answers before it looks for a subscriber (mosquitto does), so that the promise could not be kept.
fn read_must_be_routed(section: &Section<'_>) -> Option<bool> {
    let is_wanted = section.boolean("require_subscriber");
    if is_wanted && section.integer("qos") == 2 {
        section.mistake(
            "require_subscriber",
            "got true with qos = 2, expected qos = 1: only then does a broker report that a topic has no subscriber",
        );
        return None;
    }
    Some(is_wanted)
}

/// `Some(None)`: not set.
fn read_seconds(section: &Section<'_>, name: &str, most: u32) -> Option<Option<u32>> {
    let Some(duration) = section.optional_duration(name) else { return Some(None) };
    let seconds = u32::try_from(duration.as_secs()).ok().filter(|seconds| (1..=most).contains(seconds));
    if seconds.is_none() || duration.subsec_nanos() != 0 {
        let (got, most) = (format_duration(duration), format_duration(Duration::from_secs(most.into())));
        section.mistake(name, &format!("got \"{got}\", expected whole seconds from \"1s\" to \"{most}\""));
        return None;
    }
    Some(seconds)
}

/// `Some(None)`: not set.
fn read_text(section: &Section<'_>, name: &str) -> Option<Option<String>> {
    let text = section.optional_text(name);
    match text.as_deref().and_then(flaw_of_text) {
        None => Some(text),
        Some(flaw) => {
            section.mistake(name, &format!("{flaw}, which MQTT does not allow"));
            None
        }
    }
}

/// Names its owner, and is unique: a second handler of the same name, in this process or another, must not take it over.
fn unique_id(section: &Section<'_>) -> String {
    let name = section.path().trim_start_matches("handlers.");
    format!("outboxd-{name}-{:08x}", fastrand::u32(..))
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;
    use crate::settings::Mistakes;

    const TIMEOUT: &[Field] = &[Field::new("timeout", FieldType::Duration, "15s", "Maximum duration of one attempt.")];

    fn read_all(settings: &str) -> Result<Settings, Vec<String>> {
        let (table, mistakes) = (settings.parse::<Table>().expect("valid TOML"), Mistakes::default());
        let settings = read(&Section::open("handlers.x", &table, FIELDS, TIMEOUT, &mistakes));
        let mistakes: Vec<String> = mistakes.into_vec().iter().map(ToString::to_string).collect();
        settings.filter(|_| mistakes.is_empty()).ok_or(mistakes)
    }

    fn with(url: &str) -> Result<Settings, Vec<String>> {
        read_all(&format!("url = \"{url}\"\ntopic = \"a\""))
    }

    #[test]
    fn the_address_has_a_port_by_its_scheme() {
        for (url, host, port, is_tls) in [
            ("mqtt://broker", "broker", 1883, false),
            ("mqtts://broker/", "broker", 8883, true),
            ("mqtt://10.0.0.1:99", "10.0.0.1", 99, false),
            ("mqtts://[::1]:7", "::1", 7, true),
        ] {
            let want = Address { host: host.to_owned(), port, is_tls };
            assert_eq!(with(url).map(|settings| settings.address).map_err(|mistakes| mistakes.join(" ")), Ok(want), "{url}");
        }
    }

    #[test]
    fn an_address_that_does_not_work_says_why_and_tells_no_password() {
        for (url, want) in [
            ("http://broker", "got the scheme \"http\""),
            ("mqtt://me:s3cr3t@broker", "got credentials, which belong into username and password"),
            ("mqtt://broker/topic", "got more than a host and a port"),
            ("mqtt:broker", "got more than a host and a port"),
            ("mqtt://", "got no host"),
            ("broker:1883", "got the scheme \"broker\""),
            ("s3cr3t", "got no URL"),
        ] {
            let mistakes = with(url).err().expect(url);
            assert!(mistakes.len() == 1 && mistakes[0].starts_with(&format!("handlers.x.url: {want}")), "{url}: {mistakes:?}");
            assert!(!mistakes[0].contains("s3cr3t"), "{mistakes:?}");
        }
    }

    #[test]
    fn every_mistake_is_reported_in_one_run() {
        let mistakes = read_all(
            "url = \"amqp://x\"\ntopic = \"a/+/{type}\"\nqos = 0\nmessage_expiry = \"1500ms\"\nkeep_alive = \"1d\"\nusername = \"a\\nb\"\n\
             confirm_timeout = \"15s\"\nheaders = { event-id = \"x\" }\nca = \"nonsense\"",
        );
        let mistakes = mistakes.err().expect("all of them are wrong");
        let paths: Vec<&str> = mistakes.iter().map(|mistake| mistake.split(": ").next().unwrap_or_default()).collect();
        assert_eq!(
            paths,
            [
                "handlers.x.url",
                "handlers.x.ca",
                "handlers.x.username",
                "handlers.x.topic",
                "handlers.x.qos",
                "handlers.x.headers.event-id",
                "handlers.x.message_expiry",
                "handlers.x.keep_alive",
                "handlers.x.confirm_timeout",
            ],
            "{mistakes:#?}"
        );
    }

    #[test]
    fn a_topic_is_checked_when_it_is_read() {
        for (topic, want) in [
            ("a/#", "has a \"#\""),
            ("{type}/+", "has a \"+\""),
            ("", "is empty"),
            ("a\\u0001", "has a control character"),
            ("{typ}", "{typ} names no value"),
        ] {
            let mistakes = read_all(&format!("url = \"mqtt://x\"\ntopic = \"{topic}\"")).err().expect(topic);
            assert!(mistakes.len() == 1 && mistakes[0].starts_with(&format!("handlers.x.topic: {want}")), "{topic}: {mistakes:?}");
        }
    }

    #[test]
    fn that_somebody_subscribes_can_only_be_asked_for_with_quality_of_service_1() {
        let ask = |qos| read_all(&format!("url = \"mqtt://x\"\ntopic = \"a\"\nrequire_subscriber = true\nqos = {qos}"));
        assert!(ask(1).is_ok_and(|settings| settings.must_be_routed));
        assert!(ask(2).is_err_and(|mistakes| mistakes[0].contains("expected qos = 1")));
    }

    #[test]
    fn a_header_cannot_take_the_name_of_an_attribute() {
        for (format, is_taken) in [("cloudevents-binary", true), ("cloudevents-structured", false), ("plain", false)] {
            let settings = format!("url = \"mqtt://x\"\ntopic = \"a\"\nformat = \"{format}\"\nheaders = {{ subject = \"x\" }}");
            assert_eq!(read_all(&settings).is_err(), is_taken, "{format}");
        }
    }

    #[test]
    fn every_handler_has_a_client_id_of_its_own_unless_one_is_configured() {
        let (one, other) = (with("mqtt://x").expect("valid").client_id, with("mqtt://x").expect("valid").client_id);
        assert!(one != other && one.starts_with("outboxd-x-"), "{one} {other}");
        let configured = read_all("url = \"mqtt://x\"\ntopic = \"a\"\nclient_id = \"mine\"").expect("valid");
        assert_eq!(configured.client_id, "mine");
    }
}
