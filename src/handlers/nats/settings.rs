//! The settings of the kind: declared once, read into values that work or into mistakes that say what to write instead.

use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use url::Host;

use super::super::envelope::{self, Layout};
use super::super::tls;
use super::super::waits::{self, Waits};
use super::credentials;
use super::subject::{self, Subjects};
use crate::settings::{Field, FieldType, Secret, Section, parse_address};

const JETSTREAM: &str = "jetstream";
const CORE: &str = "core";
const PORT: u16 = 4222;

pub const FIELDS: &[Field] = &[
    Field::required("servers", FieldType::TextList, "Addresses of the servers of one cluster, nats:// or with TLS tls://."),
    Field::required("subject", FieldType::Text, "Subject to publish to, a template such as \"orders.{type}\"."),
    Field::new(
        "mode",
        FieldType::Choice(&[JETSTREAM, CORE]),
        JETSTREAM,
        "Wait for the acknowledgement of a stream, or publish only to current subscribers (core), which loses events.",
    ),
    Field::new(
        "stream",
        FieldType::Text,
        "",
        "Stream that must store the events; an acknowledgement of another stream is an error.",
    ),
    Field::new("domain", FieldType::Text, "", "JetStream domain to look the stream up in."),
    Field::new(
        "inbox_prefix",
        FieldType::Text,
        "_INBOX",
        "Subject prefix of acknowledgements; the user must be allowed to subscribe to it.",
    ),
    Field::new("username", FieldType::Text, "", "User; needs password."),
    Field::new("password", FieldType::Secret, "", "Password of username."),
    Field::new("token", FieldType::Secret, "", "Token, if the servers require one instead of a user."),
    Field::new("nkey", FieldType::Secret, "", "Seed of a user's NKey (\"SU...\")."),
    Field::new("credentials", FieldType::Secret, "", "Text of a credentials file (.creds) with a user's JWT and seed."),
    envelope::FORMAT,
    envelope::SOURCE,
    envelope::SUBJECT,
    envelope::HEADERS,
    envelope::FORWARD_HEADERS,
    envelope::MAX_PAYLOAD,
    waits::CONNECT_TIMEOUT,
    waits::CONFIRM_TIMEOUT,
    tls::CA,
    tls::CLIENT_CERTIFICATE,
    tls::CLIENT_KEY,
    tls::SKIP_VERIFY,
];

/// The acknowledgement that an event needs before it counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The stream that stores it.
    JetStream,
    /// The server that has passed it on.
    Core,
}

/// One server.
#[derive(Debug, Clone)]
pub struct Server {
    pub address: ServerAddr,
    /// `host:port`, for display.
    pub name: String,
    pub is_encrypted: bool,
}

/// Settings that work.
pub struct Settings {
    pub servers: Vec<Server>,
    pub subjects: Subjects,
    pub mode: Mode,
    pub stream: Option<String>,
    pub domain: Option<String>,
    pub layout: Layout,
    /// Credentials, TLS and the inbox; the rest is for the one who connects.
    pub options: ConnectOptions,
    /// What must not appear in any displayed text.
    pub hidden: Vec<Secret>,
    pub connect_timeout: Duration,
    pub confirm_timeout: Duration,
}

/// Reads them all before it gives up, so that every mistake is reported in one run.
pub fn read(section: &Section<'_>) -> Option<Settings> {
    let servers = read_servers(section);
    let subjects = Subjects::read(section);
    let layout = Layout::read(section, |name| name.dashed);
    let mode = if section.text("mode") == CORE { Mode::Core } else { Mode::JetStream };
    let (stream, domain) = (read_name(section, "stream", mode), read_name(section, "domain", mode));
    let inbox = read_inbox(section);
    let is_encrypted = servers.iter().flatten().any(|server| server.is_encrypted);
    let tls = tls::read(section, b"", is_encrypted);
    let options = credentials::read(section);
    let waits = Waits::read(section);
    Some(Settings {
        servers: servers?,
        subjects: subjects?,
        mode,
        stream: stream?,
        domain: domain?,
        layout: layout?,
        options: options?.custom_inbox_prefix(inbox?).tls_client_config(tls?),
        hidden: credentials::hidden(section),
        connect_timeout: waits?.connect,
        confirm_timeout: waits?.confirm,
    })
}

fn read_servers(section: &Section<'_>) -> Option<Vec<Server>> {
    if !section.is_set("servers") {
        return None; // reported when the section was opened
    }
    let texts = section.texts("servers");
    let mut servers = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match server(text.trim()) {
            Ok(server) => servers.push(server),
            Err(problem) => section.mistake("servers", &format!("number {}: {problem}", index + 1)),
        }
    }
    if texts.is_empty() {
        section.mistake("servers", "got no address, expected at least one such as \"nats://nats.example.org:4222\"");
    }
    (!texts.is_empty() && servers.len() == texts.len()).then_some(servers)
}

// The text itself is repeated only where it holds no credentials.
fn server(text: &str) -> Result<Server, String> {
    const EXPECTED: &str = "expected an address such as \"nats://nats.example.org:4222\" or \"tls://nats.example.org\"";
    let url = parse_address(text).map_err(|problem| format!("{problem}, {EXPECTED}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("got credentials in an address; write them as username and password, or as token".to_owned());
    }
    if !matches!(url.scheme(), "nats" | "tls") {
        return Err(format!("got the scheme \"{}\", {EXPECTED}", url.scheme()));
    }
    let host = match url.host() {
        Some(Host::Domain("")) => None,
        host => host.map(|host| host.to_string()),
    };
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    match (host, ServerAddr::from_url(url.clone())) {
        (Some(host), Ok(address)) if is_bare => {
            let name = format!("{host}:{}", url.port().unwrap_or(PORT));
            Ok(Server { address, name, is_encrypted: url.scheme() == "tls" })
        }
        _ => Err(format!("got \"{text}\", {EXPECTED}")),
    }
}

/// The name of a stream or domain, if there is one. `None`: a mistake was reported.
fn read_name(section: &Section<'_>, field: &str, mode: Mode) -> Option<Option<String>> {
    let Some(name) = section.optional_text(field) else { return Some(None) };
    let is_name = name.chars().all(|c| !c.is_whitespace() && !c.is_control() && !".*>/\\".contains(c));
    if !is_name {
        section.mistake(
            field,
            &format!("got {name:?}, expected a name without blanks and without any of \".\", \"*\", \">\", \"/\", \"\\\""),
        );
    } else if mode == Mode::Core {
        section.mistake(field, "has no effect with mode = \"core\"; take one of the two out");
    }
    (is_name && mode == Mode::JetStream).then_some(Some(name))
}

fn read_inbox(section: &Section<'_>) -> Option<String> {
    let prefix = section.text("inbox_prefix");
    match subject::problem(&prefix) {
        None => Some(prefix),
        Some(problem) => {
            section.mistake("inbox_prefix", &format!("got {prefix:?}, which {problem}; expected a subject such as \"_INBOX\""));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;
    use crate::settings::Mistakes;

    fn mistakes(settings: &str) -> Vec<String> {
        let (table, mistakes) = (settings.parse::<Table>().expect("valid TOML"), Mistakes::default());
        let settings = read(&Section::open("h", &table, FIELDS, waits::COMMON, &mistakes));
        let mistakes: Vec<String> = mistakes.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(settings.is_none(), !mistakes.is_empty(), "{mistakes:?}");
        mistakes
    }

    #[test]
    fn every_mistake_is_told_in_one_run() {
        let told = mistakes(
            "servers = [\"nats://a\", \"amqp://b\", \"nats://u:s3cr3t@c\", \"nats:4222\", \"nats://d/path\"]\nsubject = \"a b\"\nstream = \"A.B\"\n\
             inbox_prefix = \"_INBOX.*\"\nusername = \"u\"\nconnect_timeout = \"0s\"\nconfirm_timeout = \"0s\"\nsource = \"\"\nca = \"x\"\n\
             headers = { nats-msg-id = \"x\" }",
        );
        for want in [
            "h.servers: number 2: got the scheme \"amqp\", expected an address such as",
            "h.servers: number 3: got credentials in an address; write them as username and password, or as token",
            "h.servers: number 4: got \"nats:4222\", expected an address such as",
            "h.servers: number 5: got \"nats://d/path\", expected an address such as",
            "h.subject: got \"a b\", which has a blank or a control character; expected a subject such as \"orders.{type}\"",
            "h.stream: got \"A.B\", expected a name without blanks",
            "h.inbox_prefix: got \"_INBOX.*\", which has a wildcard",
            "h.password: is missing: username needs it",
            "h.connect_timeout: got \"0s\"",
            "h.confirm_timeout: got \"0s\"",
            "h.source: got \"\", expected a URI reference",
            "h.ca: expected certificates in PEM",
            "h.headers.nats-msg-id: is written by outboxd itself",
        ] {
            assert!(told.iter().any(|mistake| mistake.starts_with(want)), "{want}: {told:#?}");
        }
        assert_eq!(told.len(), 13, "{told:#?}");
        assert!(!told.iter().any(|mistake| mistake.contains("s3cr3t")), "{told:#?}");
    }

    #[test]
    fn core_has_no_stream() {
        let told = mistakes("servers = [\"nats://a\"]\nsubject = \"a\"\nmode = \"core\"\nstream = \"A\"");
        assert_eq!(told, ["h.stream: has no effect with mode = \"core\"; take one of the two out"]);
        assert_eq!(
            mistakes("servers = []\nsubject = \"a\""),
            ["h.servers: got no address, expected at least one such as \"nats://nats.example.org:4222\""]
        );
    }

    #[test]
    fn an_address_is_shown_with_its_port() {
        for (text, want) in [("nats://a", "a:4222"), ("tls://a:1", "a:1"), ("nats://[::1]:2/", "[::1]:2")] {
            let server = server(text).expect(text);
            assert_eq!((server.name.as_str(), server.is_encrypted), (want, text.starts_with("tls")));
        }
    }
}
