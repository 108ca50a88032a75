//! The connections of the HTTP listener, bounded in three ways: the time for the head of a request, the time that a connection
//! may last, and the number of connections. When there is one too many, the oldest ends: a probe is answered at once, so its
//! connection is never the oldest for long. One request per connection, so none can be idle.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use axum::Router;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::FuturesUnordered;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Until the head of a request is there.
    head: Duration,
    /// For a connection, the answer included.
    whole: Duration,
    /// Connections at once.
    most: usize,
}

impl Bounds {
    /// Far more than scrapers and probes need.
    pub const USUAL: Self = Self { head: Duration::from_secs(5), whole: Duration::from_secs(30), most: 128 };
}

/// Far more than a scraper sends.
const MOST_HEAD_BYTES: usize = 16 * 1024;
/// After an accept that failed, for example for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until `shutdown`; then what is being answered may finish.
pub async fn serve(listener: TcpListener, routes: Router, bounds: Bounds, shutdown: CancellationToken) -> io::Result<()> {
    let mut connections = Connections::new(bounds);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connections.add(stream, routes.clone(), shutdown.clone()),
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            Some(number) = connections.running.next() => connections.forget(number),
        }
    }
    drop(listener);
    while connections.running.next().await.is_some() {}
    Ok(())
}

/// What is open, by a number that rises: the first is the oldest.
struct Connections {
    bounds: Bounds,
    running: FuturesUnordered<BoxFuture<'static, u64>>,
    handles: BTreeMap<u64, AbortHandle>,
    next: u64,
}

impl Connections {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, running: FuturesUnordered::new(), handles: BTreeMap::new(), next: 0 }
    }

    fn add(&mut self, stream: TcpStream, routes: Router, shutdown: CancellationToken) {
        if self.handles.len() >= self.bounds.most
            && let Some((_, oldest)) = self.handles.pop_first()
        {
            oldest.abort();
        }
        let number = self.next;
        self.next += 1;
        let (handle, registration) = AbortHandle::new_pair();
        self.handles.insert(number, handle);
        let answered = Abortable::new(answer(stream, routes, self.bounds, shutdown), registration);
        self.running.push(Box::pin(async move {
            answered.await.ok(); // ended for the sake of a younger one
            number
        }));
    }

    fn forget(&mut self, number: u64) {
        self.handles.remove(&number);
    }
}

async fn answer(stream: TcpStream, routes: Router, bounds: Bounds, shutdown: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(MOST_HEAD_BYTES).keep_alive(false);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let answered = async {
        tokio::select! {
            ended = &mut connection => return ended,
            () = shutdown.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    // A client that disconnects or takes too long is not an error.
    tokio::time::timeout(bounds.whole, answered).await.ok();
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const QUICK: Bounds = Bounds { head: Duration::from_millis(50), most: 16, ..Bounds::USUAL };

    async fn serving(bounds: Bounds) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (address, shutdown) = (listener.local_addr().expect("bound"), CancellationToken::new());
        tokio::spawn(serve(listener, Router::new().route("/", get(async || "here\n")), bounds, shutdown.clone()));
        (address, shutdown)
    }

    async fn ask(address: std::net::SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the connection ends by itself");
        answer
    }

    #[tokio::test]
    async fn idle_connections_beyond_the_bound_do_not_keep_anybody_out() {
        let patient = Bounds { head: Duration::from_secs(3600), whole: Duration::from_secs(3600), ..QUICK };
        let (address, _shutdown) = serving(patient).await;
        let mut idle = Vec::new();
        for _ in 0..3 * patient.most {
            idle.push(TcpStream::connect(address).await.expect("the server listens"));
        }
        let answer = ask(address).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("here\n"), "{answer}");
        let mut rest = [0; 8];
        let ended = tokio::time::timeout(Duration::from_secs(20), idle[0].read(&mut rest)).await.expect("the oldest was ended");
        assert_eq!(ended.expect("it was closed, not reset"), 0);
    }

    #[tokio::test]
    async fn a_connection_has_one_request() {
        let (address, _shutdown) = serving(Bounds::USUAL).await;
        assert!(ask(address).await.to_lowercase().contains("connection: close"));
    }

    /// Without the bound the reads below would end with the test's own time.
    #[tokio::test]
    async fn half_a_head_is_not_waited_for() {
        let (address, _shutdown) = serving(QUICK).await;
        for head in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nx: y\r\n"] {
            let mut slow = TcpStream::connect(address).await.expect("the server listens");
            slow.write_all(head).await.expect("it reads");
            let mut answer = Vec::new();
            let ended = tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut answer)).await;
            assert!(ended.is_ok(), "{:?}", String::from_utf8_lossy(head));
        }
    }
}
