//! Standard output: a reader that stops early, such as `head`, is no failure, and what others wrote does not steer the terminal.

use std::io::{self, Write};

use super::CliError;

/// Prints a whole text. `println!` would panic when the reader has gone.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::failed(error)),
        _ => Ok(()),
    }
}

/// What a producer, a receiver or another operator wrote, without what a terminal would obey: control characters, and those that
/// turn the direction of the text or cannot be seen, with which one text passes for another.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn steers(c: char) -> bool {
    let is_format = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}');
    (c.is_control() && c != '\n') || is_format
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_steers_no_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\r"), "a\u{fffd}[2Jb\nc\u{fffd}");
        assert_eq!(printable("\u{202e}drow\u{200b}"), "\u{fffd}drow\u{fffd}");
        assert_eq!(printable("geändert 注文 🦀"), "geändert 注文 🦀");
    }
}
