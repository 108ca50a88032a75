//! `outboxd health`: asks a running relay whether it is ready, for container health checks and people.
//! Speaks HTTP/1.0 by hand: one request, one bounded answer, no client to set up.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{CliError, EXIT_FAILED, EXIT_OK, Global};

/// Ask a running relay whether it is ready: exit code 0 if so, 1 and the reasons if not
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the relay serves HTTP (its http.listen)
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9187")]
    pub address: String,
}

/// A relay that takes longer to say that it is well is not.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Far more than any list of reasons.
const MAX_ANSWER: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
enum HealthError {
    #[error("could not ask the relay at {address}; is it running, and is this its http.listen?")]
    Ask {
        address: String,
        #[source]
        cause: io::Error,
    },
    #[error("could not understand the answer of {address}; it does not seem to be a relay")]
    Answer { address: String },
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, CliError> {
    let readiness = ask(args.address).await.map_err(CliError::failed)?;
    if global.json {
        println!("{}", serde_json::to_string(&readiness).expect("booleans and strings have a JSON form"));
    } else if readiness.ready {
        println!("ready");
    } else {
        readiness.reasons.iter().for_each(|reason| println!("not ready: {reason}"));
    }
    Ok(ExitCode::from(if readiness.ready { EXIT_OK } else { EXIT_FAILED }))
}

async fn ask(address: String) -> Result<Readiness, HealthError> {
    let answer = tokio::time::timeout(TIMEOUT, exchange(&address)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match answer {
        Ok(answer) => understand(&answer).ok_or(HealthError::Answer { address }),
        Err(cause) => Err(HealthError::Ask { address, cause }),
    }
}

async fn exchange(address: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Believes "ready" only if status and body agree, so that whatever else may listen there is not taken for a healthy relay.
fn understand(answer: &[u8]) -> Option<Readiness> {
    let (head, body) = std::str::from_utf8(answer).ok()?.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    let readiness: Readiness = serde_json::from_str(body).ok()?;
    matches!((status, readiness.ready), ("200", true) | ("503", false)).then_some(readiness)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_is_believed_only_if_it_is_one_of_a_relay() {
        let stopping = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"ready\":false,\"reasons\":[\"the relay is stopping\"]}";
        let table = [
            ("HTTP/1.0 200 OK\r\na: b\r\n\r\n{\"ready\":true,\"reasons\":[]}", Some((true, vec![]))),
            (stopping, Some((false, vec!["the relay is stopping".to_owned()]))),
            ("HTTP/1.0 200 OK\r\n\r\n{\"ready\":false,\"reasons\":[]}", None),
            ("HTTP/1.0 200 OK\r\n\r\n<html>", None),
            ("HTTP/1.0 404 Not Found\r\n\r\n{\"ready\":true,\"reasons\":[]}", None),
            ("SSH-2.0-OpenSSH", None),
        ];
        for (answer, expected) in table {
            let expected = expected.map(|(ready, reasons)| Readiness { ready, reasons });
            assert_eq!(understand(answer.as_bytes()), expected, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_running_relay_is_asked_over_http() {
        use std::sync::Arc;

        use crate::api::{self, ApiState};
        use crate::telemetry::Health;

        let listener = api::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let health = Arc::new(Health::new(Duration::from_secs(30)));
        tokio::spawn(api::serve(listener, ApiState { telemetry: None, health: health.clone() }, Default::default()));
        assert!(!ask(address.clone()).await.unwrap().ready);
        health.owns(["billing/0"]);
        assert!(ask(address).await.unwrap().ready);
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_with_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = ask(address.clone()).await.unwrap_err().to_string();
        assert_eq!(error, format!("could not ask the relay at {address}; is it running, and is this its http.listen?"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_does_not_answer_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = ask(listener.local_addr().unwrap().to_string()).await.unwrap_err();
        assert!(matches!(error, HealthError::Ask { cause, .. } if cause.kind() == io::ErrorKind::TimedOut));
    }
}
