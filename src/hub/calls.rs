//! Calls of clients: `Subscribe`, `Unsubscribe`, `Ack`, and the stream `Events`. Reads the arguments and reports mistakes in them.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::feed::Start;
use crate::feed::query::{Bounds, check_bounds};
use crate::feed::routes::bind;
use crate::feed::seal::Cursors;

/// The events that a client wants.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    pub bounds: Bounds,
    /// Whether it is sent its cursor while its filter lets nothing through.
    pub has_bookmarks: bool,
    pub start: Start,
}

/// The methods of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Subscribe,
    Unsubscribe,
    Ack,
    Events,
}

impl Method {
    /// Names are the same in any case, as everywhere in SignalR. `Err`: the message for the client.
    pub fn find(name: &str, is_stream: bool) -> Result<Self, String> {
        let found = match name.to_ascii_lowercase().as_str() {
            "subscribe" => Self::Subscribe,
            "unsubscribe" => Self::Unsubscribe,
            "events" => Self::Events,
            "ack" => Self::Ack,
            _ => return Err("There is no such method; there are Subscribe, Unsubscribe and Ack, and the stream Events.".to_owned()),
        };
        match (found, is_stream) {
            (Self::Events, false) => {
                Err("Events is a stream: call it as one, for example with stream() instead of invoke().".to_owned())
            }
            (Self::Events, true) | (_, false) => Ok(found),
            (_, true) => Err("This method is no stream: call it with invoke() or send().".to_owned()),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filters {
    #[serde(default)]
    types: Option<Vec<String>>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    bookmarks: Option<bool>,
}

impl Wanted {
    /// Of the arguments `(filters, cursor)`, either of which may be absent or null. `limits`: of the connection. `Err`: what is wrong.
    pub fn read(cursors: &Cursors, arguments: Vec<Value>, limits: Bounds) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let (filters, cursor) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
        if arguments.next().is_some() {
            return Err("expected at most two arguments: the filters and a cursor".to_owned());
        }
        let filters: Filters = match filters {
            Value::Null => Some(Filters::default()),
            Value::Object(_) => serde_json::from_value(filters).ok(),
            _ => None,
        }
        .ok_or("filters: expected an object with types (a list), subject (a text) and bookmarks (true or false)")?;
        let (mut types, mut subject) = (filters.types.unwrap_or_default(), filters.subject);
        check_bounds(&types, subject.as_ref())?;
        bind((&mut types, &mut subject), limits.types, limits.subject)?;
        let start = match cursor {
            Value::Null => Start::Earliest,
            Value::String(text) => cursors.start(&text).map_err(|error| format!("cursor: {error}"))?,
            _ => return Err("cursor: expected a text".to_owned()),
        };
        Ok(Self { bounds: Bounds { types, subject }, has_bookmarks: filters.bookmarks.unwrap_or_default(), start })
    }
}

/// The arguments `(cursor, name)` of `Ack`, of which the name may be absent or null. `Err`: what is wrong.
pub fn read_acknowledgement(arguments: Vec<Value>) -> Result<(String, Option<String>), String> {
    let mut arguments = arguments.into_iter();
    let (cursor, name) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    if arguments.next().is_some() {
        return Err("expected at most two arguments: a cursor and a name".to_owned());
    }
    let name = match name {
        Value::Null => None,
        Value::String(name) => Some(name),
        _ => return Err("name: expected a text".to_owned()),
    };
    match cursor {
        Value::String(cursor) => Ok((cursor, name)),
        _ => Err("cursor: expected a text".to_owned()),
    }
}

/// A mistake of a call, in the form that all refusals have.
pub fn mistake(detail: &str) -> String {
    json!({ "type": "urn:outboxd:invalid-request", "title": "The call is not understood", "status": 400, "detail": detail })
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: Value, limits: Bounds) -> Result<Wanted, String> {
        let Value::Array(arguments) = arguments else { panic!("a list") };
        Wanted::read(&Cursors::plain(), arguments, limits)
    }

    fn bounds(types: &[&str], subject: Option<&str>) -> Bounds {
        Bounds { types: types.iter().map(|text| (*text).to_owned()).collect(), subject: subject.map(str::to_owned) }
    }

    #[test]
    fn a_call_says_what_and_from_where() {
        let wanted = |bounds, has_bookmarks, start| Ok(Wanted { bounds, has_bookmarks, start });
        for (arguments, want) in [
            (json!([]), wanted(bounds(&[], None), false, Start::Earliest)),
            (json!([null, null]), wanted(bounds(&[], None), false, Start::Earliest)),
            (json!([{}, "latest"]), wanted(bounds(&[], None), false, Start::Latest)),
            (
                json!([{ "types": ["order.*"], "subject": "42", "bookmarks": true }]),
                wanted(bounds(&["order.*"], Some("42")), true, Start::Earliest),
            ),
            (json!([{ "types": null, "subject": null }]), wanted(bounds(&[], None), false, Start::Earliest)),
        ] {
            assert_eq!(read(arguments.clone(), Bounds::default()), want, "{arguments}");
        }
    }

    #[test]
    fn what_is_not_understood_is_a_mistake_and_a_ticket_cannot_be_widened() {
        for arguments in [
            json!([[]]),
            json!(["order.*"]),
            json!([{ "type": ["a"] }]),
            json!([{ "types": "a" }]),
            json!([{ "types": [""] }]),
            json!([{ "types": ["a\u{0}"] }]),
            json!([{ "types": vec!["a"; 65] }]),
            json!([{ "subject": "" }]),
            json!([{ "subject": "x".repeat(256) }]),
            json!([null, 5]),
            json!([null, "somewhere"]),
            json!([null, null, null]),
        ] {
            assert!(read(arguments.clone(), Bounds::default()).is_err(), "{arguments}");
        }
        let limits = bounds(&["order.placed"], Some("42"));
        assert_eq!(read(json!([]), limits.clone()).map(|wanted| wanted.bounds), Ok(limits.clone()));
        assert!(read(json!([{ "types": ["order.*"] }]), limits.clone()).is_err());
        assert!(read(json!([{ "subject": "43" }]), limits).is_err());
    }

    #[test]
    fn methods_are_found_in_any_case_and_called_as_what_they_are() {
        for (name, is_stream, want) in [
            ("Subscribe", false, Some(Method::Subscribe)),
            ("subscribe", false, Some(Method::Subscribe)),
            ("UNSUBSCRIBE", false, Some(Method::Unsubscribe)),
            ("Events", true, Some(Method::Events)),
            ("Events", false, None),
            ("Subscribe", true, None),
            ("ack", false, Some(Method::Ack)),
            ("Ack", true, None),
            ("", false, None),
        ] {
            assert_eq!(Method::find(name, is_stream).ok(), want, "{name}");
        }
    }

    #[test]
    fn an_acknowledgement_names_a_cursor_and_perhaps_under_which_name() {
        let read = |arguments: Value| {
            let Value::Array(arguments) = arguments else { panic!("a list") };
            read_acknowledgement(arguments).ok()
        };
        let cursor = "0000000000000007.0000000700000007";
        assert_eq!(read(json!([cursor])), Some((cursor.to_owned(), None)));
        assert_eq!(read(json!([cursor, null])), Some((cursor.to_owned(), None)));
        assert_eq!(read(json!([cursor, "main"])), Some((cursor.to_owned(), Some("main".to_owned()))));
        for arguments in [json!([]), json!([null]), json!([5]), json!([cursor, 5]), json!([cursor, "a", "b"])] {
            assert_eq!(read(arguments.clone()), None, "{arguments}");
        }
    }
}
