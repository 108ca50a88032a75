//! Against peers that are not what they should be, made from nothing but the example of the kind: nobody listens, somebody listens and
//! says nothing, hangs up, resets, or talks nonsense. An outage must never become a success or a dead letter, and nothing that a
//! person reads may tell a secret.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outboxd::domain::{Outcome, Verdict};
use outboxd::handlers::{Built, Handler, KINDS, Kind};
use outboxd::relay::attempt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::{build_entry, connects, numbered, tells_a_secret};
use crate::support::{DEADLINE, eventually, free_port};

/// Shorter than the time that any handler waits by itself.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Schemes with TLS and those without, so that both are tried.
const SCHEMES: &[(&str, &str)] = &[
    ("https://", "http://"),
    ("amqps://", "amqp://"),
    ("tls://", "nats://"),
    ("tls = true", "tls = false"),
    ("rediss://", "redis://"),
    ("mqtts://", "mqtt://"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Silent,
    HangsUp,
    Resets,
    TalksNonsense,
}

/// A peer that is not what it should be.
struct Hostile {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
    accepting: AbortHandle,
}

impl Hostile {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let open = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&open);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    treat(stream, manner).await;
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, open, accepting: accepting.abort_handle() }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Ends when the peer hangs up, or before.
async fn treat(mut stream: TcpStream, manner: Manner) {
    match manner {
        Manner::HangsUp => return,
        Manner::Resets => {
            let _ = stream.set_zero_linger();
            return;
        }
        Manner::TalksNonsense => _ = stream.write_all(b"220 mail.internal ESMTP ready \x00\xff\xfe\r\n").await,
        Manner::Silent => {}
    }
    let mut swallowed = [0; 4096];
    while stream.read(&mut swallowed).await.is_ok_and(|bytes| bytes > 0) {}
}

/// The example of a kind with all of its hosts at this address, with TLS and without.
fn entries(kind: &Kind, address: SocketAddr) -> Vec<String> {
    let mut entry = String::new();
    let mut rest = kind.example;
    while let Some(end) = rest.find(".internal") {
        let is_host = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        let start = rest[..end].rfind(|c| !is_host(c)).map_or(0, |place| place + 1);
        let after = &rest[end + ".internal".len()..];
        let port = after.strip_prefix(':').map_or(0, |port| 1 + port.bytes().take_while(u8::is_ascii_digit).count());
        entry.push_str(&rest[..start]);
        entry.push_str(&address.to_string());
        rest = &after[port..];
    }
    entry.push_str(rest);
    let plain = SCHEMES.iter().fold(entry.clone(), |text, (with, without)| text.replace(with, without));
    if plain == entry { vec![entry] } else { vec![entry, plain] }
}

/// Handlers of every kind that connects to something, which connect to this instead.
fn handlers_at(address: SocketAddr) -> Vec<(String, Arc<dyn Handler>)> {
    let mut handlers = Vec::new();
    for kind in KINDS.iter().filter(|kind| connects(kind)) {
        for entry in entries(kind, address) {
            let Built::Handler(handler) = build_entry(&entry) else { panic!("{}: a function connects to nothing", kind.name) };
            handlers.push((entry, handler));
        }
    }
    assert!(!handlers.is_empty());
    handlers
}

fn assert_held(entry: &str, peer: &str, verdict: &Verdict) {
    let is_held = matches!(verdict.outcome, Outcome::Retry | Outcome::BackPressure | Outcome::HandlerFault);
    assert!(is_held, "{peer}: {verdict:?}\n{entry}");
    assert!(!verdict.detail.is_empty(), "{peer}: a person wants to know what happened\n{entry}");
    assert!(!tells_a_secret(&format!("{verdict:?}")), "{peer}: {verdict:?}\n{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kind_takes_an_absent_receiver_for_anything_else() {
    let address = ([127, 0, 0, 1], free_port()).into();
    for (entry, handler) in handlers_at(address) {
        for number in 0..3 {
            let verdict = attempt(&*handler, &numbered("a", number), DEADLINE).await;
            assert_held(&entry, "nobody listens", &verdict);
            assert!(verdict.reason.is_unreachable() && !verdict.ambiguous, "nothing was sent: {verdict:?}\n{entry}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kind_takes_a_hostile_peer_for_a_receiver() {
    for manner in [Manner::HangsUp, Manner::Resets, Manner::TalksNonsense, Manner::Silent] {
        let hostile = Hostile::start(manner).await;
        let tried = handlers_at(hostile.address).into_iter().map(|(entry, handler)| async move {
            for number in 0..2 {
                let verdict = attempt(&*handler, &numbered("a", number), TIMEOUT).await;
                assert_held(&entry, &format!("{manner:?}"), &verdict);
            }
        });
        futures_util::future::join_all(tried).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_is_dropped_leaves_no_connection_and_goes_on_with_nothing() {
    let hostile = Hostile::start(Manner::Silent).await;
    for (entry, handler) in handlers_at(hostile.address) {
        let verdict = attempt(&*handler, &numbered("a", 1), Duration::from_millis(300)).await;
        assert_held(&entry, "silent", &verdict);
        drop(handler);
        eventually(&format!("every connection is closed\n{entry}"), || {
            std::future::ready((hostile.open.load(Ordering::SeqCst) == 0).then_some(()))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_what_is_wrong_and_no_secret() {
    let absent: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let hostile = Hostile::start(Manner::TalksNonsense).await;
    for (peer, address) in [("nobody listens", absent), ("nonsense", hostile.address)] {
        let tried = handlers_at(address).into_iter().map(|(entry, handler)| async move {
            let answer = tokio::time::timeout(DEADLINE, handler.probe()).await.expect("a probe is bounded in time");
            match answer {
                Err(problem) => assert!(!problem.is_empty() && !tells_a_secret(&problem), "{peer}: {problem}\n{entry}"),
                // A webhook without TLS says nothing before it is asked something, and neither does its peer.
                Ok(said) => assert!(peer == "nonsense" && entry.contains("\"webhook\""), "{peer}: {said}\n{entry}"),
            }
        });
        futures_util::future::join_all(tried).await;
    }
}
