//! The parameters of a request. Every mistake is reported with the name of its parameter; no unknown parameter is ignored.

use std::time::Duration;

use super::cursor::Start;
use super::seal::Cursors;
use crate::settings::parse_duration;

/// The parameters of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// `None`: at the earliest event.
    pub after: Option<Start>,
    pub limit: usize,
    /// How long to wait for an event if there is none; zero: not at all.
    pub wait: Duration,
    /// Globs over the type; empty: every type.
    pub types: Vec<String>,
    pub subject: Option<String>,
}

pub const DEFAULT_LIMIT: usize = 100;
pub const MOST_EVENTS: usize = 1_000;
/// Globs of one request, and the length of one text.
const MOST_TYPES: usize = 64;
const LONGEST_TEXT: usize = 255;

impl Default for Query {
    fn default() -> Self {
        Self { after: None, limit: DEFAULT_LIMIT, wait: Duration::ZERO, types: Vec::new(), subject: None }
    }
}

/// The bounds of a ticket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    pub types: Vec<String>,
    pub subject: Option<String>,
}

/// Reads the part of the URL of a request for a ticket.
pub fn parse_bounds(text: &str) -> Result<Bounds, String> {
    let other = |name: &str| !matches!(name, "type" | "subject");
    if url::form_urlencoded::parse(text.as_bytes()).any(|(name, _)| other(&name)) {
        return Err("unknown parameter; there are type and subject".to_owned());
    }
    let Query { types, subject, .. } = parse(text, Duration::ZERO, &Cursors::plain())?;
    Ok(Bounds { types, subject })
}

/// The ticket in the part of a URL behind `?`.
pub fn ticket(text: &str) -> Option<String> {
    url::form_urlencoded::parse(text.as_bytes()).find(|(name, _)| name == "ticket").map(|(_, ticket)| ticket.into_owned())
}

/// Reads the part of a URL behind `?`. `lastEventId` and `timeout` (milliseconds) are the names that http-feeds has for `after` and `wait`.
pub fn parse(text: &str, longest_wait: Duration, cursors: &Cursors) -> Result<Query, String> {
    let mut query = Query::default();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
        if name != "type" && seen.iter().any(|seen| *seen == name) {
            return Err(format!("{name} is given more than once"));
        }
        seen.push(name.clone().into_owned());
        match &*name {
            "after" | "lastEventId" => {
                query.after = Some(cursors.start(&value).map_err(|error| format!("{name}: {error}"))?);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST_EVENTS).contains(limit));
                query.limit = limit.ok_or_else(|| format!("limit: expected a whole number from 1 to {MOST_EVENTS}"))?;
            }
            "wait" => {
                let wait = parse_duration(&value).ok_or("wait: expected a duration such as 30s")?;
                query.wait = wait.min(longest_wait);
            }
            "timeout" => {
                let millis: u64 = value.parse().map_err(|_| "timeout: expected milliseconds")?;
                query.wait = Duration::from_millis(millis).min(longest_wait);
            }
            "type" => query.types.extend(value.split(',').map(str::to_owned)),
            "subject" => query.subject = Some(value.into_owned()),
            "ticket" => {} // it was read before
            _ => return Err("unknown parameter; there are after, limit, wait, type, subject and ticket".to_owned()),
        }
    }
    check_bounds(&query.types, query.subject.as_ref())?;
    if seen.iter().any(|name| name == "after") && seen.iter().any(|name| name == "lastEventId") {
        return Err("after and lastEventId mean the same; give one of the two".to_owned());
    }
    Ok(query)
}

/// Whether these can be asked for.
pub fn check_bounds(types: &[String], subject: Option<&String>) -> Result<(), String> {
    let is_odd = |text: &String| text.is_empty() || text.len() > LONGEST_TEXT || text.contains('\0');
    if types.len() > MOST_TYPES || types.iter().any(is_odd) {
        return Err(format!(
            "type: expected at most {MOST_TYPES} event types of 1 to {LONGEST_TEXT} bytes; \"*\" stands for any characters"
        ));
    }
    if subject.is_some_and(is_odd) {
        return Err(format!("subject: expected a text of 1 to {LONGEST_TEXT} bytes"));
    }
    Ok(())
}

/// The same request, further on: the part of the URL behind `?`.
pub fn next(query: &Query, after: &str) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    text.append_pair("after", after);
    if query.limit != DEFAULT_LIMIT {
        text.append_pair("limit", &query.limit.to_string());
    }
    if !query.wait.is_zero() {
        text.append_pair("wait", &format!("{}ms", query.wait.as_millis()));
    }
    for glob in &query.types {
        text.append_pair("type", glob);
    }
    if let Some(subject) = &query.subject {
        text.append_pair("subject", subject);
    }
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    fn parse(text: &str, longest_wait: Duration) -> Result<Query, String> {
        super::parse(text, longest_wait, &Cursors::plain())
    }

    #[test]
    fn a_request_says_where_how_much_how_long_and_what() {
        let query = parse("after=latest&limit=7&wait=30s&type=order.*,stock.moved&type=a%20b&subject=42", LONGEST);
        let want = Query {
            after: Some(Start::Latest),
            limit: 7,
            wait: Duration::from_secs(30),
            types: vec!["order.*".to_owned(), "stock.moved".to_owned(), "a b".to_owned()],
            subject: Some("42".to_owned()),
        };
        assert_eq!(query, Ok(want));
        assert_eq!(parse("", LONGEST), Ok(Query::default()));
        assert_eq!(parse("wait=1h", LONGEST).map(|query| query.wait), Ok(LONGEST));
        assert_eq!(parse("lastEventId=earliest&timeout=1500", LONGEST).map(|query| query.wait.as_millis()), Ok(1500));
    }

    #[test]
    fn whatever_is_not_understood_is_a_mistake() {
        for text in [
            "after=",
            "after=5",
            "after=latest&after=latest",
            "after=latest&lastEventId=latest",
            "limit=0",
            "limit=1001",
            "limit=x",
            "wait=5",
            "wait=-1s",
            "timeout=1s",
            "type=",
            "type=a,,b",
            "subject=",
            "token=secret",
            "type=a%00b",
        ] {
            assert!(parse(text, LONGEST).is_err(), "{text}");
        }
        let many = format!("type={}", ["t"; 65].join(","));
        assert!(parse(&many, LONGEST).is_err() && parse(&format!("subject={}", "x".repeat(256)), LONGEST).is_err());
        let told = parse("token=hunter2", LONGEST).expect_err("unknown");
        assert!(!told.contains("hunter2") && !told.contains("token"), "a secret in the wrong place is not repeated: {told}");
    }

    #[test]
    fn the_next_request_asks_for_the_same() {
        let query = parse("limit=7&wait=30s&type=order.*&type=a%26b&subject=4%202", LONGEST).expect("valid");
        let again = parse(&next(&query, "latest"), LONGEST).expect("valid");
        assert_eq!(again, Query { after: Some(Start::Latest), ..query });
    }
}
