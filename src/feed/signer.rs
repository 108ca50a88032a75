//! Signed statements that clients carry and hand back: the content, and a signature that only holders of the key can make. Says
//! nothing about how often a statement may be used; `used` remembers that.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;
use uuid::Uuid;

use crate::settings::Secret;

/// Signs statements of one kind. Those of another kind are not taken, whatever the key.
#[derive(Clone)]
pub struct Signer {
    key: Hmac<Sha256>,
}

/// The statements that were used here and have not expired.
#[derive(Debug, Default)]
pub struct Used(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// Until when no other request may use them.
    until: HashMap<Uuid, u64>,
    /// So many may be remembered before those that have expired are forgotten.
    room: usize,
}

/// The least room: fewer are not worth a look.
pub(super) const SWEEP: usize = 1_024;

impl Signer {
    /// Without a key only the process that makes a statement takes it.
    pub fn new(key: Option<&Secret>, kind: &str) -> Self {
        let drawn = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        let key = key.map_or(&*drawn, |key| key.expose().as_bytes());
        let key = Hmac::new_from_slice(key).expect("HMAC takes a key of any length");
        Self { key: Mac::chain_update(key, kind) }
    }

    /// A text that is safe in a URL.
    pub fn sign(&self, statement: &impl Serialize) -> String {
        let said = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(statement).expect("a statement is JSON"));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.key.clone().chain_update(&said).finalize().into_bytes());
        format!("{said}.{signature}")
    }

    /// `None`: it was not signed with this key, or is of another kind.
    pub fn read<T: DeserializeOwned>(&self, text: &str) -> Option<T> {
        let (said, signature) = text.split_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.key.clone().chain_update(said).verify_slice(&signature).ok()?;
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(said).ok()?).ok()
    }
}

impl Used {
    /// Whether this is the first use. `expires`: seconds since 1970, after which no instance accepts the statement anyway.
    pub fn is_first(&self, id: Uuid, expires: u64, now: SystemTime) -> bool {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.until.len() >= remembered.room.max(SWEEP) {
            let now = seconds(now);
            remembered.until.retain(|_, expires| *expires >= now);
            // Where most of them are still good, the next look comes after as many more: each costs a few looks, however many there are.
            remembered.room = remembered.until.len() * 2;
        }
        remembered.until.insert(id, expires).is_none()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.lock().expect("no thread panics").until.len()
    }
}

/// Since 1970.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_has_expired_is_forgotten_and_what_has_not_is_not_looked_at_each_time() {
        let (used, now) = (Used::default(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
        let ids: Vec<Uuid> = (0..10_000).map(Uuid::from_u128).collect();
        assert!(ids.iter().all(|id| used.is_first(*id, 1_030, now)));
        assert!(ids.iter().all(|id| !used.is_first(*id, 1_030, now)), "none is forgotten before its time");
        let room = used.0.lock().expect("no thread panics").room;
        assert!((SWEEP..=2 * ids.len()).contains(&room), "{room}");
        for id in 0..20_000 {
            assert!(used.is_first(Uuid::from_u128(1 << 100 | id), 2_000, now + Duration::from_secs(100)));
        }
        assert_eq!(used.len(), 20_000, "the old ones are gone");
    }

    #[test]
    fn a_statement_of_another_kind_or_another_key_is_not_taken() {
        let (key, other) =
            (Secret::new("a key that all instances have, of 40 bytes"), Secret::new("another key, of 40 bytes or so"));
        let text = Signer::new(Some(&key), "one").sign(&"said");
        assert_eq!(Signer::new(Some(&key), "one").read::<String>(&text).as_deref(), Some("said"));
        for (key, kind) in [(Some(&key), "two"), (Some(&key), ""), (Some(&other), "one"), (None, "one")] {
            assert_eq!(Signer::new(key, kind).read::<String>(&text), None);
        }
    }
}
