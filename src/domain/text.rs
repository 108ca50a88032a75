//! Texts of others, made harmless for a terminal, a page and a shell. Changes nothing but what could be obeyed or cannot be seen.

/// A foreign text (of a producer, a receiver or another operator) without the characters that a terminal would obey: control characters, and those that
/// turn the direction of the text or cannot be seen, with which one text passes for another.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn steers(c: char) -> bool {
    let is_format = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}');
    (c.is_control() && c != '\n') || is_format
}

/// Ready to be pasted into a shell.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted() {
        for (name, want) in [("billing", "billing"), ("a b", "'a b'"), ("it's", "'it'\\''s'"), ("", "''")] {
            assert_eq!(shell_word(name), want);
        }
    }

    #[test]
    fn what_others_wrote_steers_no_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\r"), "a\u{fffd}[2Jb\nc\u{fffd}");
        assert_eq!(printable("\u{202e}drow\u{200b}"), "\u{fffd}drow\u{fffd}");
        assert_eq!(printable("geändert 注文 🦀"), "geändert 注文 🦀");
    }
}
