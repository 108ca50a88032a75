//! Sessions of browsers: a signed statement in a cookie, which says whose token was shown and until when. The token itself is not in it, and
//! nothing is kept here but which sessions were ended before their time. A restart of the process ends all of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::config::ConsoleToken;
use crate::feed::signer::{Signer, seconds};

/// A day's work; then the token has to be shown again.
pub const LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Ended sessions that are remembered; each is forgotten when its time is over.
const SWEEP: usize = 1_024;

pub struct Sessions {
    signer: Signer,
    /// Sessions that were ended, and until when their cookies would be good.
    ended: Mutex<HashMap<Uuid, u64>>,
}

/// What the cookie says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    id: Uuid,
    /// Name of the token.
    pub token: String,
    /// Of the token's digest: another token under the same name is another token.
    mark: String,
    /// Seconds since 1970.
    until: u64,
}

impl Sessions {
    /// With a key of this process.
    pub fn new() -> Self {
        Self { signer: Signer::new(None, "console session"), ended: Mutex::default() }
    }

    /// Begins a session; gives the value of its cookie.
    pub fn begin(&self, token: &ConsoleToken, now: SystemTime) -> String {
        let until = seconds(now + LIFE);
        self.signer.sign(&Session { id: Uuid::new_v4(), token: token.name.clone(), mark: mark(token), until })
    }

    /// The token of a cookie, among those that are configured now. `None`: no session of ours, or one that is over.
    pub fn find<'t>(&self, cookie: &str, tokens: &'t [ConsoleToken], now: SystemTime) -> Option<&'t ConsoleToken> {
        let session: Session = self.signer.read(cookie)?;
        if session.until <= seconds(now) || self.is_ended(session.id) {
            return None;
        }
        tokens.iter().find(|token| token.name == session.token && mark(token) == session.mark)
    }

    /// Ends a session before its time.
    pub fn end(&self, cookie: &str, now: SystemTime) {
        let Some(session) = self.signer.read::<Session>(cookie) else { return };
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= SWEEP {
            let now = seconds(now);
            ended.retain(|_, until| *until > now);
        }
        ended.insert(session.id, session.until);
    }

    fn is_ended(&self, id: Uuid) -> bool {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }
}

/// The digest of the digest: the cookie then says nothing that helps to guess the token.
fn mark(token: &ConsoleToken) -> String {
    Sha256::digest(token.digest).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Role;

    fn token(name: &str, text: &str) -> ConsoleToken {
        ConsoleToken { name: name.to_owned(), role: Role::Operate, payload: false, digest: Sha256::digest(text).into() }
    }

    #[test]
    fn a_session_lives_as_long_as_its_token_and_no_longer_than_its_time() {
        let (sessions, now) = (Sessions::new(), SystemTime::now());
        let (alice, bob) = (token("alice", "one"), token("bob", "two"));
        let cookie = sessions.begin(&alice, now);
        let found = |tokens: &[ConsoleToken], now| sessions.find(&cookie, tokens, now).map(|token| token.name.clone());
        assert_eq!(found(&[bob.clone(), alice.clone()], now).as_deref(), Some("alice"));
        assert_eq!(found(&[bob], now), None, "the entry was removed");
        assert_eq!(found(&[token("alice", "another")], now), None, "the name belongs to another token");
        assert_eq!(found(std::slice::from_ref(&alice), now + LIFE), None, "its time is over");
        assert_eq!(Sessions::new().find(&cookie, std::slice::from_ref(&alice), now), None, "another process has another key");
        sessions.end(&cookie, now);
        assert_eq!(found(&[alice], now), None, "it was ended");
    }

    #[test]
    fn nothing_that_was_changed_on_the_way_is_a_session() {
        let (sessions, now) = (Sessions::new(), SystemTime::now());
        let alice = token("alice", "one");
        let cookie = sessions.begin(&alice, now);
        for place in 0..cookie.len() {
            let mut changed = cookie.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("letters");
            // The last letter of a signature has two bits that say nothing.
            let is_same = place + 1 == cookie.len();
            assert!(is_same || sessions.find(&changed, std::slice::from_ref(&alice), now).is_none(), "{place}");
        }
        for text in ["", ".", "a.b", "null"] {
            assert!(sessions.find(text, std::slice::from_ref(&alice), now).is_none());
        }
    }
}
