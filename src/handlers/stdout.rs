//! `stdout`: writes each event as one line to standard output. For trying things out, and for pipes into other programs.
//! Holds no event back: a line is flushed before its event counts as delivered.

use std::fmt::Write;
use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;

use super::{Built, Handler, Kind};
use crate::domain::{Notification, Reason, Timestamp, Verdict};
use crate::settings::{Field, FieldType};

pub const KIND: Kind = Kind {
    name: "stdout",
    summary: "write each event as one line to standard output",
    fields: &[Field::new(
        "format",
        FieldType::Choice(&["json", "text"]),
        "json",
        "One JSON object per line, or a line for people.",
    )],
    example: include_str!("../../config/examples/stdout.toml"),
    build: |section| {
        let line = if section.text("format") == "text" { text_line } else { json_line };
        Some(Built::Handler(Arc::new(Lines { line, out: Mutex::new(tokio::io::stdout()) })))
    },
};

/// Writes lines, one at a time. Tokio writes on a thread of its own: a reader that stops reading must not stop the relay.
struct Lines<W> {
    line: fn(&Notification) -> String,
    out: Mutex<W>,
}

impl<W: AsyncWrite + Unpin + Send> Lines<W> {
    async fn write(&self, line: &str) -> io::Result<()> {
        let mut out = self.out.lock().await;
        out.write_all(line.as_bytes()).await?;
        out.flush().await
    }
}

impl<W: AsyncWrite + Unpin + Send + 'static> Handler for Lines<W> {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            self.write(&(self.line)(notification)).await.map_or_else(|error| failed(&error), |()| Verdict::delivered())
        })
    }
}

fn failed(error: &io::Error) -> Verdict {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Verdict::handler_fault(Reason::Misconfigured, "nobody reads standard output any more"),
        _ => Verdict::retry(Reason::Failed, format!("could not write to standard output: {error}")),
    }
}

#[derive(Serialize)]
struct Envelope<'n> {
    id: uuid::Uuid,
    r#type: &'n str,
    aggregate_type: Option<&'n str>,
    aggregate_id: Option<&'n str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregate_version: Option<i64>,
    time: Timestamp,
    attempt: u32,
    #[serde(skip_serializing_if = "is_false")]
    replay: bool,
    #[serde(skip_serializing_if = "is_false")]
    test: bool,
    headers: &'n RawValue,
    payload: &'n RawValue,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn json_line(notification: &Notification) -> String {
    let (headers, payload) = (one_line(&notification.headers), one_line(&notification.payload));
    let envelope = Envelope {
        id: notification.id,
        r#type: &notification.event_type,
        aggregate_type: notification.aggregate_type.as_deref(),
        aggregate_id: notification.aggregate_id.as_deref(),
        aggregate_version: notification.aggregate_version,
        time: notification.occurred_at,
        attempt: notification.attempt,
        replay: notification.is_replay,
        test: notification.is_test,
        headers: raw(&headers),
        payload: raw(&payload),
    };
    serde_json::to_string(&envelope).expect("an envelope is JSON") + "\n"
}

fn text_line(notification: &Notification) -> String {
    let mut line = format!("{} {} {}", notification.occurred_at, notification.id, notification.event_type.escape_debug());
    for part in [&notification.aggregate_type, &notification.aggregate_id].into_iter().flatten() {
        write!(line, " {}", part.escape_debug()).expect("a text takes every text");
    }
    line + " " + &one_line(&notification.payload) + "\n"
}

// A line break inside JSON can only stand between its parts, never within a text: a space in its place changes nothing.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

// What Postgres stored as JSON is JSON; should that ever fail, `null` is better than a line that nobody can parse.
fn raw(json: &str) -> &RawValue {
    serde_json::from_str(json).unwrap_or(RawValue::NULL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Outcome;

    fn notification() -> Notification {
        Notification::sample("order \"placed\"\n", "{\"n\": 9007199254740993,\n\t\"a\":\"é\\n\"}")
    }

    #[test]
    fn a_json_line_is_one_line_with_the_payload_as_it_was_recorded() {
        let line = json_line(&notification());
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(
            line,
            "{\"id\":\"018f0000-0000-7000-8000-000000000001\",\"type\":\"order \\\"placed\\\"\\n\",\"aggregate_type\":\"order\",\
             \"aggregate_id\":\"42\",\"time\":\"2023-11-14T22:13:20.000000Z\",\"attempt\":1,\"headers\":{},\
             \"payload\":{\"n\": 9007199254740993, \t\"a\":\"é\\n\"}}\n"
        );
    }

    #[test]
    fn a_text_line_is_one_line() {
        assert_eq!(
            text_line(&notification()),
            "2023-11-14T22:13:20.000000Z 018f0000-0000-7000-8000-000000000001 order \\\"placed\\\"\\n order 42 \
             {\"n\": 9007199254740993, \t\"a\":\"é\\n\"}\n"
        );
    }

    #[tokio::test]
    async fn lines_of_concurrent_deliveries_do_not_mix() {
        let lines = Lines { line: json_line, out: Mutex::new(Vec::new()) };
        let sample = notification();
        let verdicts = futures_util::future::join_all((0..50).map(|_| lines.deliver(&sample))).await;
        assert!(verdicts.iter().all(Verdict::is_delivered));
        assert_eq!(String::from_utf8(lines.out.into_inner()).expect("UTF-8"), json_line(&sample).repeat(50));
    }

    #[tokio::test]
    async fn a_closed_pipe_is_the_handlers_fault() {
        let (out, reader) = tokio::io::duplex(64);
        drop(reader);
        let verdict = Lines { line: text_line, out: Mutex::new(out) }.deliver(&notification()).await;
        assert_eq!((verdict.outcome, verdict.reason), (Outcome::HandlerFault, Reason::Misconfigured));
    }
}
