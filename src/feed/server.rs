//! The listener of the feed. The number of connections is bounded, and so is the time for the head of a request. At a stop,
//! streams and waiting requests are notified and end by themselves; connections that are left after a moment are cut.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::routes::routes;
use super::{Feed, Lasting, tail};

/// Why the address of the feed cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address} for the feed; set feed.listen to a free address of this machine")]
pub struct FeedBindError {
    address: SocketAddr,
    #[source]
    cause: io::Error,
}

/// Until the head of a request is there, and between two requests of a connection.
const HEAD: Duration = Duration::from_secs(10);
/// Far more than a client sends.
const MOST_HEAD_BYTES: usize = 16 * 1024;
/// After an accept that failed, for example for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// After the stop a connection has this long to end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Opens the listener of `feed.listen`.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, FeedBindError> {
    TcpListener::bind(address).await.map_err(|cause| FeedBindError { address, cause })
}

/// Answers until the feed is ordered to stop, and reads the tail for its clients meanwhile. `further`: what else is served here.
pub async fn serve(listener: TcpListener, feed: Arc<Feed>, further: Router) {
    let (routes, stop, most) = (routes(Arc::clone(&feed), further), feed.stop.clone(), feed.settings.max_connections);
    let Lasting { sockets, tasks: others, cut } = &feed.lasting;
    let source = Arc::clone(&feed.source);
    let tail = tail::serve(source, feed.published.clone(), stop.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(tail);
    // The one task more is that of the tail.
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                // One too many is closed at once: a place that it waited for would be one that others lack.
                Ok((stream, _)) if tasks.len() + sockets.len() <= most => drop(tasks.spawn(answer(stream, feed.certificates.current(), routes.clone(), stop.clone()))),
                Ok(_) => {}
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            Some(_) = tasks.join_next(), if tasks.len() > 1 => {}
        }
    }
    drop(listener);
    sockets.close();
    others.close();
    let all = async {
        while tasks.join_next().await.is_some() {}
        tokio::join!(sockets.wait(), others.wait());
    };
    tokio::time::timeout(LAST_ANSWERS, all).await.ok(); // what does not end is cut with the set
    cut.cancel();
}

async fn answer(stream: TcpStream, tls: Option<Arc<ServerConfig>>, routes: Router, stop: CancellationToken) {
    // Events are small and should not wait for others.
    stream.set_nodelay(true).ok();
    let Some(tls) = tls else { return converse(stream, routes, stop).await };
    let handshake = tokio::time::timeout(HEAD, TlsAcceptor::from(tls).accept(stream));
    // Apart from the rest: a connection in the clear should not hold the memory of one that is not.
    let encrypted = async {
        let stream = tokio::select! {
            stream = handshake => stream,
            () = stop.cancelled() => return,
        };
        // A client that breaks off, or speaks no TLS, is no failure.
        if let Ok(Ok(stream)) = stream {
            converse(stream, routes, stop.clone()).await;
        }
    };
    Box::pin(encrypted).await;
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, routes: Router, stop: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MOST_HEAD_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)).with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        // A client that breaks off is no failure.
        _ = &mut connection => return,
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.ok();
}
