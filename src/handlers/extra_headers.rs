//! Additional headers: templates of the configuration, and headers of the event that are passed on. Names are checked when the
//! configuration is loaded, so that none replaces a header that outboxd writes.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::template::{self, Template};
use crate::domain::{Notification, Verdict};
use crate::settings::{Field, FieldType, Section};

pub const HEADERS: Field =
    Field::new("headers", FieldType::TextMap, "", "Additional headers; their values are templates such as \"{header:tenant}\".");
pub const FORWARD_HEADERS: Field = Field::new(
    "forward_headers",
    FieldType::TextList,
    "",
    "Headers of the event to send under their own names, if their value is a text, number or boolean.",
);

/// Headers that outboxd or the protocol writes.
const RESERVED: &[&str] = &["content-type", "traceparent", "tracestate"];
const RESERVED_PREFIXES: &[&str] = &["event-", "aggregate-", "ce-", "ce_", "cloudevents", "nats-"];

/// The headers that are added to every event.
#[derive(Debug)]
pub struct ExtraHeaders {
    set: Vec<(String, Template)>,
    forwarded: Vec<String>,
}

impl ExtraHeaders {
    /// Reads [`HEADERS`] and [`FORWARD_HEADERS`]. `taken` are names that the format writes. `None`: a mistake was reported.
    pub fn read(section: &Section<'_>, taken: &[&str]) -> Option<Self> {
        let check = |name: &str| check_name(name, taken).err();
        let (set, forwarded) = (read_set(section, taken), read_forwarded(section, check));
        Some(Self { set: set?, forwarded: forwarded? })
    }

    /// Adds them for one event. The verdict says which value the event does not have.
    pub fn add<'n>(&'n self, notification: &'n Notification, headers: &mut Vec<(&'n str, Cow<'n, str>)>) -> Result<(), Verdict> {
        for (name, template) in &self.set {
            let value = template.render(notification).map_err(|missing| missing.verdict(&format!("headers.{name}")))?;
            headers.push((name, value));
        }
        headers.extend(forwarded(notification, &self.forwarded).map(|(name, value)| (name.as_str(), Cow::Owned(value))));
        Ok(())
    }
}

/// Those of the named headers that the event has, with their values. The headers are parsed once, and only if there is something to find.
pub fn forwarded<'n, N: AsRef<str>>(notification: &Notification, names: &'n [N]) -> impl Iterator<Item = (&'n N, String)> {
    let object = if names.is_empty() { None } else { template::object(&notification.headers) };
    names.iter().filter_map(move |name| Some((name, template::scalar(object.as_ref()?.get(name.as_ref())?.get())?)))
}

/// The names of [`FORWARD_HEADERS`]; `problem` says what is wrong with one. `None`: a mistake was reported.
pub fn read_forwarded(section: &Section<'_>, problem: impl Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    let set: BTreeSet<String> = section.text_map(HEADERS.name).into_keys().map(|name| name.to_ascii_lowercase()).collect();
    let mut seen = BTreeSet::new();
    let names = section.texts(FORWARD_HEADERS.name);
    let problem = |name: &String| {
        let lower = name.to_ascii_lowercase();
        let problem = problem(name);
        let twice = || set.contains(&lower).then(|| "is set by headers as well; keep one of the two".to_owned());
        problem.or_else(twice).or_else(|| (!seen.insert(lower)).then(|| "is given more than once".to_owned()))
    };
    let mistakes: Vec<String> =
        names.iter().map(problem).zip(&names).filter_map(|(problem, name)| Some(format!("{name:?} {}", problem?))).collect();
    mistakes.iter().for_each(|mistake| section.mistake(FORWARD_HEADERS.name, mistake));
    mistakes.is_empty().then_some(names)
}

fn read_set(section: &Section<'_>, taken: &[&str]) -> Option<Vec<(String, Template)>> {
    let mut headers = Vec::new();
    let mut is_valid = true;
    for (name, text) in section.text_map(HEADERS.name) {
        match header(&name, &text, taken) {
            Ok(template) => headers.push((name, template)),
            Err(problem) => {
                section.mistake(&format!("headers.{name}"), &problem);
                is_valid = false;
            }
        }
    }
    is_valid.then_some(headers)
}

fn header(name: &str, text: &str, taken: &[&str]) -> Result<Template, String> {
    check_name(name, taken)?;
    Template::parse(text).map_err(|invalid| invalid.to_string())
}

fn check_name(name: &str, taken: &[&str]) -> Result<(), String> {
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err("is not the name of a header, expected letters, digits, \"-\", \"_\" and \".\"".to_owned());
    }
    if RESERVED.contains(&lower.as_str())
        || taken.contains(&lower.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
    {
        return Err("is written by outboxd itself and cannot be set".to_owned());
    }
    Ok(())
}
