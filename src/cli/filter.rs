//! The options with which a person says which deliveries are meant: the same words for every command that takes a set of them.

use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::text::{PlainTable, describe_moment, describe_reason, plain_table, plural, printable, shorten};
use super::{CliError, ask};
use crate::domain::{Reason, Timestamp};
use crate::settings::parse_duration;
use crate::store::{self, DeadLetter, DeliveryCount, DeliveryFilter, Fingerprint};

/// Which deliveries; everything that is given must match.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Only of this handler
    #[arg(long, value_name = "NAME")]
    pub handler: Option<String>,
    /// Only events of this type; * stands for any characters
    #[arg(long = "type", value_name = "GLOB")]
    pub event_type: Option<String>,
    /// Only of this ordering key, for example order/42
    #[arg(long)]
    pub key: Option<String>,
    /// Only those that failed for this reason, for example timeout or client_error
    #[arg(long, visible_alias = "failed-with", value_parser = reasons(), hide_possible_values = true)]
    pub reason: Option<String>,
    /// Only what was given up (or delivered) at this moment or later: RFC 3339, or so long ago, for example 2h
    #[arg(long, value_name = "MOMENT", value_parser = parse_moment)]
    pub since: Option<Moment>,
    /// Only what was given up (or delivered) before this moment
    #[arg(long, value_name = "MOMENT", value_parser = parse_moment)]
    pub until: Option<Moment>,
    /// Only those whose detail contains this text
    #[arg(long)]
    pub text: Option<String>,
    /// Only those of this group, as `dead-letters groups` shows it
    #[arg(long, value_name = "GROUP")]
    pub group: Option<Fingerprint>,
}

/// A moment as a person gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    At(Timestamp),
    Ago(Duration),
}

pub(super) fn parse_moment(text: &str) -> Result<Moment, &'static str> {
    let at = text.parse().ok().map(Moment::At);
    at.or_else(|| parse_duration(text).map(Moment::Ago))
        .ok_or("expected a moment such as 2026-01-31T08:00:00Z, or how long ago, such as 2h")
}

impl Moment {
    /// By a clock that stands at `now`.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => now.before(span),
        }
    }
}

impl FilterArgs {
    /// The filter, by the clock of the database; a handler that it does not know is refused.
    pub async fn resolve(self, pool: &PgPool, ids: Vec<Uuid>) -> Result<DeliveryFilter, CliError> {
        let Self { handler, event_type, key, reason, since, until, text, group } = self;
        if let Some(handler) = &handler {
            ask::check_handler(pool, handler).await?;
        }
        let now = if since.or(until).is_some() { store::read_now(pool).await? } else { Timestamp::from_micros(0) };
        let moment = |moment: Moment| moment.at(now);
        let (since, until) = (since.map(moment), until.map(moment));
        Ok(DeliveryFilter { delivered: false, handler, event_type, key, reason, ids, since, until, text, group })
    }
}

/// The closed set of reasons; a word that is not in it would match nothing.
fn reasons() -> PossibleValuesParser {
    PossibleValuesParser::new(Reason::ALL.iter().map(|reason| reason.as_str()))
}

/// What a filter meets before anything is changed.
#[derive(Debug, Serialize)]
pub(super) struct Preview {
    pub dry_run: bool,
    pub matched: u64,
    pub handlers: Vec<DeliveryCount>,
    /// The newest.
    pub sample: Vec<DeadLetter>,
}

/// Deliveries shown before a person is asked.
pub(super) const SAMPLE: u32 = 5;

impl Preview {
    pub fn new(dry_run: bool, handlers: Vec<DeliveryCount>, sample: Vec<DeadLetter>) -> Self {
        Self { dry_run, matched: handlers.iter().map(|handler| handler.count).sum(), handlers, sample }
    }

    /// Tells what is about to change, on standard error; whether there is anything to change. `what` for example "dead letter".
    pub fn goes_on(&self, what: &str, verb: &str) -> bool {
        if self.matched == 0 {
            eprintln!("no {what} matches; there is nothing to {verb}");
            return false;
        }
        eprint!("{}", self.describe(what));
        if self.dry_run {
            eprintln!("dry run: nothing was changed");
        }
        !self.dry_run
    }

    fn describe(&self, what: &str) -> String {
        let per_handler: Vec<String> = self.handlers.iter().map(|count| format!("{} of {}", count.count, count.handler)).collect();
        let shown = self.sample.len() as u64;
        let which = if shown < self.matched { format!("; the newest {shown}") } else { String::new() };
        let letters = describe_letters(&self.sample).trim_fmt();
        format!("{} {what}{} ({}){which}:\n\n{letters}\n\n", self.matched, plural(self.matched), per_handler.join(", "))
    }
}

pub(super) fn describe_letters(letters: &[DeadLetter]) -> PlainTable {
    let mut table = plain_table(&["EVENT", "TYPE", "HANDLER", "KEY", "REASON", "ATTEMPTS", "SINCE", "DETAIL"]);
    for letter in letters {
        let held = letter.replay.map(|_| "in a replay: ").unwrap_or_default();
        table.add_row([
            letter.id.to_string(),
            printable(&letter.event_type),
            printable(&letter.handler),
            printable(letter.key.as_deref().unwrap_or("-")),
            describe_reason(letter.reason.as_deref(), letter.status),
            letter.attempts.to_string(),
            letter.dead_since.map_or_else(|| "-".to_owned(), describe_moment),
            format!("{held}{}", shorten(letter.detail.as_deref().unwrap_or("-"))),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        assert_eq!(parse_moment("2023-11-14T22:13:20Z"), Ok(Moment::At(at)));
        assert_eq!(parse_moment("2h"), Ok(Moment::Ago(Duration::from_secs(7200))));
        for text in ["", "2", "yesterday", "2023-11-14"] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }
}
