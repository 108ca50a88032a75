//! Probing: begins a session as a delivery would, and ends it. MQTT has no way to check a topic without publishing to it.

use tokio::time::timeout;

use super::Mqtt;
use super::connection::LARGEST;
use crate::domain::{Reason, Verdict};

impl Mqtt {
    pub(super) async fn connect_and_leave(&self) -> Result<String, String> {
        // Under a name of its own: a relay that runs with the configured one must not be thrown out.
        let client_id = format!("{}-check", self.client_id);
        let too_slow = || Verdict::retry(Reason::ConnectTimeout, format!("no connection within {:?}", self.connect_timeout));
        let connected = timeout(self.connect_timeout, self.connect(&client_id)).await.unwrap_or_else(|_| Err(too_slow()));
        let connection = connected.map_err(|verdict| format!("could not connect: {}", self.for_people(verdict).detail))?;
        let granted = connection.granted();
        let largest = match granted.largest {
            LARGEST => String::new(),
            bytes => format!(" packets of up to {bytes} bytes and"),
        };
        let (target, at_once) = (self.link.target(), granted.at_once);
        Ok(format!(
            "connected to {target}, which takes{largest} {at_once} events at once; the first event shows whether the topic may be written"
        ))
    }
}
