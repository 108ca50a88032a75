//! `outboxd replay`: shows what is meant, asks, freezes exactly that, and follows it to its outcome.
//! What fails again meanwhile, or joins the set, is not part of it.

use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde::Serialize;
use uuid::Uuid;

use super::super::filter::{FilterArgs, Preview, SAMPLE};
use super::super::session::{self, Session};
use super::super::text::{as_json, plural};
use super::super::{CliError, EXIT_CONFIG, EXIT_OK, Global, ask, print::print};
use super::progress;
use crate::store::{self, DeliveryFilter, NewReplay, Replay};

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

The set is frozen at this moment. Per handler and key it leaves in order, and waits behind older events of its key that are not \
finished. Events keep their ids, and the history of their attempts stays. Dead letters stay dead letters until they leave, so a \
cancelled replay changes nothing about the rest. Two people who replay the same dead letters do not deliver them twice: the second \
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
    /// What was delivered, by its recorded success; needs --force
    #[arg(long, conflicts_with_all = ["dead", "reason", "text", "group"])]
    delivered: bool,
    /// Send again what receivers have had
    #[arg(long, requires = "delivered")]
    force: bool,
    /// At most so many deliveries in a second, a minute or an hour, over all handlers, for example 50/s
    #[arg(long, value_name = "COUNT/UNIT", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Why, in your words; kept in the audit
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
    /// Only show what would be replayed
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
struct Started {
    #[serde(flatten)]
    preview: Preview,
    /// As it stood when the command ended; `None`: nothing was started.
    replay: Option<Replay>,
}

#[derive(Debug, thiserror::Error)]
#[error("receivers have had these events; add --force to send them again")]
struct NeedsForce;

pub(super) async fn run(args: ReplayArgs, global: &Global) -> Result<ExitCode, CliError> {
    let ReplayArgs { filter, id, all: _, dead: _, delivered, force, rate, because, dry_run, yes, detach } = args;
    let session = session::open(global).await?;
    let filter = DeliveryFilter { delivered, ..filter.resolve(&session.pool, id).await? };
    let what = if delivered { "delivery" } else { "dead letter" };
    let counts = store::count_replayable(&session.pool, &filter).await?;
    let preview = Preview::new(dry_run, counts, store::list_replayable(&session.pool, &filter, SAMPLE).await?);
    if !preview.goes_on(what, "replay") {
        return finish(Started { preview, replay: None }, global);
    }
    if delivered && !force {
        return Err(CliError::new(EXIT_CONFIG, NeedsForce));
    }
    let many = if delivered { " that receivers have had".to_owned() } else { String::new() };
    ask::confirm(&format!("Replay {} {}{many}?", preview.matched, plural_of(what, preview.matched)), yes)?;
    let new = NewReplay { id: Uuid::new_v4(), filter, rate, note: because };
    let frozen = store::start_replay(&session.pool, &new, &ask::actor()).await?;
    if frozen == 0 {
        eprintln!("nothing was left to replay; somebody else was faster");
        return finish(Started { preview, replay: None }, global);
    }
    eprintln!("replaying {frozen} {}; replay {}", plural_of(what, frozen), new.id);
    let replay = follow(&session, &new, detach).await?;
    let code = finish(Started { preview, replay: Some(replay) }, global)?;
    Ok(if detach { ExitCode::from(EXIT_OK) } else { code })
}

/// Waits for the outcome, unless that is not wanted or nobody is there to bring it about.
async fn follow(session: &Session, new: &NewReplay, detach: bool) -> Result<Replay, CliError> {
    let replay = progress::read(session, new.id).await?;
    if detach {
        return Ok(replay);
    }
    if progress::is_stopped(session, &replay).await? {
        eprintln!("{} does not deliver now; the replay begins when it does", replay.stopped.join(", "));
        return Ok(replay);
    }
    progress::follow(session, new.id).await
}

/// Words have gone to standard error; the document is for scripts.
fn finish(started: Started, global: &Global) -> Result<ExitCode, CliError> {
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

/// Deliveries a second.
fn parse_rate(text: &str) -> Result<f64, &'static str> {
    const EXPECTED: &str = "expected a rate such as 50/s, 10/m or 1000/h";
    let (count, unit) = text.split_once('/').ok_or(EXPECTED)?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(EXPECTED),
    };
    let count: u32 = count.trim().parse().map_err(|_| EXPECTED)?;
    if count == 0 {
        Err("a rate of nothing never ends; `outboxd handlers pause` holds a handler")
    } else {
        Ok(f64::from(count) / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_unit_of_time() {
        for (text, want) in [("50/s", 50.0), ("30/m", 0.5), ("3600 / h", 1.0)] {
            assert_eq!(parse_rate(text), Ok(want));
        }
        for text in ["", "50", "0/s", "-1/s", "50/d", "x/s", "1.5/s"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
