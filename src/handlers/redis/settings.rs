//! The settings of the kind: declared once, read into values that work or into mistakes that say what to write instead.

use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use url::Url;

use super::super::envelope::{self, Layout};
use super::super::template::Template;
use super::super::tls;
use super::super::waits::{self, Waits};
use super::barrier::{Safety, Waiting};
use super::connection::{Credentials, Server};
use super::entry::{self, Form};
use crate::settings::{Field, FieldType, Secret, Section, format_bytes, format_duration, parse_address};

pub const FIELDS: &[Field] = &[
    Field::required(
        "url",
        FieldType::Secret,
        "The server: \"redis://user:password@host:6379/0\", or \"rediss://...\" with TLS. User, port and database may be left out.",
    ),
    Field::required("stream", FieldType::Text, "Key of the stream, a template such as \"orders\" or \"events.{aggregate_type}\"."),
    envelope::FORMAT,
    envelope::SOURCE,
    envelope::SUBJECT,
    envelope::HEADERS,
    envelope::FORWARD_HEADERS,
    envelope::MAX_PAYLOAD,
    Field::new("create_stream", FieldType::Boolean, "true", "Whether the first event creates a stream that does not exist."),
    Field::new(
        "max_length",
        FieldType::Integer(0, i64::MAX),
        "0",
        "Approximate number of entries that the stream keeps; older ones are removed even if no reader has read them. 0: all.",
    ),
    Field::new(
        "wait_replicas",
        FieldType::Integer(0, 100),
        "0",
        "Number of replicas that must have the entry before it counts as delivered.",
    ),
    Field::new(
        "durability",
        FieldType::Choice(&["memory", "disk"]),
        "memory",
        "Where the entry must be before it counts as delivered: in memory, or in the append-only file on disk (Redis 7.2).",
    ),
    Field::new("wait_timeout", FieldType::Duration, "2s", "Maximum wait for the replicas and the disk."),
    waits::CONNECT_TIMEOUT,
    waits::CONFIRM_TIMEOUT,
    tls::CA,
    tls::CLIENT_CERTIFICATE,
    tls::CLIENT_KEY,
    tls::SKIP_VERIFY,
];

const DEFAULT_PORT: u16 = 6379;

/// No server takes a longer value, whatever its configuration (`proto-max-bulk-len` is 512 MiB by default).
const LARGEST_PAYLOAD: u64 = 512 << 20;

/// Settings that work.
pub struct Settings {
    pub server: Server,
    pub stream: Template,
    pub layout: Layout,
    pub form: Form,
    pub connect_timeout: Duration,
    pub confirm_timeout: Duration,
}

/// Reads them all before it gives up, so that every mistake is reported in one run.
pub fn read(section: &Section<'_>) -> Option<Settings> {
    let address = read_address(section);
    let is_encrypted = address.as_ref().is_some_and(|address| address.name.is_some());
    let tls = tls::read(section, b"", is_encrypted);
    let stream = read_stream(section);
    let layout = read_layout(section);
    let waits = Waits::read(section);
    let waiting = read_waiting(section, section.duration("confirm_timeout"));
    let (address, tls) = (address?, tls?);
    let tls = address.name.map(|name| (TlsConnector::from(Arc::new(tls)), name));
    let form = Form {
        creates_stream: section.boolean("create_stream"),
        max_length: u64::try_from(section.integer("max_length")).ok().filter(|length| *length > 0),
        // The window in which a server knows ids again is kept per producer.
        producer: format!("outboxd.{}", section.path().trim_start_matches("handlers.")),
    };
    Some(Settings {
        server: Server::new(address.host, address.port, tls, address.credentials, address.database, waiting?),
        stream: stream?,
        layout: layout?,
        form,
        connect_timeout: waits?.connect,
        confirm_timeout: waits?.confirm,
    })
}

struct Address {
    host: String,
    port: u16,
    /// The name that the certificate must have; `None`: no TLS.
    name: Option<ServerName<'static>>,
    credentials: Option<Credentials>,
    database: u32,
}

// The text itself is never repeated: a URL that does not parse may still hold a password.
fn read_address(section: &Section<'_>) -> Option<Address> {
    const EXPECTED: &str = "expected \"redis://user:password@host:6379/0\" or \"rediss://...\"";
    if !section.is_set("url") {
        return None; // reported when the section was opened
    }
    match parse_address(section.text("url").trim()).and_then(|url| address(&url)) {
        Ok(address) => Some(address),
        Err(problem) => {
            section.mistake("url", &format!("{problem}, {EXPECTED}"));
            None
        }
    }
}

fn address(url: &Url) -> Result<Address, String> {
    if !matches!(url.scheme(), "redis" | "rediss") {
        return Err(format!("got the scheme \"{}\"", url.scheme()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("got something after \"?\" or \"#\", which belongs into settings of its own".to_owned());
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    if host.is_empty() {
        return Err("got no host".to_owned());
    }
    let name = match url.scheme() {
        "rediss" => Some(ServerName::try_from(host.clone()).map_err(|_| "got a host that no certificate can name".to_owned())?),
        _ => None,
    };
    let database = match url.path().trim_matches('/') {
        "" => 0,
        path => path.parse().map_err(|_| "got a database that is no number".to_owned())?,
    };
    Ok(Address { host, port: url.port().unwrap_or(DEFAULT_PORT), name, credentials: credentials(url)?, database })
}

fn credentials(url: &Url) -> Result<Option<Credentials>, String> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(|text| text.into_owned()).map_err(|_| "got credentials that are no text".to_owned())
    };
    let user = Some(decode(url.username())?).filter(|user| !user.is_empty());
    match url.password() {
        Some(password) => Ok(Some(Credentials { user, password: Secret::new(decode(password)?) })),
        // Many clients would log in as the default user then, without a word.
        None if user.is_some() => Err("got a user without a password (a password alone is \":password@\")".to_owned()),
        None => Ok(None),
    }
}

fn read_stream(section: &Section<'_>) -> Option<Template> {
    if !section.is_set("stream") {
        return None; // reported when the section was opened
    }
    let template = Template::read(section, "stream")?;
    if template.constant() == Some("") {
        section.mistake("stream", "got \"\", expected the key of a stream such as \"orders\"");
        return None;
    }
    Some(template)
}

fn read_layout(section: &Section<'_>) -> Option<Layout> {
    let layout = Layout::read(section, |name| name.dashed);
    let mut is_valid = true;
    for name in section.text_map("headers").keys().filter(|name| entry::is_reserved(name)) {
        section.mistake(&format!("headers.{name}"), "is written by outboxd itself and cannot be set");
        is_valid = false;
    }
    if section.bytes("max_payload") > LARGEST_PAYLOAD {
        let got = format_bytes(section.bytes("max_payload"));
        section.mistake("max_payload", &format!("got \"{got}\", expected at most \"{}\"", format_bytes(LARGEST_PAYLOAD)));
        is_valid = false;
    }
    layout.filter(|_| is_valid)
}

fn read_waiting(section: &Section<'_>, confirm_timeout: Duration) -> Option<Waiting> {
    let replicas = u32::try_from(section.integer("wait_replicas")).unwrap_or_default();
    let safety = match section.text("durability").as_str() {
        "disk" => Safety::Disk { replicas },
        _ if replicas == 0 => Safety::Memory,
        _ => Safety::Replicas(replicas),
    };
    let timeout = waits::read_wait(section, "wait_timeout")?;
    if safety == Safety::Memory {
        if section.is_set("wait_timeout") {
            section.mistake("wait_timeout", "has no effect without wait_replicas or durability = \"disk\"");
            return None;
        }
    } else if timeout > confirm_timeout / 2 {
        // An entry may have to wait until a wait for others has ended, and then for its own.
        let (got, most) = (format_duration(timeout), format_duration(confirm_timeout / 2));
        section.mistake("wait_timeout", &format!("got \"{got}\", expected at most \"{most}\", half of confirm_timeout"));
        return None;
    }
    Some(Waiting { safety, timeout })
}
