//! `outboxd subjects`: master keys for the keys of persons. A master key never gets into the database, the audit or an output other than its own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::print::print;
use super::text::plural;
use super::{CliError, EXIT_CONFIG, EXIT_OK, Global, ask, session};
use crate::store::subjects::{count_keys, list_keys_to_rewrap, store_rewrapped};
use crate::store::{Actor, AuditEntry, begin, commit, record_audit};
use crate::uow::shredding::{MasterKeys, MasterKeysError, ShredError, WrappedKey};

/// Make master keys for the keys of persons, and wrap those keys by a new one
#[derive(Debug, Args)]
pub struct SubjectsArgs {
    #[command(subcommand)]
    command: SubjectsCommand,
}

#[derive(Debug, Subcommand)]
enum SubjectsCommand {
    /// Make a master key
    #[command(after_help = "Examples:
  umask 077; outboxd subjects key > /run/secrets/master-keys

Needs no database. Keep a copy of it apart from the backups of the database: without it no value can be read, and who has both can read all.")]
    Key,
    /// Wrap all keys by the first master key of the file; values are not encrypted again
    #[command(after_help = "Examples:
  outboxd subjects rewrap --master-keys-file /run/secrets/master-keys --because 'yearly rotation, OPS-900'

To change the master key: put a new line above the old one in the file of every program, restart the programs, run this command, and then \
take the old line away. A key that another program has wrapped by the old one meanwhile is found when the command runs again.")]
    Rewrap(RewrapArgs),
    /// Count the keys by the master key that wraps them
    List,
}

#[derive(Debug, Args)]
struct RewrapArgs {
    /// File with the master keys, the new one first [default: the variable OUTBOXD_MASTER_KEYS]
    #[arg(long, value_name = "FILE")]
    master_keys_file: Option<PathBuf>,
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", value_parser = ask::parse_text)]
    because: Option<String>,
}

/// Keys of one transaction.
const CHUNK: i64 = 500;

const VARIABLE: &str = "OUTBOXD_MASTER_KEYS";

pub async fn run(args: SubjectsArgs, global: &Global) -> Result<ExitCode, CliError> {
    match args.command {
        SubjectsCommand::Key => make(global),
        SubjectsCommand::Rewrap(args) => rewrap(args, global).await,
        SubjectsCommand::List => list(global).await,
    }
}

fn make(global: &Global) -> Result<ExitCode, CliError> {
    let key = MasterKeys::make().map_err(CliError::failed)?;
    print(&match global.json {
        true => format!("{:#}\n", json!({ "master_key": key })),
        false => format!("{key}\n"),
    })?;
    Ok(ExitCode::from(EXIT_OK))
}

async fn rewrap(args: RewrapArgs, global: &Global) -> Result<ExitCode, CliError> {
    let keys = match &args.master_keys_file {
        Some(path) => MasterKeys::from_file(path),
        None => MasterKeys::from_env(VARIABLE),
    };
    let keys = keys.map_err(|error: MasterKeysError| CliError::new(EXIT_CONFIG, error))?;
    let master = keys.fingerprints().swap_remove(0);
    let session = session::open(global).await?;
    let (mut after, mut rewrapped) = (String::new(), 0);
    loop {
        let found = list_keys_to_rewrap(&session.pool, &master, &after, CHUNK).await?;
        let Some(last) = found.last() else { break };
        after = last.subject.clone();
        let now = found.into_iter().map(|key| {
            let wrapped = WrappedKey { key: key.key, wrapped: key.wrapped.clone(), master: key.master.clone() };
            let now = keys.rewrap(&key.subject, &wrapped)?;
            Ok((key, now.wrapped))
        });
        let now = now.collect::<Result<Vec<_>, ShredError>>().map_err(CliError::failed)?;
        let mut transaction = begin(&session.pool).await?;
        let stored = store_rewrapped(&mut transaction, &master, &now).await?;
        let filter = json!({ "master": master }).to_string();
        let (actor, reason) = (ask::actor(), args.because.as_deref());
        let entry = AuditEntry {
            actor: Actor::cli(&actor),
            action: "rewrap_keys",
            handler: None,
            filter: &filter,
            affected: stored,
            reason,
        };
        record_audit(&mut transaction, &entry).await?;
        commit(transaction).await?;
        rewrapped += stored;
    }
    eprintln!("wrapped {rewrapped} key{} by {master}", plural(rewrapped));
    if global.json {
        print(&format!("{:#}\n", json!({ "master": master, "rewrapped": rewrapped })))?;
    }
    Ok(ExitCode::from(EXIT_OK))
}

async fn list(global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let counted = count_keys(&session.pool).await?;
    let (living, destroyed): (Vec<_>, Vec<_>) = counted.into_iter().partition(|(master, _)| master.is_some());
    let destroyed: i64 = destroyed.iter().map(|(_, keys)| keys).sum();
    print(&match global.json {
        true => {
            let masters: Vec<_> = living.iter().map(|(master, keys)| json!({ "master": master, "keys": keys })).collect();
            format!("{:#}\n", json!({ "masters": masters, "destroyed": destroyed }))
        }
        false => {
            let line = |(master, keys): &(Option<String>, i64)| {
                format!("{keys} keys are wrapped by {}\n", master.as_deref().unwrap_or_default())
            };
            living.iter().map(line).collect::<String>() + &format!("{destroyed} keys were destroyed\n")
        }
    })?;
    Ok(ExitCode::from(EXIT_OK))
}
