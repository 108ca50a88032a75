//! `outboxd rebase`: after a restore, a copy or an upgrade, counts the pending events and moves the positions to this server.

use std::process::ExitCode;

use serde_json::json;

use super::print::print;
use super::text::plain_table;
use super::{CliError, EXIT_FAILED, EXIT_OK, Global, ask, session};
use crate::rebase::{self, RebaseError};
use crate::store::rebase::{RebasePlan, plan_rebase};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A relay refuses positions that belong to another server: after a dump and
restore, a logical migration or an upgrade into a new cluster, after a
recovery to a point in time, and in a clone. This command counts the events
that are pending and moves the positions to this server. Events that have an
outcome are not delivered again; events that are recorded before the relay
starts are not lost.

Do not run it on a clone for tests: the relay would deliver real events.

The command uses one transaction; applications that record events wait until
it ends. It refuses to run while a relay is connected, or if the positions
already belong to this server.

Exit code:
  0  done; with --dry-run: it would be done
  1  refused; nothing was changed

Examples:
  outboxd rebase --dry-run
  outboxd rebase
  outboxd rebase --yes --json --database-url postgres://localhost/app")]
pub struct RebaseArgs {
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

pub async fn run(args: RebaseArgs, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let plan = plan_rebase(&session.pool).await?;
    let verdict = rebase::judge(&plan);
    if args.dry_run {
        print(&match global.json {
            true => format!("{:#}\n", document(&plan, None, verdict.as_ref().err())),
            false => describe(&plan, verdict.as_ref().err()),
        })?;
        return Ok(ExitCode::from(if verdict.is_ok() { EXIT_OK } else { EXIT_FAILED }));
    }
    verdict.map_err(failed)?;
    eprint!("{}", describe(&plan, None));
    ask::confirm("Move the positions to this server, and deliver the pending events when a relay starts?", args.yes)?;
    let rebased = rebase::rebase(&session.pool, &ask::actor()).await.map_err(failed)?;
    let done = (rebased.subscriptions, rebased.renumbered);
    eprintln!("rebased {} subscription(s), renumbered {} event(s); now start the relay: outboxd run", done.0, done.1);
    if global.json {
        print(&format!("{:#}\n", document(&rebased.plan, Some(done), None)))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

fn failed(error: RebaseError) -> CliError {
    match error {
        RebaseError::Store(error) => error.into(),
        refusal => CliError::failed(refusal),
    }
}

fn document(plan: &RebasePlan, done: Option<(u64, u64)>, refusal: Option<&RebaseError>) -> serde_json::Value {
    json!({
        "is_done": done.is_some(),
        "refusal": refusal.map(ToString::to_string),
        "found": rebase::explain(&plan.identity.standing()),
        "stored": plan.identity.stored,
        "here": plan.identity.found,
        "numbering": plan.identity.numbering(),
        "handlers": plan.handlers,
        "low_sequences": plan.low_sequences,
        "is_bell_right": plan.is_bell_right,
        "relays": plan.relays,
        "subscriptions": done.map(|done| done.0),
        "renumbered": done.map(|done| done.1),
    })
}

fn describe(plan: &RebasePlan, refusal: Option<&RebaseError>) -> String {
    let identity = &plan.identity;
    let mut text = format!("{}\n", rebase::explain(&identity.standing()));
    for (what, incarnation) in [("positions", &identity.stored), ("here", &identity.found)] {
        if let Some(incarnation) = incarnation {
            text.push_str(&format!("  {what:<10} {incarnation}\n"));
        }
    }
    if let Some(refusal) = refusal {
        return format!("{text}\nrefused: {refusal}\n");
    }
    text.push_str(&format!("{}\n", rebase::explain_numbering(identity.numbering())));
    if !plan.handlers.is_empty() {
        text.push_str(&format!("\n{}\n", describe_handlers(plan)));
    }
    for low in &plan.low_sequences {
        text.push_str(&format!("\nsequence {} is at {} although {} is used; it is raised\n", low.name, low.last, low.needed));
    }
    if !plan.is_bell_right {
        text.push_str("\nthe trigger ring_bell does not belong to this schema, or is disabled; it is created again\n");
    }
    format!("{text}\n{}\n", rebase::LIMITS)
}

fn describe_handlers(plan: &RebasePlan) -> String {
    let mut table = plain_table(&["HANDLER", "PENDING", "BY SNAPSHOT", "BY NUMBER", "WRITTEN HERE", "RETRYING OR WAITING"]);
    for handler in &plan.handlers {
        table.add_row([
            handler.handler.clone(),
            handler.pending.to_string(),
            handler.by_snapshot.to_string(),
            handler.by_number.to_string(),
            handler.born_here.to_string(),
            handler.unfinished.to_string(),
        ]);
    }
    table.trim_fmt()
}
