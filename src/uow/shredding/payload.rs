//! Payloads: envelopes into a payload, and out of it. Pure, apart from the reader, which fetches keys.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::crypt::{KeyBytes, bind, nonce_of};
use super::envelope::{Envelope, Inner, NAME, VERSION, for_each};
use super::keyring::{Held, Keyring, learn};
use super::scope::{self, Opened, mark_text};
use super::{MasterKeys, ShredError};
use crate::domain::{ClearValue, NewEvent};

/// What a value is bound to beside its subject and its field. A value that is copied elsewhere does not open there.
#[derive(Debug, Clone)]
pub(in crate::uow) struct Place(Vec<u8>);

impl Place {
    /// In the payload of an event.
    pub(in crate::uow) fn event(id: Uuid, event_type: &str) -> Self {
        Self(bind(&[b"event", id.as_bytes(), event_type.as_bytes()]))
    }

    /// In a kept state of a stream.
    pub(in crate::uow) fn state(stream_type: &str, key: &str, shape: i32, version: i64) -> Self {
        Self(bind(&[b"state", stream_type.as_bytes(), key.as_bytes(), &shape.to_be_bytes(), &version.to_be_bytes()]))
    }
}

/// Puts envelopes in place of the marks in the payload of an event.
pub(in crate::uow) fn seal_event(event: &mut NewEvent, keyring: &Keyring) -> Result<(), ShredError> {
    let values = std::mem::take(&mut event.shredded);
    let place = Place::event(event.id, &event.event_type);
    let sealed = seal(&values, &mut event.payload, &place, keyring)?;
    for_each(&mut event.payload, &mut |_, object| {
        if let Some(value) = mark_in(object).and_then(|mark| values.iter().position(|value| value.mark == mark)) {
            *object = serde_json::to_value(&sealed[value]).expect("an envelope has a JSON form");
        }
    });
    Ok(())
}

/// Puts envelopes in place of the marks in a JSON text. By text, so that numbers that a `Value` would round stay as they are.
pub(in crate::uow) fn seal_text(
    text: String,
    values: &[ClearValue],
    place: &Place,
    keyring: &Keyring,
) -> Result<String, ShredError> {
    if values.is_empty() {
        return Ok(text);
    }
    let mut tree = serde_json::from_str(&text).map_err(|_| not_written(&values[0]))?;
    let sealed = seal(values, &mut tree, place, keyring)?;
    Ok(values.iter().zip(sealed).fold(text, |text, (value, sealed)| {
        text.replace(&mark_text(&value.mark), &serde_json::to_string(&sealed).expect("an envelope has a JSON form"))
    }))
}

/// An envelope for each value, in their order.
fn seal(values: &[ClearValue], tree: &mut Value, place: &Place, keyring: &Keyring) -> Result<Vec<Envelope>, ShredError> {
    let mut fields: Vec<Option<String>> = vec![None; values.len()];
    let mut is_twice = None;
    for_each(tree, &mut |pointer, object| {
        if let Some(value) = mark_in(object).and_then(|mark| values.iter().position(|value| value.mark == mark))
            && fields[value].replace(pointer.to_owned()).is_some()
        {
            is_twice = Some(value);
        }
    });
    if let Some(value) = is_twice {
        return Err(not_written(&values[value]));
    }
    let sealed = values.iter().zip(fields).map(|(value, field)| {
        let field = field.ok_or_else(|| not_written(value))?;
        seal_value(value, field, place, keyring)
    });
    sealed.collect()
}

fn mark_in(object: &Value) -> Option<&str> {
    object.get(NAME)?.get("waiting")?.as_str()
}

fn not_written(value: &ClearValue) -> ShredError {
    ShredError::NotWritten { subject: value.subject.clone() }
}

fn seal_value(value: &ClearValue, field: String, place: &Place, keyring: &Keyring) -> Result<Envelope, ShredError> {
    let subject = value.subject.clone();
    let Some(clear) = &value.clear else { return Ok(Envelope::forgotten(subject)) };
    let (key, bytes) = match keyring.of(&subject) {
        Some(Held::Living { key, bytes }) => (*key, bytes.as_ref().map_err(ShredError::clone)?),
        Some(Held::Destroyed { at, .. }) => return Err(ShredError::SubjectForgotten { subject, at: at.clone() }),
        Some(Held::NoRow) | None => return Err(ShredError::NoKey { subject }),
    };
    let bound = bound(&subject, key, &field, place);
    let nonce = nonce_of(&bytes.derive("outboxd nonce 1"), &bound, clear.as_bytes());
    let data = bytes.derive("outboxd seal 1").encrypt(nonce, &bound, clear.as_bytes());
    let (key, field, nonce, data) = (Some(key), Some(field), Some(STANDARD.encode(nonce)), Some(STANDARD.encode(data)));
    Ok(Envelope { inner: Inner { v: VERSION, subject, key, field, nonce, data, forgotten: None } })
}

fn bound(subject: &str, key: Uuid, field: &str, place: &Place) -> Vec<u8> {
    bind(&[b"outboxd shredded 1", subject.as_bytes(), key.as_bytes(), field.as_bytes(), &place.0])
}

/// The envelopes of a payload as recorded. Cheap for a payload that has none.
fn envelopes(text: &str) -> Vec<(String, Result<Inner, String>)> {
    if !text.contains(NAME) {
        return Vec::new();
    }
    let Ok(mut tree) = serde_json::from_str(text) else { return Vec::new() };
    let mut found = Vec::new();
    for_each(&mut tree, &mut |pointer, object| {
        let inner = serde_json::from_value::<Envelope>(object.take()).map(|envelope| envelope.inner);
        found.push((pointer.to_owned(), inner.map_err(|error| error.to_string())));
    });
    found
}

/// Whose values a payload has.
pub(in crate::uow) fn subjects_of(text: &str) -> impl Iterator<Item = String> {
    envelopes(text).into_iter().filter_map(|(_, inner)| inner.ok()).map(|inner| inner.subject)
}

/// Opens what a payload has. An envelope that cannot be opened is an error only for the field that is read from it: a payload may hold a strange one in a
/// field that is not shredded.
pub(in crate::uow) fn open(text: &str, place: &Place, keyring: &Keyring) -> Opened {
    let mut opened = Opened::default();
    for (pointer, inner) in envelopes(text) {
        let Ok(inner) = inner else { continue };
        let result = open_one(&inner, pointer, place, keyring);
        // The same envelope at two places: at one of them it is a copy, and then it opens at neither.
        match opened.0.get(&inner) {
            Some(Err(_)) => {}
            _ => drop(opened.0.insert(inner, result)),
        }
    }
    opened
}

fn open_one(inner: &Inner, pointer: String, place: &Place, keyring: &Keyring) -> Result<Option<String>, ShredError> {
    let subject = inner.subject.clone();
    let malformed = |reason: String| ShredError::Malformed { field: pointer.clone(), reason };
    if inner.v != VERSION {
        return Err(malformed(format!("its version is {}, and this program knows {VERSION}", inner.v)));
    }
    let held = keyring.of(&subject).unwrap_or(&Held::NoRow);
    match inner.forgotten {
        Some(true) if inner.key.is_some() || inner.data.is_some() => {
            return Err(malformed("it is forgotten and has data".to_owned()));
        }
        Some(true) => {
            return match held {
                Held::Destroyed { .. } => Ok(None),
                Held::NoRow => Err(ShredError::NoKey { subject }),
                Held::Living { .. } => Err(ShredError::NotForgotten { subject, field: pointer }),
            };
        }
        Some(false) => return Err(malformed("`forgotten` is false".to_owned())),
        None => {}
    }
    let (Some(sealed_under), Some(field), Some(nonce), Some(data)) = (inner.key, &inner.field, &inner.nonce, &inner.data) else {
        return Err(malformed("it lacks key, field, nonce or data".to_owned()));
    };
    let (Ok(nonce), Ok(data)) = (STANDARD.decode(nonce), STANDARD.decode(data)) else {
        return Err(malformed("nonce or data are no base64".to_owned()));
    };
    if *field != pointer {
        return Err(ShredError::Moved { subject, sealed: field.clone(), found: pointer });
    }
    match held {
        Held::NoRow => Err(ShredError::NoKey { subject }),
        Held::Destroyed { key, .. } | Held::Living { key, .. } if *key != sealed_under => {
            Err(ShredError::OtherKey { subject, field: pointer, sealed_under, held: *key })
        }
        Held::Destroyed { .. } => Ok(None),
        Held::Living { bytes, .. } => {
            let bytes: &KeyBytes = bytes.as_ref().map_err(ShredError::clone)?;
            let clear = bytes.derive("outboxd seal 1").decrypt(&nonce, &bound(&subject, sealed_under, field, place), &data);
            let text = clear.and_then(|clear| String::from_utf8(clear).ok());
            text.map(Some).ok_or(ShredError::Altered { subject, field: pointer })
        }
    }
}

/// Reads payloads with shredded values outside of a unit of work: in handlers of an embedded relay, in projections in Rust, and in programs that
/// receive events. Reads keys from the database of the outbox; writes nothing. Cheap to clone.
#[derive(Clone)]
pub struct ShreddedReader {
    keys: Arc<MasterKeys>,
    schema: Arc<str>,
}

/// Why a payload could not be read. Never repeats a shredded value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadShredded {
    /// The keys could not be read.
    #[error("could not read the keys of a payload's subjects")]
    Keys(#[source] sqlx::Error),
    /// A value cannot be opened, for another reason than that it is forgotten.
    #[error("a shredded value could not be opened")]
    Shredded(#[from] ShredError),
    /// The payload is not of the type.
    #[error("the payload of {event_type} is not of its type, at line {} column {}", .cause.line(), .cause.column())]
    Payload {
        /// The type of the event.
        event_type: String,
        /// The mistake; the text may repeat a value of the payload that is not shredded.
        #[source]
        cause: serde_json::Error,
    },
}

impl ShreddedReader {
    /// For the outbox in the schema `outbox`.
    pub fn new(keys: MasterKeys) -> Self {
        Self { keys: Arc::new(keys), schema: "outbox".into() }
    }

    /// For an outbox in another schema.
    #[must_use]
    pub fn schema(self, schema: &str) -> Self {
        Self { schema: schema.into(), ..self }
    }

    /// Reads the payload of an event, exactly as it was recorded: id and type are bound to its values. The role of the connection needs
    /// `select` on `subject_keys`.
    pub async fn read<T: DeserializeOwned>(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
        event_type: &str,
        payload: &str,
    ) -> Result<T, ReadShredded> {
        let mut keyring = Keyring::default();
        let sql = crate::uow::in_schema(include_str!("../../store/sql/read_subject_keys.sql"), &self.schema);
        learn(&mut keyring, subjects_of(payload).collect::<BTreeSet<_>>(), Some(&self.keys), sql, connection)
            .await
            .map_err(ReadShredded::Keys)?;
        let opened = open(payload, &Place::event(id, event_type), &keyring);
        scope::read(opened, || serde_json::from_str(payload))?
            .map_err(|cause| ReadShredded::Payload { event_type: event_type.to_owned(), cause })
    }

    /// [`read`](Self::read) of a notification that a handler or a projection was given.
    #[cfg(feature = "daemon")]
    pub async fn read_notification<T: DeserializeOwned>(
        &self,
        connection: &mut PgConnection,
        notification: &crate::domain::Notification,
    ) -> Result<T, ReadShredded> {
        self.read(connection, notification.id, &notification.event_type, &notification.payload).await
    }
}

impl fmt::Debug for ShreddedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShreddedReader").field("keys", &self.keys).field("schema", &self.schema).finish()
    }
}
