//! Certificates of a private authority.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Issues certificates that nobody else trusts.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("valid names");
        // By its name alone Erlang tells an issuer from what it has issued.
        params.distinguished_name.push(DnType::CommonName, "authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this host and its key, as PEM.
    pub fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a valid name");
        (params.signed_by(&key, &self.0).expect("a certificate").pem(), key.serialize_pem())
    }

    /// Settings with which a client trusts this authority.
    pub fn trusted(&self) -> String {
        format!("ca = '''{}'''\n", self.pem())
    }

    /// Settings that identify a client to whoever trusts this authority.
    pub fn identity(&self) -> String {
        let (certificate, key) = self.issue("relay");
        format!("client_certificate = '''{certificate}'''\nclient_key = '''{key}'''\n")
    }
}
