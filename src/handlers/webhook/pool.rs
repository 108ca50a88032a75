//! Connections to one receiver. Idle ones are kept for a while and used again, the freshest first. Holds no more connections than
//! there were deliveries at once, and repeats a request only if none of its bytes can have left.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::connect::{Connector, NoConnection};

/// How long an idle connection is kept. Longer would meet more receivers that have closed it just now.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection on which requests can be sent. Dropping it closes the connection.
pub type Sender = SendRequest<Full<Bytes>>;

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nothing was sent.
    NotConnected(NoConnection),
    /// The connection stood; `sent`: bytes of the request may have left.
    Broken { error: hyper::Error, sent: bool },
}

/// The connections.
#[derive(Default)]
pub struct Pool {
    idle: Mutex<Vec<(Sender, Instant)>>,
}

impl Pool {
    /// Sends a request and waits for the head of its answer. Give the sender back once the body has been read.
    pub async fn send(
        &self,
        connector: &Connector,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Sender), NoAnswer> {
        loop {
            let (mut sender, is_reused) = match self.take().await {
                Some(sender) => (sender, true),
                None => (open(connector).await?, false),
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut failure) => match failure.take_message() {
                    // The receiver had closed it while it was idle, and the request came back untouched.
                    Some(untouched) if is_reused => request = untouched,
                    untouched => return Err(NoAnswer::Broken { sent: untouched.is_none(), error: failure.into_error() }),
                },
            }
        }
    }

    /// Keeps a connection whose last answer has been read to its end.
    pub fn give_back(&self, sender: Sender) {
        if !sender.is_closed() {
            self.lock().push((sender, Instant::now()));
        }
    }

    async fn take(&self) -> Option<Sender> {
        loop {
            let (mut sender, since) = self.lock().pop()?;
            if since.elapsed() > IDLE_TIMEOUT {
                // Those below have been idle for longer still.
                self.lock().retain(|(_, since)| since.elapsed() <= IDLE_TIMEOUT);
            } else if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Sender, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open(connector: &Connector) -> Result<Sender, NoAnswer> {
    let stream = connector.connect().await.map_err(NoAnswer::NotConnected)?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| NoAnswer::Broken { error, sent: false })?;
    // It reads and writes for its sender, notices at once when the receiver hangs up, and ends with either of them.
    tokio::spawn(connection);
    Ok(sender)
}
