//! A certificate authority that nobody trusts but who is told to.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use uuid::Uuid;

/// Issues certificates; each authority has a name of its own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = named(&format!("authority {}", Uuid::new_v4()), &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this host or client, and its key, as PEM.
    pub fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        (named(name, &[name]).signed_by(&key, &self.0).expect("a certificate").pem(), key.serialize_pem())
    }

    /// Settings with which a handler trusts this authority.
    pub fn trusted(&self) -> String {
        format!("ca = '''{}'''\n", self.pem())
    }

    /// Settings that identify a handler to whoever trusts this authority.
    pub fn identity(&self) -> String {
        let (certificate, key) = self.issue("relay");
        format!("client_certificate = '''{certificate}'''\nclient_key = '''{key}'''\n")
    }
}

// OpenSSL and Erlang take a certificate for one that signed itself if it has the name of its issuer, and all have the same by default.
fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
