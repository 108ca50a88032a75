//! Opening the stream to a broker: name, connection, TLS. Sends nothing of MQTT.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::super::dial::connect_host;
use super::super::failure::{failed, failure_of, root_text};
use super::settings::Address;
use crate::domain::Verdict;

/// An open stream, encrypted or not.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Knows the way to one broker.
pub struct Dialer {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dialer {
    /// `None`: the host is no name that a certificate could be for.
    pub fn new(address: &Address, config: rustls::ClientConfig) -> Option<Self> {
        let Address { host, port, is_tls } = address.clone();
        let tls = match is_tls {
            true => Some((TlsConnector::from(Arc::new(config)), ServerName::try_from(host.clone()).ok()?)),
            false => None,
        };
        Some(Self { host, port, tls })
    }

    /// Opens a stream; the caller bounds the time.
    pub async fn dial(&self) -> Result<Stream, Verdict> {
        let stream =
            connect_host(&self.host, self.port).await.map_err(|error| failed(failure_of(&error, false), root_text(&error)))?;
        let Some((connector, name)) = &self.tls else { return Ok(Either::Left(stream)) };
        match connector.connect(name.clone(), stream).await {
            Ok(encrypted) => Ok(Either::Right(Box::new(encrypted))),
            Err(error) => Err(failed(failure_of(&error, false), format!("TLS handshake: {}", root_text(&error)))),
        }
    }
}
