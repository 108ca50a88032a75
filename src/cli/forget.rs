//! `outboxd forget`: a person is forgotten. Shows first what that concerns and asks; works beside running relays.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::print::print;
use super::text::{as_json, plural, printable};
use super::{CliError, EXIT_CONFIG, EXIT_FAILED, EXIT_OK, Global, ask, session};
use crate::config::Erasure;
use crate::forgetting::{self, Forget, ForgetError, Report, UNREACHED, Verified};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  outboxd forget --subject customer/42 --because 'erasure request OPS-4711' --dry-run
  outboxd forget --subject customer/42 --because 'erasure request OPS-4711'
  outboxd forget --subject customer/42 --verify
  outboxd forget --again --because 'restored from a backup'

The key under which the values of the person are encrypted (Shredded, in the library) is destroyed in one transaction with a note in the audit, \
behind a line in the ledger ([erasure] ledger). The values cannot be read any more, in no copy of the database that is made from then on. \
Then kept states of streams, texts of attempts, dead letters and alerts are removed, and the functions of [erasure] functions are called.

It cannot be undone. Run it again at any time: what an earlier run has not done is done then, and a person who is forgotten stays forgotten.
Data that is not encrypted is not reached: `outboxd events erase` removes events.

Exit code:
  0  the person is forgotten; with --verify: nothing is left
  1  a transaction that has read keys before still runs; run it again. With --verify: something is left")]
pub struct ForgetArgs {
    /// The person, by the name that the application gives to its values, for example customer/42
    #[arg(long, required_unless_present = "again", value_parser = ask::parse_text)]
    subject: Option<String>,
    /// Forget everybody again whom the ledger names, and complete the ledger
    #[arg(long, conflicts_with_all = ["subject", "verify"])]
    again: bool,
    /// Only look whether the person is forgotten, table by table, and say what cannot be looked at
    #[arg(long, conflicts_with_all = ["because", "dry_run"])]
    verify: bool,
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", required_unless_present = "verify", value_parser = ask::parse_text)]
    because: Option<String>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// The ledger [default: as configured]
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum AgainError {
    #[error("there is no ledger; name it with --ledger, or in the configuration: [erasure] ledger = \"...\"")]
    NoLedger,
}

impl From<ForgetError> for CliError {
    fn from(error: ForgetError) -> Self {
        match error {
            ForgetError::Store(error) => error.into(),
            error => Self::failed(error),
        }
    }
}

pub async fn run(args: ForgetArgs, global: &Global) -> Result<ExitCode, CliError> {
    let Erasure { ledger, functions } = settings(global)?;
    let ledger = args.ledger.clone().or(ledger);
    let (actor, because) = (ask::actor(), args.because.clone().unwrap_or_default());
    let subject = args.subject.as_deref().unwrap_or_default();
    let forget = Forget { subject, actor: &actor, because: &because, ledger: ledger.as_deref(), functions: &functions };
    match args {
        ForgetArgs { again: true, .. } => run_again(&args, forget, global).await,
        ForgetArgs { verify: true, .. } => run_verify(forget, global).await,
        _ => run_one(&args, forget, global).await,
    }
}

/// A configuration is not needed beside an address.
fn settings(global: &Global) -> Result<Erasure, CliError> {
    if global.address().is_some() && !global.config.exists() {
        return Ok(Erasure::default());
    }
    Ok(global.load()?.config.erasure)
}

async fn run_one(args: &ForgetArgs, forget: Forget<'_>, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let (planned, _) = forgetting::plan(&session.pool, &forget).await?;
    eprint!("{}", describe_plan(&planned));
    if args.dry_run {
        eprintln!("dry run: nothing was changed");
        if global.json {
            print(&as_json(&planned))?;
        }
        return Ok(ExitCode::from(EXIT_OK));
    }
    if !planned.was_forgotten {
        if forget.ledger.is_none() {
            eprintln!(
                "note: there is no [erasure] ledger; a backup that is restored brings the key back, and no relay will notice"
            );
        }
        ask::confirm(&format!("Forget {} for good?", printable(forget.subject)), args.yes)?;
    }
    // What was planned says how it was before.
    let report = Report { was_forgotten: planned.was_forgotten, ..forgetting::forget(&session.pool, &forget).await? };
    eprint!("{}", describe(&report));
    if global.json {
        print(&as_json(&report))?;
    }
    Ok(ExitCode::from(if report.is_complete { EXIT_OK } else { EXIT_FAILED }))
}

async fn run_verify(forget: Forget<'_>, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let verified = forgetting::verify(&session.pool, &forget).await?;
    print(&match global.json {
        true => as_json(&verified),
        false => describe_verified(&verified),
    })?;
    Ok(ExitCode::from(if verified.left.is_empty() { EXIT_OK } else { EXIT_FAILED }))
}

async fn run_again(args: &ForgetArgs, forget: Forget<'_>, global: &Global) -> Result<ExitCode, CliError> {
    let Some(ledger) = forget.ledger else { return Err(CliError::new(EXIT_CONFIG, AgainError::NoLedger)) };
    let session = session::open(global).await?;
    let revived = forgetting::find_revived(&session.pool, ledger).await?;
    let unwritten = forgetting::find_unwritten(&session.pool, ledger).await?;
    eprintln!("{} subject{} of the ledger have keys in this database", revived.len(), plural(revived.len() as u64));
    eprintln!("{} destroyed key{} are not in the ledger", unwritten.len(), plural(unwritten.len() as u64));
    let mut is_complete = true;
    if args.dry_run {
        eprintln!("dry run: nothing was changed");
    } else {
        if !revived.is_empty() {
            ask::confirm(&format!("Forget {} subject{} for good?", revived.len(), plural(revived.len() as u64)), args.yes)?;
        }
        forgetting::ledger::append(ledger, &unwritten).map_err(ForgetError::from)?;
        for subject in &revived {
            let report = forgetting::forget(&session.pool, &Forget { subject, ..forget }).await?;
            eprint!("{}", describe(&report));
            is_complete &= report.is_complete;
        }
    }
    if global.json {
        let document = json!({ "dry_run": args.dry_run, "subjects": revived, "ledger_completed": unwritten.len() });
        print(&format!("{document:#}\n"))?;
    }
    Ok(ExitCode::from(if is_complete { EXIT_OK } else { EXIT_FAILED }))
}

fn describe_plan(report: &Report) -> String {
    let name = printable(&report.subject);
    let mut text = match report.destroyed_at {
        Some(at) => format!("{name} was forgotten at {at}\n"),
        None => format!("{name} has a key\n"),
    };
    text.push_str(&format!("{} event{} hold values of it; they stay, without the values\n", report.events, plural(report.events)));
    for trace in report.traces.iter().filter(|trace| trace.rows > 0) {
        text.push_str(&format!("{} rows of {} go, or lose their text\n", trace.rows, trace.place));
    }
    text.push_str(&describe_beyond(report));
    text
}

/// What the command does not reach by itself.
fn describe_beyond(report: &Report) -> String {
    let mut text = String::new();
    if report.unencrypted_events > 0 {
        text.push_str(&format!(
            "{} events of the aggregate {} hold no encrypted values; `outboxd events erase --key` removes them\n",
            report.unencrypted_events,
            printable(&report.subject)
        ));
    }
    for projection in &report.projections {
        let target = projection.target.as_deref().map(|target| format!(" in {target}")).unwrap_or_default();
        text.push_str(&format!(
            "projection {}@{} has read them: if it keeps values{target}, let a function of [erasure] functions forget them, or build a new version\n",
            projection.name, projection.version
        ));
    }
    text
}

fn describe(report: &Report) -> String {
    let (name, at) = (printable(&report.subject), report.destroyed_at.map(|at| at.to_string()).unwrap_or_default());
    let mut text = match report.was_forgotten {
        true => format!("{name} was forgotten already, at {at}\n"),
        false => format!("{name} is forgotten: the key was destroyed at {at}\n"),
    };
    let cleared = report.cleared;
    if cleared.states + cleared.texts > 0 {
        text.push_str(&format!("removed {} kept states and {} texts\n", cleared.states, cleared.texts));
    }
    for function in &report.functions {
        text.push_str(&format!("called {function}\n"));
    }
    if !report.is_complete {
        text.push_str(
            "a transaction that has read keys before still runs, and may keep what it has read; run the command again when it has ended\n",
        );
    }
    text
}

fn describe_verified(verified: &Verified) -> String {
    let report = &verified.report;
    let mut text = format!("{}\n", printable(&report.subject));
    if let Some(at) = report.destroyed_at {
        text.push_str(&format!("  key           destroyed at {at}\n"));
    }
    text.push_str(&format!("  events        {} hold values that cannot be read without the key\n", report.events));
    for trace in &report.traces {
        text.push_str(&format!(
            "  {:<22} {}\n",
            trace.place,
            if trace.rows == 0 { "clean".to_owned() } else { trace.rows.to_string() }
        ));
    }
    for left in &verified.left {
        text.push_str(&format!("LEFT  {left}\n"));
    }
    text.push_str(&describe_beyond(report));
    text.push_str("not looked at:\n");
    UNREACHED.iter().for_each(|place| text.push_str(&format!("  {place}\n")));
    text
}
