//! `outboxd replays`: lists, shows, cancels and resumes replays.
//! Works while the relay is down.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::super::session::{self, Session};
use super::super::text::{as_json, dash, describe_moment, plain_table, printable};
use super::super::{CliError, EXIT_OK, Global, ask, print::print};
use super::progress;
use crate::operations::replays::{self, describe_outcome};
use crate::store::Replay;

/// List, show, cancel and resume replays
#[derive(Debug, Args)]
pub struct ReplaysArgs {
    #[command(subcommand)]
    command: ReplaysCommand,
}

#[derive(Debug, Subcommand)]
enum ReplaysCommand {
    /// List replays with their outcomes, the newest first
    #[command(
        after_help = "Examples:\n  outboxd replays list\n  outboxd replays list --json | jq '.replays[] | select(.failed > 0)'"
    )]
    List(ListArgs),
    /// Show one replay: operator, filter, progress; --follow waits for its outcome
    #[command(after_help = "Examples:
  outboxd replays show 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d
  outboxd replays show 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --follow

Exit code: 0, or 1 when some have failed again.")]
    Show(ShowArgs),
    /// Cancel a replay: dead letters that it has not sent stay dead letters
    #[command(after_help = "Example:
  outboxd replays cancel 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --because 'they are down again'

Deliveries that were already sent end as usual. `replays resume` continues with the rest.")]
    Cancel(CancelArgs),
    /// Resume a cancelled replay with the deliveries that it has not sent, except those that were discarded or replayed since
    #[command(after_help = "Example:\n  outboxd replays resume 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d")]
    Resume(IdArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
}

#[derive(Debug, Args)]
struct IdArgs {
    /// Id of the replay, as `outboxd replay` and `replays list` show it
    #[arg(value_name = "REPLAY-ID")]
    id: Uuid,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    replay: IdArgs,
    /// Show the progress until the replay has its outcome, or until Ctrl-C
    #[arg(long, short)]
    follow: bool,
}

#[derive(Debug, Args)]
struct CancelArgs {
    #[command(flatten)]
    replay: IdArgs,
    /// Reason; kept in the audit
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
}

pub(super) async fn run(args: ReplaysArgs, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    match args.command {
        ReplaysCommand::List(args) => list(&session, &args, global).await,
        ReplaysCommand::Show(args) => show(&session, &args, global).await,
        ReplaysCommand::Cancel(args) => cancel(&session, &args, global).await,
        ReplaysCommand::Resume(args) => resume(&session, args.id, global).await,
    }
}

async fn list(session: &Session, args: &ListArgs, global: &Global) -> Result<ExitCode, CliError> {
    let replays = replays::list(&session.pool, None, args.limit).await?.items;
    print(&if global.json { as_json(&json!({ "replays": replays })) } else { describe_list(&replays) })?;
    Ok(ExitCode::from(EXIT_OK))
}

async fn show(session: &Session, args: &ShowArgs, global: &Global) -> Result<ExitCode, CliError> {
    let id = args.replay.id;
    let replay = if args.follow { progress::follow(session, id).await? } else { replays::show(&session.pool, id).await? };
    print(&if global.json { as_json(&replay) } else { describe_one(&replay) })?;
    Ok(progress::exit_code(&replay))
}

async fn cancel(session: &Session, args: &CancelArgs, global: &Global) -> Result<ExitCode, CliError> {
    let id = args.replay.id;
    let cancelled = replays::cancel(&session.pool, &ask::caller(), id, args.because.as_deref()).await?;
    eprintln!("cancelled: {cancelled} were not sent and keep their state; `outboxd replays resume {id}` continues with them");
    tell(session, id, global).await
}

async fn resume(session: &Session, id: Uuid, global: &Global) -> Result<ExitCode, CliError> {
    match replays::resume(&session.pool, &ask::caller(), id).await? {
        0 => eprintln!("nothing is left to resume: every delivery was discarded or replayed since"),
        held => eprintln!("resumed: {held} deliver{} to send", if held == 1 { "y" } else { "ies" }),
    }
    tell(session, id, global).await
}

async fn tell(session: &Session, id: Uuid, global: &Global) -> Result<ExitCode, CliError> {
    let replay = replays::show(&session.pool, id).await?;
    if global.json {
        print(&as_json(&replay))?;
    } else {
        eprintln!("{}", describe_outcome(&replay));
    }
    Ok(ExitCode::from(EXIT_OK))
}

fn describe_list(replays: &[Replay]) -> String {
    if replays.is_empty() {
        return "no replays\n".to_owned();
    }
    let mut table = plain_table(&["REPLAY", "AT", "BY", "HANDLER", "STATE", "RATE", "OUTCOME"]);
    for replay in replays {
        table.add_row([
            replay.id.to_string(),
            describe_moment(replay.at),
            printable(&replay.actor),
            replay.handler.as_deref().map_or_else(dash, printable),
            replay.state.clone(),
            replay.rate.map_or_else(dash, describe_rate),
            describe_outcome(replay),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

fn describe_one(replay: &Replay) -> String {
    let cancelled = replay.cancelled_by.as_deref().map(|who| format!(" by {}", printable(who))).unwrap_or_default();
    let stopped = match replay.stopped.as_slice() {
        [] => String::new(),
        handlers => format!("stopped    {} (paused, circuit open, or no relay)\n", handlers.join(", ")),
    };
    format!(
        "replay     {}\nat         {}\nby         {}\nfilter     {}\nnote       {}\nrate       {}\nstate      {}{cancelled}\n{stopped}outcome    {}\n",
        replay.id,
        describe_moment(replay.at),
        printable(&replay.actor),
        printable(&replay.filter.to_string()),
        replay.note.as_deref().map_or_else(dash, printable),
        replay.rate.map_or_else(dash, describe_rate),
        replay.state,
        describe_outcome(replay),
    )
}

/// In the largest unit in which the number is above one.
fn describe_rate(rate: f64) -> String {
    let (count, unit) = if rate >= 1.0 {
        (rate, "s")
    } else if rate * 60.0 >= 1.0 {
        (rate * 60.0, "m")
    } else {
        (rate * 3_600.0, "h")
    };
    format!("{}/{unit}", count.round())
}
