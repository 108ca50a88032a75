//! An entry: one event as the fields of a stream, and the command that adds it.
//! The fields are flat, because that is all that a stream has: `id` and `type` first, the facts of the envelope under its names, the
//! body last. No field appears twice, so that a client may make a dictionary of them.

use redis::Cmd;

use super::super::envelope::Envelope;
use crate::domain::Notification;

/// Fields that every entry has; no header can be called so.
const RESERVED: &[&str] = &["id", "type", "content-type", "payload"];

/// The names of the fields `id` and `type` in the envelope.
const TOLD_ALREADY: &[&str] = &["event-id", "event-type"];

/// Whether a configured header would be in the way of a field of ours.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// How entries are added, as configured.
#[derive(Debug)]
pub struct Form {
    pub creates_stream: bool,
    /// About how many entries the stream keeps; `None`: all.
    pub max_length: Option<u64>,
    /// Whose ids a server knows again.
    pub producer: String,
}

/// One entry on its way.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'n> {
    pub stream: &'n str,
    pub notification: &'n Notification,
    pub envelope: &'n Envelope<'n>,
}

/// Whether the server is asked to know the entry again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// Each command adds an entry.
    AddAgain,
    /// A command with an id that the server remembers adds nothing and answers as the first did.
    AreKnown,
}

impl Form {
    /// `XADD`, with the id of the entry left to the server.
    pub fn command(&self, entry: &Entry<'_>, repeats: Repeats) -> Cmd {
        let id = entry.notification.id.to_string();
        let told: usize = entry.envelope.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let mut command = Cmd::with_capacity(12 + 2 * entry.envelope.headers.len(), told + entry.envelope.body.len() + 128);
        command.arg("XADD").arg(entry.stream);
        if !self.creates_stream {
            command.arg("NOMKSTREAM");
        }
        if repeats == Repeats::AreKnown {
            command.arg("IDMP").arg(&self.producer).arg(&id);
        }
        if let Some(length) = self.max_length {
            command.arg("MAXLEN").arg("~").arg(length);
        }
        command.arg("*");
        command.arg("id").arg(&id).arg("type").arg(&entry.notification.event_type);
        command.arg("content-type").arg(entry.envelope.content_type);
        for (name, value) in entry.envelope.headers.iter().filter(|(name, _)| !TOLD_ALREADY.contains(name)) {
            command.arg(*name).arg(value.as_bytes());
        }
        command.arg("payload").arg(&*entry.envelope.body);
        command
    }
}

/// An id as servers give them: two numbers.
pub fn is_entry_id(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-').is_some_and(|(millis, sequence)| is_number(millis) && is_number(sequence))
}

#[cfg(test)]
mod tests {
    use super::super::super::envelope::{LAYOUT, Layout};
    use super::*;
    use crate::settings::{Mistakes, Section};

    const ID: &str = "018f0000-0000-7000-8000-000000000001";

    fn packed(form: &Form, settings: &str, repeats: Repeats) -> String {
        let (table, mistakes) = (settings.parse().expect("valid TOML"), Mistakes::default());
        let section = Section::open("handlers.x", &table, LAYOUT, &[], &mistakes);
        let layout = Layout::read(&section, |name| name.dashed).expect("valid");
        let notification = Notification { key: None, ..Notification::sample("order.placed", "{\"n\": 1}") };
        let envelope = layout.envelope(&notification).expect("it can be sent");
        let command = form.command(&Entry { stream: "orders", notification: &notification, envelope: &envelope }, repeats);
        let words = command.args_iter().map(|argument| match argument {
            redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => panic!("no other kind of argument is used"),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn plain() -> Form {
        Form { creates_stream: true, max_length: None, producer: "outboxd.billing".to_owned() }
    }

    #[test]
    fn an_entry_says_what_it_is_and_ends_with_the_payload() {
        let fields = packed(&plain(), "headers = { tenant = \"acme\" }", Repeats::AddAgain);
        assert_eq!(
            fields,
            format!(
                "XADD orders * id {ID} type order.placed content-type application/json event-time 2023-11-14T22:13:20.000000Z \
                 aggregate-type order aggregate-id 42 tenant acme payload {{\"n\": 1}}"
            )
        );
    }

    #[test]
    fn a_cloud_event_has_its_attributes_beside_the_fields_of_every_entry() {
        let binary = packed(&plain(), "format = \"cloudevents-binary\"", Repeats::AddAgain);
        assert!(
            binary.starts_with(&format!(
                "XADD orders * id {ID} type order.placed content-type application/json ce-specversion 1.0 ce-id {ID} ce-source outboxd \
                 ce-type order.placed "
            )),
            "{binary}"
        );
        let structured = packed(&plain(), "format = \"cloudevents-structured\"", Repeats::AddAgain);
        let head = format!("XADD orders * id {ID} type order.placed content-type application/cloudevents+json payload {{\"spec");
        assert!(structured.starts_with(&head), "{structured}");
    }

    #[test]
    fn the_form_of_the_command_follows_the_configuration() {
        let form = Form { creates_stream: false, max_length: Some(1000), ..plain() };
        assert!(packed(&form, "", Repeats::AddAgain).starts_with("XADD orders NOMKSTREAM MAXLEN ~ 1000 * id "));
        let known = packed(&form, "", Repeats::AreKnown);
        assert!(known.starts_with(&format!("XADD orders NOMKSTREAM IDMP outboxd.billing {ID} MAXLEN ~ 1000 * id ")), "{known}");
        assert!(packed(&plain(), "", Repeats::AreKnown).starts_with(&format!("XADD orders IDMP outboxd.billing {ID} * id ")));
    }

    #[test]
    fn an_entry_id_is_two_numbers() {
        for (text, want) in [("1700000000000-0", true), ("OK", false), ("", false), ("-", false), ("1-", false), ("1-x", false)] {
            assert_eq!(is_entry_id(text), want, "{text}");
        }
    }
}
