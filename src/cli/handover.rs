//! `outboxd handover`: what is wrong now and since when, who did what in the last hours, and what is left open. Changes nothing.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;

use super::print::print;
use super::text::{as_json, describe_age, describe_moment, describe_reason, plain_table, plural, printable, shorten};
use super::{CliError, EXIT_OK, Global, link, session};
use crate::operations::handover::{self, HOURS, Handover, MOST_HOURS};
use crate::operations::status::HandlerStatus;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  outboxd handover
  outboxd handover --hours 24 > handover.txt
  outboxd handover --json | jq '.alerts[] | select(.snoozed_until)'
  outboxd handover --link

The acts are those of the audit. Alerts that fire are listed with who has acknowledged them and until when they are silent.")]
pub struct HandoverArgs {
    /// Acts of so many hours
    #[arg(long, value_name = "HOURS", default_value_t = HOURS, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_HOURS)))]
    hours: u32,
    /// Print the address of the same page of the console
    #[arg(long)]
    link: bool,
}

pub async fn run(args: HandoverArgs, global: &Global) -> Result<ExitCode, CliError> {
    if args.link {
        link::print_link(global, "handover", &[("hours", &args.hours.to_string())])?;
        return Ok(ExitCode::from(EXIT_OK));
    }
    let session = session::open(global).await?;
    let note = handover::read(&session.pool, &session.schema, &[], args.hours).await?;
    print(&if global.json { as_json(&note) } else { describe(&note) })?;
    Ok(ExitCode::from(EXIT_OK))
}

fn describe(note: &Handover) -> String {
    let mut text =
        format!("handover of {}, acts since {}: {}\n", describe_moment(note.at), describe_moment(note.since), note.level);
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            writeln!(text, "\n{title}\n  {}", lines.join("\n  ")).expect("a text takes any text");
        }
    };
    let reasons = note.reasons.iter().map(|reason| {
        let handler = reason.handler.as_deref().map(|handler| format!("{}: ", printable(handler))).unwrap_or_default();
        format!("{}: {handler}{}", reason.level, printable(&reason.text))
    });
    section("WRONG NOW", reasons.collect());
    section("ALERTS", alerts(note));
    section("HANDLERS", note.handlers.iter().map(handler).collect());
    let groups = note.dead_letters.iter().map(|group| {
        let since = group.first.map(|first| format!(", since {}", describe_moment(first))).unwrap_or_default();
        let error = shorten(group.error.as_deref().unwrap_or("-"));
        format!(
            "{} of {}, {}: {error}{since}",
            group.count,
            printable(&group.handler),
            describe_reason(group.reason.as_deref(), group.status)
        )
    });
    section("DEAD LETTERS", groups.collect());
    let replays = note.replays.iter().map(|replay| {
        let handler = printable(replay.handler.as_deref().unwrap_or("all handlers"));
        let why = replay.note.as_deref().map(|why| format!(": {}", shorten(why))).unwrap_or_default();
        format!("{} of {handler} by {}: {} of {} to leave{why}", replay.id, printable(&replay.actor), replay.held, replay.asked)
    });
    section("REPLAYS UNDER WAY", replays.collect());
    let keys = note.keys.iter().map(|key| {
        let followers = key.followers;
        format!(
            "{} of {}: {followers} event{} behind {} ({})",
            printable(&key.key),
            printable(&key.handler),
            plural(followers),
            key.head,
            key.state
        )
    });
    section("BLOCKED KEYS", keys.collect());
    text.push_str(&acts(note));
    text
}

fn alerts(note: &Handover) -> Vec<String> {
    let line = |view: &crate::operations::alerts::AlertView| {
        let alert = &view.alert;
        let by = alert.acknowledged_by.as_deref().map(|by| format!(", acknowledged by {}", printable(by))).unwrap_or_default();
        let silent = alert.snoozed_until.filter(|until| *until > note.at);
        let silent = silent.map(|until| format!(", silent until {}", describe_moment(until))).unwrap_or_default();
        let since = describe_moment(alert.started_at);
        format!("{} {}: {}, since {since}{by}{silent}", alert.severity.as_str(), printable(&view.key), printable(&view.summary))
    };
    note.alerts.iter().map(line).collect()
}

fn handler(handler: &HandlerStatus) -> String {
    let stats = &handler.stats;
    let paused = stats.paused.as_ref().map(|paused| {
        let by = paused.by.as_deref().map(|by| format!(" by {}", printable(by))).unwrap_or_default();
        let why = paused.reason.as_deref().map(|why| format!(": {}", shorten(why))).unwrap_or_default();
        format!(" since {}{by}{why}", describe_moment(paused.since))
    });
    let oldest = stats.oldest_unfinished.map(|age| format!(", the oldest {}", describe_age(age))).unwrap_or_default();
    let counts = match &stats.uncounted {
        Some(_) => "; not counted".to_owned(),
        None => format!("; {} ready, {} retrying, {} dead{oldest}", stats.pending, stats.retrying, stats.dead),
    };
    format!("{} {}{}{counts}", printable(&stats.handler), handler.state, paused.unwrap_or_default())
}

fn acts(note: &Handover) -> String {
    if note.acts.is_empty() {
        return "\nnobody has done anything in this time\n".to_owned();
    }
    let mut table = plain_table(&["AT", "WHO", "VIA", "WHAT", "HANDLER", "CHANGED", "WHY"]);
    for act in &note.acts {
        table.add_row([
            describe_moment(act.at),
            printable(&act.actor),
            printable(&act.via),
            printable(&act.action),
            printable(act.handler.as_deref().unwrap_or("-")),
            act.affected.to_string(),
            shorten(act.reason.as_deref().unwrap_or("-")),
        ]);
    }
    let more = if note.more_acts { "\nmore acts are in the audit\n" } else { "" };
    format!("\n{}\n{more}", table.trim_fmt())
}
