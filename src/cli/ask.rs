//! Before a command changes something: the name of the operator for the audit, and a confirmation.

use std::io::{self, IsTerminal, Write};

use super::{CliError, EXIT_CONFIG};
use crate::operations::{Caller, Role, Via};

#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("this changes what will be delivered, and there is no terminal for a confirmation; add --yes to continue")]
    NoTerminal,
    #[error("stopped; nothing was changed")]
    Declined,
    #[error("could not ask for a confirmation")]
    Read(#[source] io::Error),
}

/// The operator's name for the audit: `OUTBOXD_ACTOR`, otherwise user and host.
pub(super) fn actor() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    variable("OUTBOXD_ACTOR").unwrap_or_else(|| {
        let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "unknown".to_owned());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| variable("HOSTNAME"));
        format!("{user}@{}", host.as_deref().map_or("unknown", str::trim))
    })
}

/// The operator as a caller of operations. An operator who has the address of the database may do everything.
pub(super) fn caller() -> Caller {
    Caller { name: actor(), role: Role::Admin, sees_payloads: true, via: Via::Cli }
}

/// Asks on standard error, unless `--yes` was given. Returns `Ok` only if the answer is yes.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::new(EXIT_CONFIG, AskError::NoTerminal));
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush().ok(); // a prompt that cannot be printed is no reason to stop
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| CliError::failed(AskError::Read(error)))?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(CliError::failed(AskError::Declined))
}

/// The reason that the operator gives; blanks are not a reason.
pub(super) fn parse_text(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.is_empty() { Err("expected a reason in your words") } else { Ok(text.to_owned()) }
}
