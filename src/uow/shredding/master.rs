//! Master keys: they wrap the keys of subjects. Kept outside of the database, in a file or a variable, so that a copy of the database alone
//! opens nothing.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::ShredError;
use super::crypt::{KEY_BYTES, KeyBytes, bind, random_nonce};

/// What a master key begins with, so that it is not taken for another secret.
const PREFIX: &str = "outboxd_master_";

/// The form of a wrapped key: this byte, the nonce, the encrypted key with its tag.
const FORM: u8 = 1;
const NONCE_BYTES: usize = 12;

/// The keys that wrap the keys of subjects. The first one wraps; all of them unwrap, so that there are two while
/// `outboxd subjects rewrap` works.
#[derive(Clone)]
pub struct MasterKeys {
    keys: Vec<MasterKey>,
}

#[derive(Clone)]
struct MasterKey {
    fingerprint: String,
    bytes: KeyBytes,
}

/// The key of a subject as the database keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Id of the key; the same under every master key.
    pub key: Uuid,
    /// Encrypted by the master key.
    pub wrapped: Vec<u8>,
    /// Fingerprint of the master key.
    pub master: String,
}

/// Why there are no master keys. Never repeats one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeysError {
    /// There is none.
    #[error("there is no master key; `outboxd subjects key` makes one")]
    None,
    /// One of them is no key.
    #[error("master key {place} is not {PREFIX} and 32 bytes in base64, as `outboxd subjects key` prints it")]
    NoKey {
        /// Which one, from 1.
        place: usize,
    },
    /// The file cannot be read.
    #[error("could not read the master keys from {path}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The variable is not set, or is no text.
    #[error("could not read the master keys from the variable {name}")]
    Variable {
        /// The variable.
        name: String,
        /// Why not.
        #[source]
        cause: std::env::VarError,
    },
    /// A new one cannot be made.
    #[error("there are no random bytes for a master key")]
    NoRandomness,
}

impl MasterKeys {
    /// Keys in a text, one a line or with spaces between them; lines that begin with `#` are comments.
    pub fn parse(text: &str) -> Result<Self, MasterKeysError> {
        let words = text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(str::split_whitespace);
        let keys = words.enumerate().map(|(place, word)| MasterKey::parse(word).ok_or(MasterKeysError::NoKey { place: place + 1 }));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(MasterKeysError::None) } else { Ok(Self { keys }) }
    }

    /// Keys in a file, as [`parse`](Self::parse) reads them.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, MasterKeysError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path);
        Self::parse(&text.map_err(|cause| MasterKeysError::File { path: path.display().to_string(), cause })?)
    }

    /// Keys in an environment variable, as [`parse`](Self::parse) reads them.
    pub fn from_env(name: &str) -> Result<Self, MasterKeysError> {
        let text = std::env::var(name);
        Self::parse(&text.map_err(|cause| MasterKeysError::Variable { name: name.to_owned(), cause })?)
    }

    /// The text of a new one.
    pub fn make() -> Result<String, MasterKeysError> {
        let key = KeyBytes::random().ok_or(MasterKeysError::NoRandomness)?;
        Ok(format!("{PREFIX}{}", STANDARD.encode(key.0)))
    }

    /// Names the keys without giving them away, the one that wraps first. The table of keys has it beside each key.
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.fingerprint.clone()).collect()
    }

    /// The same key, wrapped by the first master key.
    pub fn rewrap(&self, subject: &str, wrapped: &WrappedKey) -> Result<WrappedKey, ShredError> {
        self.wrap(subject, wrapped.key, &self.unwrap(subject, wrapped)?)
    }

    /// A new key for a subject.
    pub(super) fn new_key(&self, subject: &str) -> Result<WrappedKey, ShredError> {
        let key = KeyBytes::random().ok_or_else(|| ShredError::NoRandomness { subject: subject.to_owned() })?;
        self.wrap(subject, Uuid::new_v4(), &key)
    }

    fn wrap(&self, subject: &str, key: Uuid, bytes: &KeyBytes) -> Result<WrappedKey, ShredError> {
        let master = &self.keys[0];
        let nonce = random_nonce().ok_or_else(|| ShredError::NoRandomness { subject: subject.to_owned() })?;
        let mut wrapped = vec![FORM];
        wrapped.extend_from_slice(&nonce);
        wrapped.extend(master.bytes.derive("outboxd wrap 1").encrypt(nonce, &bound_to(subject, key), &bytes.0));
        Ok(WrappedKey { key, wrapped, master: master.fingerprint.clone() })
    }

    pub(super) fn unwrap(&self, subject: &str, wrapped: &WrappedKey) -> Result<KeyBytes, ShredError> {
        let Some(master) = self.keys.iter().find(|key| key.fingerprint == wrapped.master) else {
            let (subject, wrapped_by) = (subject.to_owned(), wrapped.master.clone());
            return Err(ShredError::OtherMasterKey { subject, wrapped_by, known: self.fingerprints() });
        };
        let open = || {
            let rest = wrapped.wrapped.strip_prefix(&[FORM])?;
            let (nonce, data) = rest.split_at_checked(NONCE_BYTES)?;
            let clear = master.bytes.derive("outboxd wrap 1").decrypt(nonce, &bound_to(subject, wrapped.key), data)?;
            Some(KeyBytes(clear.try_into().ok()?))
        };
        open().ok_or_else(|| ShredError::KeyAltered { subject: subject.to_owned() })
    }
}

impl MasterKey {
    fn parse(word: &str) -> Option<Self> {
        let bytes: [u8; KEY_BYTES] = STANDARD.decode(word.strip_prefix(PREFIX)?).ok()?.try_into().ok()?;
        let bytes = KeyBytes(bytes);
        let fingerprint = bytes.derive("outboxd fingerprint 1").0[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Self { fingerprint, bytes })
    }
}

fn bound_to(subject: &str, key: Uuid) -> Vec<u8> {
    bind(&[b"outboxd subject key 1", subject.as_bytes(), key.as_bytes()])
}

// Never the keys.
impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MasterKeys").field(&self.fingerprints()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn master_keys_are_read_from_a_text_and_a_wrong_one_is_not_repeated() {
        let (one, other) = (MasterKeys::make().expect("random"), MasterKeys::make().expect("random"));
        let both = MasterKeys::parse(&format!("# the new one\n{one}\n\n {other}\n")).expect("both are keys");
        assert_eq!(both.fingerprints().len(), 2);
        assert_eq!(MasterKeys::parse(&format!("{one} {other}")).expect("both").fingerprints(), both.fingerprints());
        assert!(!format!("{both:?}").contains(&one[PREFIX.len()..]));
        for wrong in ["outboxd_master_c2hvcnQ=", "whsec_c2VjcmV0", &one[PREFIX.len()..], &format!("{one}A")] {
            let error = MasterKeys::parse(&format!("{other}\n{wrong}")).expect_err(wrong).to_string();
            assert!(error.starts_with("master key 2 is not") && !error.contains(wrong), "{error}");
        }
        assert!(matches!(MasterKeys::parse(" \n# nothing\n"), Err(MasterKeysError::None)));
    }

    #[test]
    fn a_wrapped_key_opens_under_its_master_key_and_its_subject_only() {
        let text = MasterKeys::make().expect("random");
        let keys = MasterKeys::parse(&text).expect("a key");
        let wrapped = keys.new_key("customer/42").expect("random");
        let opened = keys.unwrap("customer/42", &wrapped).expect("it opens");
        let altered = |subject: &str| Err(ShredError::KeyAltered { subject: subject.to_owned() });
        assert_eq!(keys.unwrap("customer/43", &wrapped).map(drop), altered("customer/43"));
        let strange = WrappedKey { key: Uuid::new_v4(), ..wrapped.clone() };
        assert_eq!(keys.unwrap("customer/42", &strange).map(drop), altered("customer/42"));
        for place in 0..wrapped.wrapped.len() {
            let mut bytes = wrapped.wrapped.clone();
            bytes[place] ^= 1;
            let altered_key = WrappedKey { wrapped: bytes, ..wrapped.clone() };
            assert_eq!(keys.unwrap("customer/42", &altered_key).map(drop), altered("customer/42"), "byte {place}");
        }
        let cut = WrappedKey { wrapped: vec![FORM, 1, 2], ..wrapped.clone() };
        assert_eq!(keys.unwrap("customer/42", &cut).map(drop), altered("customer/42"));

        let rotated = MasterKeys::parse(&format!("{}\n{text}", MasterKeys::make().expect("random"))).expect("two keys");
        let again = rotated.rewrap("customer/42", &wrapped).expect("the second one unwraps");
        assert_eq!((again.key, &again.master), (wrapped.key, &rotated.fingerprints()[0]));
        assert!(rotated.unwrap("customer/42", &again).ok() == Some(opened));
        let error = keys.unwrap("customer/42", &again).map(drop).expect_err("the old one alone does not open it");
        assert!(matches!(error, ShredError::OtherMasterKey { .. }), "{error}");
    }
}
