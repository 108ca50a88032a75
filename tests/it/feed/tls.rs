//! TLS of the feed's listener: every road over it, another certificate by a reload, and files that are none.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::{ALL, FEED, Served};
use super::pages::order;
use super::wait_for_places;
use crate::support::{Authority, Binary, TestDatabase, eventually};

/// The feed with its certificate and key in these files.
fn settings(directory: &Path) -> String {
    let at = directory.display();
    FEED.replace("[feed]\n", &format!("[feed]\ncertificate_file = \"{at}/feed.pem\"\ncertificate_key_file = \"{at}/feed.key\"\n"))
}

fn write(directory: &Path, (certificate, key): (String, String)) {
    std::fs::write(directory.join("feed.pem"), certificate).expect("the directory is ours");
    std::fs::write(directory.join("feed.key"), key).expect("the directory is ours");
}

/// Connects as who trusts this authority only.
async fn connect(address: &str, authority: &Authority) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM")).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("feed.internal").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

async fn say(stream: &mut TlsStream<TcpStream>, path: &str, headers: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: feed.internal\r\nauthorization: Bearer {ALL}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
}

/// Reads until the text has come.
async fn wait_for(stream: &mut TlsStream<TcpStream>, text: &str) {
    let reading = async {
        let mut read = String::new();
        while !read.contains(text) {
            let mut bytes = [0; 4_096];
            let count = stream.read(&mut bytes).await.expect("it goes on");
            assert_ne!(count, 0, "it ended: {read}");
            read.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), reading).await.unwrap_or_else(|_| panic!("{text} does not come"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_road_is_encrypted_and_a_reload_gives_new_connections_the_new_certificate() {
    let (old, new) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().expect("a temporary directory");
    write(directory.path(), old.issue("feed.internal"));
    let database = TestDatabase::create().await;
    let hub = "[hub]\npath = \"/hubs/events\"\n";
    let served = Served::start(&database, &format!("{hub}{}", settings(directory.path()))).await;
    let first = database.insert_event(order(1)).await.to_string();
    wait_for_places(&database, 1).await;

    let mut page = connect(&served.address, &old).await.expect("it is trusted");
    say(&mut page, "/v1/feed", "connection: close\r\n").await;
    wait_for(&mut page, &first).await;
    let mut stream = connect(&served.address, &old).await.expect("it is trusted");
    say(&mut stream, "/v1/feed?after=latest", "accept: text/event-stream\r\n").await;
    wait_for(&mut stream, "retry: ").await;
    let mut socket = connect(&served.address, &old).await.expect("it is trusted");
    let upgrade =
        "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    say(&mut socket, "/hubs/events", upgrade).await;
    wait_for(&mut socket, "101 Switching Protocols").await;

    // Who speaks no TLS gets nothing, and neither does who trusts somebody else.
    let mut plain = TcpStream::connect(&served.address).await.expect("it listens");
    plain.write_all(b"GET /v1/feed HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it reads");
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.ok(); // it may be reset
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    connect(&served.address, &new).await.expect_err("it is of another authority");

    write(directory.path(), new.issue("feed.internal"));
    served.running.hang_up();
    served.running.wait_for_output("configuration reloaded").await;
    let mut page = connect(&served.address, &new).await.expect("the new one is in use");
    say(&mut page, "/v1/feed", "connection: close\r\n").await;
    wait_for(&mut page, &first).await;
    connect(&served.address, &old).await.expect_err("the old one is not");

    // Files that do not belong together change nothing.
    write(directory.path(), (new.issue("feed.internal").0, new.issue("feed.internal").1));
    served.running.hang_up();
    served.running.wait_for_output("does not work with certificate").await;
    let mut page = connect(&served.address, &new).await.expect("the last good one is in use");
    say(&mut page, "/v1/feed", "connection: close\r\n").await;
    wait_for(&mut page, &first).await;
    // A connection that was open before goes on.
    let second = database.insert_event(order(2)).await.to_string();
    wait_for(&mut stream, &second).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_certificate_or_no_key_are_named_with_what_is_expected() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (good, other) = (authority.issue("feed.internal"), authority.issue("feed.internal"));
    let at = |name: &str| directory.path().join(name).display().to_string();
    for (certificate, key, want) in [
        ("nothing here", good.1.as_str(), "feed.certificate: expected certificates in PEM"),
        (good.1.as_str(), good.1.as_str(), "feed.certificate: expected certificates in PEM"),
        (good.0.as_str(), "nothing here", "feed.certificate_key: expected an unencrypted private key in PEM"),
        (good.0.as_str(), other.1.as_str(), "feed.certificate_key: does not work with certificate"),
    ] {
        write(directory.path(), (certificate.to_owned(), key.to_owned()));
        let checked = Binary::relay("postgres://localhost/nowhere", &settings(directory.path())).run(&["check"]).await;
        assert!(checked.code == Some(64) && checked.stderr.contains(want), "{want}: {checked:?}");
        assert!(!(checked.stdout + &checked.stderr).contains("BEGIN PRIVATE KEY-----\nM"), "a key is not repeated");
    }
    write(directory.path(), good);
    for (line, want) in [
        (format!("certificate_file = \"{}\"\n", at("feed.pem")), "feed.certificate_key: is missing"),
        (format!("certificate_key_file = \"{}\"\n", at("feed.key")), "feed.certificate: is missing"),
        (format!("certificate_file = \"{}\"\n", at("gone.pem")), "gone.pem"),
    ] {
        let config = FEED.replace("[feed]\n", &format!("[feed]\n{line}"));
        let checked = Binary::relay("postgres://localhost/nowhere", &config).run(&["check"]).await;
        assert!(checked.code == Some(64) && checked.stderr.contains(want), "{want}: {checked:?}");
    }
}

/// A handshake that never comes takes the place of no other client.
#[tokio::test(flavor = "multi_thread")]
async fn who_begins_no_handshake_keeps_nobody_out_and_not_the_relay_from_stopping() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().expect("a temporary directory");
    write(directory.path(), authority.issue("feed.internal"));
    let database = TestDatabase::create().await;
    let served = Served::start(&database, &settings(directory.path())).await;
    database.insert_event(order(1)).await;
    wait_for_places(&database, 1).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(&served.address).await.expect("it listens"));
    }
    eventually("a client is answered", || async {
        let mut page = connect(&served.address, &authority).await.ok()?;
        say(&mut page, "/v1/feed", "connection: close\r\n").await;
        wait_for(&mut page, "200 OK").await;
        Some(())
    })
    .await;
    served.stop().await;
    drop(silent);
}
