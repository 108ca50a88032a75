//! `outboxd doctor`: finds faults of the server, the outbox and the configuration, and prints why each matters and how to fix it.
//! Changes nothing.

use std::process::ExitCode;
use std::time::Duration;

use super::print::print;
use super::session::{self, Session};
use super::{CliError, EXIT_CONFIG, EXIT_CRITICAL, EXIT_OK, EXIT_WARNING, Global, chain};
use crate::app;
use crate::doctor::{Finding, Fix, Report};
use crate::domain::Level;
use crate::operations::doctor;
use crate::settings::parse_duration;
use crate::store::StoreError;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every finding says what is wrong, why it matters, and how to fix it: with a
statement for psql, a command, or lines of the configuration. If a finding has
several fixes, one is enough. The command itself changes nothing.

With --database-url no configuration is read; the report lists the checks that
were skipped. Use the database address of the relay, so that the checks see the
same rights, pooler and clock.

Exit code:
  0  nothing was found
  1  warnings: an operator should look
  2  critical: events can be lost, delayed for ever, or are not delivered

Examples:
  outboxd doctor
  outboxd doctor --json | jq -r '.findings[].fixes[0].text'
  outboxd doctor --older-than 1h
  outboxd doctor --database-url postgres://localhost/app")]
pub struct DoctorArgs {
    /// Report transactions that have been open for longer
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub older_than: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as \"5m\"".to_owned())
}

pub async fn run(args: DoctorArgs, global: &Global) -> Result<ExitCode, CliError> {
    let report = examine(&args, global).await?;
    print(&match global.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report).expect("a report has a JSON form")),
        false => describe(&report),
    })?;
    Ok(ExitCode::from(match report.level {
        Level::Ok => EXIT_OK,
        Level::Warning => EXIT_WARNING,
        Level::Critical => EXIT_CRITICAL,
    }))
}

async fn examine(args: &DoctorArgs, global: &Global) -> Result<Report, CliError> {
    let mut broken = None;
    let loaded = match global.address().is_some() {
        true => None,
        // A broken file is one finding; there may be others.
        false => match app::load_with(&global.config, &global.overrides()) {
            Ok(loaded) => Some(loaded),
            Err(error) => {
                broken = Some(error);
                None
            }
        },
    };
    let Session { pool, schema } = match session::open_thoroughly(global).await {
        Ok(session) => session,
        // Without an address no check can run: report all mistakes of the file, not only those of the address.
        Err(error) if error.code == EXIT_CONFIG => return Err(broken.map_or(error, |broken| CliError::new(EXIT_CONFIG, broken))),
        Err(error) => {
            let why = chain(&*error.error);
            let is_shared = matches!(error.error.downcast_ref(), Some(StoreError::SharedSessions { .. }));
            return Ok(if is_shared { Report::shared_sessions(why) } else { Report::unreachable(why) });
        }
    };
    let configuration = loaded.map(app::configuration);
    let unencrypted = session::unencrypted(global).await;
    let report = doctor::examine(&pool, &schema, configuration.as_ref(), unencrypted.as_deref(), args.older_than).await;
    Ok(report.and(broken.map(|error| Finding::broken_configuration(&chain(&error)))))
}

fn describe(report: &Report) -> String {
    let mut text = match report.findings.len() {
        0 => "ok: nothing was found\n".to_owned(),
        1 => format!("{}: 1 finding\n", report.level),
        count => format!("{}: {count} findings\n", report.level),
    };
    for finding in &report.findings {
        text.push_str(&describe_finding(finding));
    }
    if !report.left_out.is_empty() {
        text.push_str("\nskipped:\n");
        for left_out in &report.left_out {
            text.push_str(&format!("  {}: {}\n", left_out.check, left_out.reason));
        }
    }
    text
}

fn describe_finding(finding: &Finding) -> String {
    let Finding { check, level, what, why, fixes } = finding;
    let mut text = format!("\n{level} [{check}] {what}\n  why: {why}\n");
    for (place, fix) in fixes.iter().enumerate() {
        let (into, lines) = match fix {
            Fix::Sql(lines) => ("in psql", lines),
            Fix::Shell(lines) => ("in a shell", lines),
            Fix::Config(lines) => ("in the configuration", lines),
        };
        text.push_str(&format!("  {}{into}:\n", if place == 0 { "" } else { "or " }));
        // Not indented: operators paste these lines.
        lines.lines().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    text
}
