//! The beginning of an answer as a text for people: bounded, printable, and without what the handler must keep secret,
//! because receivers like to echo the request that they refuse.

use std::fmt;

use crate::settings::Secret;

/// Shorter texts are too common to be a secret, and hiding them would only garble the answer.
const SHORTEST_HIDDEN: usize = 4;
const MASK: &str = "***";

/// Knows what must not be shown.
#[derive(Clone, Default)]
pub struct Redaction {
    hidden: Vec<String>,
}

impl Redaction {
    /// Hides these texts, and the credentials after a scheme such as `Bearer`.
    pub fn new<'s>(secrets: impl IntoIterator<Item = &'s Secret>) -> Self {
        let texts = secrets.into_iter().map(|secret| secret.expose().trim());
        let with_parts = texts.flat_map(|text| [Some(text), text.split_once(' ').map(|(_, rest)| rest.trim())]);
        let mut hidden: Vec<_> = with_parts.flatten().filter(|text| text.len() >= SHORTEST_HIDDEN).map(str::to_owned).collect();
        // The longest first: a part that went before would leave the rest of the whole readable.
        hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
        hidden.dedup();
        Self { hidden }
    }

    /// What may be shown of the beginning of a body. `is_cut`: the body went on.
    pub fn excerpt(&self, body: &[u8], is_cut: bool) -> String {
        let text = String::from_utf8_lossy(body);
        let mut shown = self.hidden.iter().fold(text.into_owned(), |text, hidden| text.replace(hidden.as_str(), MASK));
        if is_cut {
            self.drop_cut_secret(&mut shown);
        }
        let printable: String = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        printable.trim().to_owned()
    }

    // A secret that the bound cut in two would not be recognised any more.
    fn drop_cut_secret(&self, shown: &mut String) {
        let beginnings = |hidden: &String| {
            (SHORTEST_HIDDEN..hidden.len())
                .rev()
                .find(|&length| hidden.is_char_boundary(length) && shown.ends_with(&hidden[..length]))
        };
        if let Some(length) = self.hidden.iter().filter_map(beginnings).max() {
            shown.truncate(shown.len() - length);
            shown.push_str(MASK);
        }
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redaction({} texts)", self.hidden.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redaction() -> Redaction {
        Redaction::new(&[Secret::new("Bearer s3cr3t-token"), Secret::new("key=topsecret"), Secret::new("1")])
    }

    #[test]
    fn an_excerpt_is_printable() {
        assert_eq!(redaction().excerpt(b" a\0b\r\n\x1b[31mc\xff ", false), "a b   [31mc\u{fffd}");
    }

    #[test]
    fn an_echoed_secret_is_hidden_whole_and_in_part() {
        for (body, want) in [
            ("authorization: Bearer s3cr3t-token!", "authorization: ***!"),
            ("token s3cr3t-token, 1 error", "token ***, 1 error"),
            ("/hook?key=topsecret", "/hook?***"),
        ] {
            assert_eq!(redaction().excerpt(body.as_bytes(), false), want);
        }
    }

    #[test]
    fn a_secret_that_the_bound_cut_is_hidden_too() {
        assert_eq!(redaction().excerpt(b"token s3cr3t-tok", true), "token ***");
        assert_eq!(redaction().excerpt(b"is Bearer s3cr", true), "is ***");
        assert_eq!(redaction().excerpt(b"token s3cr3t-tok", false), "token s3cr3t-tok");
    }
}
