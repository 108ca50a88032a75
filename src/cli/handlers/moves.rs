//! `outboxd handlers rewind` and `start-from`: move the position of a handler. Both first show how many events would be skipped and delivered
//! again. No event is skipped without `--yes` or a confirmation, and no handled event is delivered again without `--force`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::super::session::{self, Session};
use super::super::{CliError, EXIT_OK, Global, ask, print::print};
use crate::operations::moves::{self, Direction, MovePlan, Place, parse_start, parse_target};
use crate::store::MoveCounts;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd handlers rewind search --to beginning --dry-run
  outboxd handlers rewind billing --to 2h --force --because 'they restored a backup, OPS-311'
  outboxd handlers rewind billing --to 2026-03-01T06:00:00Z --force --yes
  outboxd handlers rewind billing --to 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --force

Every event from there on is delivered again, in the order of its key and with the same id, before any new event. Dead letters, retries \
and events that wait behind them are included, with fresh attempts; discarded events stay discarded. No event is skipped. An event that is \
in flight now may arrive twice. `backfill` in the configuration of the handler limits the rate.")]
pub(super) struct RewindArgs {
    /// Name of the handler
    name: String,
    /// The first event: beginning, the id of an event, a time such as 2026-03-01T06:00:00Z, or an age such as 2h
    #[arg(long, value_name = "WHERE", value_parser = parse_target)]
    to: Place,
    /// Deliver handled events again; a rewind needs it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd handlers start-from billing now --because 'the backlog is worthless, OPS-311'
  outboxd handlers start-from billing 30m --dry-run
  outboxd handlers start-from search 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --yes
  outboxd handlers start-from search beginning --force --yes

Events before the given one that the handler has not handled are skipped for good. Events from there on that it has handled are delivered \
again only with --force. Deliveries that are retrying, waiting or dead stay as they are. An event that is in flight now may still arrive.")]
pub(super) struct StartFromArgs {
    /// Name of the handler
    name: String,
    /// The first event: now, beginning, the id of an event, a time such as 2026-03-01T06:00:00Z, or an age such as 30m
    #[arg(value_name = "WHERE", value_parser = parse_start)]
    from: Place,
    /// Deliver events again that were handled from there on
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, Args)]
struct ChoiceArgs {
    /// Reason; kept in the audit
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
    /// Show what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn rewind(args: RewindArgs, global: &Global) -> Result<ExitCode, CliError> {
    let RewindArgs { name, to, force, choice } = args;
    let session = session::open(global).await?;
    let plan = moves::plan(&session.pool, &name, &to, Direction::Rewind, force).await?;
    let counts = &plan.counts;
    if counts.again == 0 {
        eprintln!("{name} has handled no event from there on; there is nothing to deliver again");
        return tell(global, &plan, counts, false);
    }
    let what = format!("{} would be delivered to {name} again{}", at_least(counts, counts.again), dead_part(counts));
    if choice.dry_run {
        eprintln!("dry run: {what}");
        return tell(global, &plan, counts, false);
    }
    carry_out(global, &session, &plan, &what, choice).await
}

pub(super) async fn start_from(args: StartFromArgs, global: &Global) -> Result<ExitCode, CliError> {
    let StartFromArgs { name, from, force, choice } = args;
    let session = session::open(global).await?;
    let plan = moves::plan(&session.pool, &name, &from, Direction::StartFrom, force).await?;
    if !choice.dry_run {
        plan.check_force()?;
    }
    let counts = if plan.needs_force { MoveCounts { again: 0, dead: 0, ..plan.counts } } else { plan.counts };
    if counts.skipped == 0 && counts.again == 0 {
        eprintln!("{name} is already at this position; there is nothing to skip{}", kept_part(&counts));
        return tell(global, &plan, &counts, false);
    }
    let mut parts = Vec::new();
    if counts.skipped > 0 {
        parts.push(format!("{} would be skipped and never delivered to {name}", at_least(&counts, counts.skipped)));
    }
    if counts.again > 0 {
        parts.push(format!("{} would be delivered to {name} again{}", at_least(&counts, counts.again), dead_part(&counts)));
    }
    let what = format!("{}{}", parts.join("; "), kept_part(&counts));
    if choice.dry_run {
        eprintln!("dry run: {what}");
        return tell(global, &plan, &counts, false);
    }
    carry_out(global, &session, &plan, &what, choice).await
}

async fn carry_out(
    global: &Global,
    session: &Session,
    plan: &MovePlan,
    what: &str,
    choice: ChoiceArgs,
) -> Result<ExitCode, CliError> {
    plan.check_force()?;
    eprintln!("{what}");
    ask::confirm("Go ahead?", choice.yes)?;
    let done = moves::carry_out(&session.pool, &ask::caller(), plan, choice.because.as_deref()).await?;
    eprintln!("{} continues from {}: {}", plan.handler, plan.to, done_part(&done));
    tell(global, plan, &done, true)
}

fn tell(global: &Global, plan: &MovePlan, counts: &MoveCounts, changed: bool) -> Result<ExitCode, CliError> {
    if global.json {
        let mut document = json!(counts);
        document["changed"] = json!(changed);
        document["handler"] = json!(plan.handler);
        document["from"] = json!(plan.to);
        print(&format!("{document:#}\n"))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

fn done_part(done: &MoveCounts) -> String {
    format!("{} skipped, {} delivered again", at_least(done, done.skipped), at_least(done, done.again))
}

fn at_least(counts: &MoveCounts, count: u64) -> String {
    if counts.is_exact || count == 0 { events(count) } else { format!("at least {}", events(count)) }
}

fn dead_part(counts: &MoveCounts) -> String {
    if counts.dead > 0 { format!(", {} of which are now dead letters", counts.dead) } else { String::new() }
}

fn kept_part(counts: &MoveCounts) -> String {
    if counts.kept == 0 {
        return String::new();
    }
    format!(
        "; {} before that {} retrying or waiting and {} owed",
        events(counts.kept),
        plural(counts.kept, "is", "are"),
        plural(counts.kept, "stays", "stay")
    )
}

fn events(count: u64) -> String {
    format!("{count} {}", plural(count, "event", "events"))
}

fn plural(count: u64, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_not_counted_to_its_end_is_never_told_as_exact() {
        let done = MoveCounts { skipped: 199_995, is_exact: false, ..MoveCounts::default() };
        assert_eq!(done_part(&done), "at least 199995 events skipped, 0 events delivered again");
        assert_eq!(done_part(&MoveCounts { is_exact: true, ..done }), "199995 events skipped, 0 events delivered again");
    }
}
