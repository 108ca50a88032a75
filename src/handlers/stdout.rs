//! `stdout`: writes each event as one line to standard output. For trials, and for pipes into other programs. A line is flushed
//! before its event counts as delivered.

use std::fmt::Write;
use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;

use super::envelope::rfc_3339;
use super::line::{json_line, one_line};
use super::{Built, Handler, Kind};
use crate::domain::{Notification, Reason, Verdict};
use crate::settings::{Field, FieldType};

pub const KIND: Kind = Kind {
    name: "stdout",
    summary: "write each event as one line to standard output",
    fields: &[Field::new(
        "format",
        FieldType::Choice(&["json", "text"]),
        "json",
        "One JSON object per line, or a line of plain text.",
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
        io::ErrorKind::BrokenPipe => Verdict::handler_fault(Reason::Misconfigured, "standard output is closed"),
        _ => Verdict::retry(Reason::Failed, format!("could not write to standard output: {error}")),
    }
}

fn text_line(notification: &Notification) -> String {
    let time = rfc_3339(notification.occurred_at).unwrap_or_else(|| "-".to_owned());
    let mut line = format!("{time} {} {}", notification.id, notification.event_type.escape_debug());
    for part in [&notification.aggregate_type, &notification.aggregate_id].into_iter().flatten() {
        write!(line, " {}", part.escape_debug()).expect("a text takes every text");
    }
    line + " " + &one_line(&notification.payload) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Outcome;

    fn notification() -> Notification {
        Notification::sample("order \"placed\"\n", "{\"n\": 9007199254740993,\n\t\"a\":\"é\\n\"}")
    }

    #[test]
    fn a_text_line_is_one_line() {
        assert_eq!(
            text_line(&notification()),
            "2023-11-14T22:13:20.000000Z 018f0000-0000-7000-8000-000000000001 order \\\"placed\\\"\\n order 42 \
             {\"n\": 9007199254740993, \t\"a\":\"é\\n\"}\n"
        );
    }

    #[test]
    fn a_time_that_rfc_3339_does_not_know_is_a_dash() {
        let endless = Notification { occurred_at: crate::domain::Timestamp::from_micros(i64::MAX), ..notification() };
        assert!(text_line(&endless).starts_with("- 018f0000"), "{}", text_line(&endless));
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
