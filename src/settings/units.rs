//! Values with units: `"30s"`, `"1MiB"`. A bare number is a mistake, because its unit is unknown.

use std::time::Duration;

/// Microseconds per unit.
const DURATIONS: &[(&str, f64)] = &[("ms", 1e3), ("us", 1.0), ("s", 1e6), ("m", 60e6), ("h", 3_600e6), ("d", 86_400e6)];
const SIZES: &[(&str, u64)] =
    &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("B", 1)];

/// A duration such as `"250ms"`, `"1.5s"`, `"6h"`, `"3d"`. `None` if it is not one.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let factor = DURATIONS.iter().find(|(name, _)| *name == unit)?.1;
    let micros = (number.parse::<f64>().ok()? * factor).round();
    // A hundred years: everything longer is a typing error, and sums of it must not overflow.
    (micros <= 3.2e15).then(|| Duration::from_micros(micros as u64))
}

/// A number of bytes such as `"512B"`, `"64KiB"`, `"1MB"`. `None` if it is not one.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = SIZES.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The shortest exact text, for example `"90s"`; parses back to the same value.
pub fn format_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    for (unit, factor) in [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)] {
        if micros >= factor && micros.is_multiple_of(factor) {
            return format!("{}{unit}", micros / factor);
        }
    }
    if micros == 0 { "0s".to_owned() } else { format!("{micros}us") }
}

/// The two largest units; operators need no more.
pub fn describe_duration(span: Duration) -> String {
    const UNITS: [(u128, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let mut rest = span.as_millis();
    let mut parts = Vec::new();
    for (size, unit) in UNITS {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
        } else if !parts.is_empty() {
            break;
        }
        rest %= size;
    }
    parts.truncate(2);
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// The shortest exact text, for example `"1MiB"`; parses back to the same value.
pub fn format_bytes(bytes: u64) -> String {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    if digits == 0 {
        return None;
    }
    Some((&text[..digits], text[digits..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_needs_its_unit() {
        for (text, want) in [("30s", Some(30_000)), ("1.5s", Some(1500)), ("250 ms", Some(250)), ("3d", Some(259_200_000))] {
            assert_eq!(parse_duration(text).map(|d| d.as_millis()), want, "{text}");
        }
        for text in ["", "30", "s", "-1s", "1 fortnight", "1.2.3s", "999999999999999999999999d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_bytes("1MiB"), Some(1_048_576));
        assert_eq!(parse_bytes("64kB"), Some(64_000));
        for text in ["", "12", "KiB", "1.5MiB", "99999999999999GiB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn a_span_has_its_two_largest_units() {
        for (millis, want) in
            [(0, "0s"), (999, "999ms"), (90_000, "1m 30s"), (86_400_000, "1d"), (90_061_000, "1d 1h"), (3_605_000, "1h")]
        {
            assert_eq!(describe_duration(Duration::from_millis(millis)), want);
        }
    }

    proptest! {
        #[test]
        fn a_formatted_value_parses_back(micros in 0u64..10_000_000_000_000, bytes in 0u64..1 << 50) {
            prop_assert_eq!(parse_duration(&format_duration(Duration::from_micros(micros))), Some(Duration::from_micros(micros)));
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Some(bytes));
        }
    }
}
