//! Moments and spans for people: the moment itself with its zone, and how long ago that was.

use std::time::Duration;

use maud::{Markup, html};

use crate::domain::Timestamp;

/// For example "2026-01-31 08:00:00 UTC", with "2 minutes ago" beside it.
pub fn moment(at: Timestamp, now: Timestamp) -> Markup {
    html! { span.moment { time datetime=(at) { span.clock { (clock(at)) } } " " span.ago { (relative(at, now)) } } }
}

pub fn moment_or_dash(at: Option<Timestamp>, now: Timestamp) -> Markup {
    match at {
        Some(at) => moment(at, now),
        None => html! { span.none { "–" } },
    }
}

/// A moment that counts by itself, without how long ago it was.
pub fn point(at: Timestamp) -> Markup {
    html! { time datetime=(at) { span.clock { (clock(at)) } } }
}

/// To the second, with the zone.
pub fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{} UTC", seconds.replace('T', " ")),
        None => text,
    }
}

/// In the largest unit that says enough.
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now { format!("in {}", span(at.since(now))) } else { format!("{} ago", span(now.since(at))) }
}

/// For example "3 min", "2 h 5 min", "4 d".
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |major: u64, unit: &str, minor: u64, small: &str| match minor {
        0 => format!("{major} {unit}"),
        minor => format!("{major} {unit} {minor} {small}"),
    };
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3_599 => format!("{} min", seconds / 60),
        3_600..=86_399 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_its_zone_and_a_span_its_largest_units() {
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        assert_eq!(clock(at), "2023-11-14 22:13:20 UTC");
        for (seconds, want) in [(0, "0 s"), (59, "59 s"), (61, "1 min"), (3_600, "1 h"), (7_500, "2 h 5 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), want);
        }
        assert_eq!(relative(at, at.after(Duration::from_secs(120))), "2 min ago");
        assert_eq!(relative(at.after(Duration::from_secs(120)), at), "in 2 min");
    }
}
