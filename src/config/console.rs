//! `[console]`: the address of the console and the API, and the rights to use them. Without an address there is no console.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use toml::{Table, Value};

use super::fields::{CONSOLE_TOKEN, TOKENS};
use super::rules::{is_name, report_name};
use crate::domain::Role;
use crate::domain::json::parse_path;
use crate::settings::{Mistakes, Section, address_hint};

/// `[console]`
#[derive(Debug, Clone, PartialEq)]
pub struct Console {
    /// `None`: not served.
    pub listen: Option<ConsoleAddress>,
    /// The path prefix of every page behind a proxy, without a slash at its end; may be empty.
    pub path: String,
    /// Host names for browsers, in lower case, besides localhost and IP addresses.
    pub hosts: Vec<String>,
    /// Fields of payloads and headers that the console never shows.
    pub redact: Vec<Vec<String>>,
    /// `[[console.tokens]]`
    pub tokens: Vec<ConsoleToken>,
    pub proxy: ConsoleProxy,
}

/// The address of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsoleAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// One `[[console.tokens]]` entry: an operator or a program with its rights.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsoleToken {
    /// Unique; the audit records it.
    pub name: String,
    pub role: Role,
    /// Whether payloads and headers may be shown.
    pub payload: bool,
    /// SHA-256 of the token.
    pub digest: [u8; 32],
}

impl fmt::Debug for ConsoleToken {
    /// Omits the digest: a short token could be guessed from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleToken").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

/// `[console.proxy]`: a proxy that authenticates the users.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsoleProxy {
    /// Peers whose headers are trusted.
    pub trusted: Vec<TrustedPeer>,
    /// Header with the name of the user, in lower case; `None`: the proxy sends no users.
    pub user_header: Option<String>,
    /// Header with the groups of the user, in lower case.
    pub groups_header: String,
    pub groups: BTreeMap<String, Role>,
    /// Groups that may see payloads and headers.
    pub payload_groups: Vec<String>,
}

/// A peer whose headers are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustedPeer {
    /// Every process that can open the unix socket.
    Unix,
    /// Addresses with these first bits.
    Network(IpAddr, u8),
}

impl Console {
    /// Whether requests can be authenticated.
    pub fn knows_callers(&self) -> bool {
        !self.tokens.is_empty() || self.proxy.tells_users()
    }
}

impl ConsoleAddress {
    /// `127.0.0.1:9189`, or `unix:` and a path.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err("expected a path after \"unix:\"".to_owned()) } else { Ok(Self::Unix(path.into())) };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            let hint = address_hint(text).map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("expected an address such as \"127.0.0.1:9189\" or \"unix:/run/outboxd/console.sock\"{hint}")
        })
    }

    /// Whether only processes of this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// The reason why this configuration must not be served; `None`: it may be served.
    pub fn refusal(&self, console: &Console) -> Option<&'static str> {
        (!self.is_local() && !console.knows_callers()).then_some(
            "can be reached from other machines, but requests are not authenticated: add [[console.tokens]] (`outboxd console token` makes one) \
             or [console.proxy], or listen on 127.0.0.1",
        )
    }
}

impl fmt::Display for ConsoleAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ConsoleProxy {
    /// Whether the proxy authenticates users.
    pub fn tells_users(&self) -> bool {
        self.user_header.is_some() && !self.trusted.is_empty()
    }
}

impl TrustedPeer {
    fn parse(text: &str) -> Option<Self> {
        if text == "unix" {
            return Some(Self::Unix);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self::Network(address, bits))
    }

    /// Whether this address is one of them.
    pub fn includes(self, peer: IpAddr) -> bool {
        match (self, peer.to_canonical()) {
            (Self::Unix, _) => false,
            (Self::Network(IpAddr::V4(network), bits), IpAddr::V4(peer)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                u32::from(network) & mask == u32::from(peer) & mask
            }
            (Self::Network(IpAddr::V6(network), bits), IpAddr::V6(peer)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                u128::from(network) & mask == u128::from(peer) & mask
            }
            _ => false,
        }
    }
}

/// Reads the section; `tokens` was taken out of it.
pub(super) fn read_console(section: &Section<'_>, tokens: Option<&Value>, mistakes: &Mistakes) -> Console {
    let console = Console {
        listen: read_address(section),
        path: read_path(section),
        hosts: read_hosts(section),
        redact: read_redact(section),
        tokens: tokens.map(|list| read_tokens(list, mistakes)).unwrap_or_default(),
        proxy: read_proxy(&section.table("proxy")),
    };
    if let Some(refusal) = console.listen.as_ref().and_then(|listen| listen.refusal(&console)) {
        section.mistake("listen", refusal);
    }
    console
}

fn read_address(section: &Section<'_>) -> Option<ConsoleAddress> {
    let text = section.optional_text("listen")?;
    match ConsoleAddress::parse(&text) {
        Ok(address) => Some(address),
        Err(expected) => {
            section.mistake("listen", &format!("got {text:?}, {expected}, or \"\" for none"));
            None
        }
    }
}

fn read_path(section: &Section<'_>) -> String {
    let path = section.text("path");
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_~".contains(&b));
    let is_path = path == "/" || path.strip_prefix('/').is_some_and(|parts| parts.split('/').all(is_plain));
    if !is_path {
        let expected = "expected a path such as \"/outboxd\": letters, digits, \"-\", \"_\" and \"~\" between slashes, or \"/\"";
        section.mistake("path", &format!("got {path:?}, {expected}"));
    }
    path.trim_end_matches('/').to_owned()
}

fn read_hosts(section: &Section<'_>) -> Vec<String> {
    let hosts = section.texts("hosts");
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    for host in hosts.iter().filter(|host| !host.split('.').all(is_part)) {
        section.mistake("hosts", &format!("got {host:?}, expected a name such as \"outboxd.internal\", without scheme and port"));
    }
    hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect()
}

fn read_redact(section: &Section<'_>) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for text in section.texts("redact") {
        match parse_path(&text) {
            Ok(path) => paths.push(path),
            Err(expected) => section.mistake("redact", &format!("got {text:?}, {expected}")),
        }
    }
    paths
}

fn read_proxy(section: &Section<'_>) -> ConsoleProxy {
    let mut trusted = Vec::new();
    for text in section.texts("trusted") {
        match TrustedPeer::parse(&text) {
            Some(peer) => trusted.push(peer),
            None => {
                let expected = "expected an address such as \"10.0.0.7\", a network such as \"10.0.0.0/24\", or \"unix\"";
                section.mistake("trusted", &format!("got {text:?}, {expected}"));
            }
        }
    }
    if section.is_set("user_header") && section.texts("trusted").is_empty() {
        section.mistake("user_header", "has no effect without trusted: name the address of the proxy whose headers are trusted");
    }
    let mut groups = BTreeMap::new();
    for (group, name) in section.text_map("groups") {
        match Role::named(&name) {
            Some(role) => drop(groups.insert(group, role)),
            None => {
                section.mistake("groups", &format!("got {name:?} for {group:?}, expected \"read\", \"operate\" or \"admin\""));
            }
        }
    }
    if section.is_set("user_header") && groups.is_empty() {
        section.mistake("groups", "is empty, so no user of the proxy has any right; write for example { oncall = \"operate\" }");
    }
    ConsoleProxy {
        trusted,
        user_header: read_header(section, "user_header"),
        groups_header: read_header(section, "groups_header").unwrap_or_default(),
        groups,
        payload_groups: section.texts("payload_groups"),
    }
}

fn read_header(section: &Section<'_>, name: &str) -> Option<String> {
    let header = section.optional_text(name)?;
    if !header.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        section.mistake(name, &format!("got {header:?}, expected the name of a header such as \"X-Forwarded-User\""));
    }
    Some(header.to_ascii_lowercase())
}

fn read_tokens(list: &Value, mistakes: &Mistakes) -> Vec<ConsoleToken> {
    let path = format!("console.{TOKENS}");
    let Some(entries) = list.as_array() else {
        mistakes.add(path, format!("got a {}, expected a list: write every token as [[console.tokens]]", list.type_str()));
        return Vec::new();
    };
    let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
    let mut tokens = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(table) = entry.as_table() else {
            mistakes.add(token_path(index, ""), "expected a table: write every token as [[console.tokens]]");
            continue;
        };
        let token = read_token(index, table, mistakes);
        if is_name(&token.name) && !names.insert(token.name.clone()) {
            mistakes.add(token_path(index, &token.name), "the name is given more than once; the audit could not distinguish them");
        }
        if token.digest != [0; 32] && !digests.insert(token.digest) {
            mistakes.add(token_path(index, &token.name), "has the digest of another token; the audit could not distinguish them");
        }
        tokens.push(token);
    }
    tokens
}

/// The path of a token for mistakes.
pub(super) fn token_path(index: usize, name: &str) -> String {
    if is_name(name) { format!("console.{TOKENS}.{name}") } else { format!("console.{TOKENS} #{}", index + 1) }
}

fn read_token(index: usize, entry: &Table, mistakes: &Mistakes) -> ConsoleToken {
    let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
    let section = Section::open(&token_path(index, name), entry, CONSOLE_TOKEN, &[], mistakes);
    report_name(&section);
    ConsoleToken {
        name: section.text("name"),
        role: Role::named(&section.text("role")).unwrap_or(Role::Read),
        payload: section.boolean("payload"),
        digest: read_digest(&section),
    }
}

/// The message never repeats the value, which may be the token itself.
fn read_digest(section: &Section<'_>) -> [u8; 32] {
    let Some(text) = section.secret("sha256") else { return [0; 32] };
    let digits = text.expose().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let is_hexadecimal = digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit);
    let digest = digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>().and_then(|bytes| bytes.try_into().ok());
    digest.filter(|_| is_hexadecimal).unwrap_or_else(|| {
        section.mistake("sha256", "is not 64 hexadecimal digits; `outboxd console token` makes a token and prints them");
        [0; 32]
    })
}

#[cfg(test)]
mod tests;
