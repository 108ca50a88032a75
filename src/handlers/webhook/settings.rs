//! The settings of the kind: declared once, read into values that work or into mistakes that say what to write instead.

use std::time::Duration;

use url::Url;

use super::super::cloud_event::CloudEvents;
use super::super::envelope::{self, Format};
use super::super::redaction::hidden_parts;
use super::super::template::Template;
use super::super::tls;
use super::answers::Answers;
use super::batch::Batch;
use super::classify::Rules;
use super::egress::{self, Egress};
use super::headers::{self, Headers};
use super::signature::Signer;
use crate::domain::Outcome;
use crate::settings::{Field, FieldType, Secret, Section, parse_address};

pub const FIELDS: &[Field] = &[
    // A secret, because the path and the query of a webhook often are the credentials.
    Field::required("url", FieldType::Secret, "Address of the receiver, an http or https URL. Redirects are not followed."),
    Field::new(
        "secrets",
        FieldType::SecretList,
        "",
        "Secrets to sign with (\"whsec_...\"): all of them sign, the first is the current one.",
    ),
    envelope::FORMAT,
    envelope::SOURCE,
    envelope::SUBJECT,
    headers::HEADERS,
    headers::FORWARD,
    Field::new("connect_timeout", FieldType::Duration, "5s", "Maximum wait for a connection, including name look-up and TLS."),
    Field::new("request_timeout", FieldType::Duration, "15s", "Maximum duration of one request with its answer."),
    envelope::MAX_PAYLOAD,
    Field::new("max_response", FieldType::Bytes, "8KiB", "Maximum bytes of an answer that are read and kept."),
    Field::new(
        "batch",
        FieldType::Integer(1, 1_000),
        "1",
        "Maximum number of events in one request, as a JSON array or a batch of CloudEvents; at most `concurrency` events are \
        in flight.",
    ),
    Field::new(
        "batch_bytes",
        FieldType::Bytes,
        "1MiB",
        "Maximum body of a request with several events; a single event may be larger.",
    ),
    Field::new("batch_wait", FieldType::Duration, "10ms", "Maximum time that the first event of a batch waits for others."),
    Field::new(
        "egress",
        FieldType::Choice(egress::CHOICES),
        "internal",
        "Addresses that the handler may connect to: all but link-local (internal), only the public internet (public), or any.",
    ),
    Field::new(
        "answers",
        FieldType::TextMap,
        "",
        "Meaning of answers that differs from the default: {\"404\" = \"permanent\", \"409\" = \"duplicate\", \"4xx\" = \
        \"retry\"}.",
    ),
    Field::new(
        "conflict",
        FieldType::Choice(&["retry", "duplicate"]),
        "retry",
        "Older way to write answers = {\"409\" = \"duplicate\"}.",
    ),
    Field::new(
        "retry_client_errors",
        FieldType::Boolean,
        "false",
        "Older way to write answers = {\"4xx\" = \"retry\"}, for refusals of one event only.",
    ),
    tls::CA,
    tls::CLIENT_CERTIFICATE,
    tls::CLIENT_KEY,
    tls::SKIP_VERIFY,
];

/// Settings that work.
pub struct Settings {
    pub url: Url,
    pub signer: Signer,
    pub format: Format,
    pub cloud_events: CloudEvents,
    pub headers: Headers,
    /// What must not appear in any displayed text.
    pub hidden: Vec<Secret>,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    pub max_payload: usize,
    pub max_response: usize,
    pub egress: Egress,
    pub rules: Rules,
    /// `None`: each event in a request of its own.
    pub batch: Option<Batch>,
    pub tls: rustls::ClientConfig,
}

/// Reads them all before it gives up, so that every mistake is reported in one run.
pub fn read(section: &Section<'_>) -> Option<Settings> {
    let url = read_url(section);
    let signer = read_signer(section);
    let headers = headers::read(section);
    let cloud_events = CloudEvents::read(section);
    let request_timeout = read_request_timeout(section);
    let rules = read_rules(section);
    let format = Format::from_choice(&section.text("format"));
    let batch = read_batch(section, format, headers.as_ref());
    let tls = tls::read(section, b"http/1.1", url.as_ref().is_some_and(|url| url.scheme() == "https"));
    let (url, request_timeout) = (url?, request_timeout?);
    Some(Settings {
        hidden: hidden(section, &url),
        signer: signer?,
        format,
        batch: batch?,
        cloud_events: cloud_events?,
        headers: headers?,
        connect_timeout: within(section.duration("connect_timeout"), request_timeout),
        request_timeout,
        max_payload: size(section, "max_payload"),
        max_response: size(section, "max_response"),
        egress: Egress::from_choice(&section.text("egress")),
        rules: rules?,
        tls: tls?,
        url,
    })
}

fn read_batch(section: &Section<'_>, format: Format, headers: Option<&Headers>) -> Option<Option<Batch>> {
    let events = usize::try_from(section.integer("batch")).unwrap_or(1);
    let batch = Batch { events, bytes: size(section, "batch_bytes"), wait: section.duration("batch_wait") };
    if events == 1 {
        return Some(None);
    }
    let mut is_right = true;
    let mut refuse = |name, text| {
        section.mistake(name, text);
        is_right = false;
    };
    if format == Format::CloudEventsBinary {
        refuse("batch", "several CloudEvents have no binary form; set format = \"cloudevents-structured\" or \"plain\"");
    }
    if headers.is_some_and(|headers| !headers.of_event.is_empty()) {
        refuse("batch", "a request of several events has no header of one of them; remove the templates and forward_headers");
    }
    if batch.wait > Duration::from_secs(10) {
        refuse("batch_wait", "got more than 10 s, expected at most \"10s\"");
    }
    is_right.then_some(Some(batch))
}

fn read_rules(section: &Section<'_>) -> Option<Rules> {
    let mut answers = match Answers::read(section.text_map("answers")) {
        Ok(answers) => answers,
        Err(flaws) => {
            flaws.iter().for_each(|(key, flaw)| section.mistake(&format!("answers.{key}"), flaw));
            return None;
        }
    };
    if section.text("conflict") == "duplicate" {
        if answers.has(409) {
            section.mistake("conflict", "has no effect beside answers.409; keep one of the two");
            return None;
        }
        answers.set(409, Outcome::Duplicate);
    }
    Some(Rules { answers, retry_client_errors: section.boolean("retry_client_errors") })
}

// The text itself is never repeated: a URL that does not parse may still hold a password.
fn read_url(section: &Section<'_>) -> Option<Url> {
    const EXPECTED: &str = "expected an http or https URL such as \"https://example.org/events\"";
    if !section.is_set("url") {
        return None; // reported when the section was opened
    }
    let problem = match parse_address(section.text("url").trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => return Some(url),
        Ok(url) => format!("got the scheme \"{}\"", url.scheme()),
        Err(problem) => problem,
    };
    section.mistake("url", &format!("{problem}, {EXPECTED}"));
    None
}

fn read_signer(section: &Section<'_>) -> Option<Signer> {
    let secrets = section.secrets("secrets");
    // One by one, to say which it is without saying what it is.
    let invalid = secrets.iter().position(|secret| Signer::new(std::slice::from_ref(secret)).is_err());
    match (invalid, Signer::new(&secrets)) {
        (None, Ok(signer)) => Some(signer),
        (position, Err(error)) => {
            section.mistake("secrets", &format!("number {} is not a signing secret, {error}", position.unwrap_or(0) + 1));
            None
        }
        (Some(_), Ok(_)) => None,
    }
}

fn read_request_timeout(section: &Section<'_>) -> Option<Duration> {
    let timeout = section.duration("request_timeout");
    if timeout.is_zero() {
        section.mistake("request_timeout", "got no time at all, expected a duration such as \"15s\"");
        return None;
    }
    Some(timeout)
}

// A connection that takes until the end of the whole exchange would look like an answer that never came,
// and would be marked as possibly delivered.
fn within(connect: Duration, request: Duration) -> Duration {
    connect.min(request * 9 / 10).max(Duration::from_millis(1))
}

fn hidden(section: &Section<'_>, url: &Url) -> Vec<Secret> {
    let mut hidden: Vec<_> = section.secret_map("headers").into_values().collect();
    // Of a template a receiver sees, and may echo, what stands around the values of the event.
    let templates = hidden.iter().filter_map(|value| Template::parse(value.expose()).ok());
    let around: Vec<_> = templates.flat_map(|template| template.literals().map(Secret::new).collect::<Vec<_>>()).collect();
    hidden.extend(around);
    hidden.extend(hidden_parts(url));
    hidden.extend(section.secrets("secrets"));
    hidden
}

fn size(section: &Section<'_>, name: &str) -> usize {
    usize::try_from(section.bytes(name)).unwrap_or(usize::MAX)
}
