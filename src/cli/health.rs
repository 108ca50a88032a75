//! `outboxd health`: asks a running relay whether it is ready, for container health checks and operators.
//! Sends one HTTP/1.0 request without a client library, and reads one bounded answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{CliError, EXIT_FAILED, EXIT_OK, Global, print::print};

/// Ask a running relay whether it is ready: exit code 0 if so, 1 and the reasons if not
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ready means that the relay does its work: use it for load balancers and rollouts. Alive (--live) means that the process runs and answers: \
use it to restart the process. A restart does not help a relay that waits for its database.")]
pub struct Args {
    /// HTTP address of the relay [default: http.listen of the configuration, else 127.0.0.1:9187]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// Ask only whether the process runs and answers
    #[arg(long)]
    pub live: bool,
}

/// The default address of a relay.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9187);

/// A relay that takes longer to answer is not ready.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Far more than any list of reasons.
const MAX_ANSWER: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
enum HealthError {
    #[error("could not reach the relay at {address}; is it running, and is this its http.listen?")]
    Ask {
        address: String,
        #[source]
        cause: io::Error,
    },
    #[error("could not read the answer of {address}; it does not seem to be a relay")]
    Answer { address: String },
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
}

pub async fn run(args: Args, global: &Global) -> Result<ExitCode, CliError> {
    let Some(address) = args.address.or_else(|| listens_at(global)) else {
        // No address can be asked. A health check inside the container of the relay shows already that the process runs.
        eprintln!("the relay serves no HTTP because http.listen is empty; `outboxd status` reads the database instead");
        return Ok(ExitCode::from(if args.live { EXIT_OK } else { EXIT_FAILED }));
    };
    if args.live {
        return live(address, global).await;
    }
    let readiness = ask(address).await.map_err(CliError::failed)?;
    if global.json {
        println!("{}", serde_json::to_string(&readiness).expect("booleans and strings have a JSON form"));
    } else if readiness.ready {
        println!("ready");
    } else {
        readiness.reasons.iter().for_each(|reason| println!("not ready: {reason}"));
    }
    Ok(ExitCode::from(if readiness.ready { EXIT_OK } else { EXIT_FAILED }))
}

/// The address at which this machine reaches a relay with this configuration; `None`: it serves no HTTP. An unreadable file, or a mistake
/// elsewhere in it, does not make a relay unhealthy that started with an earlier version of the file.
fn listens_at(global: &Global) -> Option<String> {
    let Ok(draft) = global.read() else { return Some(DEFAULT.to_string()) };
    draft.http().listen.map(|address| reachable(address).to_string())
}

/// A relay that listens on all addresses is reached at the loopback address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn live(address: String, global: &Global) -> Result<ExitCode, CliError> {
    let answer = asked(&address, "/healthz")
        .await
        .map_err(|cause| CliError::failed(HealthError::Ask { address: address.clone(), cause }))?;
    if !answer.starts_with(b"HTTP/1.") || !answer.windows(5).any(|part| part == b" 200 ") {
        return Err(CliError::failed(HealthError::Answer { address }));
    }
    print(if global.json { "{\"live\":true}\n" } else { "alive\n" })?;
    Ok(ExitCode::from(EXIT_OK))
}

async fn asked(address: &str, path: &str) -> io::Result<Vec<u8>> {
    tokio::time::timeout(TIMEOUT, exchange(address, path)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn ask(address: String) -> Result<Readiness, HealthError> {
    match asked(&address, "/readyz").await {
        Ok(answer) => understand(&answer).ok_or(HealthError::Answer { address }),
        Err(cause) => Err(HealthError::Ask { address, cause }),
    }
}

async fn exchange(address: &str, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Accepts "ready" only if status and body agree, so that another program at this address is not taken for a healthy relay.
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

    #[test]
    fn what_listens_everywhere_is_asked_at_home() {
        for (listens, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.1.2.3:4", "10.1.2.3:4")] {
            assert_eq!(reachable(listens.parse().expect("an address")).to_string(), asked);
        }
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_with_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = ask(address.clone()).await.unwrap_err().to_string();
        assert_eq!(error, format!("could not reach the relay at {address}; is it running, and is this its http.listen?"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_does_not_answer_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = ask(listener.local_addr().unwrap().to_string()).await.unwrap_err();
        assert!(matches!(error, HealthError::Ask { cause, .. } if cause.kind() == io::ErrorKind::TimedOut));
    }
}
