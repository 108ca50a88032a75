//! `outboxd replay`: shows the matching deliveries, asks, freezes exactly this set, and follows it to its outcome.
//! Deliveries that match later are not part of the replay.

use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde::Serialize;
use uuid::Uuid;

use super::super::filter::{FilterArgs, Previewed};
use super::super::session::{self, Session};
use super::super::text::{as_json, plural};
use super::super::{CliError, EXIT_OK, Global, ask, print::print};
use super::progress;
use crate::operations::replays::{self, ReplayOrder, parse_rate};
use crate::operations::{Purpose, Which, preview};
use crate::store::{Replay, Started};

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("which")
        .args(["handler", "event_type", "key", "since", "until", "text", "group", "reason", "id", "all"])
        .required(true).multiple(true),
    after_help = "Examples:
  outboxd replay --handler billing --reason timeout --dry-run
  outboxd replay --handler billing --group 3f9a1c20b7d4e655 --rate 50/s --because 'their fix is out, OPS-311'
  outboxd replay --id 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --yes
  outboxd replay --handler billing --delivered --since 2h --force --rate 20/s

The set of deliveries is frozen when the command starts. Per handler and key they are sent in order, after older events of the key that \
are not finished. Events keep their ids and the history of their attempts. Dead letters stay dead letters until they are sent, so a \
cancelled replay does not change the rest. Two operators who replay the same dead letters do not deliver them twice: the second command \
finds fewer, or none. Ctrl-C leaves the replay running.

Exit code: 0 started or all delivered, 1 some failed again while the command waited, 64 refused."
)]
pub struct ReplayArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only this event; may be given several times
    #[arg(long, value_name = "UUID", num_args = 1..)]
    id: Vec<Uuid>,
    /// Every dead letter of every handler
    #[arg(long, conflicts_with_all = ["handler", "event_type", "key", "since", "until", "text", "group", "reason", "id", "delivered"])]
    all: bool,
    /// Dead letters (the default)
    #[arg(long)]
    dead: bool,
    /// Delivered events whose success is recorded; needs --force
    #[arg(long, conflicts_with_all = ["dead", "reason", "text", "group"])]
    delivered: bool,
    /// Deliver events again that receivers already have
    #[arg(long, requires = "delivered")]
    force: bool,
    /// At most this many deliveries in a second, a minute or an hour, over all handlers, for example 50/s
    #[arg(long, value_name = "COUNT/UNIT", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Reason in your words; kept in the audit
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
    /// Show what would be replayed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Do not wait for the outcome
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, Serialize)]
struct Replayed {
    #[serde(flatten)]
    previewed: Previewed,
    /// The state when the command ended; `None`: no replay was started.
    replay: Option<Replay>,
}

pub(super) async fn run(args: ReplayArgs, global: &Global) -> Result<ExitCode, CliError> {
    let ReplayArgs { filter, id, all: _, dead: _, delivered, force, rate, because, dry_run, yes, detach } = args;
    let session = session::open(global).await?;
    let which = Which { delivered, ..filter.which(id) };
    let what = if delivered { "delivery" } else { "dead letter" };
    let preview = preview(&session.pool, &which, Purpose::Replay, None).await?;
    let previewed = Previewed { dry_run, preview };
    if !previewed.goes_on(what, "replay") {
        return finish(Replayed { previewed, replay: None }, global);
    }
    replays::check_force(&previewed.preview.filter, force)?;
    let matched = previewed.preview.matched;
    let many = if delivered { " that receivers already have".to_owned() } else { String::new() };
    ask::confirm(&format!("Replay {matched} {}{many}?", plural_of(what, matched)), yes)?;
    let order = ReplayOrder { id: Uuid::new_v4(), rate, note: because, force, expected: None };
    let started = replays::start(&session.pool, &ask::caller(), &previewed.preview.filter, &order).await?;
    let Started::Frozen(frozen @ 1..) = started else {
        eprintln!("nothing is left to replay; another command has replayed or discarded it meanwhile");
        return finish(Replayed { previewed, replay: None }, global);
    };
    eprintln!("replaying {frozen} {}; replay {}", plural_of(what, frozen), order.id);
    let replay = follow(&session, order.id, detach).await?;
    let code = finish(Replayed { previewed, replay: Some(replay) }, global)?;
    Ok(if detach { ExitCode::from(EXIT_OK) } else { code })
}

/// Waits for the outcome, unless `--no-wait` is given or no relay runs that could deliver.
async fn follow(session: &Session, id: Uuid, detach: bool) -> Result<Replay, CliError> {
    let replay = replays::show(&session.pool, id).await?;
    if detach {
        return Ok(replay);
    }
    if replays::is_stopped(&session.pool, &replay).await? {
        eprintln!("{} does not deliver now; the replay starts when it does", replay.stopped.join(", "));
        return Ok(replay);
    }
    progress::follow(session, id).await
}

/// Messages go to standard error; the document on standard output is for scripts.
fn finish(started: Replayed, global: &Global) -> Result<ExitCode, CliError> {
    if global.json {
        print(&as_json(&started))?;
    }
    Ok(started.replay.as_ref().map_or(ExitCode::from(EXIT_OK), progress::exit_code))
}

fn plural_of(what: &str, count: u64) -> String {
    match what {
        "delivery" if count != 1 => "deliveries".to_owned(),
        what => format!("{what}{}", plural(count)),
    }
}
