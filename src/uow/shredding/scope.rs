//! Scopes: where shredded values wait while serde runs. Bound to the thread, because serde has no other way to hand something through;
//! opened and closed around one call of serde, which never awaits.

use std::cell::RefCell;
use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde::ser::Serialize;
use uuid::Uuid;

use super::ShredError;
use super::envelope::{Envelope, Inner};
use crate::domain::ClearValue;

thread_local! {
    static OPEN: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
}

enum Scope {
    Writing { token: Uuid, values: Vec<ClearValue> },
    Reading { opened: Opened, failed: Option<ShredError> },
}

/// What the envelopes of one payload hold: the JSON text, `None` if it is forgotten, or why they cannot be opened.
#[derive(Default)]
pub(in crate::uow) struct Opened(pub(super) HashMap<Inner, Result<Option<String>, ShredError>>);

/// A scope ends with its call, also if that panics.
struct Ends;

impl Drop for Ends {
    fn drop(&mut self) {
        OPEN.with_borrow_mut(Vec::pop);
    }
}

/// The object that stands for a value until it is sealed. The token is random, so that no text of a payload can be taken for a mark.
#[derive(serde::Serialize)]
pub(super) struct Mark {
    #[serde(rename = "$shredded")]
    waiting: Waiting,
}

#[derive(serde::Serialize)]
struct Waiting {
    waiting: String,
}

/// As it stands in the text.
pub(super) fn mark_text(mark: &str) -> String {
    format!("{{\"{}\":{{\"waiting\":\"{mark}\"}}}}", super::envelope::NAME)
}

/// Runs a call of serde that writes, and gives the shredded values that it met.
pub(in crate::uow) fn collect<R>(write: impl FnOnce() -> R) -> (R, Vec<ClearValue>) {
    OPEN.with_borrow_mut(|open| open.push(Scope::Writing { token: Uuid::new_v4(), values: Vec::new() }));
    let ends = Ends;
    let written = write();
    let values = OPEN.with_borrow_mut(|open| match open.last_mut() {
        Some(Scope::Writing { values, .. }) => std::mem::take(values),
        _ => Vec::new(),
    });
    drop(ends);
    (written, values)
}

/// JSON text in which shredded values stand in clear text: to compare, never to keep.
pub(in crate::uow) fn plain<E>(write: impl FnOnce() -> Result<String, E>) -> Result<String, E> {
    let (text, values) = collect(write);
    text.map(|text| {
        values.iter().fold(text, |text, value| {
            let clear = value.clear.as_deref().unwrap_or("\"forgotten\"");
            text.replace(&mark_text(&value.mark), &format!("{{\"{}\":{clear}}}", super::envelope::NAME))
        })
    })
}

/// Runs a call of serde that reads, with what the envelopes hold. An error of a shredded value comes out as it is, also if the
/// program's own `Deserialize` has swallowed it.
pub(in crate::uow) fn read<R, E>(opened: Opened, read: impl FnOnce() -> Result<R, E>) -> Result<Result<R, E>, ShredError> {
    OPEN.with_borrow_mut(|open| open.push(Scope::Reading { opened, failed: None }));
    let ends = Ends;
    let result = read();
    let failed = OPEN.with_borrow_mut(|open| match open.last_mut() {
        Some(Scope::Reading { failed, .. }) => failed.take(),
        _ => None,
    });
    drop(ends);
    failed.map_or(Ok(result), Err)
}

/// What a value is written as.
pub(super) fn mark(subject: &str, clear: Option<String>) -> Result<impl Serialize + use<>, &'static str> {
    OPEN.with_borrow_mut(|open| match open.last_mut() {
        Some(Scope::Writing { token, values }) => {
            let mark = format!("{token}/{}", values.len());
            values.push(ClearValue { mark: mark.clone(), subject: subject.to_owned(), clear });
            Ok(Mark { waiting: Waiting { waiting: mark } })
        }
        _ => Err("a shredded value is written only by a unit of work: as a field of a sourced event, a kept state or a contract"),
    })
}

/// What a value is read as: its subject, and the value unless that is forgotten.
pub(super) fn take<T: DeserializeOwned>(envelope: &Envelope) -> Result<(String, Option<T>), String> {
    let Inner { subject, field, .. } = &envelope.inner;
    let field = || field.clone().unwrap_or_default();
    let found = OPEN.with_borrow(|open| match open.last() {
        Some(Scope::Reading { opened, .. }) => Ok(opened.0.get(&envelope.inner).cloned()),
        _ => Err("a shredded value is read only by Root::load or a ShreddedReader".to_owned()),
    })?;
    let lost = || ShredError::Malformed { field: field(), reason: "it was not in the payload as it was recorded".to_owned() };
    // Parsed without the scope in hand: the value may be one of the program's own types.
    let parsed = found.unwrap_or_else(|| Err(lost())).and_then(|text| {
        let parsed = text.as_deref().map(serde_json::from_str).transpose();
        parsed.map_err(|_| ShredError::OtherType { subject: subject.clone(), field: field() })
    });
    parsed.map(|value| (subject.clone(), value)).map_err(remember)
}

/// A field is shredded by its type, and something else stands there.
pub(super) fn not_an_envelope(reason: &str) -> String {
    let error = ShredError::Malformed { field: "a shredded field".to_owned(), reason: reason.to_owned() };
    remember(error)
}

/// Keeps the first error of the scope, whatever serde makes of its text.
fn remember(error: ShredError) -> String {
    let text = error.to_string();
    OPEN.with_borrow_mut(|open| {
        if let Some(Scope::Reading { failed, .. }) = open.last_mut() {
            failed.get_or_insert(error);
        }
    });
    text
}
