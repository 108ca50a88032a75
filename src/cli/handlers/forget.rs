//! `outboxd handlers forget`: removes what is recorded of a handler that nothing serves. Tells first everything that would never be
//! delivered, what is pending in the log included.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::super::{CliError, EXIT_OK, Global, ask, print::print, session};
use super::{gone, still_owned};
use crate::registration::describe_unfinished;
use crate::store::{self, Forgotten};

/// Rows that are looked at per subscription; beyond that the count is a lower bound.
const MOST_LOOKED_AT: i64 = 1_000_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd handlers forget billing --dry-run
  outboxd handlers forget billing --yes --because 'switched off, OPS-311'

Take the handler out of the configuration and run `outboxd reload` first. Its pending events are never delivered, and its dead letters \
and their history are removed. If it only has another name now, use `outboxd handlers rename`. A handler that comes back under the \
same name begins as a new one.")]
pub(super) struct ForgetArgs {
    /// The handler
    name: String,
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
    /// Only show what would be lost
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn run(args: ForgetArgs, global: &Global) -> Result<ExitCode, CliError> {
    let ForgetArgs { name, because, dry_run, yes } = args;
    let session = session::open(global).await?;
    ask::check_handler(&session.pool, &name).await?;
    ask::refuse_projection(&session.pool, &name, "`outboxd projections drop` removes it").await?;
    let Some(handler) = store::read_handlers(&session.pool, Some(&name)).await?.pop() else {
        return Err(gone(&name));
    };
    let unfinished = store::read_unfinished(&session.pool, &name, None, MOST_LOOKED_AT).await?;
    let what = format!("{name} has {}", describe_unfinished(&unfinished));
    if dry_run {
        eprintln!("dry run: {what}; none of it would be delivered any more");
        if global.json {
            let document = json!({ "handler": name, "changed": false, "unfinished": unfinished, "owners": handler.owners });
            print(&format!("{document:#}\n"))?;
        }
        return Ok(ExitCode::from(EXIT_OK));
    }
    if !handler.owners.is_empty() {
        return Err(still_owned(name, &handler.owners));
    }
    eprintln!("{what}; none of it is delivered any more, and its position and history are removed");
    ask::confirm(&format!("Forget {name} for good?"), yes)?;
    match store::forget_handler(&session.pool, &name, &ask::actor(), because.as_deref()).await? {
        // A relay may have taken it up while we asked.
        Forgotten::Owned(owners) => Err(still_owned(name, &owners)),
        Forgotten::Unknown => Err(gone(&name)),
        Forgotten::Gone { subscriptions, deliveries } => {
            eprintln!("forgot {name}: {subscriptions} subscription(s) and {deliveries} recorded deliveries");
            if global.json {
                let document = json!({
                    "forgotten": name, "changed": true, "subscriptions": subscriptions, "deliveries": deliveries, "unfinished": unfinished,
                });
                print(&format!("{document:#}\n"))?;
            }
            Ok(ExitCode::from(EXIT_OK))
        }
    }
}
