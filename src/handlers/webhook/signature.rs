//! Signatures of the Standard Webhooks scheme: HMAC-SHA256 over `id.timestamp.body`, one per secret, the current secret first.
//! Never prints a secret; an error describes only its shape.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::settings::Secret;

const SECRET_PREFIX: &str = "whsec_";
/// The scheme's bounds of a key, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that is not one of the scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected \"whsec_\" and the base64 of 24 to 64 bytes")]
pub struct InvalidSecret;

/// Signs with every secret it was made of, and verifies what one of them signed.
#[derive(Clone)]
pub struct Signer {
    // The state after the key was absorbed: every signature starts from a copy, which saves two of the hash's blocks.
    keys: Vec<Hmac<Sha256>>,
}

impl Signer {
    /// `secrets` are `whsec_...` texts; the first is the current one. Without any secret nothing is signed and nothing verifies.
    pub fn new(secrets: &[Secret]) -> Result<Self, InvalidSecret> {
        Ok(Self { keys: secrets.iter().map(key).collect::<Result<_, _>>()? })
    }

    /// Whether there is nothing to sign with.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The value of `webhook-signature`: `v1,<base64>` per secret, separated by spaces. `timestamp` is in seconds since 1970.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut header = String::with_capacity(self.keys.len() * 48);
        for key in &self.keys {
            if !header.is_empty() {
                header.push(' ');
            }
            header.push_str("v1,");
            STANDARD.encode_string(digest(key, id, timestamp, body).finalize().into_bytes(), &mut header);
        }
        header
    }

    /// Whether one of the signatures in `header` was made with one of the secrets. Compares in constant time.
    /// The age of the timestamp is for the caller to judge.
    pub fn verify(&self, id: &str, timestamp: i64, body: &[u8], header: &str) -> bool {
        let offered: Vec<Vec<u8>> =
            header.split(' ').filter_map(|part| part.strip_prefix("v1,")).filter_map(|text| STANDARD.decode(text).ok()).collect();
        self.keys.iter().any(|key| {
            let expected = digest(key, id, timestamp, body);
            offered.iter().any(|signature| expected.clone().verify_slice(signature).is_ok())
        })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} secrets)", self.keys.len())
    }
}

/// [`Signer::verify`] for a receiver that has no signer at hand. A secret that is not one makes it false.
pub fn verify(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8], header: &str) -> bool {
    Signer::new(secrets).is_ok_and(|signer| signer.verify(id, timestamp, body, header))
}

fn key(secret: &Secret) -> Result<Hmac<Sha256>, InvalidSecret> {
    let text = secret.expose().trim().strip_prefix(SECRET_PREFIX).ok_or(InvalidSecret)?;
    let bytes = STANDARD_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| InvalidSecret)?;
    if !KEY_BYTES.contains(&bytes.len()) {
        return Err(InvalidSecret);
    }
    Ok(Hmac::new_from_slice(&bytes).expect("HMAC takes a key of any length"))
}

fn digest(key: &Hmac<Sha256>, id: &str, timestamp: i64, body: &[u8]) -> Hmac<Sha256> {
    let mut hmac = key.clone();
    hmac.update(id.as_bytes());
    hmac.update(b".");
    hmac.update(timestamp.to_string().as_bytes());
    hmac.update(b".");
    hmac.update(body);
    hmac
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secrets(texts: &[&str]) -> Vec<Secret> {
        texts.iter().map(|text| Secret::new(*text)).collect()
    }

    #[test]
    fn the_known_answer_of_the_specification_comes_out() {
        let signer = Signer::new(&secrets(&[SECRET])).expect("valid");
        assert_eq!(signer.sign(ID, 1_614_265_330, BODY), SIGNED);
        assert!(signer.verify(ID, 1_614_265_330, BODY, SIGNED));
    }

    #[test]
    fn every_secret_signs_and_the_current_one_comes_first() {
        let header = Signer::new(&secrets(&[SECRET, OTHER])).expect("valid").sign(ID, 1_614_265_330, BODY);
        assert!(header.starts_with(&format!("{SIGNED} v1,")), "{header}");
        for one in [SECRET, OTHER] {
            assert!(verify(&secrets(&[one]), ID, 1_614_265_330, BODY, &header));
        }
    }

    #[test]
    fn nothing_but_the_signed_message_verifies() {
        let known = secrets(&[SECRET]);
        for (id, timestamp, body, header) in [
            ("msg_x", 1_614_265_330, BODY, SIGNED),
            (ID, 1_614_265_331, BODY, SIGNED),
            (ID, 1_614_265_330, b"{}".as_slice(), SIGNED),
            (ID, 1_614_265_330, BODY, ""),
            (ID, 1_614_265_330, BODY, "v1,"),
            (ID, 1_614_265_330, BODY, "v1,g0hM9SsE"),
            (ID, 1_614_265_330, BODY, "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ] {
            assert!(!verify(&known, id, timestamp, body, header), "{id} {timestamp} {header}");
        }
        assert!(!verify(&secrets(&[OTHER]), ID, 1_614_265_330, BODY, SIGNED));
        assert!(!verify(&[], ID, 1_614_265_330, BODY, SIGNED));
    }

    #[test]
    fn a_secret_has_the_prefix_and_24_to_64_bytes() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (text, valid) in [
            (of(23), false),
            (of(24), true),
            (of(64), true),
            (of(65), false),
            ("whsec_??".to_owned(), false),
            (of(24)[6..].to_owned(), false),
        ] {
            assert_eq!(Signer::new(&secrets(&[&text])).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn a_signer_does_not_print_its_secrets() {
        assert_eq!(format!("{:?}", Signer::new(&secrets(&[SECRET])).expect("valid")), "Signer(1 secrets)");
    }
}
