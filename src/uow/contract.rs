//! Contracts: the public form of an event. A type of its own, written by hand, with a name and a version that no refactoring
//! changes.

use serde::Serialize;

use super::Failure;
use crate::domain::{ContractOfEvent, NewEvent};

/// The public shape of a notification. Distinct from the domain event on purpose: renaming, moving or extending the event changes
/// nothing on the wire.
///
/// ```compile_fail
/// use outboxd::uow::{Contract, Private};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct OrderPlacedV1 { order: i64, card: Private<String> } // error: `Private` cannot be serialised
/// impl Contract for OrderPlacedV1 {
///     const TYPE: &'static str = "order.placed";
///     const VERSION: u32 = 1;
/// }
/// ```
pub trait Contract: Serialize {
    /// The event type that handlers choose by, for example `order.placed`. An explicit text, never the name of a Rust type.
    const TYPE: &'static str;
    /// Rises with every change that a reader of the last version could not bear. Recorded as the header `version`.
    const VERSION: u32;
    /// The JSON Schema of this version as its text, for example `Some(include_str!("../contracts/order.placed.1.json"))`: what is recorded is
    /// compared with it as [`Options::validation`](super::Options::validation) says. `None`: it is not compared with anything.
    const SCHEMA: Option<&'static str> = None;
}

/// The header that says which version of its contract an event is.
pub(super) const VERSION: &str = "version";

/// The event to record for a contract; it must serialise as a JSON object.
pub(super) fn notification<C: Contract>(contract: &C) -> Result<NewEvent, Failure> {
    let (payload, shredded) = super::shredding::collect(|| serde_json::to_value(contract));
    let mut event = NewEvent::new(C::TYPE, payload?)?;
    event.shredded = shredded;
    event.headers.insert(VERSION.to_owned(), C::VERSION.into());
    event.contract = Some(ContractOfEvent { version: C::VERSION, schema: C::SCHEMA });
    Ok(event)
}
