//! Waits: how long a kind waits for a connection, and for the answer about one event. Declared and read in one way for all kinds.

use std::time::Duration;

use crate::settings::{Field, FieldType, Section, format_duration};

pub const CONNECT_TIMEOUT: Field = Field::new(
    "connect_timeout",
    FieldType::Duration,
    "5s",
    "Maximum wait for a connection, including name look-up, TLS and log-in.",
);
pub const CONFIRM_TIMEOUT: Field = Field::new(
    "confirm_timeout",
    FieldType::Duration,
    "8s",
    "Maximum wait for the answer about one event; must be less than the timeout of the handler.",
);

/// Shorter is a typing error, or no time at all.
const SHORTEST: Duration = Duration::from_millis(1);

/// Waits that work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    pub connect: Duration,
    pub confirm: Duration,
}

impl Waits {
    /// Reads [`CONNECT_TIMEOUT`] and [`CONFIRM_TIMEOUT`]. `None`: a mistake was reported.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let (connect, confirm) = (read_wait(section, "connect_timeout"), read_confirm(section));
        Some(Self { connect: connect?, confirm: confirm? })
    }
}

// Otherwise the relay would break a delivery off before the handler knew what had become of it.
fn read_confirm(section: &Section<'_>) -> Option<Duration> {
    let (confirm, whole) = (read_wait(section, "confirm_timeout")?, section.duration("timeout"));
    if confirm >= whole {
        let (confirm, whole) = (format_duration(confirm), format_duration(whole));
        section.mistake("confirm_timeout", &format!("got \"{confirm}\", expected less than the handler's timeout, \"{whole}\""));
        return None;
    }
    Some(confirm)
}

/// One wait that is long enough to be one. `None`: a mistake was reported.
pub fn read_wait(section: &Section<'_>, name: &str) -> Option<Duration> {
    let wait = section.duration(name);
    if wait < SHORTEST {
        section.mistake(name, &format!("got \"{}\", expected at least \"1ms\"", format_duration(wait)));
        return None;
    }
    Some(wait)
}

/// The settings of every handler that a kind knows, for tests that read its own.
#[cfg(test)]
pub const COMMON: &[Field] = &[Field::new("timeout", FieldType::Duration, "15s", "Maximum duration of one attempt.")];

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;
    use crate::settings::Mistakes;

    const FIELDS: &[Field] = &[CONNECT_TIMEOUT, CONFIRM_TIMEOUT];

    fn read(text: &str) -> Result<Waits, Vec<String>> {
        let (table, mistakes) = (text.parse::<Table>().expect("valid TOML"), Mistakes::default());
        let waits = Waits::read(&Section::open("h", &table, FIELDS, COMMON, &mistakes));
        waits.ok_or_else(|| mistakes.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_connection_and_an_answer_fit_into_one_attempt() {
        let waits = read("").expect("the defaults work");
        assert!(waits.connect + waits.confirm < Duration::from_secs(15));
    }

    #[test]
    fn waits_that_do_not_work_are_told() {
        for (text, want) in [
            ("connect_timeout = \"0s\"", "h.connect_timeout: got \"0s\", expected at least \"1ms\""),
            ("confirm_timeout = \"0s\"", "h.confirm_timeout: got \"0s\", expected at least \"1ms\""),
            ("confirm_timeout = \"15s\"", "h.confirm_timeout: got \"15s\", expected less than the handler's timeout, \"15s\""),
            ("timeout = \"2s\"", "h.confirm_timeout: got \"8s\", expected less than the handler's timeout, \"2s\""),
        ] {
            assert_eq!(read(text), Err(vec![want.to_owned()]));
        }
    }
}
