//! `outboxd handlers forget`: removes everything that is recorded about a handler that no relay serves. First shows the events that would
//! never be delivered, including those pending in the log.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::super::{CliError, EXIT_OK, Global, ask, print::print, session};
use crate::operations::forget::{self, ForgetPlan, Removed};
use crate::operations::handlers::still_owned;
use crate::registration::describe_unfinished;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd handlers forget billing --dry-run
  outboxd handlers forget billing --yes --because 'switched off, OPS-311'

First remove the handler from the configuration and run `outboxd reload`. Its pending events are never delivered; its dead letters and \
their history are removed. If the handler only has a new name, use `outboxd handlers rename` instead. A handler that is configured again \
under the same name starts as a new one.")]
pub(super) struct ForgetArgs {
    /// Name of the handler
    name: String,
    /// Reason; kept in the audit
    #[arg(long, value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
    /// Show what would be lost, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn run(args: ForgetArgs, global: &Global) -> Result<ExitCode, CliError> {
    let ForgetArgs { name, because, dry_run, yes } = args;
    let session = session::open(global).await?;
    let ForgetPlan { unfinished, owners, .. } = forget::plan(&session.pool, &name).await?;
    let what = format!("{name} has {}", describe_unfinished(&unfinished));
    if dry_run {
        eprintln!("dry run: {what}; none of it would ever be delivered");
        if global.json {
            let document = json!({ "handler": name, "changed": false, "unfinished": unfinished, "owners": owners });
            print(&format!("{document:#}\n"))?;
        }
        return Ok(ExitCode::from(EXIT_OK));
    }
    if !owners.is_empty() {
        return Err(still_owned(&name, &owners).into());
    }
    eprintln!("{what}; none of it will ever be delivered, and the position and history are removed");
    ask::confirm(&format!("Forget {name} for good?"), yes)?;
    let Removed { subscriptions, deliveries } = forget::forget(&session.pool, &ask::caller(), &name, because.as_deref()).await?;
    eprintln!("forgot {name}: {subscriptions} subscription(s) and {deliveries} recorded deliveries");
    if global.json {
        let document = json!({
            "forgotten": name, "changed": true, "subscriptions": subscriptions, "deliveries": deliveries, "unfinished": unfinished,
        });
        print(&format!("{document:#}\n"))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}
