//! Output of a program: its last lines are kept for the verdict; everything before them is read and discarded, whatever its size.

use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::super::redaction::Redaction;

/// Bytes that are kept of one stream.
const LIMIT: usize = 16 * 1024;
/// Lines that are shown, and characters of them.
const LINES: usize = 3;
const CHARACTERS: usize = 1_000;

/// The end of a stream.
#[derive(Default)]
pub struct Tail(Mutex<Vec<u8>>);

impl Tail {
    /// Reads to the end of the stream, which may be that of the program or of another process that holds its pipe.
    pub async fn follow(&self, mut stream: impl AsyncRead + Unpin) {
        let mut chunk = [0; 8 * 1024];
        while let Ok(bytes @ 1..) = stream.read(&mut chunk).await {
            self.push(&chunk[..bytes]);
        }
    }

    pub fn forget(&self) {
        self.lock().clear();
    }

    /// The last lines, for display; empty if there is none.
    pub fn last_lines(&self, redaction: &Redaction) -> String {
        let bytes = self.lock();
        let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let mut last: Vec<&[u8]> = lines.rev().take(LINES).collect();
        last.reverse();
        shorten(&redaction.excerpt(&last.join(&b'\n'), false))
    }

    fn push(&self, chunk: &[u8]) {
        let mut bytes = self.lock();
        bytes.extend_from_slice(chunk);
        let surplus = bytes.len().saturating_sub(LIMIT);
        bytes.drain(..surplus);
    }

    // A push is whole or has not happened.
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a text, which is where programs say what happened. After secrets were hidden: one that was cut is not recognised.
pub fn shorten(text: &str) -> String {
    let surplus = text.chars().count().saturating_sub(CHARACTERS);
    if surplus == 0 { text.to_owned() } else { "...".chars().chain(text.chars().skip(surplus + 3)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;

    fn said(bytes: &[u8]) -> String {
        let tail = Tail::default();
        bytes.chunks(1_000).for_each(|chunk| tail.push(chunk));
        assert!(tail.lock().len() <= LIMIT);
        tail.last_lines(&Redaction::new(&[Secret::new("hunter2")]))
    }

    #[test]
    fn the_last_lines_are_what_people_read() {
        for (bytes, want) in [
            (&b""[..], ""),
            (b"\n \n", ""),
            (b"one\ntwo\n\nthree\r\n  four \n", "two three four"),
            (b"user hunter2 refused", "user *** refused"),
            (b"\xff\x00\x1b[31m", "\u{fffd}  [31m"),
        ] {
            assert_eq!(said(bytes), want, "{bytes:?}");
        }
    }

    #[test]
    fn of_much_the_end_is_kept_and_no_part_of_a_secret() {
        let text = "hunter2".repeat(100_000);
        assert!(!said(text.as_bytes()).contains("unter") && said(text.as_bytes()).starts_with("..."));
        assert_eq!(said(&[&[b'x'; 100_000][..], b"\nlast"].concat()), format!("...{} last", "x".repeat(CHARACTERS - 8)));
    }
}
