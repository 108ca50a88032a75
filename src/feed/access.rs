//! Access: which client may read what, by its token. Holds digests of the tokens only, and compares them in constant time. A
//! token is in no log, no metric and no error.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::filter::Filter;
use super::reader::Batch;
use crate::config::{ClientConfig, Token};
use crate::contracts::{InBrownout, Pins};
use crate::domain::{Allowance, Timestamp};
use crate::telemetry::{ClientMetrics, ContractUse, ReceiverUse};

/// What the times of the allowances are counted from.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The clients as they are configured now. Another list takes its place with a reload, and the connections of a client that has changed end.
#[derive(Debug)]
pub struct Doors {
    clients: watch::Sender<Arc<Vec<Arc<Client>>>>,
    counts: ContractUse,
}

/// A party that may read a part of the feed.
pub struct Client {
    config: ClientConfig,
    /// The types of the feed when this was made: with others the client sees something else.
    feed: Vec<String>,
    digests: Vec<[u8; 32]>,
    filter: Filter,
    open: Arc<AtomicUsize>,
    /// How many requests it may make now; `None`: no bound.
    pace: Option<Mutex<Allowance>>,
    pub metrics: ClientMetrics,
    contract_use: ReceiverUse,
}

/// A connection that counts for its client until it is dropped.
pub struct Connection {
    open: Arc<AtomicUsize>,
    metrics: ClientMetrics,
}

impl Doors {
    /// `feed`: the types that may leave. Without any there is no feed, and no client for it. `counts`: of what clients are sent of contracts.
    pub fn new(feed: &[String], clients: &[ClientConfig], counts: ContractUse) -> Self {
        let doors = Self { clients: watch::Sender::new(Arc::default()), counts };
        doors.replace(feed, clients);
        doors
    }

    /// Takes another configuration. Clients that are the same in it stay as they are, their connections with them.
    pub fn replace(&self, feed: &[String], clients: &[ClientConfig]) {
        let clients = if feed.is_empty() { &[] } else { clients };
        self.clients.send_modify(|known| {
            let same = |config: &ClientConfig| known.iter().find(|client| client.config == *config && client.feed == feed).cloned();
            let new = clients
                .iter()
                .map(|config| same(config).unwrap_or_else(|| Arc::new(Client::new(feed, config.clone(), &self.counts))));
            *known = Arc::new(new.collect());
        });
    }

    /// The only client, for a look at what it sees.
    pub fn first(&self) -> Option<Arc<Client>> {
        self.clients.borrow().first().cloned()
    }

    /// The client with this name.
    pub fn named(&self, name: &str) -> Option<Arc<Client>> {
        self.clients.borrow().iter().find(|client| client.name() == name).cloned()
    }

    /// The client of a token. All digests are compared, whichever fits, so the time reveals nothing.
    pub fn find(&self, token: &str) -> Option<Arc<Client>> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let clients = self.clients.borrow().clone();
        let mut found = None;
        for client in clients.iter() {
            for known in &client.digests {
                if is_equal(known, &digest) {
                    found = Some(client);
                }
            }
        }
        found.cloned()
    }

    /// Whether this client is configured as it was when it was found.
    pub fn knows(&self, client: &Arc<Client>) -> bool {
        self.clients.borrow().iter().any(|known| Arc::ptr_eq(known, client))
    }

    /// Returns when this client is configured otherwise or not at all.
    pub async fn changed(&self, client: &Arc<Client>) {
        let mut clients = self.clients.subscribe();
        let is_gone = |clients: &Arc<Vec<Arc<Client>>>| !clients.iter().any(|known| Arc::ptr_eq(known, client));
        if clients.wait_for(is_gone).await.is_err() {
            std::future::pending::<()>().await; // the listener is stopping; another task reports it
        }
    }
}

/// In a time that depends on nothing but the length.
fn is_equal(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let difference = one.iter().zip(other).fold(0, |difference, (one, other)| difference | (one ^ other));
    std::hint::black_box(difference) == 0
}

impl Client {
    fn new(feed: &[String], config: ClientConfig, counts: &ContractUse) -> Self {
        Self {
            digests: config.tokens.iter().map(Token::digest).collect(),
            filter: Filter::new(feed, &config.events, &config.where_headers),
            open: Arc::default(),
            pace: config.rate.map(|limit| Mutex::new(Allowance::full(limit, BEGAN.elapsed()))),
            metrics: ClientMetrics::new(&config.name),
            contract_use: counts.of_client(&config.name, config.contracts.iter().flat_map(|pins| pins.versions())),
            feed: feed.to_vec(),
            config,
        }
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Handlers that it may ask about.
    pub fn handlers(&self) -> &[String] {
        &self.config.handlers
    }

    /// Names under which it may leave its cursor to the server.
    pub fn cursor_names(&self) -> &[String] {
        &self.config.cursors
    }

    /// The versions of the contracts that it reads.
    pub fn pins(&self) -> Option<&Arc<Pins>> {
        self.config.contracts.as_ref()
    }

    /// The brownout of one of them that is in force now.
    pub fn brownout(&self) -> Option<(InBrownout<'_>, Duration)> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
        let brownout = self.pins()?.brownout(now)?;
        let left = brownout.until.since(now);
        Some((brownout, left))
    }

    /// Stands for those versions in tags; empty without any.
    pub fn tag(&self) -> String {
        self.pins().map(|pins| format!("-{}", pins.tag())).unwrap_or_default()
    }

    /// Counts what is sent to it, for the metrics and as use of contracts.
    pub fn sends(&self, batch: &Batch) {
        let unavailable = batch.events.iter().filter(|event| event.form.is_unavailable).count();
        self.metrics.sent((batch.events.len() - unavailable) as u64, unavailable as u64);
        let sent = batch.events.iter().filter(|event| !event.form.is_unavailable);
        sent.for_each(|event| self.contract_use.sent(event.event.event_type()));
    }

    /// Its rights.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Counts one more request. `Err`: its rate is used up, and how long until the next request may come.
    pub fn request(&self) -> Result<(), Duration> {
        let Some(pace) = &self.pace else { return Ok(()) };
        let mut allowance = pace.lock().unwrap_or_else(PoisonError::into_inner);
        if allowance.room(BEGAN.elapsed()) == 0 {
            return Err(allowance.wait());
        }
        allowance.spend(1);
        Ok(())
    }

    /// Counts one more connection; `None`: it has as many as it may have.
    pub fn connect(&self) -> Option<Connection> {
        let most = self.config.max_connections;
        let is_open = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < most).then_some(open + 1));
        is_open.ok()?;
        self.metrics.connected();
        Some(Connection { open: Arc::clone(&self.open), metrics: self.metrics.clone() })
    }
}

impl fmt::Debug for Client {
    /// Without the digests: one of a short token could be found by trying.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("name", &self.config.name).finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.metrics.disconnected();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RateLimit;
    use crate::settings::Secret;

    fn client(name: &str, tokens: &[&str]) -> ClientConfig {
        ClientConfig {
            name: name.to_owned(),
            tokens: tokens.iter().map(|token| Token::Plain(Secret::new(*token))).collect(),
            events: Vec::new(),
            pins: Vec::new(),
            contracts: None,
            where_headers: Default::default(),
            handlers: Vec::new(),
            cursors: Vec::new(),
            max_connections: 2,
            rate: None,
        }
    }

    fn all() -> Vec<String> {
        vec!["*".to_owned()]
    }

    #[test]
    fn without_a_type_that_may_leave_nobody_is_let_in() {
        let acme = [client("acme", &["token-of-acme-12345"])];
        let doors = Doors::new(&all(), &acme, ContractUse::default());
        doors.replace(&[], &acme);
        assert!(doors.find("token-of-acme-12345").is_none());
    }

    #[test]
    fn a_client_is_found_by_either_of_its_tokens_and_by_no_other() {
        let digest = Sha256::digest(b"hashed-token-of-stock").into();
        let hashed = ClientConfig { tokens: vec![Token::Digest(digest)], ..client("stock", &[]) };
        let doors =
            Doors::new(&all(), &[client("acme", &["old-token-of-acme", "new-token-of-acme"]), hashed], ContractUse::default());
        let found = |token: &str| doors.find(token).map(|client| client.name().to_owned());
        assert_eq!(found("old-token-of-acme").as_deref(), Some("acme"));
        assert_eq!(found("new-token-of-acme").as_deref(), Some("acme"));
        assert_eq!(found("hashed-token-of-stock").as_deref(), Some("stock"));
        for token in ["", "old-token-of-acm", "old-token-of-acme ", "OLD-TOKEN-OF-ACME"] {
            assert_eq!(found(token), None, "{token:?}");
        }
        assert!(!format!("{doors:?}").contains("token"), "{doors:?}");
    }

    #[test]
    fn connections_are_counted_until_they_are_dropped() {
        let doors = Doors::new(&all(), &[client("acme", &["token-of-acme-12345"])], ContractUse::default());
        let acme = doors.find("token-of-acme-12345").expect("it is there");
        let (one, _two) = (acme.connect().expect("one"), acme.connect().expect("two"));
        assert!(acme.connect().is_none());
        drop(one);
        assert!(acme.connect().is_some());
    }

    #[test]
    fn requests_above_the_rate_of_a_client_are_told_when_to_come_again() {
        let rate = RateLimit::new(1, Duration::from_secs(3_600), 2);
        let clients =
            [ClientConfig { rate, ..client("acme", &["token-of-acme-12345"]) }, client("stock", &["token-of-stock-1234"])];
        let doors = Doors::new(&all(), &clients, ContractUse::default());
        let (acme, stock) = (doors.find("token-of-acme-12345").expect("there"), doors.find("token-of-stock-1234").expect("there"));
        assert_eq!((acme.request(), acme.request()), (Ok(()), Ok(())));
        let wait = acme.request().expect_err("the burst is used up");
        assert!((Duration::from_secs(3_500)..=Duration::from_secs(3_600)).contains(&wait), "{wait:?}");
        assert!((0..1_000).all(|_| stock.request().is_ok()), "a client without a rate, beside one");
    }

    #[tokio::test]
    async fn a_client_that_is_configured_otherwise_is_told() {
        let (old, other) = (client("acme", &["token-of-acme-12345"]), client("stock", &["token-of-stock-1234"]));
        let doors = Doors::new(&all(), &[old.clone(), other.clone()], ContractUse::default());
        let (acme, stock) = (doors.find("token-of-acme-12345").expect("there"), doors.find("token-of-stock-1234").expect("there"));
        doors.replace(&all(), &[ClientConfig { events: vec!["order.*".to_owned()], ..old }, other]);
        doors.changed(&acme).await;
        tokio::time::timeout(Duration::from_millis(20), doors.changed(&stock)).await.expect_err("nothing has changed for it");
    }
}
