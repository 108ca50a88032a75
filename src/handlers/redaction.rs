//! Redaction: the beginning of an answer as a text for operators. Bounded, printable, and without the secrets of the handler,
//! because receivers like to echo the request that they refuse.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::settings::Secret;

/// Shorter texts are too common to be a secret, and hiding them would only garble the answer.
const SHORTEST_HIDDEN: usize = 4;
const MASK: &str = "***";

/// A part of a path that is longer, or that has anything but small letters in it, may be a credential.
const LONGEST_WORD: usize = 9;

/// The parts of an address that must not be shown, as written and decoded: user, password, path and query as a whole, each value of the
/// query, and each part of the path that may be a credential. A short word such as `orders` is none, and answers that contain it shall stay
/// readable.
pub fn hidden_parts(url: &Url) -> Vec<Secret> {
    let is_word = |part: &str| part.len() <= LONGEST_WORD && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let parts_of_path = url.path().split('/').filter(|part| !is_word(part));
    let whole = [url.password(), Some(url.username()), url.query(), Some(url.path()), url.fragment()];
    let of_query = url.query().into_iter().flat_map(|query| query.split('&')).filter_map(|pair| Some(pair.split_once('=')?.1));
    let written = whole.into_iter().flatten().chain(parts_of_path).chain(of_query);
    let decoded = |text: &str| [text.to_owned(), percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()];
    written.filter(|text| *text != "/").flat_map(decoded).map(Secret::new).collect()
}

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

    /// The part of the beginning of a body that may be shown. `is_cut`: the body went on.
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
    fn the_secret_parts_of_an_address_are_hidden_however_they_come_back() {
        let url =
            "https://u%40x:p%26ss@example.org/hooks/orders/S3CR3T-token/opensesame99?sig=a%2Fb%2Bcd&k=v1v2".parse().expect("a URL");
        let redaction = Redaction::new(&hidden_parts(&url));
        for (body, want) in [
            ("Cannot POST /hooks/orders/S3CR3T-token/opensesame99", "Cannot POST ***"),
            ("no hook S3CR3T-token", "no hook ***"),
            (r#"{"path":"\/hooks\/orders\/S3CR3T-token"}"#, r#"{"path":"\/hooks\/orders\/***"}"#),
            ("signature a/b+cd is wrong", "signature *** is wrong"),
            ("?sig=a%2Fb%2Bcd&k=v1v2", "?***"),
            ("k was v1v2", "k was ***"),
            ("user u@x, password p&ss", "user u@x, password ***"),
            ("no such orders, hooks are off", "no such orders, hooks are off"),
        ] {
            assert_eq!(redaction.excerpt(body.as_bytes(), false), want);
        }
        let plain = Redaction::new(&hidden_parts(&"https://example.org/".parse().expect("a URL")));
        assert_eq!(plain.excerpt(b"a / b", false), "a / b");
    }

    #[test]
    fn a_secret_that_the_bound_cut_is_hidden_too() {
        assert_eq!(redaction().excerpt(b"token s3cr3t-tok", true), "token ***");
        assert_eq!(redaction().excerpt(b"is Bearer s3cr", true), "is ***");
        assert_eq!(redaction().excerpt(b"token s3cr3t-tok", false), "token s3cr3t-tok");
    }
}
