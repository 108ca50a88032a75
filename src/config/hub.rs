//! `[hub]`: the feed for clients of SignalR, at a path of the listener of the feed. Without a path there is no hub.

use std::time::Duration;

use super::Feed;
use super::rules::at_least;
use crate::settings::{Mistakes, Section};

/// `[hub]`
#[derive(Debug, Clone, PartialEq)]
pub struct Hub {
    /// Begins with a slash and has no slash at its end; `None`: there is no hub.
    pub path: Option<String>,
    /// Longest silence towards a client.
    pub keep_alive: Duration,
    /// Longest silence of a client.
    pub client_timeout: Duration,
    /// Bytes of messages that are kept until a client acknowledges them.
    pub reconnect_buffer: u64,
}

pub(super) fn read_hub(section: &Section<'_>) -> Hub {
    at_least(section, "keep_alive", Duration::from_millis(100), "");
    at_least(section, "client_timeout", Duration::from_millis(200), "");
    let (keep_alive, client_timeout) = (section.duration("keep_alive"), section.duration("client_timeout"));
    if client_timeout < keep_alive * 2 {
        // Clients send their own pings as often as the server does.
        section.mistake("client_timeout", "is less than twice keep_alive: one late ping would disconnect a client");
    }
    Hub { path: read_path(section), keep_alive, client_timeout, reconnect_buffer: read_buffer(section) }
}

/// The paths of the feed itself, below which nothing else can be.
const TAKEN: &str = "/v1";

fn read_path(section: &Section<'_>) -> Option<String> {
    let path = section.optional_text("path")?;
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b));
    let has_parts = path.strip_prefix('/').is_some_and(|parts| parts.split('/').all(is_plain));
    if !has_parts {
        let expected = "expected a path such as \"/hubs/events\": letters, digits, \"-\", \"_\", \".\" and \"~\" between slashes";
        section.mistake("path", &format!("got {path:?}, {expected}"));
    } else if path == TAKEN || path.starts_with("/v1/") {
        section.mistake("path", &format!("got {path:?}, where the feed itself answers; expected a path such as \"/hubs/events\""));
    }
    Some(path)
}

const SMALLEST_BUFFER: u64 = 1_000;
const LARGEST_BUFFER: u64 = 16 << 20;

fn read_buffer(section: &Section<'_>) -> u64 {
    let bytes = section.bytes("reconnect_buffer");
    if !(SMALLEST_BUFFER..=LARGEST_BUFFER).contains(&bytes) {
        section.mistake("reconnect_buffer", "is not between \"1kB\" and \"16MiB\", and each client may hold as much");
    }
    bytes
}

pub(super) fn check_hub(hub: &Hub, feed: &Feed, mistakes: &Mistakes) {
    if hub.path.is_some() && feed.listen.is_none() {
        mistakes.add("hub.path", "has no effect without [feed] listen, whose address it is served at");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FakeEnvironment, Kinds, parse};

    const KINDS: Kinds = Kinds { handlers: |_| Some(&[]), channels: |_| None };
    const FEED: &str =
        "[feed]\nevents = [\"*\"]\nlisten = \"127.0.0.1:0\"\n[[clients]]\nname = \"a\"\ntokens = [\"0123456789abcdef\"]\n";

    #[test]
    fn there_is_no_hub_until_it_has_a_path() {
        let config = |text: &str| parse(&format!("{FEED}{text}"), &FakeEnvironment::with_database(), KINDS).expect("valid");
        assert_eq!(config("").hub.path, None);
        let hub = config("[hub]\npath = \"/hubs/events\"").hub;
        assert_eq!((hub.path.as_deref(), hub.keep_alive.as_secs(), hub.reconnect_buffer), (Some("/hubs/events"), 15, 100_000));
    }

    #[test]
    fn what_cannot_be_a_hub_is_told() {
        for (text, want) in [
            ("path = \"hubs\"", "hub.path: got \"hubs\", expected a path such as"),
            ("path = \"/\"", "hub.path: got \"/\", expected a path such as"),
            ("path = \"/a/\"", "hub.path: got \"/a/\", expected a path such as"),
            ("path = \"/{a}\"", "hub.path: got \"/{a}\", expected a path such as"),
            ("path = \"/v1/feed\"", "hub.path: got \"/v1/feed\", where the feed itself answers"),
            ("keep_alive = \"20s\"\nclient_timeout = \"30s\"", "hub.client_timeout: is less than twice keep_alive"),
            ("reconnect_buffer = \"1GiB\"", "hub.reconnect_buffer: is not between \"1kB\" and \"16MiB\""),
        ] {
            let found = parse(&format!("{FEED}[hub]\n{text}"), &FakeEnvironment::with_database(), KINDS);
            let mistakes: Vec<_> = found.err().unwrap_or_default().iter().map(ToString::to_string).collect();
            assert!(mistakes.len() == 1 && mistakes[0].starts_with(want), "{text}: {mistakes:?}");
        }
        let alone = parse("[hub]\npath = \"/hubs/events\"", &FakeEnvironment::with_database(), KINDS).err().unwrap_or_default();
        assert_eq!(alone.len(), 1, "{alone:?}");
        assert!(alone[0].to_string().starts_with("hub.path: has no effect without [feed] listen"));
    }
}
