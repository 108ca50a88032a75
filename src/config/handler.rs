//! One `[[handlers]]` entry: checks the settings that every handler has; those of its kind stay a raw table.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::{Table, Value};

use super::contracts::read_pins;
use super::fields::{COMMON, IDENTITY};
use super::rate::read_rate;
use super::rules::{at_least, count, is_name, report_name};
use super::{HandlerConfig, Start, handler_path};
use crate::domain::{
    Backoff, CircuitPolicy, EventFilter, InvalidBackoff, OnBadDestination, OnDeadLetter, Ordering, Record, RetryPolicy,
};
use crate::settings::{Mistakes, Section, format_duration};

/// A higher rate limits nothing.
const MOST_BACKFILL: u32 = 1_000_000;

/// Reads the list. Every entry keeps its place, because messages identify an entry without a name by it.
pub(super) fn read_handlers(list: &Value, mistakes: &Mistakes) -> Vec<HandlerConfig> {
    let Some(entries) = list.as_array() else {
        mistakes.add("handlers", format!("got a {}, expected a list: write every handler as [[handlers]]", list.type_str()));
        return Vec::new();
    };
    let handlers: Vec<HandlerConfig> =
        entries.iter().enumerate().map(|(index, entry)| read_entry(index, entry, mistakes)).collect();
    report_duplicates(&handlers, mistakes);
    handlers
}

fn report_duplicates(handlers: &[HandlerConfig], mistakes: &Mistakes) {
    let (mut seen, mut reported) = (BTreeSet::new(), BTreeSet::new());
    for handler in handlers.iter().filter(|handler| is_name(&handler.name)) {
        if !seen.insert(&handler.name) && reported.insert(&handler.name) {
            mistakes.add(format!("handlers.{}", handler.name), "the name is given more than once; every handler needs its own");
        }
    }
}

/// A handler with every setting at its default, and neither name nor kind.
pub(super) fn default_handler() -> HandlerConfig {
    read_handler(0, &Table::new(), &Mistakes::default())
}

fn read_entry(index: usize, entry: &Value, mistakes: &Mistakes) -> HandlerConfig {
    let Some(table) = entry.as_table() else {
        mistakes.add(handler_path(index, ""), format!("got {entry}, expected a table: write every handler as [[handlers]]"));
        return read_handler(index, &Table::new(), &Mistakes::default());
    };
    read_handler(index, table, mistakes)
}

fn read_handler(index: usize, entry: &Table, mistakes: &Mistakes) -> HandlerConfig {
    // The remaining keys belong to the kind, which reports unknown ones.
    let is_common = |key: &String| IDENTITY.iter().chain(COMMON).any(|field| field.name == *key);
    let (common, settings): (Table, Table) = entry.clone().into_iter().partition(|(key, _)| is_common(key));
    let name = common.get("name").and_then(Value::as_str).unwrap_or_default();
    let section = Section::open(&handler_path(index, name), &common, IDENTITY, COMMON, mistakes);
    report_name(&section);
    at_least(&section, "timeout", Duration::from_millis(1), "");
    HandlerConfig {
        name: section.text("name"),
        kind: section.text("kind"),
        filter: read_filter(&section),
        pins: read_pins(&section),
        contracts: None,
        ordering: read_ordering(&section),
        partitions: count(&section, "partitions"),
        concurrency: count(&section, "concurrency"),
        rate: read_rate(&section, count(&section, "partitions")),
        timeout: section.duration("timeout"),
        retry: read_retry(&section.table("retry")),
        circuit: read_circuit(&section.table("circuit")),
        record: if section.text("record") == "failures" { Record::Failures } else { Record::All },
        on_dead_letter: if section.text("on_dead_letter") == "hold_key" { OnDeadLetter::HoldKey } else { OnDeadLetter::Continue },
        on_bad_destination: match section.text("on_bad_destination").as_str() {
            "hold" => OnBadDestination::Hold,
            "dead_letter" => OnBadDestination::DeadLetter,
            _ => OnBadDestination::ByReason,
        },
        start: match section.text("start").as_str() {
            "beginning" => Start::Beginning,
            "now" => Start::Now,
            _ => Start::Auto,
        },
        backfill: read_backfill(&section),
        max_parked: count(&section, "max_parked"),
        settings,
        projection: None,
    }
}

/// Every read with this filter would fail.
const NUL: &str = "got a NUL character, which Postgres cannot store, so no event has it";

pub(super) fn read_filter(section: &Section<'_>) -> EventFilter {
    for name in ["events", "aggregate_types"] {
        if section.texts(name).iter().any(String::is_empty) {
            section.mistake(name, "got \"\", which no event has; leave the key out to get every one");
        }
        if section.texts(name).iter().any(|text| text.contains('\0')) {
            section.mistake(name, NUL);
        }
    }
    if section.text_map("where_headers").iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
        section.mistake("where_headers", NUL);
    }
    EventFilter {
        types: read_pins(section).into_iter().map(|(glob, _)| glob).collect(),
        aggregate_types: section.texts("aggregate_types"),
        headers: section.scalar_map("where_headers"),
    }
}

fn read_ordering(section: &Section<'_>) -> Ordering {
    let key = section.text("key");
    let ordering = parse_ordering_key(&key).unwrap_or_else(|| {
        section.mistake("key", &format!("got {key:?}, expected \"aggregate\", \"header:<name>\" or \"payload:<a.b.c>\""));
        Ordering::Aggregate
    });
    if section.text("ordering") == "key" {
        return ordering;
    }
    if section.text("on_dead_letter") == "hold_key" {
        section.mistake("on_dead_letter", "got \"hold_key\", which needs ordering = \"key\": without order nothing is held");
    }
    Ordering::None
}

pub(super) fn read_backfill(section: &Section<'_>) -> Option<u32> {
    let text = section.optional_text("backfill")?;
    let rate =
        text.strip_suffix("/s").and_then(|number| number.trim().parse().ok()).filter(|rate| (1..=MOST_BACKFILL).contains(rate));
    if rate.is_none() {
        section
            .mistake("backfill", &format!("got {text:?}, expected events per second such as \"500/s\", at most {MOST_BACKFILL}"));
    }
    rate
}

/// The `key` of a handler. `None`: the text is not a valid key.
pub fn parse_ordering_key(text: &str) -> Option<Ordering> {
    if text == "aggregate" {
        return Some(Ordering::Aggregate);
    }
    if text.contains('\0') {
        return None;
    }
    if let Some(path) = text.strip_prefix("payload:") {
        let parts: Vec<String> = path.split('.').map(str::to_owned).collect();
        return parts.iter().all(|part| !part.is_empty()).then_some(Ordering::Payload(parts));
    }
    let header = text.strip_prefix("header:").filter(|header| !header.is_empty())?;
    Some(Ordering::Header(header.to_owned()))
}

fn read_retry(section: &Section<'_>) -> RetryPolicy {
    let backoff = if section.is_set("schedule") { read_schedule(section) } else { read_exponential(section) };
    let max_age = section.optional_duration("max_age");
    let backoff = match backoff {
        Ok(backoff) => {
            check_max_age(section, &backoff, max_age);
            backoff
        }
        Err(error) => {
            section.mistake(place_of(error), &describe(section, error));
            Backoff::schedule(vec![Duration::from_secs(5)], 0.0).expect("a schedule with one entry is valid")
        }
    };
    RetryPolicy { backoff, max_attempts: count(section, "max_attempts"), max_age }
}

fn check_max_age(section: &Section<'_>, backoff: &Backoff, max_age: Option<Duration>) {
    // A draw of one half is the delay without jitter.
    if let Some(max_age) = max_age.filter(|max_age| *max_age < backoff.delay(1, 0.5)) {
        let text = format!("got \"{}\", shorter than the first delay: no event would ever be retried", format_duration(max_age));
        section.mistake("max_age", &format!("{text}; if you intend that, write max_attempts = 1"));
    }
}

fn read_exponential(section: &Section<'_>) -> Result<Backoff, InvalidBackoff> {
    let (base, max_delay) = (section.duration("base"), section.duration("max_delay"));
    Backoff::exponential(base, section.number("factor"), max_delay, section.number("jitter"))
}

fn read_schedule(section: &Section<'_>) -> Result<Backoff, InvalidBackoff> {
    for name in ["base", "factor", "max_delay"] {
        if section.is_set(name) {
            section.mistake(name, "has no effect beside a schedule; keep one of the two");
        }
    }
    Backoff::schedule(section.durations("schedule"), section.number("jitter"))
}

fn describe(section: &Section<'_>, error: InvalidBackoff) -> String {
    match place_of(error) {
        name @ ("base" | "max_delay") => format!("got \"{}\": {error}", format_duration(section.duration(name))),
        _ => error.to_string(),
    }
}

const fn place_of(error: InvalidBackoff) -> &'static str {
    match error {
        InvalidBackoff::ZeroBase => "base",
        InvalidBackoff::ShrinkingFactor => "factor",
        InvalidBackoff::CeilingBelowBase => "max_delay",
        InvalidBackoff::Jitter => "jitter",
        InvalidBackoff::EmptySchedule => "schedule",
    }
}

fn read_circuit(section: &Section<'_>) -> CircuitPolicy {
    at_least(section, "window", Duration::from_secs(1), "");
    at_least(section, "first_probe", Duration::from_millis(10), "");
    at_least(section, "max_probe", section.duration("first_probe"), ", the first_probe");
    CircuitPolicy {
        failure_rate: section.number("failure_rate"),
        minimum: count(section, "minimum"),
        window: section.duration("window"),
        first_probe: section.duration("first_probe"),
        max_probe: section.duration("max_probe"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RateLimit;

    fn read(text: &str) -> (Vec<HandlerConfig>, Vec<String>) {
        let mistakes = Mistakes::default();
        let document: Table = text.parse().expect("valid TOML");
        let handlers = read_handlers(&document["handlers"], &mistakes);
        (handlers, mistakes.into_vec().iter().map(ToString::to_string).collect())
    }

    fn with(settings: &str) -> (HandlerConfig, Vec<String>) {
        let (mut handlers, mistakes) = read(&format!("[[handlers]]\nname = \"x\"\nkind = \"k\"\n{settings}"));
        (handlers.remove(0), mistakes)
    }

    #[test]
    fn the_defaults_are_those_of_the_domain() {
        let (handler, mistakes) = with("");
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(handler.circuit, CircuitPolicy::default());
        assert_eq!(handler.retry.backoff.span(handler.retry.max_attempts).as_secs(), 81_200);
        assert_eq!((handler.ordering, handler.partitions, handler.retry.max_age), (Ordering::Aggregate, 1, None));
    }

    #[test]
    fn what_the_kind_owns_is_left_to_it() {
        let (handler, mistakes) = with("url = \"http://x\"\nconcurrency = 3");
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(handler.concurrency, 3);
        assert_eq!(handler.settings.keys().collect::<Vec<_>>(), ["url"]);
    }

    #[test]
    fn the_key_says_what_keeps_the_order() {
        for (key, want) in [
            ("aggregate", Ordering::Aggregate),
            ("header:tenant", Ordering::Header("tenant".into())),
            ("payload:order.customer", Ordering::Payload(vec!["order".into(), "customer".into()])),
        ] {
            assert_eq!(with(&format!("key = \"{key}\"")).0.ordering, want);
        }
        assert_eq!(with("ordering = \"none\"").0.ordering, Ordering::None);
        for key in ["", "header:", "payload:", "payload:a..b", "tenant"] {
            assert_eq!(with(&format!("key = \"{key}\"")).1.len(), 1, "{key}");
        }
    }

    #[test]
    fn a_rate_is_per_second_minute_or_hour_and_its_burst_a_second_of_it() {
        let limit = |attempts, seconds, burst| RateLimit::new(attempts, Duration::from_secs(seconds), burst);
        for (settings, want) in [
            ("", None),
            ("rate = \"200/s\"", limit(200, 1, 200)),
            ("rate = \"200 / s\"\nburst = 50", limit(200, 1, 50)),
            ("rate = \"150/min\"", limit(150, 60, 2)),
            ("rate = \"5000/h\"", limit(5000, 3600, 1)),
            ("rate = \"1/h\"\npartitions = 3", limit(1, 3600, 3)),
            ("rate = \"1/h\"\npartitions = 3\nburst = 9", limit(1, 3600, 9)),
        ] {
            let (handler, mistakes) = with(settings);
            assert_eq!((handler.rate, mistakes), (want, vec![]), "{settings}");
        }
    }

    #[test]
    fn mistakes_stand_where_a_person_would_look() {
        for (settings, want) in [
            ("retry.base = \"0s\"", "handlers.x.retry.base: got \"0s\": the base must be longer than zero"),
            ("retry.max_delay = \"1s\"", "handlers.x.retry.max_delay: got \"1s\": max_delay must not be shorter than the base"),
            ("retry.schedule = []", "handlers.x.retry.schedule: the schedule is empty"),
            ("retry.factor = 0.5", "handlers.x.retry.factor: got 0.5, expected a number from 1 to 1000"),
            ("retry = { schedule = [\"1s\"], base = \"1s\" }", "handlers.x.retry.base: has no effect beside a schedule"),
            ("retry.max_age = \"1s\"", "handlers.x.retry.max_age: got \"1s\", shorter than the first delay"),
            ("circuit.max_probe = \"1s\"", "handlers.x.circuit.max_probe: got \"1s\", expected at least \"30s\", the first_probe"),
            ("partitions = 1025", "handlers.x.partitions: got 1025, expected a whole number from 1 to 1024"),
            ("timeout = \"0s\"", "handlers.x.timeout: got \"0s\", expected at least \"1ms\""),
            (
                "rate = \"200\"",
                "handlers.x.rate: got \"200\", expected a whole number from 1 to 1000000 per s, min or h, such as \"200/s\"",
            ),
            ("rate = \"0/s\"", "handlers.x.rate: got \"0/s\", expected a whole number from 1 to 1000000 per s, min or h"),
            ("rate = \"-1/s\"", "handlers.x.rate: got \"-1/s\", expected a whole number from 1"),
            ("rate = \"0.5/s\"", "handlers.x.rate: got \"0.5/s\", expected a whole number from 1"),
            ("rate = \"1/day\"", "handlers.x.rate: got \"1/day\", expected a whole number from 1 to 1000000 per s, min or h"),
            ("rate = \"1000001/h\"", "handlers.x.rate: got \"1000001/h\", expected a whole number from 1 to 1000000"),
            ("rate = 200", "handlers.x.rate: got 200, expected a text"),
            ("rate = \"200/s\"\nburst = 0", "handlers.x.burst: got 0, expected a whole number from 1 to 1000000"),
            ("rate = \"5/s\"\nburst = 3\npartitions = 4", "handlers.x.burst: got 3, expected at least 4, one for each partition"),
            ("burst = 5", "handlers.x.burst: has no effect without a rate; add one, such as rate = \"200/s\""),
            ("backfill = \"500\"", "handlers.x.backfill: got \"500\", expected events per second such as \"500/s\""),
            ("backfill = \"0/s\"", "handlers.x.backfill: got \"0/s\", expected events per second"),
            ("events = [\"a\\u0000\"]", "handlers.x.events: got a NUL character"),
            ("where_headers = { tenant = \"a\\u0000\" }", "handlers.x.where_headers: got a NUL character"),
            ("key = \"header:a\\u0000\"", "handlers.x.key: got"),
            ("events = [\"\"]", "handlers.x.events: got \"\", which no event has"),
            ("ordering = \"none\"\non_dead_letter = \"hold_key\"", "handlers.x.on_dead_letter: got \"hold_key\", which needs"),
        ] {
            let (_, mistakes) = with(settings);
            assert_eq!(mistakes.len(), 1, "{settings}: {mistakes:?}");
            assert!(mistakes[0].starts_with(want), "{settings}: {}", mistakes[0]);
        }
    }

    #[test]
    fn a_name_is_reported_once_however_often_it_is_repeated() {
        let (_, mistakes) =
            read("handlers = [{ name = \"a\", kind = \"k\" }, { name = \"a\", kind = \"k\" }, { name = \"a\", kind = \"k\" }]");
        assert_eq!(mistakes, ["handlers.a: the name is given more than once; every handler needs its own"]);
    }

    #[test]
    fn an_entry_without_a_usable_name_is_called_by_its_place() {
        let (_, mistakes) = read("handlers = [{ name = \"a b\", kind = \"k\" }, { kind = \"k\" }, 7]");
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        assert!(mistakes[0].starts_with("handlers #1.name: got \"a b\", expected letters"), "{}", mistakes[0]);
        assert!(mistakes[1].starts_with("handlers #2: needs \"name\", a text: "), "{}", mistakes[1]);
        assert!(mistakes[2].starts_with("handlers #3: got 7, expected a table"), "{}", mistakes[2]);
    }

    #[test]
    fn settings_do_not_appear_in_a_debug_print() {
        assert!(!format!("{:?}", with("token = \"hunter2\"").0).contains("hunter2"));
    }
}
