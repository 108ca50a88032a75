//! The listener of the console, on TCP or on a unix socket. Connections are bounded, and so is the time that a client may take over the head of a
//! request and an answer may take. Begins nothing after a stop, and gives what is being answered a moment.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Console;
use super::access::Peer;
use crate::config::ConsoleAddress;

/// Why the address of the console cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address} for the console; set console.listen to a free address of this machine")]
pub struct ConsoleBindError {
    address: ConsoleAddress,
    #[source]
    cause: io::Error,
}

/// The address, taken.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Until the head of a request is there, and between two requests of a connection.
const HEAD: Duration = Duration::from_secs(15);
/// Far more than a browser sends.
const MOST_HEAD_BYTES: usize = 32 * 1024;
/// Far more than a few people and programs need; browsers open six each.
const MOST_CONNECTIONS: usize = 128;
/// After an accept that failed, for example for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// After the stop a connection has this long to end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Opens the listener of `console.listen`.
pub async fn bind(address: &ConsoleAddress) -> Result<Listener, ConsoleBindError> {
    let bound = match address {
        ConsoleAddress::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
        ConsoleAddress::Unix(path) => bind_socket(path).await.map(Listener::Unix),
    };
    bound.map_err(|cause| ConsoleBindError { address: address.clone(), cause })
}

/// A socket that a process has left behind when it was killed is replaced; one that somebody listens on is not.
async fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && tokio::net::UnixStream::connect(path).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    // For the user and the group of the process, for example the group of a proxy.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

impl Listener {
    /// As bound: with port 0 the system has chosen one.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.to_string()).unwrap_or_default(),
            Self::Unix(listener) => {
                let path =
                    listener.local_addr().ok().and_then(|address| address.as_pathname().map(|path| path.display().to_string()));
                format!("unix:{}", path.unwrap_or_default())
            }
        }
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true).ok(); // an answer is small and should not wait
                Ok((Box::new(stream), Peer::Address(address.ip())))
            }
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| (Box::new(stream) as Box<dyn Stream>, Peer::Socket)),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Answers until `stop`.
pub async fn serve(listener: Listener, console: Arc<Console>, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                // One too many is closed at once; whoever is logged in has its connections already.
                Ok((stream, peer)) if tasks.len() < MOST_CONNECTIONS => drop(tasks.spawn(answer(stream, peer, Arc::clone(&console), stop.clone()))),
                Ok(_) => {}
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
    if let Listener::Unix(listener) = &listener
        && let Some(path) = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned))
    {
        std::fs::remove_file(path).ok(); // the next process replaces it anyway
    }
    drop(listener);
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::time::timeout(LAST_ANSWERS, all).await.ok(); // what does not end is cut with the set
}

async fn answer(stream: Box<dyn Stream>, peer: Peer, console: Arc<Console>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let console = Arc::clone(&console);
        async move { Ok::<_, Infallible>(console.answer(peer, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MOST_HEAD_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // A client that disconnects is not an error.
        _ = &mut connection => return,
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.ok();
}
