//! Probing: opens a connection as a delivery would and sends nothing of HTTP.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio_util::either::Either;

use super::super::failure::root_text;
use super::Webhook;

/// How long to listen for an objection after the handshake: with TLS 1.3 a receiver refuses our certificate only then.
const OBJECTION: Duration = Duration::from_millis(250);

impl Webhook {
    pub(super) async fn connect_and_close(&self) -> Result<String, String> {
        let target = self.connector.target();
        let stream = self.connector.connect().await.map_err(|failed| format!("could not connect: {}", failed.text))?;
        if let Either::Right(mut encrypted) = stream
            && let Ok(Err(objection)) = tokio::time::timeout(OBJECTION, encrypted.read(&mut [0; 1])).await
        {
            return Err(format!("could not connect: {target}: {}", root_text(&objection)));
        }
        Ok(format!("connected to {target}"))
    }
}
