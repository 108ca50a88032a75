//! HTTP for channels: one POST, one answer, bounded, without redirects, without a proxy of the environment. Never puts an address
//! into a text: for most receivers the address is the credential.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use url::Url;

use super::SendFailure;
use crate::handlers::{Redaction, TlsSettings, parse_retry_after, root_text, tls_config};
use crate::settings::{Secret, Section};

pub(super) use crate::handlers::hidden_parts;

const MOST_ANSWER: usize = 4 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client and the texts that must not appear in what it reports.
pub struct HttpClient {
    client: reqwest::Client,
    redaction: Redaction,
}

/// An answer, its body cut to what an operator needs.
pub struct Answer {
    pub status: u16,
    pub excerpt: String,
    pub retry_after: Option<Duration>,
}

impl HttpClient {
    /// With the certificates of `ca`, if the section has one. Mistakes go to the section.
    pub fn build(section: &Section<'_>, has_ca: bool, is_https: bool, hidden: Vec<Secret>) -> Option<Self> {
        let ca = if has_ca { section.optional_text("ca") } else { None };
        let settings = TlsSettings { ca, ..TlsSettings::default() };
        let tls = tls_config(&settings, is_https).map_err(|invalid| section.mistake(invalid.field, &invalid.text)).ok()?;
        Self::new(tls, &hidden).map_err(|error| section.mistake("url", &error)).ok()
    }

    /// With the certificates of the platform.
    pub fn plain(is_https: bool, hidden: &[Secret]) -> Result<Self, String> {
        Self::new(tls_config(&TlsSettings::default(), is_https).map_err(|error| error.to_string())?, hidden)
    }

    fn new(tls: rustls::ClientConfig, hidden: &[Secret]) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("outboxd/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .http1_only()
            .build()
            .map_err(|error| format!("could not prepare an HTTP client: {}", root_text(&error)))?;
        Ok(Self { client, redaction: Redaction::new(hidden) })
    }

    /// Posts JSON.
    pub async fn post(&self, url: &Url, headers: HeaderMap, body: Vec<u8>) -> Result<Answer, SendFailure> {
        let json = HeaderValue::from_static("application/json");
        self.exchange(self.client.post(url.clone()).headers(headers).header(CONTENT_TYPE, json).body(body)).await
    }

    pub async fn get(&self, url: &Url) -> Result<Answer, SendFailure> {
        self.exchange(self.client.get(url.clone())).await
    }

    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<Answer, SendFailure> {
        let failed = |error: &reqwest::Error| SendFailure::transient(self.redaction.excerpt(root_text(error).as_bytes(), false));
        let mut response = request.send().await.map_err(|error| failed(&error))?;
        let status = response.status().as_u16();
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = asked.and_then(|asked| parse_retry_after(asked, jiff::Timestamp::now()));
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk[..chunk.len().min(MOST_ANSWER - body.len())]);
            if body.len() == MOST_ANSWER {
                break;
            }
        }
        Ok(Answer { status, excerpt: self.redaction.excerpt(&body, body.len() == MOST_ANSWER), retry_after })
    }
}

impl Answer {
    /// A success, or what the status means: 408, 425, 429 and 5xx may mend themselves, everything else will not.
    pub fn check(self) -> Result<(), SendFailure> {
        if (200..300).contains(&self.status) {
            return Ok(());
        }
        let excerpt =
            if self.excerpt.is_empty() { String::new() } else { format!(": {}", super::wording::cut(&self.excerpt, 300)) };
        Err(SendFailure {
            text: format!("HTTP {}{excerpt}", self.status),
            retry_after: self.retry_after,
            is_permanent: !matches!(self.status, 408 | 425 | 429 | 500..=599),
        })
    }
}

/// Reads an address that is a secret as a whole; the text is not repeated in the mistake.
pub fn read_url(section: &Section<'_>, name: &str) -> Option<Url> {
    if !section.is_set(name) && section.text(name).is_empty() {
        return None; // reported when the section was opened
    }
    let url = parse_url(&section.text(name));
    if url.is_none() {
        section.mistake(name, "expected an http or https URL such as \"https://example.org/x\"");
    }
    url
}

/// `None`: it is no http or https URL.
pub fn parse_url(text: &str) -> Option<Url> {
    Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Headers from a table, marked as sensitive.
pub fn read_headers(section: &Section<'_>) -> Option<HeaderMap> {
    let (mut headers, mut is_valid) = (HeaderMap::new(), true);
    for (name, value) in section.secret_map("headers") {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value.expose())) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            _ => {
                section.mistake(&format!("headers.{name}"), "is no header: expected a name and one line of text");
                is_valid = false;
            }
        }
    }
    is_valid.then_some(headers)
}
