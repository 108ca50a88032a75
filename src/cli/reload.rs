//! `outboxd reload`: makes every running relay read its own configuration file again, and prints the results.
//! The request goes through the database, so it reaches every instance. The command itself reads no configuration of handlers.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::PgPool;

use super::{CliError, EXIT_FAILED, EXIT_OK, Global, ask, print::print, session};
use crate::operations::reload;
use crate::settings::parse_duration;
use crate::store::{self, AskedRelay, ReloadAnswer, ReloadOutcome, ReloadReport};

const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each relay reads its own file, compares it with its running configuration, and applies the differences: added, changed and removed handlers, \
and the settings that can change at run time. A changed handler finishes the deliveries in flight and continues from its position with the \
new settings; other handlers are not affected. If a file has a mistake, the relay keeps the old configuration, and `outboxd status` shows \
the mistake. The output names settings that need a restart. `outboxd check` checks the file without a relay.

Exit code:
  0  every relay has the new configuration
  1  a relay refused it, or did not answer in time
  64 no relay runs, or none with that id; or the local file, which has the
  address of the database, has a mistake: no relay was asked

Examples:
  outboxd check && outboxd reload
  outboxd reload --json | jq '.relays[] | select(.needs_restart | length > 0)'")]
pub struct ReloadArgs {
    /// Id of one relay, from `outboxd status --json`
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// How long to wait for the answers
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_wait)]
    wait: Duration,
}

pub async fn run(args: ReloadArgs, global: &Global) -> Result<ExitCode, CliError> {
    // If the local file has a mistake, no relay is asked. With an address alone there is no file to check.
    if global.address().is_none() {
        global.load()?;
    }
    let session = session::open(global).await?;
    let asked = reload::ask(&session.pool, &ask::caller(), args.instance.as_deref()).await?;
    let answers = wait_for_answers(&session.pool, &asked, args.wait).await?;
    if global.json {
        print(&as_json(&asked, &answers))?;
    } else {
        print(&asked.iter().zip(&answers).map(|(relay, answer)| describe(relay, answer)).collect::<String>())?;
    }
    let is_well = |answer: &ReloadAnswer| match answer {
        ReloadAnswer::Answered(report) => report.outcome != ReloadOutcome::Refused,
        ReloadAnswer::Stopped => true,
        ReloadAnswer::Pending => false,
    };
    Ok(ExitCode::from(if answers.iter().all(is_well) { EXIT_OK } else { EXIT_FAILED }))
}

/// The answers in the order of the relays; an answer that is missing when the time is over stays pending.
async fn wait_for_answers(pool: &PgPool, asked: &[AskedRelay], wait: Duration) -> Result<Vec<ReloadAnswer>, CliError> {
    let deadline = Instant::now() + wait;
    let mut answers = vec![ReloadAnswer::Pending; asked.len()];
    loop {
        for (relay, answer) in asked.iter().zip(&mut answers).filter(|(_, answer)| **answer == ReloadAnswer::Pending) {
            *answer = store::read_reload(pool, relay).await?;
        }
        if !answers.contains(&ReloadAnswer::Pending) || Instant::now() >= deadline {
            return Ok(answers);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn describe(relay: &AskedRelay, answer: &ReloadAnswer) -> String {
    let name = format!("{}/{}", relay.host, relay.pid);
    match answer {
        ReloadAnswer::Pending => format!("{name}: no answer yet; see `outboxd status`\n"),
        ReloadAnswer::Stopped => format!("{name}: has stopped\n"),
        ReloadAnswer::Answered(report) => format!("{name}: {}\n{}", describe_outcome(report.outcome), describe_report(report)),
    }
}

fn describe_outcome(outcome: ReloadOutcome) -> &'static str {
    match outcome {
        ReloadOutcome::Applied => "reloaded",
        ReloadOutcome::Unchanged => "nothing to apply",
        ReloadOutcome::Refused => "refused; the old configuration stays",
    }
}

fn describe_report(report: &ReloadReport) -> String {
    let lists = [
        ("added", &report.added),
        ("changed", &report.changed),
        ("removed", &report.removed),
        ("settings", &report.settings),
        ("needs a restart", &report.needs_restart),
    ];
    let named =
        lists.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| format!("  {what}: {}\n", names.join(", ")));
    let told = report.reasons.iter().map(|reason| format!("  {reason}\n"));
    named.chain(told).chain(report.notes.iter().map(|note| format!("  note: {note}\n"))).collect()
}

fn as_json(asked: &[AskedRelay], answers: &[ReloadAnswer]) -> String {
    let relays = asked.iter().zip(answers).map(|(relay, answer)| {
        let mut document = match answer {
            ReloadAnswer::Answered(report) => json!(report),
            ReloadAnswer::Pending => json!({ "outcome": "no_answer" }),
            ReloadAnswer::Stopped => json!({ "outcome": "stopped" }),
        };
        (document["id"], document["host"], document["pid"]) = (json!(relay.id), json!(relay.host), json!(relay.pid));
        document
    });
    format!("{:#}\n", json!({ "relays": relays.collect::<Vec<_>>() }))
}

fn parse_wait(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("expected a duration such as 30s")
}
