//! `outboxd handlers rewind` and `start-from`: where a handler goes on. Both show first what would be skipped and delivered again.
//! Nothing is skipped without `--yes` or an answer, and nothing that was handled is delivered again without `--force`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::super::{CliError, EXIT_CONFIG, EXIT_OK, Global, ask, print::print, session};
use crate::domain::Timestamp;
use crate::settings::parse_duration;
use crate::store::{self, Move, MoveCounts, MoveKind, MoveTarget};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd handlers rewind search --to beginning --dry-run
  outboxd handlers rewind billing --to 2h --force --because 'they restored a backup, OPS-311'
  outboxd handlers rewind billing --to 2026-03-01T06:00:00Z --force --yes
  outboxd handlers rewind billing --to 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --force

Every event from there on is delivered once more, in the order of its key and with the same id, before anything new. Dead letters, \
retries and what waits behind them are part of it and begin afresh; what was discarded stays discarded. Nothing is skipped. What is in \
flight at this moment may arrive twice. A limit: `backfill` in the configuration of the handler.")]
pub(super) struct RewindArgs {
    /// The handler
    name: String,
    /// The first event: beginning, the id of an event, a time such as 2026-03-01T06:00:00Z, or how long ago, such as 2h
    #[arg(long, value_name = "WHERE", value_parser = parse_target)]
    to: Asked,
    /// Deliver again what was handled already; without it a rewind has nothing to do
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

What the handler has not handled yet and lies before that event is skipped for good. What it has handled from there on is delivered \
again only with --force. Deliveries that are retrying, waiting or dead lie before it all the same and stay as they are. What is in \
flight at this moment may still arrive.")]
pub(super) struct StartFromArgs {
    /// The handler
    name: String,
    /// The first event: now, beginning, the id of an event, a time such as 2026-03-01T06:00:00Z, or how long ago, such as 30m
    #[arg(value_name = "WHERE", value_parser = parse_start)]
    from: Asked,
    /// Deliver again what was handled from there on
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

#[derive(Debug, Args)]
struct ChoiceArgs {
    /// Why; kept in the audit
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
    /// Only show what would be changed
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// A place in the log, and how the person wrote it.
#[derive(Debug, Clone)]
struct Asked {
    target: MoveTarget,
    text: String,
}

#[derive(Debug, thiserror::Error)]
enum MoveError {
    #[error("there is no event {0} in the log; it never was, or retention has removed it")]
    UnknownEvent(Uuid),
    #[error("{count} from there on {were} handled already; --force delivers {them} again", were = plural(*.0, "was", "were"), them = plural(*.0, "it", "them"), count = events(*.0))]
    NeedsForce(u64),
    #[error("handler \"{0}\" is gone; somebody else was faster")]
    Gone(String),
}

pub(super) async fn rewind(args: RewindArgs, global: &Global) -> Result<ExitCode, CliError> {
    let RewindArgs { name, to, force, choice } = args;
    let session = session::open(global).await?;
    let (first_seq, planned) = plan(&session.pool, &name, &to).await?;
    let planned = MoveCounts { skipped: 0, kept: 0, ..planned };
    if planned.again == 0 {
        eprintln!("{name} has handled nothing from there on; there is nothing to deliver again");
        return tell(global, &name, &to, &planned, false);
    }
    if choice.dry_run {
        eprintln!("dry run: {} would be delivered to {name} again{}", at_least(&planned, planned.again), dead_part(&planned));
        return tell(global, &name, &to, &planned, false);
    }
    if !force {
        return Err(CliError::new(EXIT_CONFIG, MoveError::NeedsForce(planned.again)));
    }
    let what = format!("{} would be delivered to {name} again{}", at_least(&planned, planned.again), dead_part(&planned));
    carry_out(global, &session.pool, &name, &to, (MoveKind::Rewind, first_seq), &what, choice).await
}

pub(super) async fn start_from(args: StartFromArgs, global: &Global) -> Result<ExitCode, CliError> {
    let StartFromArgs { name, from, force, choice } = args;
    let session = session::open(global).await?;
    let (first_seq, planned) = plan(&session.pool, &name, &from).await?;
    let again = if force { planned.again } else { 0 };
    if planned.skipped == 0 && again == 0 && planned.again > 0 && !choice.dry_run {
        return Err(CliError::new(EXIT_CONFIG, MoveError::NeedsForce(planned.again)));
    }
    let planned = MoveCounts { again, dead: if force { planned.dead } else { 0 }, ..planned };
    if planned.skipped == 0 && again == 0 {
        eprintln!("{name} is there already; there is nothing to skip{}", kept_part(&planned));
        return tell(global, &name, &from, &planned, false);
    }
    let mut parts = Vec::new();
    if planned.skipped > 0 {
        parts.push(format!("{} would be skipped and never delivered to {name}", at_least(&planned, planned.skipped)));
    }
    if again > 0 {
        parts.push(format!("{} would be delivered to {name} again{}", at_least(&planned, again), dead_part(&planned)));
    }
    let what = format!("{}{}", parts.join("; "), kept_part(&planned));
    if choice.dry_run {
        eprintln!("dry run: {what}");
        return tell(global, &name, &from, &planned, false);
    }
    let kind = if again > 0 { MoveKind::Restart } else { MoveKind::Skip };
    carry_out(global, &session.pool, &name, &from, (kind, first_seq), &what, choice).await
}

async fn plan(pool: &PgPool, name: &str, asked: &Asked) -> Result<(i64, MoveCounts), CliError> {
    ask::check_handler(pool, name).await?;
    let instead = "`outboxd projections rebuild` empties the table and reads from the beginning, `skip` passes over an event";
    ask::refuse_projection(pool, name, instead).await?;
    let first_seq = match (store::find_move_target(pool, asked.target).await?, asked.target) {
        (Some(first_seq), _) => first_seq,
        (None, MoveTarget::Event(id)) => return Err(CliError::new(EXIT_CONFIG, MoveError::UnknownEvent(id))),
        (None, _) => return Err(gone(name)),
    };
    let planned = store::plan_move(pool, name, first_seq).await?;
    Ok((first_seq, planned.ok_or_else(|| gone(name))?))
}

async fn carry_out(
    global: &Global,
    pool: &PgPool,
    name: &str,
    asked: &Asked,
    (kind, first_seq): (MoveKind, i64),
    what: &str,
    choice: ChoiceArgs,
) -> Result<ExitCode, CliError> {
    eprintln!("{what}");
    ask::confirm("Go ahead?", choice.yes)?;
    let actor = ask::actor();
    let document = json!({ "to": asked.text, "first_seq": first_seq, "delivers_again": kind != MoveKind::Skip }).to_string();
    let request = Move { handler: name, kind, first_seq, actor: &actor, reason: choice.because.as_deref(), asked: &document };
    let done = store::move_handler(pool, &request).await?.ok_or_else(|| gone(name))?;
    eprintln!("{name} goes on from {}: {} skipped, {} delivered again", asked.text, events(done.skipped), events(done.again));
    tell(global, name, asked, &done, true)
}

fn tell(global: &Global, name: &str, asked: &Asked, counts: &MoveCounts, changed: bool) -> Result<ExitCode, CliError> {
    if global.json {
        let mut document = json!(counts);
        document["changed"] = json!(changed);
        document["handler"] = json!(name);
        document["from"] = json!(asked.text);
        print(&format!("{document:#}\n"))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

fn gone(name: &str) -> CliError {
    CliError::failed(MoveError::Gone(name.to_owned()))
}

fn parse_target(text: &str) -> Result<Asked, &'static str> {
    let target = if text == "beginning" {
        MoveTarget::Beginning
    } else if let Ok(id) = text.parse::<Uuid>() {
        MoveTarget::Event(id)
    } else if let Some(ago) = parse_duration(text) {
        MoveTarget::Ago(ago)
    } else if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        MoveTarget::Since(Timestamp::from_micros(moment.as_microsecond()))
    } else {
        return Err("expected beginning, the id of an event, a time such as 2026-03-01T06:00:00Z, or how long ago, such as 2h");
    };
    Ok(Asked { target, text: text.to_owned() })
}

fn parse_start(text: &str) -> Result<Asked, &'static str> {
    if text == "now" {
        return Ok(Asked { target: MoveTarget::Now, text: text.to_owned() });
    }
    parse_target(text).map_err(
        |_| "expected now, beginning, the id of an event, a time such as 2026-03-01T06:00:00Z, or how long ago, such as 30m",
    )
}

fn at_least(counts: &MoveCounts, count: u64) -> String {
    if counts.is_exact { events(count) } else { format!("at least {}", events(count)) }
}

fn dead_part(counts: &MoveCounts) -> String {
    if counts.dead > 0 { format!(", {} of them dead letters now", counts.dead) } else { String::new() }
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
    fn a_place_is_a_word_an_id_a_time_or_an_age() {
        let id = Uuid::from_u128(7);
        for (text, want) in [
            ("beginning", MoveTarget::Beginning),
            (id.to_string().as_str(), MoveTarget::Event(id)),
            ("2h", MoveTarget::Ago(std::time::Duration::from_secs(7200))),
            ("1970-01-01T00:00:01+00:00", MoveTarget::Since(Timestamp::from_micros(1_000_000))),
        ] {
            assert_eq!(parse_target(text).map(|asked| asked.target), Ok(want), "{text}");
        }
        assert_eq!(parse_start("now").map(|asked| asked.target), Ok(MoveTarget::Now));
        for text in ["", "now", "yesterday", "2026-03-01", "42"] {
            assert!(parse_target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_needs_force_is_told_with_its_number() {
        assert_eq!(MoveError::NeedsForce(1).to_string(), "1 event from there on was handled already; --force delivers it again");
        assert_eq!(
            MoveError::NeedsForce(2).to_string(),
            "2 events from there on were handled already; --force delivers them again"
        );
    }
}
