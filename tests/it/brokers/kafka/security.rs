//! Who may come in, and whom we trust: a real broker that asks for a user, and TLS in front of a real broker, with a CA of our own.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::{handler, told};
use crate::conformance::{CANARY, numbered};
use crate::support::{Kafka, free_port, read_topic};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_password_comes_in() {
    let Some(kafka) = Kafka::start_with_user("outboxd", "right-p4ssword", "orders").await else { return };
    let settings = |password: &str| {
        format!(
            "{}\ntopic = \"orders\"\nsasl_mechanism = \"SCRAM-SHA-256\"\nusername = \"outboxd\"\npassword = \"{password}\"",
            kafka.brokers()
        )
    };
    let wrong = handler(&settings(CANARY));
    let verdict = wrong.deliver(&numbered("a", 1)).await;
    assert_eq!(told(&verdict), ("handler_fault", "unauthorized", false), "{verdict:?}");
    let problem = wrong.probe().await.expect_err("nobody gets in");
    assert!(problem.contains("authentication failed") && !problem.contains(CANARY), "{problem}");
    assert!(!verdict.detail.contains(CANARY));

    let right = handler(&settings("right-p4ssword"));
    let verdict = right.deliver(&numbered("a", 1)).await;
    assert!(verdict.is_delivered(), "{verdict:?}");
    let log_in = serde_json::json!({
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": "outboxd", "sasl.password": "right-p4ssword",
    });
    assert_eq!(read_topic(&kafka.advertised.to_string(), "orders", &log_in).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_trusted_by_its_ca_only_and_knows_us_by_our_certificate() {
    let (ca, stranger) = (authority(), authority());
    let (port, front) = (free_port(), TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free"));
    let advertised = front.local_addr().expect("a bound socket has an address");
    let Some(kafka) = Kafka::start_at(port, advertised).await else { return };
    kafka.create_topic("orders").await;
    let _front = Front::start(front, kafka.service.address(), &ca);
    let settings = |ca: &str, more: &str| format!("{}\ntopic = \"orders\"\ntls = true\nca = '''{ca}'''\n{more}", kafka.brokers());
    let ours = |ca: &Authority| {
        let (certificate, key) = leaf(ca);
        format!("client_certificate = '''{}'''\nclient_key = '''{}'''", certificate.pem(), key.serialize_pem())
    };

    for (what, settings) in [
        ("a broker of a stranger", settings(&stranger.pem(), &ours(&ca))),
        ("we have no certificate", settings(&ca.pem(), "")),
        ("a certificate of a stranger", settings(&ca.pem(), &ours(&stranger))),
    ] {
        let refused = handler(&settings);
        let verdict = refused.deliver(&numbered("a", 1)).await;
        assert_eq!(told(&verdict), ("handler_fault", "untrusted", false), "{what}: {verdict:?}");
        let problem = refused.probe().await.expect_err(what);
        assert!(problem.contains("certificate") || problem.contains("alert"), "{what}: {problem}");
    }
    let verdict = handler(&settings(&ca.pem(), &ours(&ca))).deliver(&numbered("a", 1)).await;
    assert!(verdict.is_delivered(), "{verdict:?}");
    let verdict = handler(&format!("{}\ntopic = \"orders\"", kafka.brokers())).deliver(&numbered("a", 2)).await;
    assert_eq!((verdict.outcome.as_str(), verdict.ambiguous), ("retry", false), "without TLS nothing gets in: {verdict:?}");
}

/// TLS in front of a broker that has none; it wants certificates of clients.
struct Front(AbortHandle);

impl Front {
    fn start(listener: TcpListener, broker: SocketAddr, ca: &Authority) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(ca)));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let (Ok(mut client), Ok(mut server)) = (acceptor.accept(client).await, TcpStream::connect(broker).await) else {
                        return;
                    };
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self(accepting.abort_handle())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = named("an authority", &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// A certificate for 127.0.0.1 and its key, for either side.
fn leaf(ca: &Authority) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    (named("somebody", &["127.0.0.1"]).signed_by(&key, ca).expect("a certificate"), key)
}

// OpenSSL takes a certificate for one that signed itself if it has the name of its issuer, and all have the same by default.
fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn server_config(ca: &Authority) -> ServerConfig {
    let (certificate, key) = leaf(ca);
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).expect("it is a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().expect("a CA is enough");
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions of TLS")
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .expect("they belong together")
}
