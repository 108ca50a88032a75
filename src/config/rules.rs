//! Rules for a single value that more than one section has: a name, a shortest time, a count.

use std::time::Duration;

use crate::settings::{Section, format_duration};

const EXPECTED_NAME: &str = "expected letters, digits, \"-\", \"_\" and \".\", at most 64 of them";

/// Whether a text can name a handler or a relay.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}

/// The rule for a name, for a command line.
pub fn check_name(name: &str) -> Result<String, String> {
    if is_name(name) { Ok(name.to_owned()) } else { Err(EXPECTED_NAME.to_owned()) }
}

/// Reports an invalid `name`.
pub(super) fn report_name(section: &Section<'_>) {
    let name = section.text("name");
    if section.is_set("name") && !is_name(&name) {
        section.mistake("name", &format!("got {name:?}, {EXPECTED_NAME}"));
    }
}

/// Reports a duration that is below its bound. `why` completes "expected at least ...".
pub(super) fn at_least(section: &Section<'_>, name: &str, bound: Duration, why: &str) {
    let got = section.duration(name);
    if got < bound {
        let (got, bound) = (format_duration(got), format_duration(bound));
        section.mistake(name, &format!("got \"{got}\", expected at least \"{bound}\"{why}"));
    }
}

/// An integer whose declared range fits the type.
pub(super) fn count<N: TryFrom<i64> + Default>(section: &Section<'_>, name: &str) -> N {
    N::try_from(section.integer(name)).unwrap_or_default()
}
