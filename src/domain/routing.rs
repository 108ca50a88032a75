//! Routing: finds which of many filters an event passes. The cost of an event depends on the handlers that want it, and not on
//! the handlers that exist.
//!
//! The filters are arranged once for each event type that occurs: first by type, then by one required header. For each event the
//! router looks up its type, then one value for each of those headers, and evaluates the candidates in full.
//!
//! The result is the same as that of the filters in SQL. A filter that means something else in memory than in SQL is not routed:
//! a required header that is a number, because SQL compares 5 and 5.0 as equal, with any number of digits.

use std::collections::{BTreeMap, HashMap};

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{EventFilter, Notification};

/// Types that are remembered; beyond them everything is forgotten and learnt anew.
const MOST_TYPES: usize = 10_000;

/// Filters by the number of their follower.
#[derive(Debug, Default)]
pub struct Routes {
    filters: BTreeMap<u32, EventFilter>,
    by_type: HashMap<String, Branch>,
}

/// The filters that let one type through.
#[derive(Debug, Default)]
struct Branch {
    /// They require no text in a header.
    plain: Vec<u32>,
    /// By the first text that they require: name, then value.
    by_header: BTreeMap<String, HashMap<String, Vec<u32>>>,
}

/// Whether the filter means the same here as in SQL. Numbers do not: there 5 is 5.0, and any number of digits counts.
pub fn is_routable(filter: &EventFilter) -> bool {
    filter.headers.values().all(|value| value.is_string() || value.is_boolean())
}

impl Routes {
    /// `filter` must be routable.
    pub fn add(&mut self, number: u32, filter: EventFilter) {
        self.by_type.clear();
        self.filters.insert(number, filter);
    }

    pub fn remove(&mut self, number: u32) {
        self.by_type.clear();
        self.filters.remove(&number);
    }

    /// One filter that lets through what any of them does; for types only, and none where that would be long.
    pub fn union(&self, most: usize) -> EventFilter {
        let mut types: Vec<String> = Vec::new();
        for filter in self.filters.values() {
            let new = filter.types.iter().filter(|glob| !types.contains(*glob)).cloned().collect::<Vec<_>>();
            types.extend(new);
            if filter.types.is_empty() || types.len() > most {
                return EventFilter::default();
            }
        }
        EventFilter { types, ..EventFilter::default() }
    }

    /// Whether the filter of this number lets the event through.
    pub fn is_wanted_by(&self, number: u32, event: &Notification) -> bool {
        self.filters.get(&number).is_some_and(|filter| has_type(filter, &event.event_type) && has_rest(filter, event, &mut None))
    }

    /// The followers whose filters let the event through, in order of their numbers.
    pub fn find(&mut self, event: &Notification) -> Vec<u32> {
        if !self.by_type.contains_key(&event.event_type) {
            if self.by_type.len() >= MOST_TYPES {
                self.by_type.clear();
            }
            let branch = self.branch(&event.event_type);
            self.by_type.insert(event.event_type.clone(), branch);
        }
        let branch = &self.by_type[&event.event_type];
        let mut headers = None;
        let mut candidates = branch.plain.clone();
        for (name, values) in &branch.by_header {
            let headers = headers.get_or_insert_with(|| plain_headers(event));
            if let Some(Value::String(value)) = headers.get(name) {
                candidates.extend(values.get(value).into_iter().flatten());
            }
        }
        candidates.retain(|number| has_rest(&self.filters[number], event, &mut headers));
        candidates.sort_unstable();
        candidates
    }

    fn branch(&self, event_type: &str) -> Branch {
        let mut branch = Branch::default();
        for (number, filter) in self.filters.iter().filter(|(_, filter)| has_type(filter, event_type)) {
            match filter.headers.iter().find_map(|(name, value)| Some((name, value.as_str()?))) {
                Some((name, value)) => {
                    branch.by_header.entry(name.clone()).or_default().entry(value.to_owned()).or_default().push(*number);
                }
                None => branch.plain.push(*number),
            }
        }
        branch
    }
}

fn has_type(filter: &EventFilter, event_type: &str) -> bool {
    filter.types.is_empty() || filter.types.iter().any(|glob| matches_glob(glob, event_type))
}

/// Everything but the type. `headers`: of the event, once they are known.
fn has_rest(filter: &EventFilter, event: &Notification, headers: &mut Option<Map<String, Value>>) -> bool {
    let has_aggregate = filter.aggregate_types.is_empty()
        || event.aggregate_type.as_ref().is_some_and(|aggregate_type| filter.aggregate_types.contains(aggregate_type));
    has_aggregate
        && (filter.headers.is_empty() || {
            let headers = headers.get_or_insert_with(|| plain_headers(event));
            filter.headers.iter().all(|(name, value)| headers.get(name) == Some(value))
        })
}

/// The headers of an event. A value that no [`Value`] can hold, such as a number beyond every float, is left out: no routable filter can require it.
pub fn plain_headers(event: &Notification) -> Map<String, Value> {
    serde_json::from_str(&event.headers).unwrap_or_else(|_| {
        let values: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&event.headers).unwrap_or_default();
        values.into_iter().filter_map(|(name, raw)| Some((name, serde_json::from_str(raw.get()).ok()?))).collect()
    })
}

/// Whether a glob lets a type through: `*` stands for any characters, also for none.
pub fn matches_glob(glob: &str, text: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else { return glob == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_glob_lets_through_what_like_does() {
        for (glob, text, want) in [
            ("*", "", true),
            ("order.*", "order.placed", true),
            ("order.*", "order", false),
            ("*.placed", "order.placed", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a_c", "abc", false),
            ("*ü*", "grün\n", true),
            ("a**b", "ab", true),
        ] {
            assert_eq!(matches_glob(glob, text), want, "{glob} {text:?}");
        }
    }

    #[test]
    fn only_what_means_the_same_in_sql_is_routed() {
        let filter = |value: Value| EventFilter { headers: BTreeMap::from([("a".to_owned(), value)]), ..EventFilter::default() };
        for (value, want) in [(Value::from("5"), true), (Value::from(true), true), (Value::from(5), false)] {
            assert_eq!(is_routable(&filter(value)), want);
        }
    }

    #[test]
    fn a_number_beyond_every_float_is_not_the_text_of_it() {
        let filter = |name: &str, text: &str| EventFilter {
            headers: BTreeMap::from([(name.to_owned(), Value::from(text))]),
            ..EventFilter::default()
        };
        let event = Notification { headers: r#"{"n":1e400,"a":"b"}"#.to_owned(), ..Notification::sample("t", "{}") };
        let mut routes = Routes::default();
        routes.add(1, filter("n", "1e400"));
        routes.add(2, filter("a", "b"));
        assert_eq!(routes.find(&event), [2]);
    }

    #[test]
    fn a_union_asks_for_every_type_that_somebody_wants() {
        let of = |types: &[&str]| EventFilter { types: types.iter().map(ToString::to_string).collect(), ..EventFilter::default() };
        let mut routes = Routes::default();
        routes.add(1, of(&["a", "b.*"]));
        routes.add(2, of(&["a", "c"]));
        assert_eq!(routes.union(3).types, ["a", "b.*", "c"]);
        assert!(routes.union(2).types.is_empty(), "too long: everything");
        routes.add(3, of(&[]));
        assert!(routes.union(9).types.is_empty());
    }

    fn filter() -> impl Strategy<Value = EventFilter> {
        let types = prop::collection::vec(prop::sample::select(vec!["a", "a.*", "*.b", "a.b", "*", "b*"]), 0..3);
        let aggregates = prop::collection::vec(prop::sample::select(vec!["x", "y"]), 0..2);
        let value = prop_oneof![Just(Value::from("1")), Just(Value::from("2")), Just(Value::from(true))];
        let headers = prop::collection::btree_map(prop::sample::select(vec!["h", "i"]).prop_map(str::to_owned), value, 0..3);
        (types, aggregates, headers).prop_map(|(types, aggregates, headers)| EventFilter {
            types: types.into_iter().map(str::to_owned).collect(),
            aggregate_types: aggregates.into_iter().map(str::to_owned).collect(),
            headers,
        })
    }

    proptest! {
        #[test]
        fn an_event_finds_exactly_those_whose_filter_it_passes(
            filters in prop::collection::vec(filter(), 0..12),
            events in prop::collection::vec((
                prop::sample::select(vec!["a", "a.b", "b", "ab", "c.b"]),
                prop::option::of(prop::sample::select(vec!["x", "z"])),
                prop::sample::select(vec!["{}", r#"{"h":"1"}"#, r#"{"h":"\u0031","i":true}"#, r#"{"h":1,"i":"2"}"#]),
            ), 1..6),
        ) {
            let mut routes = Routes::default();
            filters.iter().enumerate().for_each(|(number, filter)| routes.add(number as u32, filter.clone()));
            for (event_type, aggregate_type, headers) in events {
                let event = Notification {
                    aggregate_type: aggregate_type.map(str::to_owned),
                    headers: headers.to_owned(),
                    ..Notification::sample(event_type, "{}")
                };
                let want: Vec<u32> = (0..filters.len() as u32).filter(|number| routes.is_wanted_by(*number, &event)).collect();
                prop_assert_eq!(routes.find(&event), want);
            }
        }
    }
}
