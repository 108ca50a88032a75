//! Before a person's command changes something: who it is, whether they mean it, and whether the handler they name exists.

use std::io::{self, IsTerminal, Write};

use sqlx::PgPool;

use super::{CliError, EXIT_CONFIG};
use crate::store;

#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("this changes what will be delivered and there is no terminal to ask on; add --yes to go ahead")]
    NoTerminal,
    #[error("stopped; nothing was changed")]
    Declined,
    #[error("could not ask")]
    Read(#[source] io::Error),
    #[error("there is no handler \"{name}\"{hint}")]
    UnknownHandler { name: String, hint: String },
    #[error("{name} is a version of a projection, whose table says what its position says: {instead}")]
    Projection { name: String, instead: &'static str },
}

/// Who acts, for the audit: `OUTBOXD_ACTOR`, otherwise user and host.
pub(super) fn actor() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    variable("OUTBOXD_ACTOR").unwrap_or_else(|| {
        let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "unknown".to_owned());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| variable("HOSTNAME"));
        format!("{user}@{}", host.as_deref().map_or("unknown", str::trim))
    })
}

/// Asks on standard error, unless the answer was given with `--yes`. Returns only if the answer is yes.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::new(EXIT_CONFIG, AskError::NoTerminal));
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush().ok(); // a prompt that cannot be shown is no reason to stop
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| CliError::failed(AskError::Read(error)))?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(CliError::failed(AskError::Declined))
}

/// What a person says about why; blanks are no reason.
pub(super) fn parse_text(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.is_empty() { Err("expected some words about why") } else { Ok(text.to_owned()) }
}

/// Refuses the name of a handler that the database does not know, with the nearest one that it does.
pub(super) async fn check_handler(pool: &PgPool, name: &str) -> Result<(), CliError> {
    let names = store::list_handler_names(pool).await?;
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    let hint = match nearest(name, &names) {
        Some(near) => format!("; did you mean \"{near}\"?"),
        None if names.is_empty() => "; no relay has run on this outbox yet".to_owned(),
        None => "; `outboxd handlers list` shows all".to_owned(),
    };
    Err(CliError::new(EXIT_CONFIG, AskError::UnknownHandler { name: name.to_owned(), hint }))
}

/// Refuses what must not happen to a projection, whose events are applied once each.
pub(super) async fn refuse_projection(pool: &PgPool, name: &str, instead: &'static str) -> Result<(), CliError> {
    let known = store::subscriptions::list(pool).await?;
    if known.iter().any(|known| known.handler == name && known.kind == store::projections::KIND) {
        return Err(CliError::new(EXIT_CONFIG, AskError::Projection { name: name.to_owned(), instead }));
    }
    Ok(())
}

fn nearest<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let (likeness, near) = names.iter().map(|near| (strsim::jaro_winkler(name, near), near)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness > 0.75).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_is_near_is_suggested() {
        let names = ["billing".to_owned(), "mail".to_owned()];
        assert_eq!(nearest("biling", &names), Some("billing"));
        assert_eq!(nearest("warehouse", &names), None);
        assert_eq!(nearest("mail", &[]), None);
    }
}
