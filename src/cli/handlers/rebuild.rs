//! `outboxd handlers rename` and `repartition`: move the records of a handler to another name, or to another number of partitions.
//! Both are refused while a relay serves the handler; the error says what to do.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::super::{CliError, EXIT_CONFIG, EXIT_OK, Global, ask, print::print, session};
use crate::config::{check_handler_name, parse_ordering_key};
use crate::domain::{EventFilter, Ordering};
use crate::operations::forget::MOST_LOOKED_AT;
use crate::operations::handlers::{self, gone, still_owned};
use crate::operations::{check_handler, refuse_projection};
use crate::registration::describe_unfinished;
use crate::store::subscriptions::{Wanted, list};
use crate::store::{self, Moved, Rebuilt, Repartition, Selection, Unfinished};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd handlers rename invoicing billing --dry-run
  outboxd handlers rename invoicing billing --yes --because 'named after the team now'

Positions, deliveries, attempts, replays, dead letters, notes and audit move to the new name: billing continues where invoicing stopped. \
No relay may serve the handler meanwhile. While relays run:
1. remove the entry from the configuration and run `outboxd reload`; its events wait in the log
  2. outboxd handlers rename invoicing billing
  3. put the entry back under its new name and run `outboxd reload`")]
pub(super) struct RenameArgs {
    /// The current name in the database
    old: String,
    /// The new name; it must be unused
    #[arg(value_parser = check_handler_name)]
    new: String,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd handlers repartition billing 4 --dry-run
  outboxd handlers repartition billing 4 --yes --because 'one relay cannot keep up'
  outboxd handlers repartition billing 4 --ordering-key header:tenant

A delivered event is not delivered again. Pending, retrying and waiting events move to the new partition of their key and keep its order. \
No relay may serve the handler meanwhile. While relays run:
1. remove the entry from the configuration and run `outboxd reload`; its events wait in the log
  2. outboxd handlers repartition billing 4
  3. put the entry back with partitions = 4 and run `outboxd reload`")]
pub(super) struct RepartitionArgs {
    /// Name of the handler
    name: String,
    /// The new number of partitions, from 1 to 1024
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1_024))]
    partitions: u16,
    /// A new ordering key, as for the setting `key` of the handler: aggregate, header:NAME, payload:A.B or none
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    ordering_key: Option<Ordering>,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, Args)]
struct ChoiceArgs {
    /// Reason; kept in the audit
    #[arg(long, value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
    /// Show what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, thiserror::Error)]
enum RebuildError {
    #[error(
        "the handler \"{new}\" exists already; it has {what}. The new name of a rename must be unused. \
        If a relay created \"{new}\" because the configuration had it before the rename: remove it, run `outboxd reload` and \
        `outboxd handlers forget {new}`, then rename; events that \"{new}\" has delivered meanwhile are then delivered again"
    )]
    Taken { new: String, what: String },
    #[error(
        "the partitions of {0} are too far apart, with {1} pending events: too many deliveries between their positions would have to be recorded. \
        Wait until the handler has caught up (PENDING in `outboxd status`), then repartition it"
    )]
    Apart(String, u64),
    #[error(
        "{0} has not read {1} of its corrected events (`outboxd dead-letters edit`), which are recorded under this name: let it catch up first, \
         with the entry in the configuration (PENDING in `outboxd status`), then rename it"
    )]
    Corrections(String, u64),
}

pub(super) async fn rename(args: RenameArgs, global: &Global) -> Result<ExitCode, CliError> {
    let RenameArgs { old, new, choice } = args;
    let session = session::open(global).await?;
    check_handler(&session.pool, &old).await?;
    refuse_projection(&session.pool, &old, "build it under its new name and drop the old one").await?;
    let unfinished = store::read_unfinished(&session.pool, &old, None, MOST_LOOKED_AT).await?;
    refuse_owned(&session.pool, &old).await?;
    if list(&session.pool).await?.iter().any(|known| known.handler == new) {
        return Err(taken(&session.pool, new).await?);
    }
    let what = describe_unfinished(&unfinished);
    let document = |changed: bool| json!({ "changed": changed, "from": old, "to": new, "unfinished": unfinished });
    if choice.dry_run {
        eprintln!("dry run: {old} would become {new}, with {what}");
        return tell(global, &document(false));
    }
    eprintln!("{old} becomes {new}, with {what}");
    ask::confirm("Go ahead?", choice.yes)?;
    match store::rename_handler(&session.pool, (&old, &new), &ask::actor(), choice.because.as_deref()).await? {
        Rebuilt::Done(_) => {
            eprintln!("{old} is now {new}; a relay whose configuration has {new} continues with it");
            tell(global, &document(true))
        }
        Rebuilt::Owned(owners) => Err(still_owned(&old, &owners).into()),
        Rebuilt::Taken => Err(taken(&session.pool, new).await?),
        Rebuilt::Corrections(unread) => Err(CliError::failed(RebuildError::Corrections(old.clone(), unread))),
        Rebuilt::Unknown | Rebuilt::Apart(_) => Err(gone(&old).into()),
    }
}

pub(super) async fn repartition(args: RepartitionArgs, global: &Global) -> Result<ExitCode, CliError> {
    let RepartitionArgs { name, partitions, ordering_key, choice } = args;
    let session = session::open(global).await?;
    check_handler(&session.pool, &name).await?;
    refuse_projection(&session.pool, &name, "it has one partition, because it keeps the order of the log").await?;
    refuse_owned(&session.pool, &name).await?;
    let actor = ask::actor();
    let key = ordering_key.map(|ordering| Wanted::of(&Selection::new(&EventFilter::default(), &ordering, 1, 0)));
    let key = key.as_ref().map(|wanted| (wanted.key_source.as_str(), wanted.key_path.as_slice()));
    let because = choice.because.as_deref();
    let wish = Repartition { handler: &name, partitions, key, is_dry: true, actor: &actor, because };
    let planned = finish(&name, store::repartition(&session.pool, &wish).await?)?;
    let document = |changed: bool, moved: &Moved| json!({ "changed": changed, "handler": name, "from": moved.from, "to": partitions, "pending": moved.pending, "deliveries": moved.deliveries });
    let what = format!(
        "{name} goes from {} to {partitions}: {} pending event(s) and {} recorded deliveries move to other partitions or stay",
        describe_partitions(planned.from),
        planned.pending,
        planned.deliveries
    );
    if choice.dry_run {
        eprintln!("dry run: {what}");
        return tell(global, &document(false, &planned));
    }
    eprintln!("{what}");
    ask::confirm("Go ahead?", choice.yes)?;
    let moved = finish(&name, store::repartition(&session.pool, &Repartition { is_dry: false, ..wish }).await?)?;
    eprintln!(
        "{name} now has {}; a relay whose configuration says partitions = {partitions} continues with it",
        describe_partitions(partitions)
    );
    tell(global, &document(true, &moved))
}

fn finish(name: &str, rebuilt: Rebuilt<Moved>) -> Result<Moved, CliError> {
    match rebuilt {
        Rebuilt::Done(moved) => Ok(moved),
        Rebuilt::Owned(owners) => Err(still_owned(name, &owners).into()),
        Rebuilt::Apart(pending) => Err(CliError::failed(RebuildError::Apart(name.to_owned(), pending))),
        Rebuilt::Unknown | Rebuilt::Taken | Rebuilt::Corrections(_) => Err(gone(name).into()),
    }
}

async fn refuse_owned(pool: &sqlx::PgPool, name: &str) -> Result<(), CliError> {
    match handlers::find(pool, name).await? {
        Some(handler) if !handler.owners.is_empty() => Err(still_owned(name, &handler.owners).into()),
        Some(_) => Ok(()),
        None => Err(gone(name).into()),
    }
}

async fn taken(pool: &sqlx::PgPool, new: String) -> Result<CliError, CliError> {
    let unfinished: Unfinished = store::read_unfinished(pool, &new, None, MOST_LOOKED_AT).await?;
    Ok(CliError::new(EXIT_CONFIG, RebuildError::Taken { what: describe_unfinished(&unfinished), new }))
}

fn tell(global: &Global, document: &serde_json::Value) -> Result<ExitCode, CliError> {
    if global.json {
        print(&format!("{document:#}\n"))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

fn describe_partitions(count: u16) -> String {
    if count == 1 { "1 partition".to_owned() } else { format!("{count} partitions") }
}

fn parse_key(text: &str) -> Result<Ordering, String> {
    if text == "none" {
        return Ok(Ordering::None);
    }
    parse_ordering_key(text).ok_or_else(|| "expected aggregate, header:NAME, payload:A.B or none".to_owned())
}
