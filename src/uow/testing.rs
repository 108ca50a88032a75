//! The test kit: aggregates without a database, observed handlers, and a clock that moves only when the test sets it. A relay in
//! the test's own process is `RelayBuilder::run_until_idle`, with the feature `daemon`.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::registry::{Erased, Handling};
pub use super::sourcing::given::{GivenEvents, WhenDecided, assert_round_trip, assert_shape};
use super::{Clock, DomainEvent, Recorder, Registry, UnitOfWork};

/// A clock that stands still until a test moves it; its clones are the same clock.
#[derive(Debug, Clone)]
pub struct FakeClock(Arc<Mutex<SystemTime>>);

impl FakeClock {
    /// It is this moment, until [`advance`](Self::advance).
    pub fn at(moment: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(moment)))
    }

    /// Moves it on.
    pub fn advance(&self, span: Duration) {
        *lock(&self.0) += span;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> SystemTime {
        *lock(&self.0)
    }
}

/// Which handlers ran, in order: `(event, handler)`, by the names of their Rust types without the path. Its clones share the list.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<Vec<(&'static str, &'static str)>>>);

impl Trace {
    /// A registry with the same handlers, which also writes down what it calls.
    ///
    /// ```
    /// # use outboxd::uow::{Registry, testing::Trace};
    /// let (registry, trace) = Trace::of(Registry::new());
    /// // ... commands are run on it ...
    /// assert_eq!(trace.calls(), []);
    /// ```
    pub fn of(registry: Registry) -> (Registry, Self) {
        let trace = Self::default();
        let traced = registry.map(|event, handler| Arc::new(Traced { event, handler, trace: trace.clone() }) as Arc<dyn Erased>);
        (traced, trace)
    }

    /// The handlers that ran so far: `(event, handler)`.
    pub fn calls(&self) -> Vec<(&'static str, &'static str)> {
        lock(&self.0).clone()
    }
}

struct Traced {
    event: &'static str,
    handler: Arc<dyn Erased>,
    trace: Trace,
}

impl Erased for Traced {
    fn handle<'a>(&'a self, event: &'a (dyn Any + Send + Sync), work: &'a mut UnitOfWork) -> Handling<'a> {
        lock(&self.trace.0).push((last_part(self.event), last_part(self.handler.name())));
        self.handler.handle(event, work)
    }

    fn name(&self) -> &'static str {
        self.handler.name()
    }
}

/// Given an aggregate, when something is asked of it, then these events were recorded.
///
/// ```
/// # use outboxd::uow::{Decision, DomainEvent, Failure, Recorder, testing::Given};
/// #[derive(Debug, PartialEq)]
/// struct Placed { total_cents: i64 }
/// # impl DomainEvent for Placed { fn decide(&self) -> Result<Decision, Failure> { Ok(Decision::InMemory) } }
/// #[derive(Default)]
/// struct Order { is_placed: bool, events: Recorder }
/// impl Order {
///     fn place(&mut self, total_cents: i64) -> Result<(), &'static str> {
///         if self.is_placed { return Err("placed already") }
///         self.is_placed = true;
///         self.events.record(Placed { total_cents });
///         Ok(())
///     }
/// }
///
/// Given::new(Order::default(), |order| &order.events)
///     .when(|order| order.place(4_200))
///     .then(&Placed { total_cents: 4_200 });
///
/// Given::new(Order { is_placed: true, ..Order::default() }, |order| &order.events)
///     .when(|order| order.place(4_200))
///     .then_refused(&"placed already")
///     .then_nothing();
/// ```
pub struct Given<A> {
    aggregate: A,
    recorder: fn(&A) -> &Recorder,
}

/// The result; every `then` panics if the result differs.
pub struct When<A, T> {
    given: Given<A>,
    /// Events recorded before.
    before: usize,
    /// The return value of the call.
    pub returned: T,
}

impl<A> Given<A> {
    /// `recorder` says where the aggregate keeps its events.
    pub fn new(aggregate: A, recorder: fn(&A) -> &Recorder) -> Self {
        Self { aggregate, recorder }
    }

    /// Asks something of the aggregate.
    pub fn when<T>(mut self, act: impl FnOnce(&mut A) -> T) -> When<A, T> {
        let before = (self.recorder)(&self.aggregate).len();
        let returned = act(&mut self.aggregate);
        When { given: self, before, returned }
    }
}

impl<A, T> When<A, T> {
    /// The only event of its type is this one.
    #[track_caller]
    pub fn then<E: DomainEvent + PartialEq + std::fmt::Debug>(self, event: &E) -> Self {
        let recorded: Vec<&E> = self.recorder().of::<E>().collect();
        assert_eq!(recorded, [event], "recorded were {:?}", self.recorder().names());
        self
    }

    /// Events of these types, in this order; the names without their paths.
    #[track_caller]
    pub fn then_types(self, names: &[&str]) -> Self {
        let recorded: Vec<&str> = self.recorder().names()[self.before..].iter().map(|name| last_part(name)).collect();
        assert_eq!(recorded, names);
        self
    }

    /// Nothing has happened.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then_types(&[])
    }

    /// The aggregate is as this says.
    #[track_caller]
    pub fn then_state(self, claim: impl FnOnce(&A) -> bool) -> Self {
        assert!(claim(&self.given.aggregate), "the aggregate is not as the test says");
        self
    }

    fn recorder(&self) -> &Recorder {
        (self.given.recorder)(&self.given.aggregate)
    }
}

impl<A, T, X: PartialEq + std::fmt::Debug> When<A, Result<T, X>> {
    /// It was refused, for this reason.
    #[track_caller]
    pub fn then_refused(self, reason: &X) -> Self {
        assert_eq!(self.returned.as_ref().err(), Some(reason));
        self
    }
}

// `shop::order::Placed<shop::Eur>` is `Placed<shop::Eur>`.
fn last_part(name: &'static str) -> &'static str {
    let path = name.split('<').next().unwrap_or(name);
    let start = path.rfind("::").map_or(0, |place| place + 2);
    &name[start..]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_without_its_path() {
        for (name, want) in [("Placed", "Placed"), ("a::b::Placed", "Placed"), ("a::Of<b::C>", "Of<b::C>")] {
            assert_eq!(last_part(name), want);
        }
    }

    #[test]
    fn a_clock_goes_when_it_is_told_to() {
        let clock = FakeClock::at(SystemTime::UNIX_EPOCH);
        clock.clone().advance(Duration::from_secs(5));
        assert_eq!(clock.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(5));
    }
}
