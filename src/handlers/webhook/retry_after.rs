//! `Retry-After`: seconds or an HTTP date. A value that is past or unreadable is ignored and not guessed.

use std::time::Duration;

use jiff::Timestamp;

/// The longest wait that a receiver may ask for; a typing error of theirs must not stop a handler for a year.
const CEILING: Duration = Duration::from_secs(6 * 3600);

/// How long to wait, counted from `now`. `None`: the header says nothing of use.
pub fn parse(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    let wait = match header.bytes().all(|byte| byte.is_ascii_digit()) && !header.is_empty() {
        // More digits than fit still mean a long wait.
        true => Duration::from_secs(header.parse().unwrap_or(u64::MAX)),
        false => until(http_date(header)?, now)?,
    };
    Some(wait.min(CEILING))
}

fn until(moment: Timestamp, now: Timestamp) -> Option<Duration> {
    u64::try_from(moment.as_second() - now.as_second()).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

// `Sun, 06 Nov 1994 08:49:37 GMT`. The two obsolete forms of HTTP are not read: no server sends them.
fn http_date(text: &str) -> Option<Timestamp> {
    text.ends_with(" GMT").then(|| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_everything_else_ignored() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().expect("valid");
        for (header, want) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("99999999999999999999999999", Some(6 * 3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 2094 08:49:37 GMT", None),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(6 * 3600)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", None),
            ("Sun, 06 Nov 1994 08:00:00 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 +0200", None),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(parse(header, now), want.map(Duration::from_secs), "{header:?}");
        }
    }
}
