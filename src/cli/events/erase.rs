//! `outboxd events erase`: removes events for good, such as data of a person. Shows the events first and asks.

use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde::Serialize;
use uuid::Uuid;

use super::super::text::{as_json, plural};
use super::super::{CliError, EXIT_FAILED, EXIT_OK, Global, ask, print::print, session};
use crate::domain::Timestamp;
use crate::operations::{Moment, parse_moment};
use crate::store;
use crate::store::erasure::{Erasing, ErasurePlan, EventSelection, PendingEvents, erase, plan_erasure};

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("which").args(["id", "key", "event_type", "since", "before"]).required(true).multiple(true),
    after_help = "Examples:
  outboxd events erase --key customer/42 --because 'erasure request OPS-4711' --dry-run
  outboxd events erase --id 018f3c2e-7d5a-7b1c-9f0e-2a4b6c8d0e1f --because 'recorded by mistake'
  outboxd events erase --type 'test.*' --before 2026-01-31T08:00:00Z --because 'test data' --yes --json

All filters must match. An event is erased with its deliveries, attempts and dead letters; keys that waited for it continue.
Events that a handler has not received yet are reported and stay, unless --include-pending is given: then they are never delivered.
Events of a stream also stay, unless --include-sourced is given: then their versions remain without an event, and the stream can no
longer be read or folded. Its kept states are erased as well.
A relay may run meanwhile; it can still deliver once an event that it has already read. The audit keeps the filters, the operator
and the reason, so --because and --key should not contain the data itself."
)]
pub struct EraseArgs {
    /// Only this event; may be given several times
    #[arg(long, value_name = "UUID", num_args = 1..)]
    id: Vec<Uuid>,
    /// Only events of this ordering key, for example order/42
    #[arg(long)]
    key: Option<String>,
    /// Only events of this type; * stands for any characters
    #[arg(long = "type", value_name = "GLOB")]
    event_type: Option<String>,
    /// Only events that occurred at this time or later: RFC 3339, or an age such as 2h
    #[arg(long, value_name = "MOMENT", value_parser = parse_moment)]
    since: Option<Moment>,
    /// Only events that occurred before this time
    #[arg(long, value_name = "MOMENT", value_parser = parse_moment)]
    before: Option<Moment>,
    /// Also erase events that a handler has not received yet; they will never be delivered
    #[arg(long)]
    include_pending: bool,
    /// Also erase events of a stream; the stream can no longer be read
    #[arg(long)]
    include_sourced: bool,
    /// Show what would be erased, and erase nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Reason; kept in the audit
    #[arg(long, value_name = "TEXT", value_parser = ask::parse_text, visible_alias = "note")]
    because: String,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    dry_run: bool,
    matched: usize,
    /// Those that some handler has not received yet.
    unfinished: usize,
    /// Those that belong to a stream.
    sourced: usize,
    pending: &'a [PendingEvents],
    erased: Option<u64>,
}

pub(super) async fn run(args: EraseArgs, global: &Global) -> Result<ExitCode, CliError> {
    let EraseArgs { id, key, event_type, since, before, include_pending, include_sourced, dry_run, yes, because } = args;
    let session = session::open(global).await?;
    let now = if since.or(before).is_some() { store::read_now(&session.pool).await? } else { Timestamp::from_micros(0) };
    let moment = |moment: Moment| moment.at(now);
    let selection = EventSelection { ids: id, key, event_type, since: since.map(moment), before: before.map(moment) };
    let plan = plan_erasure(&session.pool, &selection).await?;
    eprint!("{}", describe(&plan, include_pending, include_sourced));
    let count = plan.chosen(include_pending, include_sourced).len();
    let stays = plan.matched() - count;
    let mut erased = None;
    if dry_run {
        eprintln!("dry run: nothing was changed");
    } else if count > 0 {
        ask::confirm(&format!("Erase {count} event{} for good?", plural(count as u64)), yes)?;
        let erasing =
            Erasing { actor: &ask::actor(), because: &because, with_pending: include_pending, with_sourced: include_sourced };
        let gone = erase(&session.pool, &selection, &plan, erasing).await?;
        eprintln!("erased {gone} event{}", plural(gone));
        erased = Some(gone);
    }
    if global.json {
        let (matched, unfinished, sourced) = (plan.matched(), plan.unfinished(), plan.sourced());
        print(&as_json(&Report { dry_run, matched, unfinished, sourced, pending: &plan.pending, erased }))?;
    }
    // Some of the requested events stay: the command has failed.
    Ok(ExitCode::from(if stays > 0 && !dry_run { EXIT_FAILED } else { EXIT_OK }))
}

fn describe(plan: &ErasurePlan, include_pending: bool, include_sourced: bool) -> String {
    let matched = plan.matched();
    if matched == 0 {
        return "no event matches; there is nothing to erase\n".to_owned();
    }
    let mut text = format!("{matched} event{} match\n", plural(matched as u64));
    if plan.unfinished() > 0 {
        let owed: Vec<String> = plan.pending.iter().map(|owed| format!("{} to {}", owed.events, owed.handler)).collect();
        let fate = match include_pending {
            true => "they will never be delivered",
            false => "they stay; --include-pending erases them as well, and they are then never delivered",
        };
        text.push_str(&format!("{} of them are not delivered everywhere yet ({}): {fate}\n", plan.unfinished(), owed.join(", ")));
    }
    if plan.sourced() > 0 {
        let fate = match include_sourced {
            true => "the streams can no longer be read",
            false => "they stay; --include-sourced erases them as well, and the streams can then no longer be read",
        };
        text.push_str(&format!("{} of them are versions of streams: {fate}\n", plan.sourced()));
    }
    text
}
