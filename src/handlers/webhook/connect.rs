//! Opening a connection: looks the name up, keeps the addresses that the egress rules allow, connects, shakes hands. Every
//! failure names its step. Sends nothing of HTTP; a probe uses it as well as a delivery.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use url::{Host, Url};

use super::super::dial::connect_any;
use super::super::failure::{self, Failure, ResolveError};
use super::egress::{Egress, FilteringResolver};

/// An open connection, encrypted or not.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Why there is no connection.
#[derive(Debug)]
pub struct NoConnection {
    pub failure: Failure,
    /// For display, without secrets.
    pub text: String,
}

/// Knows the way to one receiver.
pub struct Connector {
    host: Host<String>,
    port: u16,
    /// `host:port`, for display.
    target: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    egress: Egress,
    resolver: FilteringResolver,
    timeout: Duration,
}

impl Connector {
    /// `url` is http or https and has a host.
    pub fn new(
        url: &Url,
        tls: rustls::ClientConfig,
        egress: Egress,
        resolver: FilteringResolver,
        timeout: Duration,
    ) -> Option<Self> {
        let host = url.host()?.to_owned();
        let port = url.port_or_known_default()?;
        let name = match &host {
            Host::Domain(name) => ServerName::try_from(name.clone()).ok(),
            Host::Ipv4(address) => Some(ServerName::from(std::net::IpAddr::from(*address))),
            Host::Ipv6(address) => Some(ServerName::from(std::net::IpAddr::from(*address))),
        };
        let tls = match url.scheme() {
            "https" => Some((TlsConnector::from(Arc::new(tls)), name?)),
            _ => None,
        };
        Some(Self { target: format!("{host}:{port}"), host, port, tls, egress, resolver, timeout })
    }

    pub fn target(&self) -> &str {
        &self.target
    }

    /// An address in the URL itself that the egress rules forbid: known without any attempt.
    pub fn is_blocked(&self) -> bool {
        match &self.host {
            Host::Ipv4(address) => !self.egress.allows((*address).into()),
            Host::Ipv6(address) => !self.egress.allows((*address).into()),
            Host::Domain(_) => false,
        }
    }

    /// Opens a connection within the connect timeout.
    pub async fn connect(&self) -> Result<Stream, NoConnection> {
        match tokio::time::timeout(self.timeout, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(NoConnection {
                failure: Failure::ConnectTimeout,
                text: format!("no connection to {} within {:?}", self.target, self.timeout),
            }),
        }
    }

    async fn open(&self) -> Result<Stream, NoConnection> {
        let stream = connect_any(self.addresses().await?).await.map_err(|error| self.failed(&error))?;
        // Small requests and answers: waiting for more bytes to fill a packet only costs time.
        stream.set_nodelay(true).map_err(|error| self.failed(&error))?;
        let Some((connector, name)) = &self.tls else { return Ok(Either::Left(stream)) };
        let encrypted = connector.connect(name.clone(), stream).await.map_err(|error| self.failed(&error))?;
        Ok(Either::Right(Box::new(encrypted)))
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, NoConnection> {
        if self.is_blocked() {
            let text = format!("the egress rules ({}) forbid the address {}", self.egress.as_str(), self.target);
            return Err(NoConnection { failure: Failure::EgressBlocked, text });
        }
        match &self.host {
            Host::Ipv4(address) => Ok(vec![SocketAddr::new((*address).into(), self.port)]),
            Host::Ipv6(address) => Ok(vec![SocketAddr::new((*address).into(), self.port)]),
            Host::Domain(name) => {
                let mut addresses = self.resolver.addresses(name).await.map_err(|error| self.unresolved(&error))?;
                addresses.iter_mut().for_each(|address| address.set_port(self.port));
                Ok(addresses)
            }
        }
    }

    fn unresolved(&self, error: &ResolveError) -> NoConnection {
        let failure = match error {
            ResolveError::Blocked => Failure::EgressBlocked,
            ResolveError::Lookup(_) => Failure::Dns,
        };
        NoConnection { failure, text: format!("{}: {}", self.target, failure::root_text(error)) }
    }

    fn failed(&self, error: &std::io::Error) -> NoConnection {
        NoConnection { failure: failure::failure_of(error, false), text: format!("{}: {}", self.target, failure::root_text(error)) }
    }
}
