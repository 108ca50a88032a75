//! Headers of a request that the configuration and the event add: constants, templates, and headers of the event that are passed
//! on. Names are checked when the configuration is loaded; a value of an event can never end a header or begin another.

use std::borrow::Cow;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::super::envelope::FORWARD_HEADERS;
use super::super::extra_headers::{forwarded, read_forwarded};
use super::super::template::{InvalidTemplate, Template};
use crate::domain::{Notification, Verdict};
use crate::settings::{Field, FieldType, Secret, Section};

pub const HEADERS: Field = Field::new(
    "headers",
    FieldType::SecretMap,
    "",
    "Additional headers, for example authorization; their values are templates such as \"{header:tenant}\".",
);
pub const FORWARD: Field = FORWARD_HEADERS;

/// Headers that the handler or HTTP itself writes.
const RESERVED: &[&str] = &["content-length", "content-type", "host", "connection", "transfer-encoding", "user-agent"];
const RESERVED_PREFIXES: &[&str] = &["webhook-", "ce-"];
/// The headers that the handler passes on by default.
const PASSED_ON: &[&str] = &["traceparent", "tracestate"];

/// The headers that the configuration adds to a request.
pub struct Headers {
    /// The headers that no event changes. Marked as sensitive, so that no `Debug` prints a value.
    pub constant: HeaderMap,
    pub of_event: OfEvent,
}

/// The headers that differ from event to event.
#[derive(Debug, Default)]
pub struct OfEvent {
    templates: Vec<(HeaderName, Template)>,
    forwarded: Vec<Forwarded>,
}

impl OfEvent {
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty() && self.forwarded.is_empty()
    }
}

/// A header of the event, and the name that it has in a request.
#[derive(Debug)]
struct Forwarded {
    recorded: String,
    name: HeaderName,
}

impl AsRef<str> for Forwarded {
    fn as_ref(&self) -> &str {
        &self.recorded
    }
}

impl OfEvent {
    /// Adds them for one event. The verdict says which value the event does not have.
    pub fn add(&self, notification: &Notification, headers: &mut HeaderMap) -> Result<(), Verdict> {
        for (name, template) in &self.templates {
            let text =
                template.render_encoded(notification, encoded).map_err(|missing| missing.verdict(&format!("headers.{name}")))?;
            // The configured text was checked with the name, the values of the event are encoded.
            if let Ok(mut value) = HeaderValue::from_str(&text) {
                value.set_sensitive(true);
                headers.insert(name.clone(), value);
            }
        }
        for (header, text) in forwarded(notification, &self.forwarded) {
            if let Ok(value) = HeaderValue::from_str(&encoded(&text)) {
                headers.insert(header.name.clone(), value);
            }
        }
        Ok(())
    }
}

/// Reads [`HEADERS`] and [`FORWARD`]. `None`: a mistake was reported.
pub fn read(section: &Section<'_>) -> Option<Headers> {
    let (set, forwarded) = (read_set(section), read_forwarded(section, |name| name_of_forwarded(name).err().map(str::to_owned)));
    let (constant, templates) = set?;
    let forwarded =
        forwarded?.into_iter().filter_map(|recorded| Some(Forwarded { name: name_of_forwarded(&recorded).ok()?, recorded }));
    Some(Headers { constant, of_event: OfEvent { templates, forwarded: forwarded.collect() } })
}

type Set = (HeaderMap, Vec<(HeaderName, Template)>);

fn read_set(section: &Section<'_>) -> Option<Set> {
    let (mut constant, mut templates) = (HeaderMap::new(), Vec::new());
    let mut is_valid = true;
    for (name, value) in section.secret_map(HEADERS.name) {
        match header(&name, &value) {
            Ok((name, Value::Constant(value))) => _ = constant.insert(name, value),
            Ok((name, Value::Template(template))) => templates.push((name, template)),
            Err(text) => {
                section.mistake(&format!("headers.{name}"), &text);
                is_valid = false;
            }
        }
    }
    is_valid.then_some((constant, templates))
}

enum Value {
    Constant(HeaderValue),
    Template(Template),
}

fn header(name: &str, value: &Secret) -> Result<(HeaderName, Value), String> {
    let name = checked_name(name)?;
    let template = Template::parse(value.expose()).map_err(|invalid| format!("is no template: {}", without_its_text(invalid)))?;
    let literals: String = template.literals().collect();
    let mut literal = HeaderValue::from_str(&literals)
        .map_err(|_| "got a value that no header can have, expected one line of text".to_owned())?;
    literal.set_sensitive(true);
    let is_constant = template.constant().is_some();
    Ok((name, if is_constant { Value::Constant(literal) } else { Value::Template(template) }))
}

/// The value of a header may be a secret, so a mistake does not repeat any of it.
fn without_its_text(invalid: InvalidTemplate) -> String {
    match invalid {
        InvalidTemplate::Unknown(_) => InvalidTemplate::Unknown("...".to_owned()).to_string(),
        other => other.to_string(),
    }
}

fn name_of_forwarded(name: &str) -> Result<HeaderName, &'static str> {
    let name = checked_name(name)?;
    if PASSED_ON.contains(&name.as_str()) { Err("is passed on anyway") } else { Ok(name) }
}

fn checked_name(name: &str) -> Result<HeaderName, &'static str> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "is not the name of a header")?;
    if RESERVED.contains(&name.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix)) {
        return Err("is written by outboxd itself and cannot be set");
    }
    Ok(name)
}

/// A value of an event as part of a header: printable ASCII as it is, except `%`; everything else percent-encoded, so that decoding
/// always gives the value. A space at either end is encoded, too, because HTTP does not keep it.
fn encoded(text: &str) -> Cow<'_, str> {
    let last = text.len().saturating_sub(1);
    let is_plain = |(place, byte): (usize, u8)| match byte {
        b' ' => place != 0 && place != last,
        byte => byte.is_ascii_graphic() && byte != b'%',
    };
    if text.bytes().enumerate().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for (place, byte) in text.bytes().enumerate() {
        if is_plain((place, byte)) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(encoded)
}
