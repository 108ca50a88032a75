//! The cipher: AES-256-GCM with the library that TLS uses anyway, and the keys that are derived from the key of a subject. Pure, apart from
//! random bytes for new keys.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of every key.
pub(super) const KEY_BYTES: usize = 32;

/// A key as it is kept: never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct KeyBytes(pub [u8; KEY_BYTES]);

impl KeyBytes {
    /// `None`: the operating system has no random bytes.
    pub(super) fn random() -> Option<Self> {
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// A key for one purpose. Keys of two purposes have nothing to do with one another.
    pub(super) fn derive(&self, purpose: &str) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), purpose.as_bytes());
        let mut bytes = [0; KEY_BYTES];
        bytes.copy_from_slice(&tag.as_ref()[..KEY_BYTES]);
        Self(bytes)
    }

    /// The ciphertext with its tag.
    pub(super) fn encrypt(&self, nonce: [u8; NONCE_LEN], bound: &[u8], clear: &[u8]) -> Vec<u8> {
        let mut data = clear.to_vec();
        self.cipher()
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut data)
            .expect("a text that fits into memory is shorter than the bound of the cipher");
        data
    }

    /// `None`: another key, another binding, or not as it was encrypted.
    pub(super) fn decrypt(&self, nonce: &[u8], bound: &[u8], data: &[u8]) -> Option<Vec<u8>> {
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut data = data.to_vec();
        let clear = self.cipher().open_in_place(nonce, Aad::from(bound), &mut data).ok()?.len();
        data.truncate(clear);
        Some(data)
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.0).expect("the key has 32 bytes"))
    }
}

/// The nonce of a text: differs with the text and with what it is bound to.
pub(super) fn nonce_of(key: &KeyBytes, bound: &[u8], clear: &[u8]) -> [u8; NONCE_LEN] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key.0));
    context.update(&(bound.len() as u64).to_be_bytes());
    context.update(bound);
    context.update(clear);
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&context.sign().as_ref()[..NONCE_LEN]);
    nonce
}

/// A nonce for something that is written once; `None`: there are no random bytes.
pub(super) fn random_nonce() -> Option<[u8; NONCE_LEN]> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).ok()?;
    Some(nonce)
}

/// Parts as one text of which no other parts have the same.
pub(super) fn bind(parts: &[&[u8]]) -> Vec<u8> {
    let mut bound = Vec::new();
    for part in parts {
        bound.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bound.extend_from_slice(part);
    }
    bound
}
