//! Connecting: name, socket, TLS, log-in, and a check whether the exchange exists. Every failure names its step. The socket is
//! opened here and not by the client library, whose thread would hang on a silent host without a way to end it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::runtime::default_runtime;
use lapin::tcp::RustlsConnector;
use lapin::types::{FieldTable, ShortString};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties, ErrorKind, ExchangeKind};
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::failure;
use super::RabbitMq;
use super::broker::Broker;
use super::classify::{self, Stage};
use super::settings::Declared;
use super::socket::Socket;
use crate::domain::Verdict;

/// How long to listen for an objection.
const OBJECTION: Duration = Duration::from_millis(500);

const NOT_AMQP: &str = "the server at this address does not speak AMQP 0-9-1";
const NOT_TLS: &str = "amqps needs a port where the broker speaks TLS, usually 5671";

impl RabbitMq {
    /// A broker that knows the exchange.
    pub(super) async fn connect(&self) -> Result<Broker, Verdict> {
        let broker = self.log_in().await?;
        let ready = match &self.declared {
            Declared::Elsewhere => self.check_exchange(&broker).await,
            Declared::Here(kind) => self.declare_exchange(&broker, kind.clone()).await,
        };
        ready.map_err(|error| self.failed(&error, Stage::Connecting))?;
        Ok(broker)
    }

    /// A broker that has let us in.
    pub(super) async fn log_in(&self) -> Result<Broker, Verdict> {
        match self.dial().await {
            Ok(broker) => Ok(broker),
            Err(error) => {
                let objection = if classify::is_hang_up(&error) { self.objection().await } else { None };
                Err(self.failed(&objection.map_or(error, lapin::Error::from), Stage::Connecting))
            }
        }
    }

    /// The complaint of a broker about our certificate, after it ended the connection. With TLS 1.3 it says so when we take the handshake for done, and
    /// a client that has begun to talk by then sees a reset instead; so this listens and says nothing.
    async fn objection(&self) -> Option<io::Error> {
        let config = Arc::clone(self.tls.as_ref()?);
        let authority = &self.address.uri.authority;
        let name = ServerName::try_from(authority.host.clone()).ok()?;
        let stream = TcpStream::connect((authority.host.as_str(), authority.port)).await.ok()?;
        let mut stream = TlsConnector::from(config).connect(name, stream).await.ok()?;
        let heard = tokio::time::timeout(OBJECTION, stream.read(&mut [0; 1])).await.ok()?;
        heard.err().filter(|error| error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()))
    }

    // One function, because the stream has a type that only the crate can name.
    async fn dial(&self) -> lapin::Result<Broker> {
        let authority = &self.address.uri.authority;
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((authority.host.as_str(), authority.port)).await?.collect();
        let runtime = default_runtime()?;
        let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
        let AsyncTcpStream::Plain(plain) = &stream else { unreachable!("the stream is not encrypted yet") };
        // Dropped with this future, it ends the thread that the crate is about to start.
        let socket = Arc::new(Socket::of(plain.get_ref())?);
        let stream = match &self.tls {
            Some(config) => stream.into_rustls(&RustlsConnector::from(Arc::clone(config)), &authority.host).await?,
            None => stream,
        };
        let stream = Mutex::new(Some(stream));
        // The crate asks a second time only after a failure, and then there is nothing to have.
        let hand_over = async move |_, _| {
            let stream = stream.lock().ok().and_then(|mut stream| stream.take());
            stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected).into())
        };
        let connection = Connection::connector(self.address.uri.clone(), runtime, hand_over, self.properties()).await?;
        Ok(Broker::new(connection, socket))
    }

    fn properties(&self) -> ConnectionProperties {
        ConnectionProperties::default()
            .with_client_property("product".into(), "outboxd".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into())
            .with_connection_name(self.connection_name.as_str().into())
    }

    /// Whether the exchange exists; no right is needed to ask. The default exchange exists, and may not be asked for.
    pub(super) async fn check_exchange(&self, broker: &Broker) -> lapin::Result<()> {
        if self.recipe.exchange().is_empty() {
            return Ok(());
        }
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        // The type is not compared.
        self.exchange_declare(broker, ExchangeKind::Topic, options).await
    }

    pub(super) async fn declare_exchange(&self, broker: &Broker, kind: ExchangeKind) -> lapin::Result<()> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        self.exchange_declare(broker, kind, options).await
    }

    async fn exchange_declare(&self, broker: &Broker, kind: ExchangeKind, options: ExchangeDeclareOptions) -> lapin::Result<()> {
        let taken = broker.channels().take().await?;
        let name = ShortString::from(self.recipe.exchange());
        taken.channel.exchange_declare(name, kind, options, FieldTable::default()).await?;
        broker.channels().give_back(taken);
        Ok(())
    }

    /// Whether a queue exists.
    pub(super) async fn check_queue(&self, broker: &Broker, name: &str) -> lapin::Result<()> {
        let taken = broker.channels().take().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        taken.channel.queue_declare(name.into(), options, FieldTable::default()).await?;
        Ok(())
    }

    /// The reason of an error, and a text about it without secrets.
    pub(super) fn failed(&self, error: &lapin::Error, stage: Stage) -> Verdict {
        let text = match error.kind() {
            ErrorKind::ProtocolError(answer) => answer.get_message().to_string(),
            ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_) => NOT_AMQP.to_owned(),
            _ if classify::is_not_tls(error) => format!("{}; {NOT_TLS}", failure::root_text(error)),
            _ => failure::root_text(error),
        };
        let text = self.redaction.excerpt(text.as_bytes(), false);
        classify::failed(error, stage, format!("{}: {text}", self.address.target))
    }
}
