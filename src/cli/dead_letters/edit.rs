//! `outboxd dead-letters edit`: a dead letter with a corrected payload, as a new event for its handler. Shows first what would be changed and
//! asks. The letter is discarded in the same transaction.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::super::text::{as_json, bounded, plural, printable};
use super::super::{CliError, EXIT_CONFIG, EXIT_OK, Global, ask, chain, print::print, session};
use crate::app;
use crate::contracts::PayloadChange;
use crate::operations::Configuration;
use crate::operations::corrections::{self, ContractCheck, CorrectionOrder, CorrectionPlan, Draft, RecordedCorrection};

/// Bytes of one value that are shown.
const SHOWN_BYTES: usize = 400;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  outboxd dead-letters show 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --handler billing --json | jq .event.payload > corrected.json
  outboxd dead-letters edit 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --handler billing --payload corrected.json \\
      --because 'total was a text, OPS-311'
  jq -c '.total |= tonumber' corrected.json | outboxd dead-letters edit 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --handler billing \\
      --payload - --because 'OPS-311' --yes

The corrected payload is recorded as a new event of the same type and aggregate. Only the handler of the dead letter receives it: the other \
handlers have had the original. Its headers name the original (outboxd-corrects, causation). The dead letter is discarded in the same \
transaction, and the audit names the places of the payload that were changed. The new event comes last in the order of its key. If events \
wait behind the dead letter, they would go first, which --force accepts.

jq rounds numbers beyond 2^53; edit such a payload as text.")]
pub(super) struct EditArgs {
    /// Id of the event
    #[arg(value_name = "EVENT-ID")]
    id: Uuid,
    /// The handler that gave it up
    #[arg(long, value_name = "NAME")]
    handler: String,
    /// File with the corrected payload, a JSON object; - for standard input
    #[arg(long, value_name = "FILE")]
    payload: PathBuf,
    /// Why the payload needs a correction, in your words; kept in the audit
    #[arg(long, visible_alias = "note", value_name = "TEXT", value_parser = ask::parse_text)]
    because: String,
    /// Also if events of its key wait behind the dead letter; they go before the correction
    #[arg(long)]
    force: bool,
    /// Only show what would be changed
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Edited {
    dry_run: bool,
    #[serde(flatten)]
    plan: CorrectionPlan,
    #[serde(skip_serializing_if = "Option::is_none")]
    correction: Option<RecordedCorrection>,
}

#[derive(Debug, thiserror::Error)]
enum EditError {
    #[error("could not read the payload from {0}")]
    Read(String, #[source] std::io::Error),
}

pub(super) async fn run(args: EditArgs, global: &Global) -> Result<ExitCode, CliError> {
    let EditArgs { id, handler, payload, because, force, dry_run, yes } = args;
    let payload = read_payload(&payload)?;
    let configuration = configuration(global);
    let session = session::open(global).await?;
    let draft = Draft { event: id, handler: &handler, payload: &payload, redact: &[] };
    let plan = corrections::plan(&session.pool, configuration.as_ref(), &draft).await?;
    eprint!("{}", describe(&plan));
    let correction = if dry_run {
        eprintln!("dry run: nothing was changed");
        None
    } else {
        ask::confirm(&format!("Record the corrected event for {}, and discard the dead letter?", printable(&handler)), yes)?;
        let order = CorrectionOrder { id: Uuid::new_v4(), reason: &because, force };
        let correction = corrections::carry_out(&session.pool, &ask::caller(), &plan, &order).await?;
        eprintln!("recorded event {} for {}; the dead letter is discarded", correction.id, printable(&handler));
        Some(correction)
    };
    if global.json {
        print(&as_json(&Edited { dry_run, plan, correction }))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

fn read_payload(path: &Path) -> Result<String, CliError> {
    let is_input = path == Path::new("-");
    let mut text = String::new();
    let read = if is_input { std::io::stdin().read_to_string(&mut text).map(|_| text) } else { std::fs::read_to_string(path) };
    let name = if is_input { "standard input".to_owned() } else { path.display().to_string() };
    read.map_err(|error| CliError::new(EXIT_CONFIG, EditError::Read(name, error)))
}

/// For the contracts. Without a file there are none at hand; one with mistakes is told, and the relay checks the payload at the attempt.
fn configuration(global: &Global) -> Option<Configuration> {
    if !global.config.exists() {
        return None;
    }
    match global.load() {
        Ok(loaded) => Some(app::configuration(loaded)),
        Err(error) => {
            eprintln!("note: the payload is not checked against a contract: {}", chain(&*error.error));
            None
        }
    }
}

fn describe(plan: &CorrectionPlan) -> String {
    let mut text =
        format!("event {} of type {}, a dead letter of {}\n\n", plan.event, printable(&plan.event_type), printable(&plan.handler));
    for PayloadChange { path, was, now } in &plan.changes {
        let value = |value: &Option<String>| match value {
            Some(value) => bounded(&printable(value).replace('\n', " "), SHOWN_BYTES),
            None => "(absent)".to_owned(),
        };
        text.push_str(&format!("  {}\n    - {}\n    + {}\n", printable(path), value(was), value(now)));
    }
    let contract = match plan.contract {
        ContractCheck::Valid => "the payload is valid under its contract",
        ContractCheck::None => "the type has no contract",
        ContractCheck::Unchecked => "not checked against a contract here",
    };
    text.push_str(&format!("\n{contract}; only {} receives the new event\n", printable(&plan.handler)));
    if plan.followers > 0 {
        let key = printable(plan.key.as_deref().unwrap_or("-"));
        text.push_str(&format!("{} event{} of key {key} wait behind it and go first\n", plan.followers, plural(plan.followers)));
    }
    text
}
