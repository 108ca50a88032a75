//! `rate` and `burst` of handlers and clients: how many attempts or requests may start in a time, and how many at once.

use std::time::Duration;

use super::rules::count;
use crate::domain::RateLimit;
use crate::settings::Section;

/// A higher rate limits nothing.
const MOST_RATE: u32 = 1_000_000;

/// `rate` and `burst` of an entry. `least_burst` is the number of its partitions, each of which must be able to start an attempt.
pub(super) fn read_rate(section: &Section<'_>, least_burst: u32) -> Option<RateLimit> {
    if section.is_set("burst") && !section.is_set("rate") {
        section.mistake("burst", "has no effect without a rate; add one, such as rate = \"200/s\", or leave burst out");
    }
    let text = section.optional_text("rate")?;
    let Some((attempts, period)) = parse_rate(&text) else {
        let expected = format!("expected a whole number from 1 to {MOST_RATE} per s, min or h, such as \"200/s\"");
        section.mistake("rate", &format!("got {text:?}, {expected}"));
        return None;
    };
    let per_second = u32::try_from(u64::from(attempts) / period.as_secs()).unwrap_or(MOST_RATE);
    // Each partition must be able to start an attempt, and together they must not exceed the burst.
    let burst = match section.is_set("burst").then(|| count(section, "burst")) {
        Some(burst) if (1..least_burst).contains(&burst) => {
            section.mistake("burst", &format!("got {burst}, expected at least {least_burst}, one for each partition"));
            burst
        }
        Some(burst) => burst,
        None => per_second.max(least_burst).max(1),
    };
    RateLimit::new(attempts, period, burst)
}

/// A number and a time. `None`: the text is not a rate.
fn parse_rate(text: &str) -> Option<(u32, Duration)> {
    let (number, unit) = text.split_once('/')?;
    let period = match unit.trim() {
        "s" => Duration::from_secs(1),
        "min" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return None,
    };
    let attempts = number.trim().parse().ok().filter(|attempts| (1..=MOST_RATE).contains(attempts))?;
    Some((attempts, period))
}
