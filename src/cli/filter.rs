//! The options that select deliveries: the same for every command that acts on a set of them.

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

use super::CliError;
use super::text::{PlainTable, describe_moment, describe_reason, plain_table, plural, printable, shorten};
use crate::domain::Reason;
use crate::operations::{Moment, Preview, Which, parse_moment};
use crate::store::{DeadLetter, DeliveryFilter, Fingerprint};

/// A selection of deliveries; all options must match.
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
    /// Only deliveries that failed for this reason, for example timeout or client_error
    #[arg(long, visible_alias = "failed-with", value_parser = reasons(), hide_possible_values = true)]
    pub reason: Option<String>,
    /// Only events that were given up (or delivered) at this time or later: RFC 3339, or an age such as 2h
    #[arg(long, value_name = "MOMENT", value_parser = parse_moment)]
    pub since: Option<Moment>,
    /// Only events that were given up (or delivered) before this time
    #[arg(long, value_name = "MOMENT", value_parser = parse_moment)]
    pub until: Option<Moment>,
    /// Only deliveries whose error contains this text
    #[arg(long)]
    pub text: Option<String>,
    /// Only dead letters of this group, as `dead-letters groups` shows it
    #[arg(long, value_name = "GROUP")]
    pub group: Option<Fingerprint>,
}

impl FilterArgs {
    /// The selection.
    pub fn which(self, ids: Vec<Uuid>) -> Which {
        let Self { handler, event_type, key, reason, since, until, text, group } = self;
        Which { delivered: false, handler, event_type, key, reason, ids, since, until, text, group }
    }

    /// The filter, by the clock of the database; an unknown handler is refused.
    pub async fn resolve(self, pool: &PgPool, ids: Vec<Uuid>) -> Result<DeliveryFilter, CliError> {
        Ok(self.which(ids).resolve(pool).await?)
    }
}

/// The closed set of reasons; an unknown reason would match nothing.
fn reasons() -> PossibleValuesParser {
    PossibleValuesParser::new(Reason::ALL.iter().map(|reason| reason.as_str()))
}

/// The deliveries that a filter matches before a change, as a document.
#[derive(Debug, Serialize)]
pub(super) struct Previewed {
    pub dry_run: bool,
    #[serde(flatten)]
    pub preview: Preview,
}

impl Previewed {
    /// Prints on standard error what is about to change; returns whether there is anything to change. `what` is for example "dead letter".
    pub fn goes_on(&self, what: &str, verb: &str) -> bool {
        if self.preview.matched == 0 {
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
        let Preview { matched, handlers, sample, .. } = &self.preview;
        let per_handler: Vec<String> = handlers.iter().map(|count| format!("{} of {}", count.count, count.handler)).collect();
        let shown = sample.len() as u64;
        let which = if shown < *matched { format!("; the newest {shown}") } else { String::new() };
        let letters = describe_letters(sample).trim_fmt();
        format!("{matched} {what}{} ({}){which}:\n\n{letters}\n\n", plural(*matched), per_handler.join(", "))
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
