//! Error groups: which dead letters failed alike. A group is the failure without the parts that differ from one event to the next
//! (ids, numbers, addresses, quoted texts), and a number computed from it. Pure: the same failure has the same number on every
//! machine.

use super::Reason;

/// The group that a dead letter belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorGroup {
    /// Made of reason, status and text; operators see it as sixteen hexadecimal digits.
    pub fingerprint: i64,
    /// The part of the text that all failures of the group have in common.
    pub text: String,
}

/// Characters of a folded text that count; what a receiver adds behind them may differ from one answer to the next.
const LONGEST: usize = 200;

impl ErrorGroup {
    pub fn of(reason: Reason, status: Option<u16>, detail: &str) -> Self {
        let text = fold(detail);
        let status = status.map(|status| status.to_string()).unwrap_or_default();
        let parts = [reason.as_str(), &status, &text];
        // FNV-1a, written out because it is stored: a library's hash may change with its version.
        let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Self { fingerprint: hash.cast_signed(), text }
    }
}

/// The text without ids, numbers, addresses and quoted texts, its white space as single blanks.
fn fold(text: &str) -> String {
    // The quotes of a JSON answer surround its words, and these words distinguish one failure from another.
    let is_json = text.contains("{\"") || text.contains("[\"");
    let mut folded = String::new();
    let mut rest = text.trim();
    while let Some(c) = rest.chars().next() {
        let length = if let Some(length) = quoted(rest, folded.chars().next_back(), is_json) {
            folded.push_str("<text>");
            length
        } else if let Some(length) = address(rest) {
            folded.push_str("<address>");
            length
        } else if c.is_whitespace() {
            folded.push(' ');
            rest.len() - rest.trim_start().len()
        } else if is_word(c) {
            let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
            let word = word.trim_end_matches(['.', ':', '-', '@']);
            fold_word(&mut folded, word);
            word.len().max(push_if_empty(&mut folded, word, c))
        } else {
            folded.push(c);
            c.len_utf8()
        };
        rest = &rest[length..];
    }
    match folded.char_indices().nth(LONGEST) {
        Some((end, _)) => folded[..end].to_owned(),
        None => folded,
    }
}

/// A word that was nothing but punctuation: its first character stands for itself.
fn push_if_empty(folded: &mut String, word: &str, c: char) -> usize {
    if !word.is_empty() {
        return 0;
    }
    folded.push(c);
    c.len_utf8()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "-_.:@".contains(c)
}

/// Length of a quoted text at the start. A quotation mark inside a word is an apostrophe.
fn quoted(text: &str, before: Option<char>, is_json: bool) -> Option<usize> {
    let mark = text.chars().next().filter(|c| "'\"`".contains(*c))?;
    if (mark == '"' && is_json) || before.is_some_and(char::is_alphanumeric) {
        return None;
    }
    let is_end = |place: &usize| !text[place + 1..].chars().next().is_some_and(char::is_alphanumeric);
    text.match_indices(mark).map(|(place, _)| place).skip(1).find(is_end).map(|place| place + 1)
}

/// Length of a URL at the start.
fn address(text: &str) -> Option<usize> {
    let scheme = text.find("://").filter(|end| *end > 0 && text[..*end].chars().all(|c| c.is_ascii_alphanumeric() || c == '+'))?;
    let is_over = |c: char| c.is_whitespace() || "\"'`<>()[]{},;".contains(c);
    let end = text[scheme + 3..].find(is_over).map_or(text.len(), |end| scheme + 3 + end);
    Some(text[..end].trim_end_matches(['.', ':']).len())
}

fn fold_word(folded: &mut String, word: &str) {
    if is_host(word) {
        folded.push_str("<address>");
    } else if is_id(word) {
        folded.push_str("<id>");
    } else {
        let mut in_number = false;
        for c in word.chars() {
            match (c.is_ascii_digit(), in_number) {
                (true, false) => folded.push_str("<n>"),
                (true, true) => {}
                (false, _) => folded.push(c),
            }
            in_number = c.is_ascii_digit();
        }
    }
}

/// An IP address, perhaps with its port, a host with its port, a mail address.
fn is_host(word: &str) -> bool {
    let is_ip = word.parse::<std::net::IpAddr>().is_ok() || word.parse::<std::net::SocketAddr>().is_ok();
    let has_port = word.rsplit_once(':').is_some_and(|(host, port)| {
        (host.contains('.') || host == "localhost") && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    let is_mail = word.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
    is_ip || has_port || is_mail
}

/// A UUID, or another long hexadecimal text with a digit in it.
fn is_id(word: &str) -> bool {
    let digits = word.chars().filter(|c| *c != '-').count();
    let is_hexadecimal = word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    digits >= 12
        && is_hexadecimal
        && word.contains(|c: char| c.is_ascii_digit())
        && word.contains(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_differs_between_events_is_folded() {
        for (text, want) in [
            ("order 42 of customer 7 is closed", "order <n> of customer <n> is closed"),
            ("no order 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d.", "no order <id>."),
            ("trace 4bf92f3577b34da6a3ce929d0e0e4736", "trace <id>"),
            ("column \"total\" can't be 'x y'", "column <text> can't be <text>"),
            ("connect to 10.0.0.7:8080: refused", "connect to <address>: refused"),
            ("billing.example.com:443 reset; [::1] too", "<address> reset; [<address>] too"),
            ("see https://example.com/a?b=1, ask ada@example.com", "see <address>, ask <address>"),
            ("{\"error\":\"order 42 not found\"}", "{\"error\":\"order <n> not found\"}"),
            ("a\n\n  b\tc ", "a b c"),
            ("/orders/42/lines/7", "/orders/<n>/lines/<n>"),
            ("it was decade 1990: faded", "it was decade <n>: faded"),
            ("... -- 'open", "... -- 'open"),
            ("", ""),
        ] {
            assert_eq!(fold(text), want, "{text}");
        }
        assert_eq!(fold(&"ä".repeat(300)).chars().count(), LONGEST);
    }

    #[test]
    fn a_group_is_made_of_reason_status_and_text() {
        let group = |reason, status, detail| ErrorGroup::of(reason, status, detail).fingerprint;
        let one = group(Reason::ServerError, Some(500), "order 42 failed");
        assert_eq!(one, group(Reason::ServerError, Some(500), "order 4711 failed"));
        assert_ne!(one, group(Reason::ServerError, Some(503), "order 42 failed"));
        assert_ne!(one, group(Reason::ClientError, Some(500), "order 42 failed"));
        assert_ne!(one, group(Reason::ServerError, Some(500), "order 42 was late"));
        // Stored: another number would part the old ones from the new ones.
        assert_eq!(group(Reason::Timeout, None, " "), -452_115_503_114_000_680);
    }

    proptest! {
        #[test]
        fn no_number_is_left_and_no_text_is_refused(text in "\\PC{0,300}") {
            let folded = fold(&text);
            prop_assert!(!folded.contains(|c: char| c.is_ascii_digit()), "{}", folded);
        }

        #[test]
        fn two_numbers_make_one_group(one in 0u64.., other in 0u64..) {
            prop_assert_eq!(fold(&format!("row {one} is late")), fold(&format!("row {other} is late")));
        }
    }
}
