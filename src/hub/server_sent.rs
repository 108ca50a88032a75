//! A connection over server-sent events: the way out. The client's messages come in requests of their own.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::time::timeout;

use super::line::{Attachment, Chunk};
use super::protocol;

/// A stream of records. It ends with the connection, and the connection with it.
pub fn answer(attachment: Attachment, keep_alive: Duration) -> Response {
    // The first bytes make the client's end of it open.
    let begun = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b":\r\n\r\n"))]);
    let records = stream::unfold(attachment, move |attachment| async move {
        let bytes = match timeout(keep_alive, attachment.next()).await {
            Ok(Chunk::Send(bytes)) => bytes,
            Ok(Chunk::End | Chunk::Replaced) => return None,
            Err(_) => protocol::ping(),
        };
        Some((Ok::<_, Infallible>(frame(&bytes)), attachment))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform")),
        // nginx would keep events back until a buffer is full.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(stream::StreamExt::chain(begun, records))).into_response()
}

/// Records as one event. A line break stands between the tokens of a payload, where one kind is as good as another.
fn frame(records: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(records.len() + 16);
    frame.extend_from_slice(b"data: ");
    let mut was_return = false;
    for byte in records {
        match byte {
            b'\n' if was_return => {}
            b'\n' | b'\r' => frame.extend_from_slice(b"\r\ndata: "),
            byte => frame.push(*byte),
        }
        was_return = *byte == b'\r';
    }
    frame.extend_from_slice(b"\r\n\r\n");
    Bytes::from(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_with_line_breaks_of_its_own_stays_one_event() {
        for (records, want) in [
            ("{}\u{1e}", "data: {}\u{1e}\r\n\r\n"),
            ("{\n \"a\":\r\n1\r}\u{1e}", "data: {\r\ndata:  \"a\":\r\ndata: 1\r\ndata: }\u{1e}\r\n\r\n"),
        ] {
            assert_eq!(String::from_utf8(frame(records.as_bytes()).to_vec()).expect("text"), want);
        }
    }
}
