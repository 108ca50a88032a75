//! TLS of a handler: which servers it trusts and how it identifies itself. The settings are the same for every kind that connects
//! to something. The provider is ring, named here instead of taken from the process, so that a program that embeds the relay
//! needs no set-up.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::settings::{Field, FieldType, Secret, Section};

pub const CA: Field = Field::new("ca", FieldType::Text, "", "Certificates (PEM) to trust instead of those of the platform.");
pub const CLIENT_CERTIFICATE: Field =
    Field::new("client_certificate", FieldType::Text, "", "Client certificate chain (PEM); needs client_key.");
pub const CLIENT_KEY: Field = Field::new("client_key", FieldType::Secret, "", "Private key (PEM) of client_certificate.");
pub const SKIP_VERIFY: Field =
    Field::new("insecure_skip_verify", FieldType::Boolean, "false", "Accept every certificate: for experiments only.");

/// The TLS settings, as PEM texts.
#[derive(Debug, Default, Clone)]
pub struct TlsSettings {
    /// Trusted instead of what the platform trusts.
    pub ca: Option<String>,
    pub client_certificate: Option<String>,
    pub client_key: Option<Secret>,
    pub skip_verify: bool,
}

/// A setting that does not work; `field` is its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {text}")]
pub struct InvalidTls {
    pub field: &'static str,
    pub text: String,
}

impl TlsSettings {
    /// Reads the settings that this module declares.
    pub fn of(section: &Section<'_>) -> Self {
        Self {
            ca: section.optional_text("ca"),
            client_certificate: section.optional_text("client_certificate"),
            client_key: section.secret("client_key"),
            skip_verify: section.boolean("insecure_skip_verify"),
        }
    }
}

/// The settings that this module declares, as a connection needs them; `protocol` is what ALPN offers, empty for nothing.
/// `None`: a mistake was reported.
pub fn read(section: &Section<'_>, protocol: &[u8], is_used: bool) -> Option<ClientConfig> {
    let settings = TlsSettings::of(section);
    if settings.skip_verify {
        tracing::warn!(handler = section.path().trim_start_matches("handlers."), "certificates of the receiver are not verified");
    }
    let mut config = client_config(&settings, is_used).map_err(|invalid| section.mistake(invalid.field, &invalid.text)).ok()?;
    config.alpn_protocols = if protocol.is_empty() { Vec::new() } else { vec![protocol.to_vec()] };
    Some(config)
}

/// Builds what a connection needs. `is_used`: false for a URL without TLS, which needs no certificates of the platform.
pub fn client_config(settings: &TlsSettings, is_used: bool) -> Result<ClientConfig, InvalidTls> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions of TLS");
    let builder = match settings.skip_verify {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnyone(provider))),
        false => builder.with_root_certificates(roots(settings.ca.as_deref(), is_used)?),
    };
    match (&settings.client_certificate, &settings.client_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates("client_certificate", certificate)?, private_key(key)?)
            .map_err(|error| invalid("client_key", format!("does not work with client_certificate: {error}"))),
        (Some(_), None) => Err(invalid("client_key", "is missing: client_certificate needs it")),
        (None, Some(_)) => Err(invalid("client_certificate", "is missing: client_key needs it")),
    }
}

fn roots(ca: Option<&str>, is_used: bool) -> Result<RootCertStore, InvalidTls> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = ca {
        for certificate in certificates("ca", ca)? {
            roots.add(certificate).map_err(|error| invalid("ca", format!("got a certificate that cannot be trusted: {error}")))?;
        }
    } else if is_used {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            tracing::warn!(
                "no trusted certificates were found on this machine; TLS needs the setting ca or the package ca-certificates"
            );
        }
    }
    Ok(roots)
}

fn certificates(field: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(invalid(field, "expected certificates in PEM (\"-----BEGIN CERTIFICATE-----\")")),
    }
}

fn private_key(pem: &Secret) -> Result<PrivateKeyDer<'static>, InvalidTls> {
    PrivateKeyDer::from_pem_slice(pem.expose().as_bytes())
        .map_err(|_| invalid("client_key", "expected an unencrypted private key in PEM (\"-----BEGIN PRIVATE KEY-----\")"))
}

fn invalid(field: &'static str, text: impl Into<String>) -> InvalidTls {
    InvalidTls { field, text: text.into() }
}

/// Accepts every certificate, but still checks that the receiver holds its key.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_at_fault(settings: TlsSettings) -> Option<&'static str> {
        client_config(&settings, false).err().map(|invalid| invalid.field)
    }

    fn pair() -> (String, Secret) {
        let made = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).expect("a certificate");
        (made.cert.pem(), Secret::new(made.signing_key.serialize_pem()))
    }

    #[test]
    fn every_unusable_setting_is_named() {
        let ((certificate, key), (_, other_key)) = (pair(), pair());
        let with = |ca: Option<&str>, certificate: Option<&str>, key: Option<&Secret>| TlsSettings {
            ca: ca.map(str::to_owned),
            client_certificate: certificate.map(str::to_owned),
            client_key: key.cloned(),
            skip_verify: false,
        };
        for (settings, want) in [
            (with(None, None, None), None),
            (with(Some(&certificate), Some(&certificate), Some(&key)), None),
            (with(Some("nonsense"), None, None), Some("ca")),
            (with(None, Some(&certificate), None), Some("client_key")),
            (with(None, None, Some(&key)), Some("client_certificate")),
            (with(None, Some("nonsense"), Some(&key)), Some("client_certificate")),
            (with(None, Some(&certificate), Some(&Secret::new("nonsense"))), Some("client_key")),
            (with(None, Some(&certificate), Some(&other_key)), Some("client_key")),
        ] {
            assert_eq!(field_at_fault(settings), want);
        }
    }
}
