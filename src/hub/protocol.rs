//! The hub protocol of SignalR in JSON: records, their content, and how they are written. Pure. Tolerates unknown members, as the
//! protocol requires; refuses records that it cannot read.

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

/// Ends every record. No JSON text contains it: a string has it escaped.
pub const END: u8 = 0x1e;
/// Longest record of a client: far more than a call of ours needs.
pub const LONGEST_RECORD: usize = 32 * 1024;
/// Longest id of a call, which comes back in the answer.
const LONGEST_ID: usize = 255;

/// Why a client cannot be understood. Said to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("a message is longer than 32 KiB")]
    TooLong,
    #[error("a message is not the JSON that the protocol has")]
    Invalid,
}

/// Cuts what a client sends into records, wherever frames and bodies begin and end.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    /// Everything before was given out.
    start: usize,
    /// From the start up to here there is no end of a record.
    searched: usize,
}

impl Records {
    /// Takes what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole record, without its end. `Ok(None)`: more has to come first.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, Unreadable> {
        let end = self.bytes[self.searched..].iter().position(|byte| *byte == END).map(|end| self.searched + end);
        if end.unwrap_or(self.bytes.len()) - self.start > LONGEST_RECORD {
            return Err(Unreadable::TooLong);
        }
        let Some(end) = end else {
            self.searched = self.bytes.len();
            return Ok(None);
        };
        let record = self.bytes[self.start..end].to_vec();
        (self.start, self.searched) = (end + 1, end + 1);
        if self.start == self.bytes.len() {
            // An idle connection holds nothing.
            *self = Self::default();
        }
        Ok(Some(record))
    }
}

/// The first record of a client.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Handshake {
    pub protocol: String,
    pub version: u64,
}

impl Handshake {
    pub fn read(record: &[u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(record).map_err(|_| Unreadable::Invalid)
    }

    /// Whether the client is refused, and with which words. Version 2 is that of stateful reconnect.
    pub fn check(&self, is_stateful: bool) -> Result<(), String> {
        if self.protocol != "json" {
            // Repeats no more of what was sent than a name can be long.
            let name: String = self.protocol.chars().filter(|c| !c.is_control()).take(32).collect();
            return Err(format!("The protocol '{name}' is not available, only 'json' is."));
        }
        match self.version {
            // Some clients say 0 and mean 1.
            0 | 1 => Ok(()),
            2 if is_stateful => Ok(()),
            2 => Err("Version 2 of the protocol 'json' is available with stateful reconnect only.".to_owned()),
            other => Err(format!("Version {other} of the protocol 'json' is not available, only 1 and 2 are.")),
        }
    }
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A call. Without an id the client waits for no answer.
    Call {
        id: Option<String>,
        target: String,
        arguments: Vec<Value>,
    },
    /// A call that is answered with items.
    Stream {
        id: String,
        target: String,
        arguments: Vec<Value>,
    },
    /// The items of a call are not wanted any more.
    Cancel {
        id: String,
    },
    /// Counted by stateful reconnect, and without a meaning here: items of the client, and its answers.
    Other,
    Ping,
    Close,
    /// Everything up to here has come.
    Ack {
        sequence: u64,
    },
    /// The messages that follow begin with this one.
    Sequence {
        sequence: u64,
    },
    /// Of a kind that did not exist when this was written.
    Unknown,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(rename = "type")]
    kind: u64,
    #[serde(default)]
    invocation_id: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    arguments: Option<Vec<Value>>,
    #[serde(default)]
    sequence_id: Option<u64>,
}

impl Message {
    pub fn read(record: &[u8]) -> Result<Self, Unreadable> {
        let raw: Raw = serde_json::from_slice(record).map_err(|_| Unreadable::Invalid)?;
        if raw.invocation_id.as_ref().is_some_and(|id| id.len() > LONGEST_ID) {
            return Err(Unreadable::TooLong);
        }
        let arguments = raw.arguments.unwrap_or_default();
        let read = match raw.kind {
            1 => raw.target.map(|target| Self::Call { id: raw.invocation_id, target, arguments }),
            2 | 3 => Some(Self::Other),
            4 => raw.invocation_id.zip(raw.target).map(|(id, target)| Self::Stream { id, target, arguments }),
            5 => raw.invocation_id.map(|id| Self::Cancel { id }),
            6 => Some(Self::Ping),
            7 => Some(Self::Close),
            8 => raw.sequence_id.map(|sequence| Self::Ack { sequence }),
            9 => raw.sequence_id.map(|sequence| Self::Sequence { sequence }),
            _ => Some(Self::Unknown),
        };
        read.ok_or(Unreadable::Invalid)
    }

    /// Whether stateful reconnect gives it a number.
    pub const fn is_counted(&self) -> bool {
        matches!(self, Self::Call { .. } | Self::Stream { .. } | Self::Cancel { .. } | Self::Other)
    }
}

/// The answer to a handshake. `refused`: why the connection ends.
pub fn handshake_answer(refused: Option<&str>) -> Bytes {
    record(&refused.map_or_else(|| json!({}), |error| json!({ "error": error })))
}

/// `event` is a JSON text.
pub fn event(event: &[u8], cursor: &str) -> Bytes {
    let mut text = Vec::with_capacity(event.len() + cursor.len() + 64);
    text.extend_from_slice(b"{\"type\":1,\"target\":\"event\",\"arguments\":[");
    text.extend_from_slice(event);
    text.extend_from_slice(b",\"");
    text.extend_from_slice(cursor.as_bytes());
    text.extend_from_slice(b"\"]}\x1e");
    Bytes::from(text)
}

/// `event` is a JSON text.
pub fn stream_item(id: &str, event: &[u8]) -> Bytes {
    let mut text = format!("{{\"type\":2,\"invocationId\":{},\"item\":", json!(id)).into_bytes();
    text.extend_from_slice(event);
    text.extend_from_slice(b"}\x1e");
    Bytes::from(text)
}

/// Calls a function of the client.
pub fn call(target: &str, argument: Value) -> Bytes {
    record(&json!({ "type": 1, "target": target, "arguments": [argument] }))
}

/// The answer to a call, or the end of a stream. `Value::Null`: nothing beside that it is done.
pub fn completion(id: &str, result: Result<Value, String>) -> Bytes {
    record(&match result {
        Ok(Value::Null) => json!({ "type": 3, "invocationId": id }),
        Ok(result) => json!({ "type": 3, "invocationId": id, "result": result }),
        Err(error) => json!({ "type": 3, "invocationId": id, "error": error }),
    })
}

pub fn ping() -> Bytes {
    Bytes::from_static(b"{\"type\":6}\x1e")
}

/// The last record of a connection.
pub fn close(error: Option<&str>, may_reconnect: bool) -> Bytes {
    let mut said = json!({ "type": 7 });
    if let Some(error) = error {
        said["error"] = json!(error);
    }
    if may_reconnect {
        said["allowReconnect"] = json!(true);
    }
    record(&said)
}

pub fn ack(sequence: u64) -> Bytes {
    record(&json!({ "type": 8, "sequenceId": sequence }))
}

pub fn sequence(sequence: u64) -> Bytes {
    record(&json!({ "type": 9, "sequenceId": sequence }))
}

fn record(said: &Value) -> Bytes {
    let mut text = said.to_string().into_bytes();
    text.push(END);
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(records: &mut Records) -> Vec<String> {
        let next = || records.next().expect("short enough").map(|record| String::from_utf8(record).expect("text"));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn what_a_client_says_is_understood() {
        let call = |id: Option<&str>, arguments: Vec<Value>| Message::Call {
            id: id.map(str::to_owned),
            target: "Subscribe".to_owned(),
            arguments,
        };
        for (text, want) in [
            (r#"{"type":1,"target":"Subscribe","arguments":[null],"invocationId":"0"}"#, call(Some("0"), vec![Value::Null])),
            (r#"{"type":1,"target":"Subscribe","headers":{"a":"b"},"streamIds":[]}"#, call(None, vec![])),
            (
                r#"{"type":4,"target":"Events","arguments":[],"invocationId":"7"}"#,
                Message::Stream { id: "7".to_owned(), target: "Events".to_owned(), arguments: vec![] },
            ),
            (r#"{"invocationId":"7","type":5}"#, Message::Cancel { id: "7".to_owned() }),
            (r#"{"type":6}"#, Message::Ping),
            (r#"{"type":7,"error":"x"}"#, Message::Close),
            (r#"{"type":8,"sequenceId":3}"#, Message::Ack { sequence: 3 }),
            (r#"{"type":9,"sequenceId":4}"#, Message::Sequence { sequence: 4 }),
            (r#"{"type":3,"invocationId":"1","result":5}"#, Message::Other),
            (r#"{"type":77,"whatever":[]}"#, Message::Unknown),
        ] {
            assert_eq!(Message::read(text.as_bytes()), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let deep = format!("{{\"type\":1,\"target\":\"a\",\"arguments\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        for text in [
            "",
            "{}",
            "null",
            "[]",
            "{\"type\":\"1\"}",
            "{\"type\":-1}",
            "{\"type\":1}",
            "{\"type\":1,\"target\":5}",
            "{\"type\":4,\"target\":\"Events\"}",
            "{\"type\":5}",
            "{\"type\":8}",
            "{\"type\":9,\"sequenceId\":-4}",
            "{\"type\":6}{\"type\":6}",
            "{\"type\":1,\"type\":6}",
            deep.as_str(),
        ] {
            assert_eq!(Message::read(text.as_bytes()), Err(Unreadable::Invalid), "{text}");
        }
        let long = format!("{{\"type\":5,\"invocationId\":\"{}\"}}", "x".repeat(256));
        assert_eq!(Message::read(long.as_bytes()), Err(Unreadable::TooLong));
    }

    #[test]
    fn a_handshake_is_for_json_and_for_a_version_that_there_is() {
        let said = |protocol: &str, version| Handshake { protocol: protocol.to_owned(), version };
        assert_eq!(Handshake::read(b"{\"protocol\":\"json\",\"version\":1}"), Ok(said("json", 1)));
        assert_eq!(Handshake::read(b"{\"type\":9,\"sequenceId\":1}"), Err(Unreadable::Invalid));
        for (handshake, is_stateful, is_good) in [
            (said("json", 1), false, true),
            (said("json", 1), true, true),
            (said("json", 2), true, true),
            (said("json", 2), false, false),
            (said("json", 0), false, true),
            (said("json", 3), true, false),
            (said("messagepack", 1), false, false),
            (said("", 1), false, false),
        ] {
            assert_eq!(handshake.check(is_stateful).is_ok(), is_good, "{handshake:?}");
        }
        assert_eq!(
            said("messagepack", 1).check(false),
            Err("The protocol 'messagepack' is not available, only 'json' is.".to_owned())
        );
    }

    #[test]
    fn a_record_that_is_too_long_is_refused_before_it_ends() {
        let mut records = Records::default();
        records.push(&vec![b'x'; LONGEST_RECORD]);
        assert_eq!(records.next(), Ok(None));
        records.push(b"x");
        assert_eq!(records.next(), Err(Unreadable::TooLong));
    }

    #[test]
    fn an_event_is_written_as_it_is() {
        let text = "{\"id\":\"1\",\"data\":{\"n\":12345678901234567890, \"t\":\"\\u001e\"}}";
        let written = event(text.as_bytes(), "0001.02");
        assert_eq!(written.iter().filter(|byte| **byte == END).count(), 1);
        let said = String::from_utf8(written.to_vec()).expect("text");
        assert_eq!(said, format!("{{\"type\":1,\"target\":\"event\",\"arguments\":[{text},\"0001.02\"]}}\u{1e}"));
        let item = String::from_utf8(stream_item("a\"b", text.as_bytes()).to_vec()).expect("text");
        assert_eq!(item, format!("{{\"type\":2,\"invocationId\":\"a\\\"b\",\"item\":{text}}}\u{1e}"));
    }

    #[test]
    fn what_is_written_is_what_the_protocol_has() {
        for (written, want) in [
            (handshake_answer(None), "{}\u{1e}"),
            (handshake_answer(Some("no")), "{\"error\":\"no\"}\u{1e}"),
            (completion("0", Ok(Value::Null)), "{\"invocationId\":\"0\",\"type\":3}\u{1e}"),
            (completion("0", Err("no".to_owned())), "{\"error\":\"no\",\"invocationId\":\"0\",\"type\":3}\u{1e}"),
            (close(Some("bye"), true), "{\"allowReconnect\":true,\"error\":\"bye\",\"type\":7}\u{1e}"),
            (close(None, false), "{\"type\":7}\u{1e}"),
            (ping(), "{\"type\":6}\u{1e}"),
            (ack(3), "{\"sequenceId\":3,\"type\":8}\u{1e}"),
            (sequence(3), "{\"sequenceId\":3,\"type\":9}\u{1e}"),
        ] {
            assert_eq!(String::from_utf8(written.to_vec()).expect("text"), want);
        }
    }

    proptest! {
        #[test]
        fn records_are_the_same_however_they_are_cut(
            texts in prop::collection::vec("[a-z\\PC]{0,40}", 0..8),
            cuts in prop::collection::vec(1usize..20, 0..200),
        ) {
            let whole: Vec<u8> = texts.iter().flat_map(|text| [text.as_bytes(), &[END]].concat()).collect();
            let (mut records, mut found, mut rest) = (Records::default(), Vec::new(), whole.as_slice());
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                records.push(now);
                found.extend(all(&mut records));
                rest = later;
            }
            prop_assert_eq!(found, texts);
        }

        #[test]
        fn no_bytes_make_the_reading_fail_otherwise_than_as_a_mistake(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::read(&bytes);
            let _ = Handshake::read(&bytes);
        }
    }
}
