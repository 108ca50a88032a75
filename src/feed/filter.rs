//! Filters of clients: the types of the feed, of the client and of the request, and the headers that the client is bound to.
//! Means the same in memory as its patterns do in SQL; `domain::routing` tests both.

use std::collections::BTreeMap;

use serde_json::Value;

use super::render::Rendered;
use crate::domain::{EventFilter, Notification, matches_glob, plain_headers};

/// An event passes if every list of types that is not empty has a glob for it, and every header and the subject are equal.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Of the feed, of the client, and of the request.
    types: [Vec<String>; 3],
    patterns: [Option<Vec<String>>; 3],
    headers: BTreeMap<String, Value>,
    required: Option<Value>,
    subject: Option<String>,
}

impl Filter {
    /// The rights of a client; `headers` are texts and booleans.
    pub fn new(feed: &[String], client: &[String], headers: &BTreeMap<String, Value>) -> Self {
        let all = EventFilter { headers: headers.clone(), ..EventFilter::default() };
        let types = [feed.to_vec(), client.to_vec(), Vec::new()];
        Self {
            patterns: types.each_ref().map(|types| patterns(types)),
            types,
            required: all.required_headers(),
            headers: all.headers,
            subject: None,
        }
    }

    /// The part of it that a request asks for.
    #[must_use]
    pub fn narrowed(&self, types: Vec<String>, subject: Option<String>) -> Self {
        let mut narrowed = self.clone();
        narrowed.patterns[2] = patterns(&types);
        narrowed.types[2] = types;
        narrowed.subject = subject;
        narrowed
    }

    pub fn passes(&self, event: &Rendered) -> bool {
        let has_type = |globs: &Vec<String>| globs.is_empty() || globs.iter().any(|glob| matches_glob(glob, event.event_type()));
        self.types.iter().all(has_type)
            && self.headers.iter().all(|(name, value)| event.headers.get(name) == Some(value))
            && self.subject.as_ref().is_none_or(|subject| event.subject() == Some(subject.as_str()))
    }

    /// The same of an event that has no place.
    pub fn lets_see(&self, event: &Notification) -> bool {
        let has_type = |globs: &Vec<String>| globs.is_empty() || globs.iter().any(|glob| matches_glob(glob, &event.event_type));
        let headers = plain_headers(event);
        self.types.iter().all(has_type) && self.headers.iter().all(|(name, value)| headers.get(name) == Some(value))
    }

    /// As LIKE patterns: of the feed, of the client, and of the request.
    pub fn patterns(&self) -> [Option<&[String]>; 3] {
        self.patterns.each_ref().map(Option::as_deref)
    }

    pub fn required_headers(&self) -> Option<&Value> {
        self.required.as_ref()
    }

    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// Whether each place has to be looked up, because its type alone does not decide.
    pub fn looks_inside(&self) -> bool {
        self.required.is_some() || self.subject.is_some()
    }
}

fn patterns(types: &[String]) -> Option<Vec<String>> {
    EventFilter { types: types.to_vec(), ..EventFilter::default() }.type_patterns()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::render::tests::rendered;

    #[test]
    fn an_event_has_to_pass_the_feed_the_client_and_the_request() {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let tenant = BTreeMap::from([("tenant".to_owned(), Value::from("acme"))]);
        let client = Filter::new(&texts(&["order.*", "invoice.*"]), &texts(&["order.*"]), &tenant);
        for (event_type, headers, types, subject, want) in [
            ("order.placed", r#"{"tenant":"acme"}"#, &[][..], None, true),
            ("order.placed", r#"{"tenant":"acme"}"#, &["order.placed"][..], Some("42"), true),
            ("order.placed", r#"{"tenant":"acme"}"#, &[], Some("43"), false),
            ("order.paid", r#"{"tenant":"acme"}"#, &["order.placed"], None, false),
            ("invoice.sent", r#"{"tenant":"acme"}"#, &[], None, false),
            ("order.placed", r#"{"tenant":"other"}"#, &[], None, false),
            ("order.placed", "{}", &[], None, false),
            ("stock.moved", r#"{"tenant":"acme"}"#, &["*"], None, false),
        ] {
            let filter = client.narrowed(texts(types), subject.map(str::to_owned));
            assert_eq!(filter.passes(&rendered(7, event_type, headers)), want, "{event_type} {headers} {types:?} {subject:?}");
        }
    }
}
