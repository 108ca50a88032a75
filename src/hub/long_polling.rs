//! A connection by long polling. Each poll takes the records that are there. A record that was taken counts as sent; a client
//! that did not receive it comes back with its cursor.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::line::{Attachment, Chunk};

/// Waits for records, no longer than `longest`. A later poll of the same connection ends this one without any.
pub async fn answer(attachment: Attachment, longest: Duration) -> Response {
    match timeout(longest, attachment.next()).await {
        Ok(Chunk::Send(bytes)) => records(bytes),
        Ok(Chunk::End | Chunk::Replaced) => StatusCode::NO_CONTENT.into_response(),
        Err(_) => records(Bytes::new()),
    }
}

/// The answer to a request with these records; none is an answer, too.
pub fn records(bytes: Bytes) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform")),
    ];
    (headers, bytes).into_response()
}
