//! Addresses of our own pages, relative to the page that is answered: they hold below any path that a proxy puts before them.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stays as it is in a part of a path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// From one page to the others.
#[derive(Debug, Clone)]
pub struct Links {
    /// From here to the front page.
    up: String,
}

impl Links {
    /// For a page whose path below the front page has so many parts.
    pub fn new(parts: usize) -> Self {
        Self { up: if parts < 2 { "./".to_owned() } else { "../".repeat(parts - 1) } }
    }

    /// To a page of ours, such as `handlers/billing`; the front page is the empty path.
    pub fn to(&self, path: &str) -> String {
        format!("{}{path}", self.up)
    }

    /// To a page with a query.
    pub fn query(&self, path: &str, query: &[(&str, &str)]) -> String {
        self.to(&with_query(path, query))
    }

    pub fn handler(&self, name: &str) -> String {
        self.to(&format!("handlers/{}", part(name)))
    }

    pub fn event(&self, id: impl std::fmt::Display) -> String {
        self.to(&format!("e/{id}"))
    }

    pub fn replay(&self, id: impl std::fmt::Display) -> String {
        self.to(&format!("replays/{id}"))
    }
}

/// One part of a path, whatever is in it. A part of dots alone would lead elsewhere.
pub fn part(text: &str) -> String {
    let encoded = utf8_percent_encode(text, PLAIN).to_string();
    if encoded.bytes().all(|byte| byte == b'.') { encoded.replace('.', "%2E") } else { encoded }
}

/// A path with a query; empty values are left out.
pub fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    let mut address = path.to_owned();
    for (name, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
        let mark = if address.contains('?') { '&' } else { '?' };
        write!(address, "{mark}{name}={}", utf8_percent_encode(value, PLAIN)).expect("a String takes everything");
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_holds_wherever_the_front_page_is() {
        for (parts, want) in [(0, "./keys"), (1, "./keys"), (2, "../keys"), (3, "../../keys")] {
            assert_eq!(Links::new(parts).to("keys"), want);
        }
        assert_eq!(Links::new(1).to(""), "./");
    }

    #[test]
    fn whatever_a_name_is_made_of_it_is_one_part_of_the_path() {
        for (name, want) in
            [("billing", "billing"), ("a/b c", "a%2Fb%20c"), ("..", "%2E%2E"), ("a.b", "a.b"), ("?#&\"<", "%3F%23%26%22%3C")]
        {
            assert_eq!(part(name), want);
        }
        assert_eq!(with_query("a", &[("x", "1 & 2"), ("y", ""), ("z", "ä")]), "a?x=1%20%26%202&z=%C3%A4");
    }
}
