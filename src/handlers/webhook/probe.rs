//! Probing: opens a connection as a delivery would and sends nothing of HTTP.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Host;

use super::{Webhook, transport};

/// How long to listen for an objection after the handshake: with TLS 1.3 a receiver refuses our certificate only then.
const OBJECTION: Duration = Duration::from_millis(250);

impl Webhook {
    pub(super) async fn connect_and_close(&self) -> Result<String, String> {
        match tokio::time::timeout(self.connect_timeout, self.connect()).await {
            Ok(Ok(())) => Ok(format!("connected to {}", self.target)),
            Ok(Err(text)) => Err(format!("could not connect to {}: {text}", self.target)),
            Err(_) => Err(format!("could not connect to {} within {:?}", self.target, self.connect_timeout)),
        }
    }

    async fn connect(&self) -> Result<(), String> {
        let stream = self.open().await?;
        if self.url.scheme() != "https" {
            return Ok(());
        }
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let mut tls = TlsConnector::from(Arc::new(self.tls.clone())).connect(name, stream).await.map_err(|error| root(&error))?;
        match tokio::time::timeout(OBJECTION, tls.read(&mut [0; 1])).await {
            Ok(Err(error)) => Err(root(&error)),
            _ => Ok(()),
        }
    }

    async fn open(&self) -> Result<TcpStream, String> {
        if self.is_blocked {
            return Err(format!("the egress rules ({}) forbid it", self.egress.as_str()));
        }
        let port = self.url.port_or_known_default().unwrap_or(80);
        let connected = match self.url.host() {
            Some(Host::Ipv4(address)) => TcpStream::connect((address, port)).await,
            Some(Host::Ipv6(address)) => TcpStream::connect((address, port)).await,
            Some(Host::Domain(name)) => {
                let mut addresses = self.resolver.addresses(name).await.map_err(|error| error.to_string())?;
                addresses.iter_mut().for_each(|address| address.set_port(port));
                TcpStream::connect(addresses.as_slice()).await
            }
            None => return Err("the url has no host".to_owned()),
        };
        connected.map_err(|error| root(&error))
    }
}

// An I/O error may have no cause below it; then it is what happened.
fn root(error: &std::io::Error) -> String {
    if error.get_ref().is_some() { transport::root_text(error) } else { error.to_string() }
}
