//! A connection over a WebSocket. Text frames only: the client of Microsoft ends its program when it gets a binary frame.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;

use super::line::{Attachment, Chunk, Line};
use super::protocol;

/// Longest frame and message of a client; a record is shorter.
const MOST_BYTES: usize = 64 * 1024;
/// Memory that a connection holds while it is idle.
const BUFFER: usize = 4 * 1024;
/// For the other side to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// With bounds.
pub fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade.max_message_size(MOST_BYTES).max_frame_size(MOST_BYTES).read_buffer_size(BUFFER).write_buffer_size(0)
}

/// Carries records both ways until one side ends.
pub async fn carry(socket: WebSocket, attachment: Attachment, keep_alive: Duration) {
    let (mut sender, mut receiver) = socket.split();
    let has_ended = tokio::select! {
        // The client may have said goodbye, which is answered below.
        () = receive(&mut receiver, &attachment.line, attachment.number) => true,
        has_ended = send(&mut sender, &attachment, keep_alive) => has_ended,
        // A client that takes nothing keeps a frame from being sent, and would be waited for.
        () = attachment.over() => false,
    };
    if has_ended {
        let frame = CloseFrame { code: close_code::NORMAL, reason: Utf8Bytes::from_static("") };
        let goodbye = async {
            // Fails where the client has said it first; the answer to that is sent all the same.
            if sender.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = receiver.next().await {}
            }
            sender.close().await.ok();
        };
        timeout(GOODBYE, goodbye).await.ok();
    }
}

async fn receive(receiver: &mut SplitStream<WebSocket>, line: &Arc<Line>, number: u64) {
    while let Some(Ok(message)) = receiver.next().await {
        let is_heard = match message {
            Message::Text(text) => line.hear(number, Bytes::from(text)).await,
            // Some clients send the same text so.
            Message::Binary(bytes) => line.hear(number, bytes).await,
            Message::Ping(_) | Message::Pong(_) => {
                line.heard();
                true
            }
            Message::Close(_) => return,
        };
        if !is_heard {
            // The session has its last words; the other half sends them.
            std::future::pending::<()>().await;
        }
    }
}

/// `true`: everything was sent that there is to send.
async fn send(sender: &mut SplitSink<WebSocket, Message>, attachment: &Attachment, keep_alive: Duration) -> bool {
    loop {
        let bytes = match timeout(keep_alive, attachment.next()).await {
            Ok(Chunk::Send(bytes)) => bytes,
            Ok(Chunk::End) => return true,
            Ok(Chunk::Replaced) => return false,
            Err(_) => protocol::ping(),
        };
        let text = Utf8Bytes::try_from(bytes).expect("records are JSON, which is text");
        if sender.send(Message::Text(text)).await.is_err() {
            return false;
        }
    }
}
