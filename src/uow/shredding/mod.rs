//! Shredding: values of a person that can be forgotten. Each value is encrypted under the key of its *subject*; after the key is
//! destroyed (`outboxd forget`) no copy of the value can be read, also in backups of the log.
//!
//! A [`Shredded`] is encrypted on its way into the log and decrypted on its way out. Serde is synchronous and keys are rows, so
//! both ways have two halves. Writing: the value serialises as a mark while its text waits in the module `scope`; the unit of work
//! creates or reads the keys and puts envelopes in place of the marks. Reading: the envelopes of a payload are found and opened
//! first; the value then takes what was opened from the scope. Outside of a scope a shredded value can be neither written nor
//! read, so its text cannot get into a log line or a payload by mistake.
//!
//! The nonce of a value is an HMAC over the place, the subject and the text, under a key of its own (as RFC 8452 does), and not a random
//! number: an append that is repeated with the same event ids must give the same bytes, because the server compares them.
//! Two values share a nonce only if they are the same text at the same place of the same event.

mod crypt;
mod envelope;
mod error;
mod keyring;
mod master;
mod payload;
mod scope;
#[cfg(test)]
mod tests;
mod value;

pub use error::ShredError;
pub use master::{MasterKeys, MasterKeysError, WrappedKey};
pub use payload::{ReadShredded, ShreddedReader};
pub use value::{Forgotten, Shredded};

pub(super) use keyring::{Keyring, learn, lock};
pub(super) use payload::{Place, open, seal_event, seal_text, subjects_of};
pub(super) use scope::{collect, plain, read};
