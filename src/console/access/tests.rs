//! The door as a whole: tokens, sessions, proxies and their order.

use super::*;
use crate::config::TrustedPeer;

const HERE: Peer = Peer::Address(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

fn token(name: &str, text: &str, role: Role) -> ConsoleToken {
    ConsoleToken { name: name.to_owned(), role, payload: false, digest: Sha256::digest(text).into() }
}

fn console(tokens: Vec<ConsoleToken>) -> config::Console {
    config::Console {
        listen: None,
        path: String::new(),
        hosts: Vec::new(),
        redact: Vec::new(),
        tokens,
        proxy: ConsoleProxy::default(),
    }
}

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        map.append(axum::http::HeaderName::from_static(name), value.parse().expect("a header"));
    }
    map
}

fn access(console: &config::Console) -> Access {
    Access::new(console, ConsoleMetrics::new())
}

fn who(access: &Access, list: &[(&'static str, &str)]) -> Identity {
    access.identify(&access.rules(), HERE, &headers(list), Via::Console)
}

#[test]
fn without_tokens_and_proxy_everybody_may_look_and_nobody_may_act() {
    let Identity::Known(caller, proof) = who(&access(&console(Vec::new())), &[]) else { panic!("open") };
    assert_eq!((caller.role, caller.sees_payloads, proof), (Role::Read, false, Proof::Ambient));
    for header in ["x-forwarded-for", "forwarded", "via"] {
        let passed_on = who(&access(&console(Vec::new())), &[(header, "192.0.2.1")]);
        assert!(matches!(passed_on, Identity::Refused(_)), "{header}: it need not come from this machine");
    }
    let closed = access(&console(vec![token("alice", "secret-token", Role::Admin)]));
    assert_eq!(who(&closed, &[]), Identity::Unknown);
    let mut proxied = console(Vec::new());
    proxied.proxy.user_header = Some("x-user".to_owned());
    proxied.proxy.trusted = vec![TrustedPeer::Unix];
    assert_eq!(who(&access(&proxied), &[]), Identity::Unknown, "the proxy was passed by");
}

#[test]
fn a_token_is_known_by_its_digest_and_a_removed_one_no_more() {
    let access = access(&console(vec![token("alice", "secret-token", Role::Admin), token("bob", "other-token", Role::Read)]));
    let Identity::Known(bob, proof) = who(&access, &[("authorization", "bearer other-token")]) else { panic!("known") };
    assert_eq!((bob.name.as_str(), bob.role, proof), ("bob", Role::Read, Proof::Bearer));
    for wrong in ["Bearer other-toke", "Basic other-token", "Bearer", "other-token", "Bearer x"] {
        assert!(matches!(who(&access, &[("authorization", wrong)]), Identity::Refused(_)), "{wrong}");
    }
    let both = [("authorization", "Bearer other-token"), ("authorization", "Bearer secret-token")];
    assert!(matches!(who(&access, &both), Identity::Refused(_)), "which of the two counts is not clear");
    access.replace(&console(vec![token("alice", "secret-token", Role::Admin)]));
    assert!(matches!(who(&access, &[("authorization", "Bearer other-token")]), Identity::Refused(_)));
}

#[test]
fn a_session_has_the_rights_that_its_token_has_now() {
    let access = access(&console(vec![token("alice", "secret-token", Role::Admin)]));
    let LoggedIn::Yes(session) = access.log_in(&access.rules(), HERE, " secret-token ") else { panic!("a good token") };
    let cookie = format!("other=1; outboxd={session}");
    let Identity::Known(alice, proof) = who(&access, &[("cookie", &cookie)]) else { panic!("a session") };
    assert_eq!((alice.role, proof), (Role::Admin, Proof::Ambient));
    access.replace(&console(vec![token("alice", "secret-token", Role::Read)]));
    let Identity::Known(alice, _) = who(&access, &[("cookie", &cookie)]) else { panic!("a session") };
    assert_eq!(alice.role, Role::Read);
    access.log_out(&headers(&[("cookie", &cookie)]));
    assert_eq!(who(&access, &[("cookie", &cookie)]), Identity::Unknown);
}

#[test]
fn a_peer_that_tries_too_often_is_not_looked_at_not_even_with_a_good_token() {
    let access = access(&console(vec![token("alice", "secret-token", Role::Admin)]));
    let rules = access.rules();
    for _ in 0..5 {
        assert_eq!(access.log_in(&rules, HERE, "guess"), LoggedIn::No);
    }
    assert!(matches!(access.log_in(&rules, HERE, "secret-token"), LoggedIn::Limited(_)));
    assert!(matches!(who(&access, &[("authorization", "Bearer secret-token")]), Identity::Limited(_)));
    assert!(matches!(access.log_in(&rules, Peer::Socket, "secret-token"), LoggedIn::Yes(_)), "another peer may");
}

#[test]
fn over_https_only_the_cookie_that_no_other_host_can_set_counts() {
    let mut configured = console(vec![token("alice", "secret-token", Role::Admin)]);
    configured.proxy.trusted = vec![TrustedPeer::Network("127.0.0.1".parse().expect("an address"), 32)];
    let access = access(&configured);
    let LoggedIn::Yes(session) = access.log_in(&access.rules(), HERE, "secret-token") else { panic!("a good token") };
    let (plain, secure) = (format!("outboxd={session}"), format!("__Host-outboxd={session}"));
    let https = ("x-forwarded-proto", "https");
    assert_eq!(who(&access, &[https, ("cookie", &plain)]), Identity::Unknown);
    assert!(matches!(who(&access, &[https, ("cookie", &secure)]), Identity::Known(..)));
    let set = |list: &[(&'static str, &str)], peer| access.set_cookie(&access.rules(), peer, &headers(list), Some("v"));
    assert_eq!(set(&[https], HERE), "__Host-outboxd=v; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure");
    assert_eq!(set(&[https], Peer::Socket), "outboxd=v; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict", "not believed");
}
