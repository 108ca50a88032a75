//! The connection of a command: from `--database-url`, which needs no configuration file, or from the file.
//! Never creates or migrates anything; a schema that is not an outbox is refused with what to do.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::PgPool;

use super::{CliError, EXIT_CONFIG, Global, chain};
use crate::app;
use crate::settings::Secret;
use crate::store;

/// A command's connection to the outbox.
#[derive(Debug)]
pub struct Session {
    pub pool: PgPool,
    pub schema: String,
}

/// The address, from the command line or the file.
struct Address {
    url: Secret,
    schema: String,
    connect_timeout: Duration,
    statement_timeout: Duration,
    lock_timeout: Duration,
}

impl Address {
    fn options(&self) -> store::Options<'_> {
        store::Options {
            url: self.url.expose(),
            schema: &self.schema,
            application_name: "outboxd cli",
            max_connections: 2,
            connect_timeout: self.connect_timeout,
            statement_timeout: self.statement_timeout,
            lock_timeout: self.lock_timeout,
        }
    }
}

/// Connects, and checks that the outbox exists in the version that this program supports.
pub async fn open(global: &Global) -> Result<Session, CliError> {
    let session = open_unchecked(global).await?;
    store::check_schema(&session.pool, &session.schema).await?;
    Ok(session)
}

/// [`open`] for a command that creates the outbox.
pub async fn open_unchecked(global: &Global) -> Result<Session, CliError> {
    let address = address(global)?;
    let pool = store::connect(&address.options()).await?;
    Ok(Session { pool, schema: address.schema })
}

/// [`open_unchecked`] for a command that diagnoses faults, including the connection to the server.
pub async fn open_thoroughly(global: &Global) -> Result<Session, CliError> {
    let address = address(global)?;
    let pool = store::connect_thoroughly(&address.options()).await?;
    Ok(Session { pool, schema: address.schema })
}

/// A warning about the connection to the server; see [`store::unencrypted`].
pub async fn unencrypted(global: &Global) -> Option<String> {
    let address = address(global).ok()?;
    store::unencrypted(&address.options()).await.ok().flatten()
}

fn address(global: &Global) -> Result<Address, CliError> {
    let mut address = match global.address() {
        Some(url) => Address {
            url: url.clone(),
            schema: configured_schema(global),
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
        },
        _ => from_file(global)?,
    };
    if let Some(schema) = &global.schema {
        address.schema = schema.clone();
    }
    Ok(address)
}

/// `outbox.schema` of the file, as in `run`. With an address no file is needed; an unreadable file is reported, because it may name another
/// schema.
fn configured_schema(global: &Global) -> String {
    const DEFAULT: &str = "outbox";
    if global.schema.is_some() || !global.config.exists() {
        return DEFAULT.to_owned(); // the caller replaces it with `--schema`
    }
    match global.read() {
        Ok(draft) => draft.outbox().schema.clone(),
        Err(error) => {
            eprintln!("outboxd: {}; using schema \"{DEFAULT}\"; --schema names another", chain(&*error.error));
            DEFAULT.to_owned()
        }
    }
}

fn from_file(global: &Global) -> Result<Address, CliError> {
    let (database, outbox, others) = app::load_database(&global.config).map_err(|error| CliError::new(EXIT_CONFIG, error))?;
    if others > 0 {
        let mistakes = if others == 1 { "a mistake".to_owned() } else { format!("{others} mistakes") };
        eprintln!("note: {} has {mistakes} outside [database]; `outboxd check` lists them", global.config.display());
    }
    Ok(Address {
        url: database.url,
        schema: outbox.schema,
        connect_timeout: database.connect_timeout,
        statement_timeout: database.statement_timeout,
        lock_timeout: database.lock_timeout,
    })
}

/// An address contains a password: nothing prints it from here on.
pub(super) fn parse_url(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

/// The same rule as for `outbox.schema` of the configuration: the name becomes part of the search path unquoted.
pub(super) fn parse_schema(name: &str) -> Result<String, String> {
    let is_first = |first: char| first.is_ascii_lowercase() || first == '_';
    let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if name.starts_with("pg_") || name == "information_schema" {
        return Err("Postgres reserves this name".to_owned());
    }
    if name.len() <= 63 && is_plain && name.starts_with(is_first) {
        return Ok(name.to_owned());
    }
    Err("expected lower case letters, digits and underscores, such as outbox".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_name_is_one_that_needs_no_quotes() {
        for (name, is_good) in [("outbox", true), ("_a1", true), ("1a", false), ("", false), ("Out", false), ("a,b", false)] {
            assert_eq!(parse_schema(name).is_ok(), is_good, "{name}");
        }
    }
}
