//! Who asks, and with which rights. Every request of the listener passes here, pages and API alike, before anything is looked up.
//! Never says why a token was refused, and repeats none.

mod failures;
pub mod host;
pub mod origin;
mod proxy;
mod sessions;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use crate::config::{self, ConsoleProxy, ConsoleToken};
use crate::domain::Role;
use crate::operations::{Caller, Via};
use crate::telemetry::{ConsoleMetrics, Login};

use failures::Failures;
use proxy::Told;
use sessions::Sessions;

pub use sessions::LIFE;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    Address(IpAddr),
    /// A process that could open the unix socket.
    Socket,
}

/// What the configuration says of access now; another takes its place with a reload.
#[derive(Debug, Clone)]
pub struct Rules {
    pub hosts: Vec<String>,
    pub redact: Vec<Vec<String>>,
    tokens: Vec<ConsoleToken>,
    proxy: ConsoleProxy,
    /// Without tokens and proxy, every caller that reaches the address may look.
    is_open: bool,
}

/// How the caller was authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A token in the request itself: no browser adds it automatically.
    Bearer,
    /// A cookie, an identity that a proxy adds, or nothing at all: a browser sends it whatever site has asked it to.
    Ambient,
}

/// Whom a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    Known(Caller, Proof),
    /// Nothing was shown that says who it is.
    Unknown,
    /// What was shown is not good.
    Refused(&'static str),
    /// Too many wrong tokens came from there.
    Limited(Duration),
}

/// The door.
pub struct Access {
    rules: RwLock<Arc<Rules>>,
    sessions: Sessions,
    failures: Mutex<Failures>,
    metrics: ConsoleMetrics,
}

/// What came of a login.
#[derive(Debug, PartialEq, Eq)]
pub enum LoggedIn {
    /// The value of the cookie.
    Yes(String),
    No,
    Limited(Duration),
}

/// Names of the cookie. The prefix makes browsers refuse it from anywhere but this host over HTTPS.
const COOKIE_PLAIN: &str = "outboxd";
const COOKIE_SECURE: &str = "__Host-outboxd";

const FORWARDED: &str = "the request came through a proxy, and without tokens or [console.proxy] only this machine may look; \
                         add [[console.tokens]]";
const WRONG_TOKEN: &str = "the token is not one of this console";

impl Rules {
    pub fn new(console: &config::Console) -> Self {
        Self {
            hosts: console.hosts.clone(),
            redact: console.redact.clone(),
            tokens: console.tokens.clone(),
            proxy: console.proxy.clone(),
            is_open: !console.knows_callers(),
        }
    }

    /// Whether tokens are a way in.
    pub fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// The entry of a token. All digests are compared, whichever fits, so the time tells nothing.
    fn find(&self, token: &str) -> Option<&ConsoleToken> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.tokens.iter().fold(None, |found, known| if is_equal(&known.digest, &digest) { Some(known) } else { found })
    }
}

/// In a time that depends on nothing but the length.
fn is_equal(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let difference = one.iter().zip(other).fold(0, |difference, (one, other)| difference | (one ^ other));
    std::hint::black_box(difference) == 0
}

impl Access {
    pub fn new(console: &config::Console, metrics: ConsoleMetrics) -> Self {
        Self { rules: RwLock::new(Arc::new(Rules::new(console))), sessions: Sessions::new(), failures: Mutex::default(), metrics }
    }

    /// Takes another configuration. A session whose token is not in it is over with the next request.
    pub fn replace(&self, console: &config::Console) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Rules::new(console));
    }

    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whom a request comes from: a token in it, else a session, else what a proxy tells.
    pub fn identify(&self, rules: &Rules, peer: Peer, headers: &HeaderMap, via: Via) -> Identity {
        if headers.contains_key(AUTHORIZATION) {
            return self.bearer(rules, peer, headers, via);
        }
        let is_encrypted = proxy::is_encrypted(&rules.proxy, peer, headers);
        let now = SystemTime::now();
        let session = cookies(headers, is_encrypted).find_map(|cookie| self.sessions.find(cookie, &rules.tokens, now));
        if let Some(token) = session {
            return Identity::Known(caller(token, via), Proof::Ambient);
        }
        match proxy::user(&rules.proxy, peer, headers) {
            Told::User(user) => Identity::Known(Caller { via, ..user }, Proof::Ambient),
            Told::Refused(why) => Identity::Refused(why),
            // Callers on this machine may look, and no more.
            Told::Nothing if rules.is_open && is_forwarded(headers) => Identity::Refused(FORWARDED),
            Told::Nothing if rules.is_open => {
                Identity::Known(Caller { name: "local".to_owned(), role: Role::Read, sees_payloads: false, via }, Proof::Ambient)
            }
            Told::Nothing => Identity::Unknown,
        }
    }

    fn bearer(&self, rules: &Rules, peer: Peer, headers: &HeaderMap, via: Via) -> Identity {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let token = match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
            (Some(value), None) => value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")),
            _ => None,
        };
        let Some((_, token)) = token else { return Identity::Refused("expected one header Authorization: Bearer and a token") };
        match self.check(rules, peer, token.trim()) {
            Ok(token) => Identity::Known(caller(token, via), Proof::Bearer),
            Err(Some(wait)) => Identity::Limited(wait),
            Err(None) => Identity::Refused(WRONG_TOKEN),
        }
    }

    /// Begins a session for the owner of a token.
    pub fn log_in(&self, rules: &Rules, peer: Peer, token: &str) -> LoggedIn {
        match self.check(rules, peer, token.trim()) {
            Ok(token) => {
                self.metrics.login(Login::Accepted);
                info!(name = token.name, role = token.role.name(), ?peer, "a session of the console began");
                LoggedIn::Yes(self.sessions.begin(token, SystemTime::now()))
            }
            Err(Some(wait)) => LoggedIn::Limited(wait),
            Err(None) => LoggedIn::No,
        }
    }

    /// Ends the sessions of these cookies.
    pub fn log_out(&self, headers: &HeaderMap) {
        for is_encrypted in [true, false] {
            cookies(headers, is_encrypted).for_each(|cookie| self.sessions.end(cookie, SystemTime::now()));
        }
    }

    /// `Err(None)`: it is none of ours; `Err(Some(_))`: it was not looked at.
    fn check<'r>(&self, rules: &'r Rules, peer: Peer, token: &str) -> Result<&'r ConsoleToken, Option<Duration>> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(wait) = failures.wait(peer, now) {
            self.metrics.login(Login::Limited);
            return Err(Some(wait));
        }
        if let Some(token) = rules.find(token) {
            return Ok(token);
        }
        failures.note(peer, now);
        self.metrics.login(Login::Refused);
        warn!(?peer, "a wrong token was shown to the console");
        Err(None)
    }

    /// The header that gives a browser its session, or takes it (`None`).
    pub fn set_cookie(&self, rules: &Rules, peer: Peer, headers: &HeaderMap, session: Option<&str>) -> String {
        let is_encrypted = proxy::is_encrypted(&rules.proxy, peer, headers);
        let (name, secure) = if is_encrypted { (COOKIE_SECURE, "; Secure") } else { (COOKIE_PLAIN, "") };
        let (value, life) = session.map_or(("", 0), |session| (session, LIFE.as_secs()));
        format!("{name}={value}; Path=/; Max-Age={life}; HttpOnly; SameSite=Strict{secure}")
    }
}

/// Whether a proxy passed the request on: then it need not come from this machine, although the address says so.
fn is_forwarded(headers: &HeaderMap) -> bool {
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

fn caller(token: &ConsoleToken, via: Via) -> Caller {
    Caller { name: token.name.clone(), role: token.role, sees_payloads: token.payload, via }
}

/// The values of our cookie. Over HTTPS the other name counts for nothing: any host of the domain could have set it.
fn cookies(headers: &HeaderMap, is_encrypted: bool) -> impl Iterator<Item = &str> {
    let ours = if is_encrypted { COOKIE_SECURE } else { COOKIE_PLAIN };
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(name, _)| *name == ours).map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
