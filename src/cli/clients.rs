//! `outboxd clients`: lists the clients that may read the feed, and makes tokens. Reads the configuration only; prints only new tokens.

use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::print::print;
use super::text::{plain_table, printable};
use super::{CliError, EXIT_OK, Global};
use crate::config::ClientConfig;

/// List the clients of the feed, and make tokens for them
#[derive(Debug, Args)]
pub struct ClientsArgs {
    #[command(subcommand)]
    command: ClientsCommand,
}

#[derive(Debug, Subcommand)]
enum ClientsCommand {
    /// List the clients: which events each may read, and how many requests it may have open
    #[command(after_help = "Examples:
  outboxd clients list
  outboxd clients list --json | jq -r '.clients[].name'")]
    List,
    /// Make a token, and its line for the configuration
    #[command(after_help = "Examples:
  outboxd clients token
  outboxd clients token --json | jq -r .token

Give the token to the client and put the digest into `tokens` of its [[clients]] entry; do not store the token itself. To replace \
a token, put the new digest beside the old one, run `outboxd reload`, and remove the old one when the client uses the new token.")]
    Token,
}

#[derive(Debug, thiserror::Error)]
#[error("could not read random bytes from {SOURCE}")]
struct NoRandomness(#[source] io::Error);

const SOURCE: &str = "/dev/urandom";

pub fn run(args: &ClientsArgs, global: &Global) -> Result<ExitCode, CliError> {
    let text = match args.command {
        ClientsCommand::List => list(global)?,
        ClientsCommand::Token => {
            let (token, digest) = make().map_err(|error| CliError::failed(NoRandomness(error)))?;
            match global.json {
                true => format!("{:#}\n", json!({ "token": token, "digest": digest })),
                false => format!("token   {token}\ndigest  {digest}\n"),
            }
        }
    };
    print(&text)?;
    Ok(ExitCode::from(EXIT_OK))
}

fn list(global: &Global) -> Result<String, CliError> {
    let config = global.load()?.config;
    if global.json {
        let clients: Vec<_> = config.clients.iter().map(|client| document(client, &config.feed.events)).collect();
        return Ok(format!("{:#}\n", json!({ "events": config.feed.events, "clients": clients })));
    }
    if config.clients.is_empty() {
        return Ok("no client is configured, so no client may read the feed\n".to_owned());
    }
    let mut table = plain_table(&["CLIENT", "EVENTS", "WHERE", "TOKENS", "CONNECTIONS", "CURSORS"]);
    for client in &config.clients {
        let conditions = client.where_headers.iter().map(|(name, value)| format!("{name} = {value}"));
        table.add_row([
            client.name.clone(),
            printable(&seen(client, &config.feed.events).join(", ")),
            printable(&conditions.collect::<Vec<_>>().join(", ")),
            client.tokens.len().to_string(),
            client.max_connections.to_string(),
            client.cursors.join(", "),
        ]);
    }
    Ok(table.trim_fmt() + "\n")
}

/// The types that the client's own list allows; the list of the feed must allow them as well.
fn seen<'a>(client: &'a ClientConfig, feed: &'a [String]) -> &'a [String] {
    if client.events.is_empty() { feed } else { &client.events }
}

fn document(client: &ClientConfig, feed: &[String]) -> serde_json::Value {
    json!({
        "name": client.name,
        "events": seen(client, feed),
        "where_headers": client.where_headers,
        "tokens": client.tokens.len(),
        "max_connections": client.max_connections,
        "cursors": client.cursors,
    })
}

fn make() -> io::Result<(String, String)> {
    let mut bytes = [0; 32];
    File::open(SOURCE)?.read_exact(&mut bytes)?;
    let token = URL_SAFE_NO_PAD.encode(bytes);
    let digest: String = Sha256::digest(&token).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((token, format!("sha256:{digest}")))
}
