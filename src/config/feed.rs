//! `[feed]` and `[[clients]]`: the events of the feed, its address, and the events that each client may read. Without
//! `events` there is no feed; without a client the feed has no reader.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::contracts::read_pins;
use super::fields::{CLIENT, CLIENTS};
use super::projections::PROJECTION_KIND;
use super::rate::read_rate;
use super::rules::{at_least, check_name, count, is_name, report_name};
use super::server_tls::{read_server_tls, server_config};
use super::{ClientConfig, CursorForm, Feed, HandlerConfig, Start, Token, handler_path};
use crate::domain::EventFilter;
use crate::settings::{Mistakes, Secret, Section, address_hint};

/// The kind of the feed's subscription, and the name that it has in the database. Neither can be given to a handler.
pub const FEED: &str = "feed";

pub(super) fn read_feed(section: &Section<'_>) -> Feed {
    check_types(section);
    at_least(section, "max_wait", Duration::from_secs(1), "");
    at_least(section, "heartbeat", Duration::from_millis(100), "");
    let (certificate, certificate_key) = read_server_tls(section);
    Feed {
        events: section.texts("events"),
        listen: read_address(section),
        certificate,
        certificate_key,
        source: read_source(section),
        max_wait: section.duration("max_wait"),
        heartbeat: section.duration("heartbeat"),
        max_connections: count(section, "max_connections"),
        memory: section.bytes("memory"),
        origins: read_origins(section),
        cursors: match section.text("cursors").as_str() {
            "sealed" => CursorForm::Sealed,
            "migrating" => CursorForm::Migrating,
            _ => CursorForm::Plain,
        },
        cursor_keys: read_cursor_keys(section),
        ticket_key: read_ticket_key(section),
        start: match section.text("start").as_str() {
            "beginning" => Start::Beginning,
            "now" => Start::Now,
            _ => Start::Auto,
        },
    }
}

fn check_types(section: &Section<'_>) {
    for text in section.texts("events") {
        if text.is_empty() || text.contains('\0') {
            section.mistake("events", &format!("got {text:?}, which no event has; write \"*\" for every type"));
        }
    }
}

fn read_address(section: &Section<'_>) -> Option<SocketAddr> {
    let text = section.optional_text("listen")?;
    let address = text.parse::<SocketAddr>().ok();
    if address.is_none() {
        let hint = address_hint(&text).map(|hint| format!("; {hint}")).unwrap_or_default();
        section.mistake("listen", &format!("got {text:?}, expected an address such as \"127.0.0.1:9188\", or \"\" for none{hint}"));
    }
    address
}

fn read_origins(section: &Section<'_>) -> Vec<String> {
    let origins = section.texts("origins");
    for origin in &origins {
        // In the form in which a browser sends it: scheme, host and port in lower case, and no path.
        let is_origin = url::Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == *origin);
        if !is_origin && (origin != "*" || origins.len() > 1) {
            section.mistake(
                "origins",
                &format!("got {origin:?}, expected an origin such as \"https://shop.example.org\", or \"*\" alone"),
            );
        }
    }
    origins
}

/// The message never repeats the value.
fn read_cursor_keys(section: &Section<'_>) -> Vec<Secret> {
    let keys = section.secrets("cursor_keys");
    if keys.len() > MOST_KEYS {
        let text = format!("got {} keys, expected one, or two while the first replaces the second", keys.len());
        section.mistake("cursor_keys", &text);
    }
    if keys.iter().any(|key| key.expose().len() < SHORTEST_KEY) {
        let text = "has a key of fewer than 32 characters, which can be found by trying; make one with \"outboxd secret\"";
        section.mistake("cursor_keys", text);
    }
    if keys.is_empty() && section.text("cursors") != "plain" {
        section.mistake("cursors", "needs cursor_keys, with a key from \"outboxd secret\" that all instances have");
    }
    keys
}

/// The message never repeats the value.
fn read_ticket_key(section: &Section<'_>) -> Option<Secret> {
    let key = section.secret("ticket_key");
    if key.as_ref().is_some_and(|key| key.expose().len() < SHORTEST_KEY) {
        section.mistake("ticket_key", "has fewer than 32 characters and could be guessed; make one with \"outboxd secret\"");
    }
    key
}

fn read_source(section: &Section<'_>) -> String {
    let source = section.text("source");
    if source.is_empty() || !source.bytes().all(|byte| byte.is_ascii_graphic()) {
        section.mistake(
            "source",
            &format!("got {source:?}, expected a URI reference such as \"https://example.org/shop\" or \"shop\""),
        );
    }
    source
}

/// Reads `[[clients]]`.
pub(super) fn read_clients(list: &Value, mistakes: &Mistakes) -> Vec<ClientConfig> {
    let Some(entries) = list.as_array() else {
        mistakes.add(CLIENTS, format!("got a {}, expected a list: write every client as [[clients]]", list.type_str()));
        return Vec::new();
    };
    let clients: Vec<_> = entries.iter().enumerate().map(|(index, entry)| read_entry(index, entry, mistakes)).collect();
    let (mut names, mut tokens, mut reported) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (index, client) in clients.iter().enumerate() {
        if is_name(&client.name) && !names.insert(&client.name) && reported.insert(&client.name) {
            mistakes.add(client_path(index, &client.name), "the name is given more than once; every client needs its own");
        }
        if client.tokens.iter().any(|token| !tokens.insert(token.digest())) {
            let path = format!("{}.tokens", client_path(index, &client.name));
            mistakes.add(path, "has a token that is given more than once; it would not identify the client");
        }
    }
    clients
}

/// The path of a client for mistakes.
pub(super) fn client_path(index: usize, name: &str) -> String {
    if is_name(name) { format!("{CLIENTS}.{name}") } else { format!("{CLIENTS} #{}", index + 1) }
}

fn read_entry(index: usize, entry: &Value, mistakes: &Mistakes) -> ClientConfig {
    let Some(table) = entry.as_table() else {
        mistakes.add(client_path(index, ""), format!("got {entry}, expected a table: write every client as [[clients]]"));
        return read_client(index, &Table::new(), &Mistakes::default());
    };
    read_client(index, table, mistakes)
}

fn read_client(index: usize, entry: &Table, mistakes: &Mistakes) -> ClientConfig {
    let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
    let section = Section::open(&client_path(index, name), entry, CLIENT, &[], mistakes);
    report_name(&section);
    check_types(&section);
    for (name, value) in section.scalar_map("where_headers") {
        if !value.is_string() && !value.is_boolean() {
            section.mistake("where_headers", &format!("got {value} for {name:?}, expected a text, true or false"));
        }
        if name.contains('\0') || value.as_str().is_some_and(|text| text.contains('\0')) {
            section.mistake("where_headers", "got a NUL character, which Postgres cannot store, so no event has it");
        }
    }
    let pins = read_pins(&section);
    ClientConfig {
        name: section.text("name"),
        tokens: read_tokens(&section),
        events: pins.iter().map(|(glob, _)| glob.clone()).collect(),
        pins,
        contracts: None,
        where_headers: section.scalar_map("where_headers"),
        handlers: section.texts("handlers"),
        cursors: read_cursor_names(&section),
        max_connections: count(&section, "max_connections"),
        rate: read_rate(&section, 1),
    }
}

/// Each is a label of a metric, so they are few.
fn read_cursor_names(section: &Section<'_>) -> Vec<String> {
    let names = section.texts("cursors");
    if names.len() > MOST_CURSORS {
        section.mistake("cursors", &format!("got {} names, expected at most {MOST_CURSORS}", names.len()));
    }
    for (index, name) in names.iter().enumerate() {
        if let Err(text) = check_name(name) {
            section.mistake("cursors", &text);
        } else if names[..index].contains(name) {
            section.mistake("cursors", &format!("has {name:?} more than once; one name stands for one cursor"));
        }
    }
    names
}

/// The message never repeats the value.
fn read_tokens(section: &Section<'_>) -> Vec<Token> {
    let given = section.secrets("tokens");
    if section.is_set("tokens") && !(1..=MOST_TOKENS).contains(&given.len()) {
        let text = format!("got {}, expected one, or two while the first is replaced by the second", given.len());
        section.mistake("tokens", &text);
    }
    let mut tokens = Vec::new();
    for secret in given {
        match Token::read(secret) {
            Ok(token) => tokens.push(token),
            Err(text) => section.mistake("tokens", text),
        }
    }
    tokens
}

/// During a rotation.
const MOST_TOKENS: usize = 2;
/// Cursors that one client may leave to the server.
const MOST_CURSORS: usize = 16;
const SHORTEST_KEY: usize = 32;
/// Of cursors, during a rotation.
const MOST_KEYS: usize = 2;
/// Shorter tokens can be guessed.
const SHORTEST_TOKEN: usize = 16;
const OF_DIGEST: &str = "sha256:";

impl Token {
    fn read(secret: Secret) -> Result<Self, &'static str> {
        let text = secret.expose();
        if let Some(digits) = text.strip_prefix(OF_DIGEST) {
            let digest = digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
            let digest =
                digest.collect::<Option<Vec<u8>>>().and_then(|digest| digest.try_into().ok()).filter(|_| digits.len() == 64);
            return digest.map(Self::Digest).ok_or("has a text after \"sha256:\" that is not 64 hexadecimal digits");
        }
        if text.len() < SHORTEST_TOKEN {
            return Err("has a token of less than 16 characters, which could be guessed; make one with \"outboxd secret\"");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("has a token with a character that cannot be sent in a header");
        }
        Ok(Self::Plain(secret))
    }

    /// The stored side of the comparison with a token that a client sends.
    pub fn digest(&self) -> [u8; 32] {
        match self {
            Self::Plain(secret) => Sha256::digest(secret.expose()).into(),
            Self::Digest(digest) => *digest,
        }
    }
}

/// A handler of the feed's kind or name would share its subscription.
pub(super) fn check_feed(feed: &Feed, clients: &[ClientConfig], handlers: &[HandlerConfig], mistakes: &Mistakes) {
    if feed.listen.is_some() && !feed.is_on() {
        mistakes.add(
            "feed.listen",
            "has no effect without events: name the event types of the feed, for example events = [\"order.*\"]",
        );
    } else if feed.listen.is_some() && clients.is_empty() {
        mistakes.add("feed.listen", "has no effect without a client: add [[clients]] with a name and a token");
    }
    for (index, client) in clients.iter().enumerate() {
        for name in client.handlers.iter().filter(|name| !handlers.iter().any(|handler| handler.name == **name)) {
            let path = format!("{}.handlers", client_path(index, &client.name));
            mistakes.add(path, format!("got {name:?}, which is no handler of this configuration"));
        }
    }
    for (index, handler) in handlers.iter().enumerate() {
        let path = handler_path(index, &handler.name);
        if handler.kind == FEED {
            mistakes.add(format!("{path}.kind"), "got \"feed\", which is no kind of handler; write [feed] events = [..] instead");
        } else if handler.kind == PROJECTION_KIND && handler.projection.is_none() {
            mistakes.add(format!("{path}.kind"), "got \"projection\", which is no kind of handler; write [[projections]] instead");
        } else if handler.name == FEED && feed.is_on() {
            mistakes.add(path, "the name belongs to the feed, because [feed] events is set; give the handler another one");
        }
    }
}

impl Feed {
    /// Whether there is a feed.
    pub fn is_on(&self) -> bool {
        !self.events.is_empty()
    }

    /// What connections to the listener are given; `None`: HTTP in the clear. A certificate that does not work was a mistake before.
    pub fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        server_config(self.certificate.as_deref(), self.certificate_key.as_ref()).ok().flatten()
    }

    /// The feed as a subscription like that of a handler. `None`: there is no feed. `like`: a handler with every
    /// setting at its default.
    pub(super) fn as_handler(&self, like: HandlerConfig) -> Option<HandlerConfig> {
        let filter = EventFilter { types: self.events.clone(), ..EventFilter::default() };
        let named = HandlerConfig { name: FEED.to_owned(), kind: FEED.to_owned(), filter, start: self.start, ..like };
        self.is_on().then_some(named)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FakeEnvironment, Kinds, parse};

    const KINDS: Kinds = Kinds { handlers: |_| Some(&[]), channels: |_| None };

    fn mistakes_of(text: &str) -> Vec<String> {
        match parse(text, &FakeEnvironment::with_database(), KINDS) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn there_is_no_feed_until_event_types_are_named() {
        let config = |text: &str| parse(text, &FakeEnvironment::with_database(), KINDS).expect("valid");
        assert!(config("").feed_handler().is_none() && config("[feed]\nevents = []").feed_handler().is_none());
        let handler = config("[feed]\nevents = [\"order.*\"]").feed_handler().expect("a feed");
        assert_eq!((handler.name.as_str(), handler.kind.as_str(), handler.partitions), ("feed", "feed", 1));
        assert_eq!(handler.filter.type_patterns(), Some(vec!["order.%".to_owned()]));
    }

    #[test]
    fn the_name_of_the_feed_is_free_without_a_feed() {
        let handler = "[[handlers]]\nname = \"feed\"\nkind = \"k\"\n";
        assert_eq!(mistakes_of(handler), Vec::<String>::new());
        assert_eq!(mistakes_of(&format!("{handler}[feed]\nevents = [\"*\"]\n")).len(), 1);
        assert_eq!(mistakes_of("[[handlers]]\nname = \"a\"\nkind = \"feed\"\n").len(), 1);
        assert_eq!(mistakes_of("[feed]\nevents = [\"\"]").len(), 1);
    }

    #[test]
    fn mistakes_of_clients_never_repeat_a_token() {
        let client = |settings: &str| format!("[[clients]]\nname = \"acme\"\n{settings}");
        for (text, want) in [
            (client("tokens = [\"hunter2\"]"), "clients.acme.tokens: has a token of less than 16 characters"),
            (
                client("tokens = [\"hunter2 hunter2 hunter2\"]"),
                "clients.acme.tokens: has a token with a character that cannot be sent",
            ),
            (client("tokens = [\"sha256:hunter2\"]"), "clients.acme.tokens: has a text after \"sha256:\" that is not"),
            (client("tokens = []"), "clients.acme.tokens: got 0, expected one"),
            (
                client("tokens = [\"hunter2-hunter2-1\", \"hunter2-hunter2-2\", \"hunter2-hunter2-3\"]"),
                "clients.acme.tokens: got 3, expected one",
            ),
            (client(""), "clients.acme: needs \"tokens\""),
            (client("tokens = [\"hunter2-hunter2-1\"]\nwhere_headers = { n = 5 }"), "clients.acme.where_headers: got 5 for \"n\""),
            (
                format!(
                    "{}\n[[clients]]\nname = \"b\"\ntokens = [\"hunter2-hunter2-1\"]",
                    client("tokens = [\"hunter2-hunter2-1\"]")
                ),
                "clients.b.tokens: has a token that is given more than once",
            ),
            (
                client("tokens = [\"hunter2-hunter2-1\"]\nhandlers = [\"nobody\"]"),
                "clients.acme.handlers: got \"nobody\", which is no handler",
            ),
            ("[feed]\nlisten = \"127.0.0.1:0\"".to_owned(), "feed.listen: has no effect without events"),
            ("[feed]\nlisten = \"127.0.0.1:0\"\nevents = [\"*\"]".to_owned(), "feed.listen: has no effect without a client"),
            ("[feed]\nlisten = \":9188\"".to_owned(), "feed.listen: got \":9188\", expected an address"),
            ("[feed]\ncursors = \"sealed\"".to_owned(), "feed.cursors: needs cursor_keys"),
            ("[feed]\ncursor_keys = [\"hunter2\"]".to_owned(), "feed.cursor_keys: has a key of fewer than 32 characters"),
            (
                format!("[feed]\ncursor_keys = [{}]", ["\"hunter2-hunter2-hunter2-hunter2-hunter2\""; 3].join(", ")),
                "feed.cursor_keys: got 3 keys, expected one",
            ),
            (client("tokens = [\"hunter2-hunter2-1\"]\ncursors = [\"a b\"]"), "clients.acme.cursors: expected letters, digits"),
            (
                client("tokens = [\"hunter2-hunter2-1\"]\ncursors = [\"a\", \"a\"]"),
                "clients.acme.cursors: has \"a\" more than once",
            ),
            ("[feed]\nsource = \"a b\"".to_owned(), "feed.source: got \"a b\", expected a URI reference"),
        ] {
            let mistakes = mistakes_of(&text);
            assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
            assert!(mistakes[0].starts_with(want) && !mistakes[0].contains("hunter2"), "{text}: {}", mistakes[0]);
        }
    }
}
