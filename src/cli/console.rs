//! `outboxd console`: serves the console in a process of its own, also while no relay runs, and makes tokens for it.

use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::print::print;
use super::run::stop_on_signals;
use super::{CliError, EXIT_CONFIG, EXIT_DATABASE, EXIT_FAILED, EXIT_OK, Global, chain};
use crate::app::{self, ConsoleError};
use crate::config::{self, ConsoleAddress};
use crate::domain::Role;
use crate::telemetry::logging;

/// Serve the console without a relay, and make tokens for it
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  outboxd console
  outboxd console --listen unix:/run/outboxd/console.sock
  ssh -L 9189:127.0.0.1:9189 shop.internal outboxd console
  outboxd console token alice --role operate

The console works while no relay runs. `outboxd run` also serves it if `console.listen` is set. Without tokens, a console at a local \
address shows everything but payloads and changes nothing; an address that other machines can reach is refused. SIGHUP reads tokens and \
rights again."
)]
pub struct ConsoleArgs {
    #[command(subcommand)]
    command: Option<ConsoleCommand>,
    /// Address to listen at [default: console.listen, else 127.0.0.1:9189]
    #[arg(long, value_name = "ADDRESS", value_parser = ConsoleAddress::parse)]
    listen: Option<ConsoleAddress>,
}

#[derive(Debug, Subcommand)]
enum ConsoleCommand {
    /// Make a token, and its entry for the configuration
    #[command(after_help = "Examples:
  outboxd console token alice
  outboxd console token alice --role operate --payload
  outboxd console token deploy --role admin --json | jq -r .token

Give the token to the operator and put the entry into the configuration; do not store the token itself. `outboxd reload` activates a new \
entry, and ends the sessions of a removed one.")]
    Token(TokenArgs),
}

#[derive(Debug, Args)]
struct TokenArgs {
    /// Name of the operator or program in the audit
    #[arg(value_parser = config::check_handler_name)]
    name: String,
    /// What the token may do
    #[arg(long, default_value = "read", value_parser = ["read", "operate", "admin"])]
    role: String,
    /// Also allow payloads and headers
    #[arg(long)]
    payload: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("could not read random bytes from {SOURCE}")]
struct NoRandomness(#[source] io::Error);

#[derive(Debug, thiserror::Error)]
#[error("{address}: {refusal}")]
struct Exposed {
    address: ConsoleAddress,
    refusal: &'static str,
}

const SOURCE: &str = "/dev/urandom";
const DEFAULT: &str = "127.0.0.1:9189";

pub async fn run(args: ConsoleArgs, global: &Global) -> Result<ExitCode, CliError> {
    match args.command {
        Some(ConsoleCommand::Token(args)) => make_token(&args, global),
        None => serve(args.listen, global).await,
    }
}

fn make_token(args: &TokenArgs, global: &Global) -> Result<ExitCode, CliError> {
    let TokenArgs { name, role, payload } = args;
    let (token, sha256) = make().map_err(|error| CliError::failed(NoRandomness(error)))?;
    let role = Role::named(role).expect("the command line takes no other");
    print(&match global.json {
        true => format!(
            "{:#}\n",
            json!({ "token": token, "entry": { "name": name, "role": role.name(), "payload": payload, "sha256": sha256 } })
        ),
        false => format!(
            "token  {token}\n\n[[console.tokens]]\nname = \"{name}\"\nrole = \"{}\"\npayload = {payload}\nsha256 = \"{sha256}\"\n",
            role.name()
        ),
    })?;
    Ok(ExitCode::from(EXIT_OK))
}

/// A token, and its digest for the configuration.
pub(super) fn make() -> io::Result<(String, String)> {
    let mut bytes = [0; 32];
    File::open(SOURCE)?.read_exact(&mut bytes)?;
    let token = URL_SAFE_NO_PAD.encode(bytes);
    let digest: String = Sha256::digest(&token).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((token, digest))
}

async fn serve(listen: Option<ConsoleAddress>, global: &Global) -> Result<ExitCode, CliError> {
    let config = load(global)?;
    logging::install(config.log.format, &config.log.filter).map_err(|error| CliError::new(EXIT_CONFIG, error))?;
    let address = listen.or_else(|| config.console.listen.clone());
    let address = address.unwrap_or_else(|| ConsoleAddress::parse(DEFAULT).expect("the default is an address"));
    if let Some(refusal) = address.refusal(&config.console) {
        return Err(CliError::new(EXIT_CONFIG, Exposed { address, refusal }));
    }
    let stop = CancellationToken::new();
    let signals = tokio::spawn(stop_on_signals(stop.clone()));
    let configuration = app::configuration_reader(global.config.clone(), global.overrides());
    let (sender, reloaded) = mpsc::channel(1);
    let hang_ups = tokio::spawn(reload_on_hang_up(global.clone(), address.clone(), sender));
    let ended = app::serve_console(&config, &address, Some(configuration), reloaded, stop).await;
    signals.abort();
    hang_ups.abort();
    match ended {
        Ok(()) => Ok(ExitCode::from(EXIT_OK)),
        Err(ConsoleError::Store(failure)) => Err(CliError::new(EXIT_DATABASE, failure)),
        Err(failure) => Err(CliError::new(EXIT_FAILED, failure)),
    }
}

/// The configuration. No file is needed if the address of the database is given.
fn load(global: &Global) -> Result<config::Config, CliError> {
    if global.address().is_some() && !global.config.exists() {
        return app::without_file(&global.overrides()).map_err(|error| CliError::new(EXIT_CONFIG, error));
    }
    Ok(global.load()?.config)
}

/// SIGHUP reads tokens and rights again. An invalid configuration, or one that would open the address to others, changes nothing.
async fn reload_on_hang_up(global: Global, address: ConsoleAddress, sender: mpsc::Sender<config::Config>) {
    let Ok(mut hang_up) = signal(SignalKind::hangup()) else {
        warn!("SIGHUP cannot be caught here; start the console again instead");
        return;
    };
    while hang_up.recv().await.is_some() {
        match load(&global) {
            Ok(config) => match address.refusal(&config.console) {
                None => {
                    info!("tokens and rights were read again");
                    if sender.send(config).await.is_err() {
                        return;
                    }
                }
                Some(refusal) => warn!(%address, refusal, "the old tokens stay"),
            },
            Err(error) => warn!(error = %chain(&*error.error), "could not read the configuration again, the old tokens stay"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_with_its_digest_and_no_two_are_alike() {
        let ((one, digest), (other, _)) = (make().expect("there is randomness"), make().expect("there is randomness"));
        assert!(one != other && one.len() == 43, "{one}");
        assert_eq!(digest, Sha256::digest(&one).iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
}
