//! What a console may be told, and what is refused with what to write instead.

use super::*;
use crate::config::{FakeEnvironment, Kinds, parse};

const KINDS: Kinds = Kinds { handlers: |_| Some(&[]), channels: |_| None };

fn console(text: &str) -> Result<Console, Vec<String>> {
    let parsed = parse(text, &FakeEnvironment::with_database(), KINDS);
    parsed.map(|config| config.console).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

fn token(name: &str, digit: &str) -> String {
    format!("[[console.tokens]]\nname = \"{name}\"\nrole = \"operate\"\nsha256 = \"{}\"\n", digit.repeat(64))
}

#[test]
fn there_is_no_console_until_it_has_an_address() {
    assert_eq!(console("").expect("valid").listen, None);
    let local = console("[console]\nlisten = \"127.0.0.1:0\"").expect("loopback needs no token");
    assert!(local.listen.is_some() && !local.knows_callers());
    let socket = console("[console]\nlisten = \"unix:/run/outboxd/c.sock\"\npath = \"/outboxd\"").expect("a socket has rights");
    assert_eq!(
        (socket.listen.map(|at| at.to_string()).as_deref(), socket.path.as_str()),
        (Some("unix:/run/outboxd/c.sock"), "/outboxd")
    );
}

#[test]
fn an_address_for_other_machines_needs_to_know_who_asks() {
    for address in ["0.0.0.0:9189", "[::]:9189", "10.0.0.1:9189", "[::ffff:10.0.0.1]:9189"] {
        let open = format!("[console]\nlisten = \"{address}\"\n");
        let mistakes = console(&open).expect_err(address);
        assert!(
            mistakes.len() == 1 && mistakes[0].starts_with("console.listen: can be reached from other machines"),
            "{mistakes:?}"
        );
        assert!(console(&format!("{open}{}", token("alice", "a"))).is_ok(), "{address}");
        let proxy = "[console.proxy]\ntrusted = [\"10.0.0.7\"]\nuser_header = \"X-User\"\ngroups = { oncall = \"operate\" }\n";
        assert!(console(&format!("{open}{proxy}")).is_ok(), "{address}");
        assert!(console(&format!("{open}[console.proxy]\ntrusted = [\"10.0.0.7\"]\n")).is_err(), "such a proxy tells nobody");
    }
    assert!(console("[console]\nlisten = \"[::ffff:127.0.0.1]:0\"").is_ok() && console("[console]\nlisten = \"[::1]:0\"").is_ok());
}

#[test]
fn mistakes_say_what_to_write_and_repeat_no_secret() {
    for (text, want) in [
        ("[console]\nlisten = \":9189\"".to_owned(), "console.listen: got \":9189\", expected an address such as"),
        ("[console]\nlisten = \"unix:\"".to_owned(), "console.listen: got \"unix:\", expected a path after"),
        ("[console]\npath = \"outboxd\"".to_owned(), "console.path: got \"outboxd\", expected a path such as"),
        ("[console]\npath = \"/a/../b\"".to_owned(), "console.path: got \"/a/../b\""),
        ("[console]\nhosts = [\"https://a\"]".to_owned(), "console.hosts: got \"https://a\", expected a name such as"),
        ("[console]\nredact = [\"a..b\"]".to_owned(), "console.redact: got \"a..b\", expected names with dots"),
        ("[console.proxy]\ntrusted = [\"proxy\"]".to_owned(), "console.proxy.trusted: got \"proxy\", expected an address"),
        ("[console.proxy]\ntrusted = [\"10.0.0.0/33\"]".to_owned(), "console.proxy.trusted: got \"10.0.0.0/33\""),
        (
            "[console.proxy]\nuser_header = \"X-User\"\ngroups = { a = \"read\" }".to_owned(),
            "console.proxy.user_header: has no effect without trusted",
        ),
        (
            "[console.proxy]\ntrusted = [\"unix\"]\ngroups = { a = \"root\" }".to_owned(),
            "console.proxy.groups: got \"root\" for \"a\"",
        ),
        (
            "[console.proxy]\ntrusted = [\"unix\"]\nuser_header = \"X-User\"".to_owned(),
            "console.proxy.groups: is empty, so no user",
        ),
        (format!("{}{}", token("alice", "a"), token("alice", "b")), "console.tokens.alice: the name is given more than once"),
        (format!("{}{}", token("alice", "a"), token("bob", "a")), "console.tokens.bob: has the digest of another token"),
        (token("alice", "hunter2"), "console.tokens.alice.sha256: is not 64 hexadecimal digits"),
        (token("al ice", "a"), "console.tokens #1.name: got \"al ice\""),
        (token("alice", "a").replace("operate", "root"), "console.tokens.alice.role: got \"root\", expected \"read\" or"),
        ("[console]\ntokens = 7".to_owned(), "console.tokens: got a integer, expected a list"),
    ] {
        let mistakes = console(&text).expect_err(&text);
        assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
        assert!(mistakes[0].starts_with(want) && !mistakes[0].contains("hunter2"), "{text}: {}", mistakes[0]);
    }
}

#[test]
fn a_network_includes_its_addresses_and_no_others() {
    let includes =
        |network: &str, peer: &str| TrustedPeer::parse(network).expect("a network").includes(peer.parse().expect("an address"));
    for (network, peer, want) in [
        ("10.0.0.7", "10.0.0.7", true),
        ("10.0.0.7", "10.0.0.8", false),
        ("10.0.0.0/24", "10.0.0.255", true),
        ("10.0.0.0/24", "10.0.1.0", false),
        ("0.0.0.0/0", "192.0.2.1", true),
        ("0.0.0.0/0", "2001:db8::1", false),
        ("10.0.0.7", "::ffff:10.0.0.7", true),
        ("2001:db8::/32", "2001:db8:1::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("unix", "127.0.0.1", false),
    ] {
        assert_eq!(includes(network, peer), want, "{network} {peer}");
    }
}
