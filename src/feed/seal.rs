//! The texts that stand for cursors: plain, or sealed with a key of the configuration. A sealed cursor is encrypted and
//! authenticated, so a client cannot read a place out of it and cannot make one up. Pure.
//!
//! The same place has the same text as long as the key is the same, so tags of pages and retries work as with plain cursors. To
//! that end the nonce is derived from the cursor with a key of its own (a synthetic nonce): two cursors have the same nonce only if
//! they are the same, except with a probability that 96 bits make negligible.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::Sha256;

use super::cursor::{Cursor, InvalidStart, Start};
use crate::config::{self, CursorForm};
use crate::settings::Secret;

/// What is authenticated beside the cursor: a text that was sealed for another purpose is no cursor.
const PURPOSE: &[u8] = b"outboxd cursor 1";
/// Place, epoch and check.
const PLAIN_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const SEALED_BYTES: usize = NONCE_LEN + PLAIN_BYTES + TAG_BYTES;
/// Characters of a sealed cursor.
const SEALED_LEN: usize = (SEALED_BYTES * 4).div_ceil(3);

/// How cursors are written and read.
#[derive(Debug)]
pub struct Cursors {
    form: CursorForm,
    /// The first one seals, each opens.
    keys: Vec<Key>,
}

struct Key {
    cipher: LessSafeKey,
    nonces: Hmac<Sha256>,
}

impl Cursors {
    /// As the configuration says, which has a key for every form but the plain one.
    pub fn new(settings: &config::Feed) -> Self {
        Self { form: settings.cursors, keys: settings.cursor_keys.iter().map(Key::new).collect() }
    }

    /// Plain ones only.
    pub fn plain() -> Self {
        Self { form: CursorForm::Plain, keys: Vec::new() }
    }

    /// The text of a cursor for a client.
    pub fn text(&self, cursor: Cursor) -> String {
        match (self.form, self.keys.first()) {
            (CursorForm::Sealed | CursorForm::Migrating, Some(key)) => key.seal(cursor),
            _ => cursor.to_string(),
        }
    }

    /// What a client says about where it begins. A cursor that this feed has not given, or gives no more, is [`Start::Foreign`].
    pub fn start(&self, text: &str) -> Result<Start, InvalidStart> {
        if is_shaped(text) {
            return Ok(self.open(text).map_or(Start::Foreign, Start::At));
        }
        match text.parse()? {
            Start::At(_) if self.form == CursorForm::Sealed => Ok(Start::Foreign),
            start => Ok(start),
        }
    }

    /// Whether answers may tell how many places lie somewhere: sealed cursors are there to hide that.
    pub fn tell_counts(&self) -> bool {
        self.form != CursorForm::Sealed
    }

    fn open(&self, text: &str) -> Option<Cursor> {
        let sealed: [u8; SEALED_BYTES] = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        self.keys.iter().find_map(|key| key.open(&sealed))
    }
}

/// Whether a text looks like a sealed cursor. No other start does: times, ids and plain cursors are shorter.
fn is_shaped(text: &str) -> bool {
    text.len() == SEALED_LEN && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl Key {
    fn new(secret: &Secret) -> Self {
        let derived = |purpose: &str| {
            let mac: Hmac<Sha256> = Hmac::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes a key of any length");
            mac.chain_update(purpose).finalize().into_bytes()
        };
        let cipher = UnboundKey::new(&CHACHA20_POLY1305, &derived("outboxd cursors: cipher")).expect("a digest has 32 bytes");
        let nonces = Hmac::new_from_slice(&derived("outboxd cursors: nonces")).expect("HMAC takes a key of any length");
        Self { cipher: LessSafeKey::new(cipher), nonces }
    }

    fn seal(&self, cursor: Cursor) -> String {
        let plain = cursor.to_bytes();
        let nonce = self.nonce(&plain);
        let mut sealed = plain.to_vec();
        self.cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut sealed)
            .expect("sixteen bytes are not too many");
        BASE64_URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat())
    }

    fn open(&self, sealed: &[u8; SEALED_BYTES]) -> Option<Cursor> {
        let (nonce, sealed) = sealed.split_at(NONCE_LEN);
        let nonce: [u8; NONCE_LEN] = nonce.try_into().ok()?;
        let mut sealed = sealed.to_vec();
        let opened = self.cipher.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(PURPOSE), &mut sealed).ok()?;
        Cursor::from_bytes(opened.try_into().ok()?)
    }

    fn nonce(&self, plain: &[u8]) -> [u8; NONCE_LEN] {
        let digest = self.nonces.clone().chain_update(plain).finalize().into_bytes();
        digest[..NONCE_LEN].try_into().expect("a digest has 32 bytes")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "a key that all instances have, of 40 bytes";
    const TWO: &str = "another key, which replaces the first one";

    fn cursors(form: CursorForm, keys: &[&str]) -> Cursors {
        Cursors { form, keys: keys.iter().map(|key| Key::new(&Secret::new(*key))).collect() }
    }

    fn cursor(place: i64, rest: u64) -> Cursor {
        let bytes = [place.to_be_bytes(), rest.to_be_bytes()].concat();
        Cursor::from_bytes(bytes.try_into().expect("sixteen bytes")).expect("places are not negative")
    }

    #[test]
    fn each_form_gives_its_own_texts_and_takes_those_that_it_says() {
        let (plain, sealed) = (cursors(CursorForm::Plain, &[]), cursors(CursorForm::Sealed, &[ONE]));
        let (migrating, leaving) = (cursors(CursorForm::Migrating, &[ONE]), cursors(CursorForm::Plain, &[ONE]));
        let at = cursor(7, 8);
        let (in_plain, in_sealed) = (at.to_string(), sealed.text(at));
        assert_eq!((plain.text(at), leaving.text(at)), (in_plain.clone(), in_plain.clone()));
        assert_eq!(migrating.text(at), in_sealed);
        for (name, cursors, of_plain, of_sealed) in [
            ("plain", &plain, Start::At(at), Start::Foreign),
            ("plain, with a key", &leaving, Start::At(at), Start::At(at)),
            ("migrating", &migrating, Start::At(at), Start::At(at)),
            ("sealed", &sealed, Start::Foreign, Start::At(at)),
        ] {
            assert_eq!((cursors.start(&in_plain), cursors.start(&in_sealed)), (Ok(of_plain), Ok(of_sealed)), "{name}");
            assert_eq!(cursors.start("latest"), Ok(Start::Latest), "{name}");
            assert_eq!(cursors.start("somewhere"), Err(InvalidStart), "{name}");
        }
    }

    #[test]
    fn during_a_rotation_cursors_of_both_keys_are_taken() {
        let (old, both, new) =
            (cursors(CursorForm::Sealed, &[ONE]), cursors(CursorForm::Sealed, &[TWO, ONE]), cursors(CursorForm::Sealed, &[TWO]));
        let at = cursor(7, 8);
        assert_eq!(both.start(&old.text(at)), Ok(Start::At(at)));
        assert_eq!(new.start(&both.text(at)), Ok(Start::At(at)), "the first key seals");
        assert_eq!(new.start(&old.text(at)), Ok(Start::Foreign));
    }

    #[test]
    fn a_sealed_cursor_is_always_the_same_text_and_shows_no_place() {
        let sealed = cursors(CursorForm::Sealed, &[ONE]);
        assert_eq!(sealed.text(cursor(7, 8)), sealed.text(cursor(7, 8)));
        assert!(!format!("{sealed:?}").contains("key that"));
        // Neighbours have nothing in common that tells so: no byte is the same in more than a few of them.
        let texts: Vec<Vec<u8>> =
            (0..256).map(|place| BASE64_URL_SAFE_NO_PAD.decode(sealed.text(cursor(place, 8))).expect("it is")).collect();
        for byte in 0..SEALED_BYTES {
            let mut seen = [0_usize; 256];
            texts.iter().for_each(|text| seen[usize::from(text[byte])] += 1);
            assert!(seen.iter().all(|count| *count < 12), "byte {byte}: {seen:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_and_what_was_tampered_with_is_not(
            place in 0..i64::MAX, rest: u64, at in 0..SEALED_LEN, with in "[A-Za-z0-9_-]",
        ) {
            let sealed = cursors(CursorForm::Sealed, &[TWO, ONE]);
            let text = sealed.text(cursor(place, rest));
            prop_assert!(is_shaped(&text));
            prop_assert_eq!(sealed.start(&text), Ok(Start::At(cursor(place, rest))));
            let mut tampered = text.clone();
            tampered.replace_range(at..=at, &with);
            prop_assume!(tampered != text);
            prop_assert_eq!(sealed.start(&tampered), Ok(Start::Foreign));
        }

        #[test]
        fn no_text_that_was_made_up_is_opened(text in "[A-Za-z0-9_-]{59}", other in ".{0,80}") {
            let sealed = cursors(CursorForm::Sealed, &[ONE]);
            prop_assert_eq!(sealed.start(&text), Ok(Start::Foreign));
            prop_assert!(!matches!(sealed.start(&other), Ok(Start::At(_))));
        }
    }
}
