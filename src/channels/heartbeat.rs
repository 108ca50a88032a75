//! The heartbeat: a URL that the relay calls while all is well. A monitoring service raises an alarm when the calls stop, which
//! is the one alarm that a relay cannot raise itself.

use url::Url;

use super::SendFailure;
use super::http::{HttpClient, hidden_parts, parse_url};
use crate::settings::Secret;

/// The URL and what is needed to call it.
pub struct Heartbeat {
    client: HttpClient,
    url: Url,
}

impl Heartbeat {
    /// The error is a text for display, without the address.
    pub fn new(url: &Secret) -> Result<Self, String> {
        let url = parse_url(url.expose()).ok_or("expected an http or https URL")?;
        let client = HttpClient::plain(url.scheme() == "https", &hidden_parts(&url))?;
        Ok(Self { client, url })
    }

    /// One beat.
    pub async fn beat(&self) -> Result<(), SendFailure> {
        self.client.get(&self.url).await?.check()
    }
}
