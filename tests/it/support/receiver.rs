//! A webhook receiver that records every request in order and answers as the test says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::http::{Request, read_request};
use super::waiting::deadline;

/// What the receiver does with a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A complete answer with this status, headers and body.
    Status(u16, Vec<(String, String)>, Vec<u8>),
    /// The same, after this time.
    After(Duration, Box<Answer>),
    /// Closes the connection with a TCP reset.
    Reset,
    /// Closes the connection in an orderly way, without an answer.
    Close,
    /// Never answers; the connection stays open.
    Hang,
    /// Writes these bytes and closes.
    Raw(Vec<u8>),
    /// Begins an answer and goes on writing its body for ever.
    Endless,
}

impl Answer {
    pub fn ok() -> Self {
        Self::status(200)
    }

    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), Vec::new())
    }

    /// Adds a header to a complete answer.
    pub fn header(self, name: &str, value: &str) -> Self {
        match self {
            Self::Status(status, mut headers, body) => {
                headers.push((name.to_owned(), value.to_owned()));
                Self::Status(status, headers, body)
            }
            other => other,
        }
    }

    /// Gives a complete answer a body.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        match self {
            Self::Status(status, headers, _) => Self::Status(status, headers, body.into()),
            other => other,
        }
    }

    pub fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }
}

/// A recorded request.
#[derive(Debug, Clone)]
pub struct Received {
    pub request: Request,
    /// The `webhook-id`; empty when there is none.
    pub id: String,
    /// Counts the requests with this id, from 1.
    pub attempt: usize,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.header(name)
    }

    pub fn body(&self) -> &[u8] {
        &self.request.body
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(self.body()).expect("the body of this request is JSON")
    }

    /// The event type: from the CloudEvents header, or from a JSON envelope; empty when neither is there.
    pub fn event_type(&self) -> String {
        let envelope = || serde_json::from_slice::<Value>(self.body()).ok()?.get("type")?.as_str().map(str::to_owned);
        self.header("ce-type").map(str::to_owned).or_else(envelope).unwrap_or_default()
    }
}

type Script = Box<dyn Fn(&Received) -> Answer + Send + Sync>;

/// The receiver. Ends with its value.
pub struct Receiver {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    log: Mutex<Log>,
    arrived: Notify,
}

#[derive(Default)]
struct Log {
    received: Vec<Received>,
    attempts: HashMap<String, usize>,
    in_flight: usize,
    most_in_flight: usize,
}

impl Receiver {
    /// A receiver that answers 200 to everything.
    pub async fn start() -> Self {
        Self::answering(|_| Answer::ok()).await
    }

    /// A receiver with a script, for example `|request| if request.attempt == 1 { Answer::status(503) } else { Answer::ok() }`.
    pub async fn answering(script: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let script: Script = Box::new(script);
        let shared = Arc::new(Shared { script: Mutex::new(Arc::new(script)), log: Mutex::default(), arrived: Notify::new() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self { address, shared, accepting }
    }

    /// Changes the script for requests that arrive from now on.
    pub fn answer_with(&self, script: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
        *self.shared.script.lock().expect("no script panics") = Arc::new(Box::new(script));
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Every request so far, in the order of their arrival.
    pub fn received(&self) -> Vec<Received> {
        self.log().received.clone()
    }

    /// The most requests that were being answered at the same time.
    pub fn most_in_flight(&self) -> usize {
        self.log().most_in_flight
    }

    /// Forgets what has arrived.
    pub fn clear(&self) {
        *self.log() = Log::default();
    }

    /// Waits until `count` requests have arrived and gives all there are.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait_until(&format!("{count} requests"), |received| received.len() >= count).await
    }

    /// Waits until requests with `count` different ids have arrived and gives all there are.
    pub async fn wait_for_ids(&self, count: usize) -> Vec<Received> {
        self.wait(&format!("requests with {count} ids"), |log| log.attempts.len() >= count).await
    }

    /// Waits until what has arrived fulfils a condition.
    pub async fn wait_until(&self, what: &str, condition: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        self.wait(what, |log| condition(&log.received)).await
    }

    async fn wait(&self, what: &str, condition: impl Fn(&Log) -> bool) -> Vec<Received> {
        let waiting = async {
            loop {
                let mut arrived = std::pin::pin!(self.shared.arrived.notified());
                // Registered before looking, so that an arrival in between is not missed.
                arrived.as_mut().enable();
                {
                    let log = self.log();
                    if condition(&log) {
                        return log.received.clone();
                    }
                }
                arrived.await;
            }
        };
        match tokio::time::timeout(deadline(), waiting).await {
            Ok(received) => received,
            Err(_) => panic!("the receiver waited for {what} and got {} requests", self.log().received.len()),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.shared.log()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nobody panics while writing the log")
    }

    fn arrive(&self, request: Request) -> Received {
        let id = request.header("webhook-id").unwrap_or_default().to_owned();
        let mut log = self.log();
        let attempts = log.attempts.entry(id.clone()).or_default();
        *attempts += 1;
        let received = Received { request, id, attempt: *attempts };
        log.received.push(received.clone());
        log.in_flight += 1;
        log.most_in_flight = log.most_in_flight.max(log.in_flight);
        drop(log);
        self.arrived.notify_waiters();
        received
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Owned here, so that connections end with the receiver and a test can take a receiver away.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(request)) = read_request(&mut stream).await {
        let received = shared.arrive(request);
        let script = Arc::clone(&*shared.script.lock().expect("no script panics"));
        let goes_on = answer(script(&received), stream.get_mut()).await;
        {
            let mut log = shared.log();
            log.in_flight = log.in_flight.saturating_sub(1); // zero after a `clear` in between
        }
        if !goes_on {
            return;
        }
    }
}

/// Gives an answer; false when the connection ends with it.
async fn answer(answer: Answer, stream: &mut TcpStream) -> bool {
    match answer {
        Answer::Status(status, headers, body) => {
            let mut bytes = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                bytes.push_str(&format!("{name}: {value}\r\n"));
            }
            bytes.push_str("\r\n");
            let bytes = [bytes.into_bytes(), body].concat();
            stream.write_all(&bytes).await.is_ok()
        }
        Answer::After(delay, later) => {
            tokio::time::sleep(delay).await;
            Box::pin(self::answer(*later, stream)).await
        }
        Answer::Reset => {
            let _ = stream.set_zero_linger();
            false
        }
        Answer::Close => false,
        Answer::Hang => std::future::pending().await,
        Answer::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
            false
        }
        Answer::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 Scripted\r\ntransfer-encoding: chunked\r\n\r\n").await;
            while stream.write_all(b"400\r\n").await.is_ok()
                && stream.write_all(&[b'x'; 1024]).await.is_ok()
                && stream.write_all(b"\r\n").await.is_ok()
            {}
            false
        }
    }
}
