//! Sourced aggregates: their state is computed from the events of their streams. Reads and appends in the transaction of a unit of work; starts no task.
//!
#![doc = include_str!("../../../docs/event-sourcing.md")]
//!
//! # Where things are
//!
//! - [`Sourced`], [`SourcedEvent`]: what an application writes; [`Root`]: an aggregate that was loaded
//! - [`Upcasts`]: events that were recorded in an earlier version; [`States`]: folded states that are kept
//! - [`lock`]: several streams in the one order that cannot deadlock
//! - [`testing`](super::testing): `GivenEvents`, `assert_round_trip`, `assert_shape`, without a database

mod codec;
mod error;
pub(super) mod given;
mod load;
mod lock;
mod root;
mod save;
mod states;
mod upcasts;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::SourcingError;
pub use lock::{StreamName, lock};
pub use root::Root;
pub use save::Saved;
pub use states::States;
pub use upcasts::Upcasts;

pub(super) use codec::Codec;

use super::DomainEvent;

/// An aggregate whose state is computed from its events.
///
/// ```
/// use outboxd::uow::sourcing::{Sourced, SourcedEvent};
/// # use outboxd::uow::{Decision, DomainEvent, Failure};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// # #[serde(tag = "type", content = "payload")]
/// # enum AccountEvent { #[serde(rename = "points.earned")] Earned { points: i64 } }
/// # impl DomainEvent for AccountEvent { fn decide(&self) -> Result<Decision, Failure> { Ok(Decision::InMemory) } }
/// # impl SourcedEvent for AccountEvent { const TYPES: &'static [(&'static str, u32)] = &[("points.earned", 1)]; }
///
/// #[derive(Default)]
/// struct Account { points: i64 }
///
/// impl Sourced for Account {
///     const TYPE: &'static str = "account";
///     type Event = AccountEvent;
///
///     fn apply(&mut self, event: &AccountEvent) {
///         match event {
///             AccountEvent::Earned { points } => self.points += points,
///         }
///     }
/// }
/// ```
///
/// The state changes by events only; outside of `apply` there is no way to it:
///
/// ```compile_fail
/// # use outboxd::uow::sourcing::{Root, Sourced, SourcedEvent};
/// # use outboxd::uow::{Decision, DomainEvent, Failure};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// # #[serde(tag = "type", content = "payload")]
/// # enum AccountEvent { #[serde(rename = "points.earned")] Earned { points: i64 } }
/// # impl DomainEvent for AccountEvent { fn decide(&self) -> Result<Decision, Failure> { Ok(Decision::InMemory) } }
/// # impl SourcedEvent for AccountEvent { const TYPES: &'static [(&'static str, u32)] = &[("points.earned", 1)]; }
/// # #[derive(Default)]
/// # struct Account { points: i64 }
/// # impl Sourced for Account {
/// #     const TYPE: &'static str = "account";
/// #     type Event = AccountEvent;
/// #     fn apply(&mut self, event: &AccountEvent) { let AccountEvent::Earned { points } = event; self.points += points; }
/// # }
/// let mut account = Root::<Account>::new("ann");
/// account.state().points = 5; // error: the state is only lent
/// ```
pub trait Sourced: Default + Send + Sync + 'static {
    /// The type of its streams: the `type` of `outbox.append` and the `aggregate_type` of the events. Never the name of a Rust type.
    const TYPE: &'static str;

    /// The events of the aggregate.
    type Event: SourcedEvent;

    /// Changes the state as the event says. It has happened, so nothing can be refused here; decide before the event is recorded. Called once
    /// for each event in the order of the stream, also for events of years ago, so it must not read a clock, a setting or a table.
    fn apply(&mut self, event: &Self::Event);

    /// How a load treats an event of a type that [`SourcedEvent::TYPES`] does not name.
    const UNKNOWN: Unknown = Unknown::Refuse;

    /// Whether folded states are kept, and how often. `None`: each load folds all events.
    fn states() -> Option<States<Self>> {
        None
    }
}

/// How a load treats an event whose type the program does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Fails with [`SourcingError::UnknownType`].
    Refuse,
    /// Leaves it out; [`Root::skipped`] names it, and no state is kept of such a root.
    Skip,
}

/// The events of a sourced aggregate: usually an enum with one variant for each event type, in the adjacently tagged form of serde.
/// `tag` and `content` are always these two, and each variant has named fields or a struct, because a payload is a JSON object.
///
/// ```
/// use outboxd::uow::sourcing::SourcedEvent;
/// use outboxd::uow::{Decision, DomainEvent, Failure};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(tag = "type", content = "payload")]
/// enum AccountEvent {
///     #[serde(rename = "account.opened")]
///     Opened { currency: String },
///     #[serde(rename = "points.earned")]
///     Earned { points: i64 },
/// }
///
/// impl DomainEvent for AccountEvent {
///     // It is recorded in its stream. A `Decision::notify` would record a notification for others beside it.
///     fn decide(&self) -> Result<Decision, Failure> { Ok(Decision::InMemory) }
/// }
///
/// impl SourcedEvent for AccountEvent {
///     const TYPES: &'static [(&'static str, u32)] = &[("account.opened", 1), ("points.earned", 1)];
/// }
/// ```
///
/// A secret cannot become part of a stream: [`Private`](super::Private) has no `Serialize`.
///
/// ```compile_fail
/// # use outboxd::uow::Private;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// #[serde(tag = "type", content = "payload")]
/// enum AccountEvent { Opened { card: Private<String> } } // error: `Private` cannot be serialised
/// ```
pub trait SourcedEvent: DomainEvent + Serialize + DeserializeOwned {
    /// Every event type with the version in which this program records it, written as the header `version`. Versions begin at 1.
    const TYPES: &'static [(&'static str, u32)];

    /// How events of earlier versions and of former names become those of today. Called once per program.
    fn upcasts() -> Upcasts {
        Upcasts::new()
    }
}
