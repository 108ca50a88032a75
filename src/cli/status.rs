//! `outboxd status`: the state of every handler, as a table or JSON, and as an exit code for scripts and monitors.

use std::io::IsTerminal;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use super::print::print;
use super::session::{self, Session};
use super::text::{as_json, describe_age, describe_moment, plain_table};
use super::{CliError, EXIT_CONFIG, EXIT_CRITICAL, EXIT_OK, EXIT_WARNING, Global, chain};
use crate::operations::status::{self, HandlerStatus, RelayStatus, Status};
use crate::status::{Complaint, HandlerState, Level};
use crate::store::status::{HandlerStats, LastFailure};

/// Often enough to watch a backlog shrink, and rare enough not to load the database.
const REDRAW: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code:
  0  all is well
  1  something needs attention: dead letters, an open circuit, a pause,
     a receiver that asked for a long pause, events unfinished for more than
     five minutes
  2  something is broken: no relay, a handler without a relay, a handler that
  is stuck because it cannot read or record, no database

Examples:
  outboxd status
  outboxd status --watch
  outboxd status --json | jq '.handlers[] | select(.dead > 0)'
  outboxd status --database-url postgres://localhost/app")]
pub struct StatusArgs {
    /// Update every two seconds until Ctrl-C; with --json, one document per line
    #[arg(long, short)]
    pub watch: bool,
}

pub async fn run(args: StatusArgs, global: &Global) -> Result<ExitCode, CliError> {
    if args.watch {
        return watch(global).await;
    }
    let status = look(&mut None, global).await?;
    let text = if global.json { as_json(&status) } else { describe(&status) };
    print(&text)?;
    Ok(exit_code(status.level))
}

/// Redraws until Ctrl-C; also shows when the database goes away and comes back.
async fn watch(global: &Global) -> Result<ExitCode, CliError> {
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let (mut session, mut level) = (None, Level::Ok);
    loop {
        tokio::select! {
            biased;
            _ = &mut interrupted => break,
            status = look(&mut session, global) => {
                let status = status?;
                level = status.level;
                redraw(&status, global.json)?;
            }
        }
        tokio::select! {
            _ = &mut interrupted => break,
            () = tokio::time::sleep(REDRAW) => {}
        }
    }
    Ok(exit_code(level))
}

fn redraw(status: &Status, json: bool) -> Result<(), CliError> {
    const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";
    print(&match (json, std::io::stdout().is_terminal()) {
        (true, _) => format!("{}\n", serde_json::to_string(status).expect("a status has a JSON form")),
        (false, true) => format!("{CLEAR}{}", describe(status)),
        (false, false) => format!("{}\n", describe(status)),
    })
}

/// Reads the status once. Trouble with the database is a finding; only a wrong command line or configuration is an error.
async fn look(session: &mut Option<Session>, global: &Global) -> Result<Status, CliError> {
    if session.is_none() {
        match session::open(global).await {
            Ok(opened) => *session = Some(opened),
            Err(error) if error.code == EXIT_CONFIG => return Err(error),
            Err(error) => return Ok(Status::unreachable(chain(&*error.error))),
        }
    }
    let opened = session.as_ref().expect("a session was opened above");
    // Only the configuration knows which tables should be adopted.
    let draft = global.read().ok();
    let adoptions = draft.as_ref().map(|draft| draft.adoptions()).unwrap_or_default();
    let status = status::look(&opened.pool, &opened.schema, adoptions).await;
    if status.handlers.is_empty() && status.relays.is_empty() {
        *session = None; // the database may be away; the next update connects again
    }
    Ok(status)
}

fn exit_code(level: Level) -> ExitCode {
    ExitCode::from(match level {
        Level::Ok => EXIT_OK,
        Level::Warning => EXIT_WARNING,
        Level::Critical => EXIT_CRITICAL,
    })
}

fn describe(status: &Status) -> String {
    let mut parts = vec![format!("{}\n", status.level)];
    if !status.handlers.is_empty() {
        parts.push(describe_handlers(status));
    }
    if !status.relays.is_empty() {
        parts.push(describe_relays(&status.relays));
    }
    if !status.reasons.is_empty() {
        parts.push(describe_reasons(status));
    }
    parts.join("\n")
}

fn describe_handlers(status: &Status) -> String {
    let mut table = plain_table(&["HANDLER", "STATE", "PENDING", "RETRYING", "WAITING", "DEAD", "OLDEST", "LAST FAILURE", "OWNER"]);
    for HandlerStatus { state, stats } in &status.handlers {
        table.add_row([
            stats.handler.clone(),
            describe_state(*state, stats),
            format!("{}{}", stats.pending, if stats.pending_is_exact { "" } else { "+" }),
            stats.retrying.to_string(),
            stats.waiting.to_string(),
            format!("{}{}", stats.dead, if stats.deliveries_are_exact { "" } else { "+" }),
            stats.oldest_unfinished.map_or_else(|| "-".to_owned(), describe_age),
            stats.last_failure.as_ref().map_or_else(|| "-".to_owned(), describe_failure),
            describe_owners(&stats.owners, &status.relays),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

fn describe_state(state: HandlerState, stats: &HandlerStats) -> String {
    match &stats.waiting_until {
        Some(waiting) if state == HandlerState::Waiting => format!("waiting until {}", describe_moment(waiting.until)),
        _ => state.to_string(),
    }
}

fn describe_failure(failure: &LastFailure) -> String {
    let status = failure.status.map(|status| format!(" ({status})")).unwrap_or_default();
    let at = failure.at.map(|at| format!(" at {}", describe_moment(at))).unwrap_or_default();
    format!("{}{status}{at}", failure.reason)
}

/// Names the process if the relay is known; its id alone does not help an operator.
fn describe_owners(owners: &[String], relays: &[RelayStatus]) -> String {
    let name = |owner: &String| match relays.iter().find(|relay| relay.stats.id == *owner) {
        Some(relay) => format!("{}/{}", relay.stats.host, relay.stats.pid),
        None => owner.clone(),
    };
    if owners.is_empty() { "-".to_owned() } else { owners.iter().map(name).collect::<Vec<_>>().join(", ") }
}

fn describe_relays(relays: &[RelayStatus]) -> String {
    let mut table = plain_table(&["RELAY", "PID", "VERSION", "LAST SEEN", "SINCE", "ID"]);
    for RelayStatus { is_alive, stats } in relays {
        let silent = format!("{} ago{}", describe_age(stats.silent), if *is_alive { "" } else { " (silent)" });
        let since = describe_moment(stats.started_at);
        table.add_row([stats.host.clone(), stats.pid.to_string(), stats.version.clone(), silent, since, stats.id.clone()]);
    }
    format!("{}\n", table.trim_fmt())
}

/// Each problem, and below it the command to run.
fn describe_reasons(status: &Status) -> String {
    let line = |reason: &Complaint| {
        let handler = reason.handler.as_ref().map(|handler| format!("{handler}: ")).unwrap_or_default();
        format!("{}: {handler}{}\n  -> {}\n", reason.level, reason.text, reason.command)
    };
    status.reasons.iter().map(line).collect()
}
