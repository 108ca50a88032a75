//! `outboxd events erase`: events that must be forgotten, such as data of a person. Shows first what it is about to erase and asks.

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

Everything that is given must match. An event goes with its deliveries, its attempts and its dead letters; keys that waited for it go
on. Events that a handler has not received yet are named and stay, unless --include-pending is given: then they are never delivered.
Events that a stream is made of stay, too, unless --include-sourced is given: then their versions stay without an event, and the
stream cannot be read or folded any more. Its kept states go with them.
A relay may run meanwhile. It can still deliver once what it has read already. Who erased what and why is kept in the audit, so
--because and --key should not contain the data itself."
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
    /// Only events that occurred at this moment or later: RFC 3339, or so long ago, for example 2h
    #[arg(long, value_name = "MOMENT", value_parser = parse_moment)]
    since: Option<Moment>,
    /// Only events that occurred before this moment
    #[arg(long, value_name = "MOMENT", value_parser = parse_moment)]
    before: Option<Moment>,
    /// Also events that a handler has not received yet; they will never be delivered
    #[arg(long)]
    include_pending: bool,
    /// Also events that a stream is made of; the stream cannot be read any more
    #[arg(long)]
    include_sourced: bool,
    /// Only show what would be erased
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Why they are erased; kept in the audit
    #[arg(long, value_name = "TEXT", value_parser = ask::parse_text, visible_alias = "note")]
    because: String,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    dry_run: bool,
    matched: usize,
    /// Of these, what some handler has not received yet.
    unfinished: usize,
    /// Of these, what a stream is made of.
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
    // What was asked for has not been done to its end.
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
            false => "they stay; --include-pending erases them, too, and they are never delivered then",
        };
        text.push_str(&format!("{} of them are not delivered everywhere yet ({}): {fate}\n", plan.unfinished(), owed.join(", ")));
    }
    if plan.sourced() > 0 {
        let fate = match include_sourced {
            true => "the streams cannot be read any more",
            false => "they stay; --include-sourced erases them, too, and the streams cannot be read any more then",
        };
        text.push_str(&format!("{} of them are versions of streams: {fate}\n", plan.sourced()));
    }
    text
}
