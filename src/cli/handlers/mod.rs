//! `outboxd handlers`: lists, pauses, resumes, moves, tests, renames and forgets handlers.
//! Works while the relay is down; a running relay follows at once.

mod forget;
mod moves;
mod rebuild;
mod trial;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    CliError, EXIT_OK, Global, ask,
    print::print,
    session,
    text::{as_json, describe_moment, plain_table, shorten},
};
use crate::operations::handlers::{self, HandlerChange, HandlerView};
use crate::status::HandlerState;

/// List, pause, resume, move, test, rename and forget handlers
#[derive(Debug, Args)]
pub struct HandlersArgs {
    #[command(subcommand)]
    command: HandlersCommand,
}

#[derive(Debug, Subcommand)]
enum HandlersCommand {
    /// List every handler that has a subscription, configured or not
    List,
    /// Pause a handler: its events wait in the log until it is resumed
    #[command(after_help = "Example:\n  outboxd handlers pause billing --because 'receiver moves, back at 14:00'")]
    Pause(PauseArgs),
    /// Resume a paused handler
    #[command(after_help = "Example:\n  outboxd handlers resume billing")]
    Resume(NameArgs),
    /// Close the open circuit of a handler whose receiver works again
    #[command(subcommand)]
    Circuit(CircuitCommand),
    /// Deliver again the events from an event or time on
    Rewind(moves::RewindArgs),
    /// Continue at an event or time, and skip the events before it
    StartFrom(moves::StartFromArgs),
    /// Test a configured handler with one made-up event, outside the log
    Test(trial::TestArgs),
    /// Rename a handler; its position and records move to the new name
    Rename(rebuild::RenameArgs),
    /// Change the number of partitions or the ordering key of a handler; no event is skipped or delivered again
    Repartition(rebuild::RepartitionArgs),
    /// Remove the subscriptions and deliveries of a handler that no relay serves
    Forget(forget::ForgetArgs),
}

#[derive(Debug, Subcommand)]
enum CircuitCommand {
    /// Close the circuit: deliveries continue at once, instead of one probe at a time
    #[command(
        after_help = "Example:\n  outboxd handlers circuit close billing --because 'certificate renewed'\n\nIf the receiver \
        still fails, the circuit opens again. To pause a handler, use `outboxd handlers pause`."
    )]
    Close(CloseArgs),
}

#[derive(Debug, Args)]
struct CloseArgs {
    /// Name of the handler
    name: String,
    /// Reason; kept in the audit
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
}

#[derive(Debug, Args)]
struct NameArgs {
    /// Name of the handler
    name: String,
}

#[derive(Debug, Args)]
struct PauseArgs {
    /// Name of the handler
    name: String,
    /// Reason; `outboxd handlers list` shows it
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text)]
    because: String,
}

pub async fn run(args: HandlersArgs, global: &Global) -> Result<ExitCode, CliError> {
    match args.command {
        HandlersCommand::List => list(global).await,
        HandlersCommand::Pause(args) => pause(args, global).await,
        HandlersCommand::Resume(args) => resume(args, global).await,
        HandlersCommand::Circuit(CircuitCommand::Close(args)) => close_circuit(args, global).await,
        HandlersCommand::Rewind(args) => moves::rewind(args, global).await,
        HandlersCommand::StartFrom(args) => moves::start_from(args, global).await,
        HandlersCommand::Test(args) => trial::run(args, global).await,
        HandlersCommand::Rename(args) => rebuild::rename(args, global).await,
        HandlersCommand::Repartition(args) => rebuild::repartition(args, global).await,
        HandlersCommand::Forget(args) => forget::run(args, global).await,
    }
}

async fn list(global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let handlers = handlers::list(&session.pool).await?;
    print(&match global.json {
        true => format!("{:#}\n", json!({ "handlers": handlers })),
        false => describe(&handlers),
    })?;
    Ok(ExitCode::from(EXIT_OK))
}

async fn pause(args: PauseArgs, global: &Global) -> Result<ExitCode, CliError> {
    let PauseArgs { name, because } = args;
    let session = session::open(global).await?;
    let change = handlers::pause(&session.pool, &ask::caller(), &name, &because).await?;
    let text = match &change.handler {
        Some(handler) if !change.changed => format!("{name} was paused already{}", describe_pause(handler)),
        _ => format!("{name} is paused; `outboxd handlers resume {name}` resumes it"),
    };
    tell(global, &change, &text)
}

async fn resume(args: NameArgs, global: &Global) -> Result<ExitCode, CliError> {
    let NameArgs { name } = args;
    let session = session::open(global).await?;
    let change = handlers::resume(&session.pool, &ask::caller(), &name).await?;
    let text = if change.changed { format!("{name} is resumed") } else { format!("{name} was not paused") };
    tell(global, &change, &text)
}

async fn close_circuit(args: CloseArgs, global: &Global) -> Result<ExitCode, CliError> {
    let CloseArgs { name, because } = args;
    let session = session::open(global).await?;
    let change = handlers::close_circuit(&session.pool, &ask::caller(), &name, because.as_deref()).await?;
    let text = if change.changed {
        format!("the circuit of {name} is closed; deliveries continue")
    } else {
        format!("no circuit of {name} is open")
    };
    tell(global, &change, &text)
}

fn tell(global: &Global, change: &HandlerChange, text: &str) -> Result<ExitCode, CliError> {
    eprintln!("{text}");
    if global.json {
        print(&as_json(change))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

fn describe(handlers: &[HandlerView]) -> String {
    if handlers.is_empty() {
        return "no handlers: no relay has run on this outbox yet\n".to_owned();
    }
    let mut table = plain_table(&["HANDLER", "KIND", "PARTITIONS", "STATE", "PENDING", "RETRYING", "WAITING", "DEAD"]);
    for handler in handlers {
        let is_known = handler.uncounted.is_none();
        let known = |count: u64, more: &str| if is_known { format!("{count}{more}") } else { "?".to_owned() };
        let pending = known(handler.pending, if handler.pending_is_exact { "" } else { "+" });
        table.add_row([
            handler.name.clone(),
            handler.kind.clone(),
            handler.partitions.to_string(),
            describe_state(handler),
            pending,
            known(handler.retrying, ""),
            known(handler.waiting, ""),
            known(handler.dead, ""),
        ]);
    }
    let uncounted = handlers.iter().find_map(|handler| handler.uncounted.as_ref());
    let uncounted = uncounted.map(|why| format!("\nnot everything could be counted: {why}\n")).unwrap_or_default();
    format!("{}\n{uncounted}", table.trim_fmt())
}

fn describe_state(handler: &HandlerView) -> String {
    match handler.state {
        HandlerState::Paused => format!("paused{}", describe_pause(handler)),
        HandlerState::NoOwner if handler.owned == 0 => "no owner".to_owned(),
        HandlerState::NoOwner => format!("no owner for {} of {}", handler.partitions - handler.owned, handler.partitions),
        HandlerState::CircuitOpen => match &handler.circuit_reason {
            Some(reason) => format!("circuit open: {reason}"),
            None => "circuit open".to_owned(),
        },
        HandlerState::Stuck => {
            let since = handler.failing_since.map(|since| format!(" since {}", describe_moment(since))).unwrap_or_default();
            let error = handler.failing_error.as_ref().map(|error| format!(": {}", shorten(error))).unwrap_or_default();
            format!("stuck{since}{error}")
        }
        HandlerState::Waiting => match handler.waiting_until {
            Some(until) => format!("waiting until {}", describe_moment(until)),
            None => "waiting".to_owned(),
        },
        HandlerState::Lagging | HandlerState::Ok => handler.state.to_string(),
    }
}

fn describe_pause(handler: &HandlerView) -> String {
    let who = handler.paused_by.as_deref().map(|who| format!(" by {who}")).unwrap_or_default();
    let why = handler.pause_reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{who}{why}")
}
