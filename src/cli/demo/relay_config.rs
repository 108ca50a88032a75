//! The configuration that the demo gives the relay: a file as a person would write it, with real addresses.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::stage::Stage;

/// Name of the handler that posts to the receiver; of the one that keeps the totals.
pub const WEBHOOK: &str = "shop-events";
pub const TOTALS: &str = "order-totals";

/// Attempts until an event is a dead letter.
pub const MAX_ATTEMPTS: u32 = 4;

/// Where the relay is looked at, and with what.
pub struct Looks {
    pub metrics: SocketAddr,
    pub console: SocketAddr,
    /// What opens the console.
    pub token: String,
    pub digest: String,
    pub feed: SocketAddr,
    /// Of the page that shows the feed.
    pub page: SocketAddr,
    /// Of the client of the feed.
    pub feed_token: String,
}

/// The text of the file.
pub fn text(stage: &Stage, looks: &Looks, receiver_url: &str, secret: &str) -> String {
    let Looks { metrics, console, digest, feed, page, feed_token, .. } = looks;
    let (outbox, shop, url) = (stage.schemas.outbox, stage.schemas.shop, toml::Value::from(stage.url.as_str()));
    format!(
        r#"# The relay of the demo. Times are short, so that a minute shows what takes hours elsewhere.

[database]
url = {url}

[outbox]
schema = "{outbox}"

[relay]
name = "demo"
drain_timeout = "5s"

[http]
listen = "{metrics}"  # /metrics, /healthz, /readyz

# The console for operators. It needs the token.
[console]
listen = "{console}"

[[console.tokens]]
name = "demo"
role = "operate"
payload = true
sha256 = "{digest}"

# Clients read the same events by themselves. A page of this origin may do so in a browser.
[feed]
events = ["order.*"]
listen = "{feed}"
source = "demo"
origins = ["http://{page}"]

[[clients]]
name = "page"
tokens = ["{feed_token}"]

# Every order event goes to the receiver: signed, per order one after the other, tried again when it fails.
[[handlers]]
name = "{WEBHOOK}"
kind = "webhook"
events = ["order.*"]
url = "{receiver_url}"
secrets = ["{secret}"]
timeout = "2s"
request_timeout = "2s"

[handlers.retry]
base = "500ms"
factor = 2.0
max_delay = "2s"
max_attempts = {MAX_ATTEMPTS}

[handlers.circuit]
first_probe = "1s"
max_probe = "2s"

# The same events keep a table of order totals, inside the database: exactly once.
[[handlers]]
name = "{TOTALS}"
kind = "sql"
events = ["order.*"]
function = "{shop}.project_order"
timeout = "5s"
"#
    )
}

/// A port of this machine that is free now; the relay wants to be told which, so that the demo can tell it, too.
pub fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A fresh `whsec_...`.
pub fn new_secret() -> String {
    use base64::Engine;
    let bytes: Vec<u8> = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].iter().flat_map(|id| *id.as_bytes()).collect();
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(bytes))
}
