//! Connection tokens: issued by a negotiation, and presented with every request of the connection. Signed, so that a negotiation
//! costs no memory and any instance with the same key accepts the WebSocket.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::feed::query::Bounds;
use crate::feed::signer::{Signer, Used, seconds};
use crate::settings::Secret;

/// From the negotiation until the first request with the token.
const LIFETIME: Duration = Duration::from_secs(30);

/// Makes connection tokens, and lets each begin one connection.
pub struct Tokens {
    signer: Signer,
    used: Used,
    /// Of this process: what is held in its memory cannot be found elsewhere.
    instance: Uuid,
}

/// The content of a connection token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: Uuid,
    pub client: String,
    /// Seconds since 1970; of its first use.
    expires: u64,
    instance: Uuid,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_stateful: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
}

impl Tokens {
    pub fn new(key: Option<&Secret>) -> Self {
        Self { signer: Signer::new(key, "hub:"), used: Used::default(), instance: Uuid::new_v4() }
    }

    /// For one connection of this client, which sees no more than `bounds`.
    pub fn make(&self, client: &str, bounds: Bounds, is_stateful: bool, now: SystemTime) -> (Uuid, String) {
        let token = Token {
            id: Uuid::new_v4(),
            client: client.to_owned(),
            expires: seconds(now + LIFETIME),
            instance: self.instance,
            is_stateful,
            types: bounds.types,
            subject: bounds.subject,
        };
        (token.id, self.signer.sign(&token))
    }

    /// The content of a token, whether or not it may still begin a connection. `None`: it was not made with this key.
    pub fn read(&self, text: &str) -> Option<Token> {
        self.signer.read(text)
    }

    /// Whether the token may begin a connection now. It may do so once. `anywhere`: at whichever instance.
    pub fn begins(&self, token: &Token, anywhere: bool, now: SystemTime) -> bool {
        (anywhere || token.instance == self.instance)
            && token.expires >= seconds(now)
            && self.used.is_first(token.id, token.expires, now)
    }
}

impl Token {
    pub fn bounds(&self) -> Bounds {
        Bounds { types: self.types.clone(), subject: self.subject.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_begins_one_connection_and_not_for_long() {
        let (tokens, now) = (Tokens::new(None), SystemTime::now());
        let bounds = Bounds { types: vec!["order.*".to_owned()], subject: Some("42".to_owned()) };
        let (id, text) = tokens.make("acme", bounds.clone(), true, now);
        assert!(
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)),
            "clients do not encode it: {text}"
        );
        let token = tokens.read(&text).expect("it is ours");
        assert_eq!((token.id, token.client.as_str(), token.is_stateful, token.bounds()), (id, "acme", true, bounds));
        assert!(tokens.begins(&token, true, now) && !tokens.begins(&token, true, now));
        let late = tokens.read(&tokens.make("acme", Bounds::default(), false, now).1).expect("it is ours");
        assert!(!tokens.begins(&late, true, now + LIFETIME + Duration::from_secs(2)));
    }

    #[test]
    fn another_instance_takes_only_what_needs_nothing_in_memory_and_only_with_the_same_key() {
        let (key, now) = (Secret::new("a key that all instances have, of 40 bytes"), SystemTime::now());
        let (one, other, stranger) = (Tokens::new(Some(&key)), Tokens::new(Some(&key)), Tokens::new(None));
        let (_, text) = one.make("acme", Bounds::default(), false, now);
        assert_eq!(stranger.read(&text), None);
        let token = other.read(&text).expect("it has the key");
        assert!(!other.begins(&token, false, now) && other.begins(&token, true, now));
        for forged in ["", ".", "x.y", &text[..text.len() - 2], &text.replace('.', "x."), &format!("x{text}")] {
            assert_eq!(one.read(forged), None, "{forged}");
        }
    }
}
