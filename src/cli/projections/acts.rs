//! `outboxd projections rebuild`, `drop`, `skip` and `retry`.

use std::process::ExitCode;

use clap::Args;
use uuid::Uuid;

use super::super::session;
use super::super::{CliError, EXIT_CONFIG, Global, ask};
use super::{ChoiceArgs, WhichArgs, find, gone, tell};
use crate::store::projections::{self, Acted, Restart};
use crate::store::ring_control;

/// The number of events that are searched for types that retention removes.
const LOOKED_AT: i64 = 10_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd projections rebuild sales 2 --because 'the function was wrong, OPS-311'
  outboxd projections rebuild sales 2 --rate 500/s --yes

One transaction empties the target and moves the position to the beginning of the log. The live version cannot be rebuilt, because readers \
would see it half full: add another version of the projection beside it.
  1. create the table and the function of the new version, for example app.sales_2 and app.project_sales_2
  2. add an entry [[projections]] with version = 2 and run `outboxd reload`; it is built while version 1 stays live
  3. outboxd projections list, until version 2 is ready
  4. outboxd projections switch sales 2
  5. remove version 1 from the configuration, run `outboxd reload` and `outboxd projections drop sales 1 --target`")]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Events per second, instead of the configured rate
    #[arg(long, value_name = "COUNT/s", value_parser = parse_rate)]
    rate: Option<u32>,
    /// Do not empty the target: you have emptied everything that the projection writes
    #[arg(long)]
    keep_target: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd projections drop sales 1 --target --because 'replaced by version 2'
  outboxd projections drop sales 1 --yes

First remove the version from the configuration and run `outboxd reload`. The command removes its position, so retention no longer waits \
for it; its number cannot be used again. The live version can be dropped only if it is the last one; its view stays.")]
pub(super) struct DropArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Also drop its target; by default the table stays
    #[arg(long)]
    target: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd projections skip sales 2 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --because 'its total is missing, OPS-311'

Only the event at which the version has stopped can be skipped, and only for this version. Its table then lacks the effect of the event; the \
table projection_skips keeps the event, the operator and the reason.")]
pub(super) struct SkipArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// The event at which it has stopped, as `outboxd projections list` shows it
    event: Uuid,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  outboxd projections retry sales 2\n\nThe relay also tries again without the command, at least once a minute."
)]
pub(super) struct RetryArgs {
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, thiserror::Error)]
enum ActError {
    #[error(
        "{0} is live: readers would see it half full. Build another version beside it, or first make another version live \
        (`outboxd projections switch`)"
    )]
    RebuildLive(String),
    #[error("{0} is live; first make another version live (`outboxd projections switch`)")]
    DropLive(String),
    #[error("{version} is served by {owners}; first remove it from the configuration and run `outboxd reload`")]
    Owned { version: String, owners: String },
    #[error("{0} has not stopped at an event")]
    Runs(String),
    #[error("{version} has stopped at event {at}, not at {event}")]
    Elsewhere { version: String, at: Uuid, event: Uuid },
    #[error(
        "{0} has no target in the configuration, so outboxd does not know which table to empty; empty its tables and use --keep-target, or \
        add its target"
    )]
    NothingToEmpty(String),
    #[error("{0} has no target in the configuration; drop its table in psql")]
    NothingToDrop(String),
    #[error("Postgres refused to {verb} {target}: {why}; nothing was changed")]
    Refused { verb: &'static str, target: String, why: String },
}

pub(super) async fn rebuild(args: RebuildArgs, global: &Global) -> Result<ExitCode, CliError> {
    let RebuildArgs { which, rate, keep_target, choice } = args;
    let session = session::open(global).await?;
    let (version, _) = find(&session, &which).await?;
    let name = version.handler();
    if version.is_live {
        return Err(CliError::new(EXIT_CONFIG, ActError::RebuildLive(name)));
    }
    if version.target.is_none() && !keep_target {
        return Err(CliError::new(EXIT_CONFIG, ActError::NothingToEmpty(name)));
    }
    let removed = match version.subscription {
        Some(subscription) => projections::list_removed_types(&session.pool, subscription, LOOKED_AT).await?,
        None => Vec::new(),
    };
    if !removed.is_empty() {
        eprintln!(
            "note: {} not part of a stream; the rebuilt table lacks those that retention has removed, and `switch` will say how many",
            match removed.as_slice() {
                [one] => format!("events of type {one} are"),
                several => format!("events of the types {} are", several.join(", ")),
            }
        );
    }
    match &version.target {
        Some(target) if !keep_target => eprintln!("{target} is emptied, and {name} reads the log from the beginning"),
        _ => eprintln!("{name} reads the log from the beginning; empty the tables that it has written"),
    }
    ask::confirm("Go ahead?", choice.yes)?;
    let caller = ask::caller();
    let wish = Restart {
        name: &which.name,
        version: which.version,
        rate,
        empties_target: !keep_target,
        actor: caller.actor(),
        because: choice.because.as_deref(),
    };
    match projections::restart(&session.pool, &wish).await? {
        Acted::Done(_) => tell(&session, &which, &format!("{name} is rebuilt from the beginning of the log"), global).await,
        Acted::Live => Err(CliError::failed(ActError::RebuildLive(name))),
        Acted::NoTarget => Err(CliError::failed(ActError::NothingToEmpty(name))),
        Acted::Refused(why) => {
            Err(CliError::failed(ActError::Refused { verb: "empty", target: version.target.unwrap_or_default(), why }))
        }
        Acted::Unknown | Acted::Owned(_) | Acted::Elsewhere(_) => Err(gone(&which)),
    }
}

pub(super) async fn drop(args: DropArgs, global: &Global) -> Result<ExitCode, CliError> {
    let DropArgs { which, target, choice } = args;
    let session = session::open(global).await?;
    let (version, others) = find(&session, &which).await?;
    let name = version.handler();
    if version.is_live && !others.is_empty() {
        return Err(CliError::new(EXIT_CONFIG, ActError::DropLive(name)));
    }
    if let Some(owner) = version.owner {
        return Err(CliError::failed(ActError::Owned { version: name, owners: owner }));
    }
    let table = match (&version.target, target) {
        (Some(table), true) => format!(" and with it the table {table}"),
        (Some(table), false) => format!("; the table {table} stays"),
        (None, true) => return Err(CliError::new(EXIT_CONFIG, ActError::NothingToDrop(name))),
        (None, false) => String::new(),
    };
    let last = if version.is_live { "; it is the last version, so the view is no longer kept up to date" } else { "" };
    eprintln!("{name} is dropped{table}{last}");
    ask::confirm("Go ahead?", choice.yes)?;
    let because = choice.because.as_deref();
    match projections::drop_version(&session.pool, (&which.name, which.version), target, ask::caller().actor(), because).await? {
        Acted::Done(_) => tell(&session, &which, &format!("{name} is dropped"), global).await,
        Acted::Live => Err(CliError::failed(ActError::DropLive(name))),
        // A relay may have acquired it during the confirmation.
        Acted::Owned(owners) => Err(CliError::failed(ActError::Owned { version: name, owners: owners.join(", ") })),
        Acted::NoTarget => Err(CliError::failed(ActError::NothingToDrop(name))),
        Acted::Refused(why) => {
            Err(CliError::failed(ActError::Refused { verb: "drop", target: version.target.unwrap_or_default(), why }))
        }
        Acted::Unknown | Acted::Elsewhere(_) => Err(gone(&which)),
    }
}

pub(super) async fn skip(args: SkipArgs, global: &Global) -> Result<ExitCode, CliError> {
    let SkipArgs { which, event, choice } = args;
    let session = session::open(global).await?;
    let (version, _) = find(&session, &which).await?;
    let name = version.handler();
    let elsewhere = |at: Option<Uuid>| match at {
        Some(at) => ActError::Elsewhere { version: name.clone(), at, event },
        None => ActError::Runs(name.clone()),
    };
    match &version.stopped {
        Some(stopped) if stopped.event == event => {
            eprintln!("{name} skips event {event} ({}); its table will lack the effect of the event", stopped.event_type);
        }
        stopped => return Err(CliError::new(EXIT_CONFIG, elsewhere(stopped.as_ref().map(|stopped| stopped.event)))),
    }
    ask::confirm("Go ahead?", choice.yes)?;
    let because = choice.because.as_deref();
    match projections::skip(&session.pool, (&which.name, which.version), event, ask::caller().actor(), because).await? {
        Acted::Done(event_type) => {
            tell(&session, &which, &format!("{name} continues after event {event} ({event_type})"), global).await
        }
        Acted::Elsewhere(at) => Err(CliError::failed(elsewhere(at.filter(|at| *at != event)))),
        Acted::Unknown | Acted::Live | Acted::Owned(_) | Acted::NoTarget | Acted::Refused(_) => Err(gone(&which)),
    }
}

pub(super) async fn retry(args: RetryArgs, global: &Global) -> Result<ExitCode, CliError> {
    let RetryArgs { which } = args;
    let session = session::open(global).await?;
    let (version, _) = find(&session, &which).await?;
    let Some(stopped) = &version.stopped else {
        return Err(CliError::failed(ActError::Runs(version.handler())));
    };
    ring_control(&session.pool).await?;
    tell(&session, &which, &format!("{} tries event {} again", version.handler(), stopped.event), global).await
}

fn parse_rate(text: &str) -> Result<u32, &'static str> {
    let count = text.strip_suffix("/s").and_then(|count| count.trim().parse().ok());
    count.filter(|count| (1..=1_000_000).contains(count)).ok_or("expected events per second such as 500/s, at most 1000000/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_per_second() {
        assert_eq!(parse_rate("500/s"), Ok(500));
        for text in ["", "500", "0/s", "-1/s", "5/m", "2000000/s"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
