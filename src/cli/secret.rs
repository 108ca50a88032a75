//! `outboxd secret`: makes a secret for signing webhooks. Needs no file and no database; stores nothing.

use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{CliError, EXIT_OK, Global, print::print};

/// As many bytes as the signature; Standard Webhooks allows 24 to 64.
const BYTES: usize = 32;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outboxd secret
  umask 077; outboxd secret > /run/secrets/billing
  outboxd secret --json | jq -r .secret

Set `secrets_file` of the handler to the file, and give the secret to the receiver. To rotate the secret, put the new one above the old one \
in the file and run `outboxd reload`: requests then have a signature of each.")]
pub struct SecretArgs {}

#[derive(Debug, thiserror::Error)]
#[error("could not read random bytes from {SOURCE}")]
struct NoRandomness(#[source] io::Error);

const SOURCE: &str = "/dev/urandom";

pub fn run(_: &SecretArgs, global: &Global) -> Result<ExitCode, CliError> {
    let secret = make().map_err(|error| CliError::failed(NoRandomness(error)))?;
    print(&match global.json {
        true => format!("{:#}\n", json!({ "secret": secret })),
        false => format!("{secret}\n"),
    })?;
    Ok(ExitCode::from(EXIT_OK))
}

fn make() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    File::open(SOURCE)?.read_exact(&mut bytes)?;
    Ok(format!("whsec_{}", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::Signer;
    use crate::settings::Secret;

    #[test]
    fn a_secret_is_one_that_a_handler_takes_and_no_two_are_alike() {
        let (one, other) = (make().expect("there is randomness"), make().expect("there is randomness"));
        assert_ne!(one, other);
        assert!(Signer::new(&[Secret::new(&one), Secret::new(&other)]).is_ok(), "{one}");
    }
}
