//! The certificate of a listener, from PEM texts to what a connection needs. The provider is ring, named here instead of taken
//! from the process, as for handlers.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::settings::{Secret, Section};

/// What connections are given. `Err`: the setting that does not work, and what is wrong with it.
pub(super) fn server_config(
    certificate: Option<&str>,
    key: Option<&Secret>,
) -> Result<Option<Arc<ServerConfig>>, (&'static str, String)> {
    let (certificate, key) = match (certificate, key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => return Err((CERTIFICATE_KEY, "is missing: certificate needs it".to_owned())),
        (None, Some(_)) => return Err((CERTIFICATE, "is missing: certificate_key needs it".to_owned())),
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or((CERTIFICATE, "expected certificates in PEM (\"-----BEGIN CERTIFICATE-----\")".to_owned()))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| {
        (CERTIFICATE_KEY, "expected an unencrypted private key in PEM (\"-----BEGIN PRIVATE KEY-----\")".to_owned())
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions of TLS")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| {
            (CERTIFICATE_KEY, format!("does not work with certificate, whose first entry must be its own: {error}"))
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

/// The settings of a section, and the mistakes in them.
pub(super) fn read_server_tls(section: &Section<'_>) -> (Option<String>, Option<Secret>) {
    let (certificate, key) = (section.optional_text(CERTIFICATE), section.secret(CERTIFICATE_KEY));
    if let Err((field, text)) = server_config(certificate.as_deref(), key.as_ref()) {
        section.mistake(field, &text);
    }
    (certificate, key)
}

const CERTIFICATE: &str = "certificate";
const CERTIFICATE_KEY: &str = "certificate_key";
