//! `outboxd contracts check` and `diff`: changes since publication, and differences between two versions.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::super::print::print;
use super::super::text::as_json;
use super::super::{CliError, EXIT_FAILED, EXIT_OK};
use super::{ContractsError, split};
use crate::contracts::compat::{self, Finding, Verdict};
use crate::contracts::{Change, Lock, Registry, Version};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The lock file with the published versions
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Write the lock file if nothing is refused; creates it if there is none
    #[arg(long, requires = "against")]
    update: bool,
    /// Allow a sunset that is earlier than announced
    #[arg(long, requires = "against")]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// Type and version: order.placed@1
    from: String,
    /// Another version of the same type: order.placed@2
    to: String,
}

pub(super) fn check(args: &CheckArgs, registry: &Registry, is_json: bool) -> Result<ExitCode, CliError> {
    let changes = match &args.against {
        Some(file) => read(file, args.update)?.map(|lock| lock.changes(registry, args.force)).unwrap_or_default(),
        None => Vec::new(),
    };
    let is_good = changes.iter().all(|change| change.verdict == Verdict::Compatible);
    if let (Some(file), true, true) = (&args.against, args.update, is_good) {
        let lock = Lock::of(registry).text();
        std::fs::write(file, lock).map_err(|error| CliError::failed(format!("could not write {}: {error}", file.display())))?;
    }
    print(&if is_json { checked_as_json(registry, &changes, is_good) } else { describe(args, registry, &changes) })?;
    Ok(ExitCode::from(if is_good { EXIT_OK } else { EXIT_FAILED }))
}

/// `None`: the file does not exist yet and is to be written.
fn read(file: &Path, may_be_absent: bool) -> Result<Option<Lock>, CliError> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_be_absent => return Ok(None),
        Err(error) => return Err(CliError::failed(format!("could not read {}: {error}; --update creates it", file.display()))),
        Ok(text) => text,
    };
    Lock::parse(&text).map(Some).map_err(|error| CliError::failed(format!("{}: {}", file.display(), super::super::chain(&error))))
}

fn describe(args: &CheckArgs, registry: &Registry, changes: &[Change]) -> String {
    let versions: usize = registry.contracts().map(|contract| contract.versions.len()).sum();
    let count = registry.contracts().count();
    let mut text = format!("consistent: contracts {count}, versions {versions}\n");
    for change in changes {
        text.push_str(&format!("\n{}  {}\n", change.place, change.verdict.as_str()));
        for line in &change.texts {
            text.push_str(&format!("  {line}\n"));
        }
        for (finding, allowed) in &change.findings {
            text.push_str(&format!("  {finding}\n"));
            match allowed {
                Some(reason) => text.push_str(&format!("    allowed: {reason}\n")),
                None => {
                    text.push_str(&format!("    to allow it: allow = {{ \"{}\" = \"why no reader breaks\" }}\n", finding.key()))
                }
            }
        }
    }
    match &args.against {
        Some(file) if changes.is_empty() && !args.update => {
            text.push_str(&format!("no published version differs from {}\n", file.display()))
        }
        Some(file) if args.update && changes.iter().all(|change| change.verdict == Verdict::Compatible) => {
            text.push_str(&format!("{} is up to date\n", file.display()));
        }
        _ => {}
    }
    text
}

fn checked_as_json(registry: &Registry, changes: &[Change], is_good: bool) -> String {
    let change = |change: &Change| {
        let findings: Vec<Value> =
            change.findings.iter().map(|(finding, allowed)| finding_as_json(finding, allowed.as_deref())).collect();
        json!({ "version": change.place, "verdict": change.verdict.as_str(), "problems": change.texts, "findings": findings })
    };
    as_json(&json!({
        "ok": is_good,
        "contracts": registry.contracts().count(),
        "changes": changes.iter().map(change).collect::<Vec<_>>(),
    }))
}

fn finding_as_json(finding: &Finding, allowed: Option<&str>) -> Value {
    json!({
        "direction": finding.direction.as_str(),
        "path": finding.path,
        "rule": finding.rule,
        "text": finding.text,
        "instance": finding.instance,
        "allowed": allowed,
    })
}

pub(super) fn diff(args: &DiffArgs, registry: &Registry, is_json: bool) -> Result<String, CliError> {
    let (from, to) = (version(registry, &args.from)?, version(registry, &args.to)?);
    let findings = compat::compare(&from.schema, &to.schema);
    let verdict = Verdict::of(&findings);
    if is_json {
        let findings: Vec<Value> = findings.iter().map(|finding| finding_as_json(finding, None)).collect();
        return Ok(as_json(&json!({ "from": args.from, "to": args.to, "verdict": verdict.as_str(), "findings": findings })));
    }
    let mut text = format!("{} -> {}: {}\n", args.from, args.to, verdict.as_str());
    for finding in &findings {
        text.push_str(&format!("  {finding}\n"));
    }
    Ok(text)
}

fn version<'r>(registry: &'r Registry, text: &str) -> Result<&'r Version, CliError> {
    let (event_type, number) = split(text);
    let number = number.ok_or_else(|| CliError::failed(ContractsError::NoVersion(text.to_owned())))?;
    registry.version(event_type, number).map_err(CliError::failed)
}
