//! `outboxd migrate`: creates the outbox or brings it up to date; `--print` prints the SQL for another tool.

use std::process::ExitCode;

use serde::Serialize;

use super::print::print;
use super::{CliError, EXIT_CONFIG, Global, session};
use crate::config::{ConfigError, Outbox};
use crate::store::{self, Migrated};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Running the command again changes nothing. It never drops anything, and
refuses an outbox that is newer than this program.

Examples:
  outboxd migrate
  outboxd migrate --database-url postgres://localhost/app
  outboxd migrate --print > outbox.sql")]
pub struct MigrateArgs {
    /// Print the SQL that creates the outbox, for another migration tool; needs no database
    #[arg(long)]
    pub print: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: &'a str,
    #[serde(flatten)]
    migrated: &'a Migrated,
}

pub async fn run(args: MigrateArgs, global: &Global) -> Result<ExitCode, CliError> {
    let text = if args.print { script(global)? } else { migrate(global).await? };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn migrate(global: &Global) -> Result<String, CliError> {
    // Without a configuration the bound on payloads is unknown; a bound that a configuration has set must stay.
    let max_payload = if has_address(global) { None } else { Some(read_outbox(global)?.max_payload) };
    let session = session::open_unchecked(global).await?;
    let migrated = store::migrate(&session.pool, &session.schema, max_payload).await?;
    let report = Report { schema: &session.schema, migrated: &migrated };
    Ok(if global.json { format!("{}\n", as_json(&report)) } else { describe(&report) })
}

/// The statements; as a JSON string with `--json`.
fn script(global: &Global) -> Result<String, CliError> {
    // Without a file, address and schema come from the command line; with a file, its section [outbox] counts.
    let outbox = match read_outbox(global) {
        Err(_) if !global.config.exists() && (global.schema.is_some() || has_address(global)) => None,
        outbox => Some(outbox?),
    };
    let configured = outbox.as_ref().map(|outbox| outbox.schema.as_str());
    let schema = global.schema.as_deref().or(configured).unwrap_or("outbox");
    let script = store::migration_script(schema, outbox.as_ref().map(|outbox| outbox.max_payload));
    Ok(if global.json { format!("{}\n", as_json(&serde_json::json!({ "schema": schema, "sql": script }))) } else { script })
}

/// As in `session`: an empty address counts as no address.
fn has_address(global: &Global) -> bool {
    global.address().is_some()
}

/// `[outbox]` of the file. Mistakes in other sections, such as a missing database address, are not reported here.
fn read_outbox(global: &Global) -> Result<Outbox, CliError> {
    let draft = global.read()?;
    let outbox = draft.outbox().clone();
    let is_ours = |path: &str| path == "outbox" || path.starts_with("outbox.");
    let mistakes: Vec<_> = draft.finish(Vec::new()).err().unwrap_or_default();
    let mistakes: Vec<_> = mistakes.into_iter().filter(|mistake| is_ours(&mistake.path)).collect();
    if mistakes.is_empty() {
        return Ok(outbox);
    }
    Err(CliError::new(EXIT_CONFIG, ConfigError::Mistakes { path: global.config.clone(), mistakes }))
}

fn as_json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("names and numbers have a JSON form")
}

fn describe(report: &Report) -> String {
    let Report { schema, migrated } = report;
    let mut text = match migrated.applied.as_slice() {
        [] => format!("the outbox in schema \"{schema}\" is up to date (version {})\n", migrated.version),
        applied => format!(
            "migrated the outbox in schema \"{schema}\" to version {}\n{}",
            migrated.version,
            applied.iter().map(|name| format!("  applied {name}\n")).collect::<String>()
        ),
    };
    if let Some(bytes) = migrated.max_payload {
        text.push_str(&format!("  payloads may now have {bytes} bytes\n"));
    }
    for name in &migrated.edited {
        text.push_str(&format!("  warning: {name} was edited after it had been applied here\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told() {
        let migrated =
            Migrated { applied: vec!["0001_outbox"], version: 1, edited: vec!["0000_x".to_owned()], max_payload: Some(9) };
        let report = Report { schema: "outbox", migrated: &migrated };
        assert_eq!(
            describe(&report),
            "migrated the outbox in schema \"outbox\" to version 1\n  applied 0001_outbox\n  payloads may now have 9 bytes\n  \
             warning: 0000_x was edited after it had been applied here\n"
        );
        let nothing = Migrated { applied: vec![], version: 1, edited: vec![], max_payload: None };
        let report = Report { schema: "outbox", migrated: &nothing };
        assert_eq!(describe(&report), "the outbox in schema \"outbox\" is up to date (version 1)\n");
    }
}
