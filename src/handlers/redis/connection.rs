//! A connection: opened over TCP or TLS, driven by one task, logged in, and checked for the server behind it. Everything that
//! could be wrong for every event is found here, before an event is sent: credentials, database, a replica, a wait that the
//! server does not know or does not allow.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, Value};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::super::dial::connect_host;
use super::super::failure::{failed, failure_of, root_text};
use super::super::redaction::Redaction;
use super::barrier::{Barrier, Halt, Waiting};
use super::classify::{self, Setback};
use super::facts::Facts;
use crate::domain::{Reason, Verdict};
use crate::settings::Secret;

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// No answer to a greeting is longer.
const LONGEST_GREETING: usize = 1024;

/// The identity of this client for the server.
pub struct Credentials {
    /// `None`: the default user.
    pub user: Option<String>,
    pub password: Secret,
}

/// Knows the way to one server.
pub struct Server {
    host: String,
    port: u16,
    /// `host:port`, for display.
    target: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    credentials: Option<Credentials>,
    database: u32,
    waiting: Waiting,
    redaction: Redaction,
}

/// A connection that all clones share. Ends with the last of them.
#[derive(Clone)]
pub struct Connection {
    pub commands: MultiplexedConnection,
    pub barrier: Arc<Barrier>,
    pub facts: Arc<Facts>,
    driver: Arc<Driver>,
    /// See [`Facts::is_idempotent`]; false once the server did not understand it.
    knows_repeats: Arc<AtomicBool>,
}

/// The task that reads and writes.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    pub fn is_alive(&self) -> bool {
        !self.driver.0.is_finished()
    }

    pub fn knows_repeats(&self) -> bool {
        self.knows_repeats.load(Ordering::Relaxed)
    }

    /// The server did not understand what its version promised.
    pub fn forget_repeats(&self) {
        self.knows_repeats.store(false, Ordering::Relaxed);
    }
}

impl Server {
    /// `tls`: how to encrypt, and the name that the certificate must have.
    pub fn new(
        host: String,
        port: u16,
        tls: Option<(TlsConnector, ServerName<'static>)>,
        credentials: Option<Credentials>,
        database: u32,
        waiting: Waiting,
    ) -> Self {
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let redaction = Redaction::new(credentials.iter().map(|credentials| &credentials.password));
        Self { host, port, target, tls, credentials, database, waiting, redaction }
    }

    pub fn target(&self) -> &str {
        &self.target
    }

    /// The verdict for a failed command.
    pub fn setback(&self, error: &RedisError) -> Setback {
        classify::setback(error, &self.target, &self.redaction)
    }

    /// The verdict when an entry did not pass the barrier.
    pub fn halted(&self, halt: &Halt) -> Setback {
        classify::halted(halt, &self.target, &self.redaction)
    }

    /// Opens a connection on which entries can be added. Bounded in time by the caller; dropping it closes everything.
    pub async fn connect(&self) -> Result<Connection, Verdict> {
        // Whatever goes wrong, no event has left.
        self.prepare().await.map_err(|verdict| Verdict { ambiguous: false, ..verdict })
    }

    async fn prepare(&self) -> Result<Connection, Verdict> {
        let stream = self.open().await.map_err(|error| self.unconnected(&error))?;
        let connection = self.introduce(stream).await.map_err(|error| self.setback(&error).verdict)?;
        if connection.facts.is_replica {
            let detail = format!("{} is a replica, entries must go to its primary", self.target);
            return Err(Verdict::retry(Reason::ServerError, detail));
        }
        let tried = connection.barrier.try_out(&connection.commands).await;
        tried.map_err(|halt| classify::barred(&halt, &self.target, &self.redaction))?;
        Ok(connection)
    }

    fn unconnected(&self, error: &io::Error) -> Verdict {
        failed(failure_of(error, false), format!("{}: {}", self.target, root_text(error)))
    }

    async fn open(&self) -> io::Result<Stream> {
        let stream = connect_host(&self.host, self.port).await?;
        let Some((connector, name)) = &self.tls else { return Ok(Either::Left(stream)) };
        Ok(Either::Right(Box::new(connector.connect(name.clone(), stream).await?)))
    }

    async fn introduce(&self, mut stream: Stream) -> Result<Connection, RedisError> {
        greet(&mut stream).await?;
        let (commands, driver) = drive(stream).await?;
        if let Some(Credentials { user, password }) = &self.credentials {
            ask(&commands, redis::cmd("AUTH").arg(user).arg(password.expose())).await?;
        }
        if self.database != 0 {
            ask(&commands, redis::cmd("SELECT").arg(self.database)).await?;
        }
        let facts = Arc::new(inquire(&commands).await?);
        let barrier = Arc::new(Barrier::new(self.waiting));
        let knows_repeats = Arc::new(AtomicBool::new(facts.is_idempotent));
        Ok(Connection { commands, barrier, facts, driver, knows_repeats })
    }
}

/// The first word, by hand: with TLS 1.3 a server refuses our certificate only now, and one that has too many clients says so and hangs
/// up. The library drops what comes before a command waits for it, and would know of neither but a broken pipe.
async fn greet(stream: &mut Stream) -> Result<(), RedisError> {
    stream.write_all(b"*1\r\n$4\r\nPING\r\n").await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") && answer.len() < LONGEST_GREETING {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    match redis::parse_redis_value(&answer)?.extract_error() {
        Err(error) if !matches!(error.code(), Some("NOAUTH" | "NOPERM")) => Err(error),
        _ => Ok(()), // whether we are who we say is asked next
    }
}

/// Starts the task of a connection. The library's own log-in is not used: it keeps the server's answers to itself.
async fn drive(stream: Stream) -> Result<(MultiplexedConnection, Arc<Driver>), RedisError> {
    let nothing = RedisConnectionInfo::default().set_skip_set_lib_name();
    // Every caller has a time limit of its own; that of the library, half a second by default, would be one more.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let (commands, driver) = MultiplexedConnection::new_with_config(&nothing, stream, config).await?;
    Ok((commands, Arc::new(Driver(tokio::spawn(driver)))))
}

fn ask<'c>(commands: &MultiplexedConnection, command: &'c Cmd) -> impl Future<Output = Result<Value, RedisError>> + use<'c> {
    let mut commands = commands.clone();
    async move { command.query_async(&mut commands).await }
}

/// Asks for the facts of the server, and sends our name for its list of clients. The server may refuse both.
async fn inquire(commands: &MultiplexedConnection) -> Result<Facts, RedisError> {
    let may_be = |error: RedisError| if matches!(error.code(), Some("NOPERM" | "ERR")) { Ok(()) } else { Err(error) };
    ask(commands, redis::cmd("CLIENT").arg("SETNAME").arg("outboxd")).await.map(drop).or_else(may_be)?;
    match redis::cmd("INFO").query_async::<String>(&mut commands.clone()).await {
        Ok(info) => Ok(Facts::read(&info)),
        Err(error) => may_be(error).map(|()| Facts::default()),
    }
}
