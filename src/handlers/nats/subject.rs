//! Subjects: the address of an event, made of a template. A subject is used only if every server accepts it as the subject of one
//! event.

use std::borrow::Cow;

use super::super::template::Template;
use crate::domain::{Notification, Reason, Verdict};
use crate::settings::Section;

/// A server hangs up on a line of its protocol that is longer than 4 KiB, and with it on all other events.
const MAX_BYTES: usize = 1024;
/// First tokens that an event may bring into a subject: such a subject would be a command to the server.
const OF_THE_SERVER: &[&str] = &["$JS", "$SYS"];

/// The subject of every event.
#[derive(Debug)]
pub struct Subjects(Template);

impl Subjects {
    /// Reads the setting `subject`. `None`: a mistake was reported.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        if !section.is_set("subject") {
            return None; // reported when the section was opened
        }
        let template = Template::read(section, "subject")?;
        let problem = match template.constant() {
            Some(subject) => problem(subject),
            None => template.literals().find_map(problem_of_part),
        };
        if let Some(problem) = problem {
            let text =
                format!("got {:?}, which {problem}; expected a subject such as \"orders.{{type}}\"", section.text("subject"));
            section.mistake("subject", &text);
            return None;
        }
        Some(Self(template))
    }

    /// The subject of this event. The verdict says why it has none.
    pub fn of<'s>(&'s self, notification: &'s Notification) -> Result<Cow<'s, str>, Verdict> {
        let subject = self.0.render(notification).map_err(|missing| missing.verdict("subject"))?;
        match problem(&subject) {
            None => Ok(subject),
            Some(problem) => {
                let shown: String = subject.chars().take(100).collect();
                Err(Verdict::permanent(Reason::Unaddressable, format!("the subject would be {shown:?}, which {problem}")))
            }
        }
    }

    /// The subject of this event, if others have another one.
    pub fn destination(&self, notification: &Notification) -> Option<String> {
        self.0.destination(notification)
    }

    /// The one subject of all events, if there is only one.
    pub fn constant(&self) -> Option<&str> {
        self.0.constant()
    }
}

/// The reason why a text is unfit for a subject, as the rest of a sentence.
pub fn problem(subject: &str) -> Option<&'static str> {
    let first = subject.split('.').next().unwrap_or_default();
    if subject.is_empty() {
        Some("is empty")
    } else if subject.len() > MAX_BYTES {
        Some("is longer than 1024 bytes")
    } else if subject.starts_with('.') || subject.ends_with('.') {
        Some("begins or ends with a dot")
    } else if OF_THE_SERVER.contains(&first) {
        Some("is one of the server's own")
    } else {
        problem_of_part(subject)
    }
}

fn problem_of_part(part: &str) -> Option<&'static str> {
    if part.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Some("has a blank or a control character")
    } else if part.contains(['*', '>']) {
        Some("has a wildcard")
    } else if part.contains("..") {
        Some("has nothing between two dots")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;
    use crate::settings::{Field, FieldType, Mistakes};

    const FIELDS: &[Field] = &[Field::required("subject", FieldType::Text, "Subject.")];

    fn read(text: &str) -> Result<Subjects, String> {
        let (table, mistakes) = (Table::from_iter([("subject".to_owned(), text.into())]), Mistakes::default());
        let subjects = Subjects::read(&Section::open("h", &table, FIELDS, &[], &mistakes));
        subjects.ok_or_else(|| mistakes.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn what_no_event_can_mend_is_told_when_the_configuration_is_loaded() {
        for (text, want) in [
            ("", "h.subject: got \"\", which is empty"),
            ("orders new", "has a blank or a control character"),
            ("orders.*", "has a wildcard"),
            ("orders.>.{type}", "has a wildcard"),
            ("orders..{type}", "has nothing between two dots"),
            (".orders", "begins or ends with a dot"),
            ("$JS.API.STREAM.PURGE.ORDERS", "is one of the server's own"),
            ("orders.{typ}", "{typ} names no value"),
        ] {
            let mistake = read(text).expect_err(text);
            assert!(mistake.contains(want), "{text}: {mistake}");
        }
    }

    #[test]
    fn an_event_without_a_valid_subject_is_a_dead_letter() {
        let (placed, bare) = (Notification::sample("order.placed", "{}"), Notification::sample("order.placed", "{}"));
        let bare = Notification { aggregate_id: None, ..bare };
        let with_id = |id: &str| Notification { aggregate_id: Some(id.to_owned()), ..Notification::sample("t", "{}") };
        let subjects = read("orders.{type}.{aggregate_id}").expect("valid");
        assert_eq!(subjects.of(&placed).expect("valid"), "orders.order.placed.42");
        for event in
            [bare, with_id("a b"), with_id("a\r\nPUB x"), with_id("*"), with_id(""), with_id(".x"), with_id(&"x".repeat(2000))]
        {
            let verdict = subjects.of(&event).expect_err("no subject");
            assert_eq!(
                (verdict.outcome, verdict.reason),
                (crate::domain::Outcome::Permanent, Reason::Unaddressable),
                "{verdict:?}"
            );
        }
    }

    #[test]
    fn no_event_can_name_a_subject_that_commands_the_server() {
        let subjects = read("{type}").expect("valid");
        for (name, allowed) in [("$JS.API.STREAM.PURGE.ORDERS", false), ("$SYS.REQ", false), ("$KV.b.k", true), ("a.$JS", true)] {
            assert_eq!(subjects.of(&Notification::sample(name, "{}")).is_ok(), allowed, "{name}");
        }
    }
}
