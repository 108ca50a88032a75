//! The recorder: collects the domain events of an aggregate until a unit of work takes them. Needs no database, so an aggregate
//! can be tested without one.

use std::fmt;

use super::DomainEvent;
use super::event::AnyEvent;

/// Domain events of one aggregate, of any types, in the order in which they happened.
///
/// ```
/// use outboxd::uow::{Decision, DomainEvent, Failure, Recorder};
///
/// struct Placed { total_cents: i64 }
/// impl DomainEvent for Placed {
///     fn decide(&self) -> Result<Decision, Failure> { Ok(Decision::InMemory) }
/// }
///
/// #[derive(Default)]
/// struct Order { total_cents: i64, events: Recorder }
/// impl Order {
///     fn place(&mut self) {
///         self.events.record(Placed { total_cents: self.total_cents });
///     }
/// }
///
/// let mut order = Order { total_cents: 4_200, ..Order::default() };
/// order.place();
/// assert_eq!(order.events.of::<Placed>().next().map(|placed| placed.total_cents), Some(4_200));
/// ```
#[derive(Default)]
pub struct Recorder {
    events: Vec<AnyEvent>,
}

impl Recorder {
    /// Nothing has happened yet.
    pub const fn new() -> Self {
        Self { events: Vec::new() }
    }

    /// It has happened.
    pub fn record<E: DomainEvent>(&mut self, event: E) {
        self.events.push(AnyEvent::new(event));
    }

    /// The recorded events of this type.
    pub fn of<E: DomainEvent>(&self) -> impl Iterator<Item = &E> {
        self.events.iter().filter_map(|event| event.as_any().downcast_ref())
    }

    /// How many events are recorded.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Names of the types of what is recorded, in order; for display and for tests.
    pub fn names(&self) -> Vec<&'static str> {
        self.events.iter().map(AnyEvent::name).collect()
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = AnyEvent> {
        self.events.drain(..)
    }
}

// Never the events themselves: they may hold secrets.
impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recorder").field(&self.names()).finish()
    }
}
