//! Domain events: what happened, in the words of the domain, inside one transaction.
//!
//! Each event decides whether it becomes a notification (`decide`). There is no default, because Rust cannot test at run time
//! whether a type can be serialised, and because what becomes public should be written down. A notification has a contract: a
//! type of its own with its own name and version (`contract`).

use std::any::Any;

use super::Failure;
use crate::domain::NewEvent;

/// Something that happened in the domain. It is dispatched in memory to the handlers of a [`Registry`](super::Registry), before the
/// commit of the transaction that made it happen. It need not be serialisable and may hold secrets: it leaves the process only as
/// the notification that it decides on.
///
/// There is no default for the decision on purpose: a new event without one does not compile.
///
/// ```
/// use outboxd::uow::{Contract, Decision, DomainEvent, Failure, Private};
/// use serde::Serialize;
///
/// struct OrderPlaced { order: i64, total_cents: i64, card: Private<String> }
///
/// #[derive(Serialize)]
/// struct OrderPlacedV1 { order: i64, total_cents: i64 }
/// impl Contract for OrderPlacedV1 {
///     const TYPE: &'static str = "order.placed";
///     const VERSION: u32 = 1;
/// }
///
/// impl DomainEvent for OrderPlaced {
///     fn decide(&self) -> Result<Decision, Failure> {
///         let contract = OrderPlacedV1 { order: self.order, total_cents: self.total_cents };
///         Decision::notify("order", self.order, &contract)
///     }
/// }
/// ```
///
/// ```compile_fail
/// use outboxd::uow::DomainEvent;
///
/// struct OrderPlaced { order: i64 }
/// impl DomainEvent for OrderPlaced {} // error: it says nothing about what becomes of it
/// ```
pub trait DomainEvent: Send + Sync + 'static {
    /// Decides what becomes of the event. Called once, when its turn comes and before its handlers run.
    fn decide(&self) -> Result<Decision, Failure>;
}

/// The decision of a domain event.
#[derive(Debug)]
pub enum Decision {
    /// The event stays inside this transaction.
    InMemory,
    /// This notification is recorded in the outbox, in the same transaction, and handled after the commit.
    Notify(Box<NewEvent>),
}

impl Decision {
    /// A notification of this contract, about this aggregate: events of one aggregate are delivered in order.
    pub fn notify<C: super::Contract>(aggregate_type: &str, aggregate_id: impl ToString, contract: &C) -> Result<Self, Failure> {
        Ok(super::contract::notification(contract)?.aggregate(aggregate_type, aggregate_id).into())
    }
}

impl From<NewEvent> for Decision {
    fn from(notification: NewEvent) -> Self {
        Self::Notify(Box::new(notification))
    }
}

/// A domain event of any type, as it waits for its turn.
pub(super) struct AnyEvent(Box<dyn Erased>);

trait Erased: Send + Sync {
    fn decide(&self) -> Result<Decision, Failure>;
    fn name(&self) -> &'static str;
    fn as_any(&self) -> &(dyn Any + Send + Sync);
}

impl<E: DomainEvent> Erased for E {
    fn decide(&self) -> Result<Decision, Failure> {
        DomainEvent::decide(self)
    }

    fn name(&self) -> &'static str {
        std::any::type_name::<E>()
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

impl AnyEvent {
    pub(super) fn new<E: DomainEvent>(event: E) -> Self {
        Self(Box::new(event))
    }

    pub(super) fn decide(&self) -> Result<Decision, Failure> {
        self.0.decide()
    }

    /// Name of the Rust type, for display.
    pub(super) fn name(&self) -> &'static str {
        self.0.name()
    }

    pub(super) fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self.0.as_any()
    }
}
