//! Opening a connection to one of the servers. The client library is kept from reconnecting: `Link` decides whether a connection
//! can be trusted, and after a reconnect the publishes in flight would wait for answers that went to the old connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, ContextBuilder};
use async_nats::{Client, ConnectOptions, ServerAddr};
use tokio::time::timeout;

use super::classify;
use super::notices::Notices;
use super::settings::Server;
use crate::domain::{Reason, Verdict};

/// Publishes without an acknowledgement, those of deliveries that were broken off included; no handler has more in flight.
const MAX_UNACKNOWLEDGED: usize = 4096;
/// After three of them without an answer the client gives up an idle connection.
const PING_EVERY: Duration = Duration::from_secs(20);
/// No server can listen on port 0, so an attempt to connect fails at once without the network.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// A connection that works, or did.
#[derive(Debug, Clone)]
pub struct Connection {
    pub client: Client,
    pub jetstream: jetstream::Context,
    pub notices: Notices,
    /// `host:port` of the server, for display.
    pub server: String,
}

impl Connection {
    pub fn is_alive(&self) -> bool {
        self.client.connection_state() == State::Connected && self.notices.are_clean()
    }
}

/// Knows the way to the servers.
pub struct Dialer {
    servers: Vec<Server>,
    /// Counts connections: each begins with another server, so that one which takes connections and answers nothing is not asked for ever.
    turn: AtomicUsize,
    options: ConnectOptions,
    /// Of the connect timeout, what each server gets.
    share: Duration,
    confirm_timeout: Duration,
    domain: Option<String>,
}

impl Dialer {
    /// `servers` is not empty.
    pub fn new(
        servers: Vec<Server>,
        options: ConnectOptions,
        connect_timeout: Duration,
        confirm_timeout: Duration,
        domain: Option<String>,
    ) -> Self {
        let share = connect_timeout / u32::try_from(servers.len()).unwrap_or(1).max(1);
        // One attempt is what the client takes for no limit minus one: with none at all it would try for ever.
        let options = options.name("outboxd").connection_timeout(share).ping_interval(PING_EVERY).max_reconnects(1);
        let options = options.ignore_discovered_servers().retain_servers_order();
        Self { servers, turn: AtomicUsize::new(0), options, share, confirm_timeout, domain }
    }

    /// The servers, for display.
    pub fn target(&self) -> String {
        self.servers.iter().map(|server| server.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// A connection to the first server that gives one. If none does, the verdict is that of a server that was reached, if there is
    /// one, and reports the result of each.
    pub async fn dial(&self) -> Result<Connection, Verdict> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.servers.len();
        let (later, first) = self.servers.split_at(turn);
        let mut failures = Vec::new();
        for server in first.iter().chain(later) {
            match self.dial_one(server).await {
                Ok(connection) => return Ok(connection),
                Err(verdict) => failures.push(verdict),
            }
        }
        Err(together(failures))
    }

    async fn dial_one(&self, server: &Server) -> Result<Connection, Verdict> {
        let notices = Notices::default();
        let heard = notices.clone();
        let options = self.options.clone().require_tls(server.is_encrypted).event_callback(move |event| {
            heard.hear(&event);
            std::future::ready(())
        });
        let connecting = async {
            let client = options.connect(&server.address).await.map_err(|error| classify::unconnected(&error, server))?;
            bind(&client).await.map_err(|text| Verdict::retry(Reason::ConnectionRefused, format!("{}: {text}", server.name)))?;
            Ok(client)
        };
        let client = timeout(self.share, connecting).await.unwrap_or_else(|_| Err(self.too_slow(server)))?;
        Ok(Connection { jetstream: self.jetstream(&client), client, notices, server: server.name.clone() })
    }

    fn too_slow(&self, server: &Server) -> Verdict {
        Verdict::retry(Reason::ConnectTimeout, format!("no connection to {} within {:?}", server.name, self.share))
    }

    fn jetstream(&self, client: &Client) -> jetstream::Context {
        // The caller bounds the time; the client's own bounds are longer, so that they never decide.
        let beyond = self.confirm_timeout * 2;
        let builder = match &self.domain {
            Some(domain) => ContextBuilder::new().domain(domain).timeout(beyond),
            None => ContextBuilder::new().timeout(beyond),
        };
        builder.ack_timeout(beyond).max_ack_inflight(MAX_UNACKNOWLEDGED).build(client.clone())
    }
}

/// One verdict of those of all servers. `failures` is not empty.
fn together(failures: Vec<Verdict>) -> Verdict {
    let detail = failures.iter().map(|verdict| verdict.detail.as_str()).collect::<Vec<_>>().join("; ");
    let telling = failures.into_iter().min_by_key(|verdict| verdict.reason.is_unreachable());
    Verdict { detail, ..telling.expect("there is at least one server") }
}

/// Binds a client to the connection that it has: when that is lost it finds no other server, ends, and notifies every waiting delivery.
async fn bind(client: &Client) -> Result<(), String> {
    let nowhere: ServerAddr = NOWHERE.parse().expect("the address is valid");
    client.set_server_pool(nowhere).await.map_err(|_| "the connection broke at once".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_reached_says_more_than_those_that_were_not() {
        let refused = Verdict::retry(Reason::ConnectionRefused, "a: refused");
        let unauthorized = Verdict::handler_fault(Reason::Unauthorized, "b: who are you");
        let dns = Verdict::retry(Reason::Dns, "c: no such host");
        let verdict = together(vec![refused.clone(), unauthorized.clone(), dns.clone()]);
        assert_eq!((verdict.outcome, verdict.reason), (unauthorized.outcome, unauthorized.reason));
        assert_eq!(verdict.detail, "a: refused; b: who are you; c: no such host");
        assert_eq!(together(vec![refused, dns]).reason, Reason::ConnectionRefused);
    }
}
