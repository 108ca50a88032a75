//! TLS: a CA of one's own, client certificates, and what a broken trust looks like.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a valid name");
        (params.signed_by(&key, &self.0).expect("a certificate"), key)
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// Two settings that identify a client.
    fn client_settings(&self) -> String {
        let (certificate, key) = self.issue("relay");
        format!("client_certificate = '''{}'''\nclient_key = '''{}'''\n", certificate.pem(), key.serialize_pem())
    }
}

/// Answers 204 over TLS under a certificate for `name`; with `clients`, only to clients that it issued a certificate to.
async fn secure_receiver(authority: &Authority, name: &str, clients: Option<&Authority>) -> std::net::SocketAddr {
    let (certificate, key) = authority.issue(name);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.0.der().clone()).expect("a CA");
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().expect("valid"),
            )
        }
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = builder.with_single_cert(vec![certificate.der().clone()], key).expect("a pair");
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A refused client: keep the socket until it hangs up, so that the alert is not lost in a reset.
                match acceptor.accept(stream).into_fallible().await {
                    Ok(mut stream) => {
                        if !read_request(&mut stream).await.is_empty() {
                            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok();
                        }
                    }
                    Err((_, mut stream)) => _ = stream.read_to_end(&mut Vec::new()).await,
                }
            });
        }
    });
    address
}

fn settings(address: std::net::SocketAddr, more: &str) -> String {
    format!("url = \"https://{address}/\"\nrequest_timeout = \"5s\"\n{more}")
}

fn trusting(authority: &Authority) -> String {
    format!("ca = '''{}'''\n", authority.pem())
}

async fn assert_untrusted(toml: &str) {
    let handler = webhook(toml);
    let verdict = handler.deliver(&sample()).await;
    assert_eq!(
        (verdict.outcome, verdict.reason, verdict.ambiguous),
        (Outcome::HandlerFault, Reason::Untrusted, false),
        "{verdict:?}"
    );
    handler.probe().await.expect_err("a probe must not say that all is well");
}

#[tokio::test]
async fn a_ca_of_ones_own_is_trusted() {
    let authority = Authority::new();
    let address = secure_receiver(&authority, "127.0.0.1", None).await;
    let handler = webhook(&settings(address, &trusting(&authority)));
    assert_eq!(handler.deliver(&sample()).await, Verdict::delivered().with_status(204));
    assert_eq!(handler.probe().await, Ok(format!("connected to {address}")));
}

#[tokio::test]
async fn an_unknown_ca_or_a_wrong_name_is_not_trusted() {
    let authority = Authority::new();
    let address = secure_receiver(&authority, "127.0.0.1", None).await;
    assert_untrusted(&settings(address, &trusting(&Authority::new()))).await;
    assert_untrusted(&settings(address, "")).await;
    let misnamed = secure_receiver(&authority, "elsewhere.test", None).await;
    assert_untrusted(&settings(misnamed, &trusting(&authority))).await;
}

#[tokio::test]
async fn verification_can_be_switched_off() {
    let address = secure_receiver(&Authority::new(), "elsewhere.test", None).await;
    assert!(webhook(&settings(address, "insecure_skip_verify = true")).deliver(&sample()).await.is_delivered());
}

#[tokio::test]
async fn a_client_certificate_identifies_the_relay() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let address = secure_receiver(&authority, "127.0.0.1", Some(&clients)).await;
    let trusting = trusting(&authority);
    let handler = webhook(&settings(address, &(trusting.clone() + &clients.client_settings())));
    assert_eq!(handler.deliver(&sample()).await, Verdict::delivered().with_status(204));
    assert_eq!(handler.probe().await, Ok(format!("connected to {address}")));
    assert_untrusted(&settings(address, &trusting)).await;
    assert_untrusted(&settings(address, &(trusting + &Authority::new().client_settings()))).await;
}

#[tokio::test]
async fn a_receiver_without_tls_fails_the_handshake() {
    let receiver = Receiver::accepting().await;
    let verdict = webhook(&settings(receiver.address, "insecure_skip_verify = true")).deliver(&sample()).await;
    assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (Outcome::Retry, Reason::Tls, false), "{verdict:?}");
}
