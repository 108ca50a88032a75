//! The registry: the handlers of each domain event, in the order in which they were registered. Built once, when the program
//! starts.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use super::event::AnyEvent;
use super::{DomainEvent, Failure, UnitOfWork};

/// Handles domain events of one type before the commit, in the transaction that made them happen. May change other aggregates and raise
/// further events; never sees the transaction itself, so it can neither commit nor roll back.
///
/// ```
/// use outboxd::uow::{Decision, DomainEvent, Failure, Handle, UnitOfWork};
///
/// struct OrderPlaced { customer: String, total_cents: i64 }
/// # impl DomainEvent for OrderPlaced { fn decide(&self) -> Result<Decision, Failure> { Ok(Decision::InMemory) } }
///
/// struct EarnPoints;
/// impl Handle<OrderPlaced> for EarnPoints {
///     async fn handle(&self, event: &OrderPlaced, work: &mut UnitOfWork) -> Result<(), Failure> {
///         sqlx::query("update accounts set points = points + $2 where customer = $1")
///             .bind(&event.customer)
///             .bind(event.total_cents / 100)
///             .execute(work.connection())
///             .await?;
///         Ok(())
///     }
/// }
/// ```
pub trait Handle<E: DomainEvent>: Send + Sync + 'static {
    /// An error undoes the whole unit of work; a handler that may fail alone uses [`UnitOfWork::begin_scope`].
    fn handle(&self, event: &E, work: &mut UnitOfWork) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Handlers by the type of their events.
#[derive(Clone, Default)]
pub struct Registry {
    handlers: HashMap<TypeId, Handlers>,
}

#[derive(Clone)]
struct Handlers {
    /// Name of the Rust type of the event, for display.
    event: &'static str,
    all: Vec<Arc<dyn Erased>>,
}

pub(super) type Handling<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

pub(super) trait Erased: Send + Sync {
    fn handle<'a>(&'a self, event: &'a (dyn Any + Send + Sync), work: &'a mut UnitOfWork) -> Handling<'a>;
    fn name(&self) -> &'static str;
}

struct Of<E, H>(H, PhantomData<fn(E)>);

impl<E: DomainEvent, H: Handle<E>> Erased for Of<E, H> {
    fn handle<'a>(&'a self, event: &'a (dyn Any + Send + Sync), work: &'a mut UnitOfWork) -> Handling<'a> {
        let event = event.downcast_ref::<E>().expect("handlers are looked up by the type of the event");
        Box::pin(self.0.handle(event, work))
    }

    fn name(&self) -> &'static str {
        std::any::type_name::<H>()
    }
}

impl Registry {
    /// Without handlers: events are only recorded as they decide.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler for events of the type `E`, after those that it already has.
    ///
    /// ```compile_fail
    /// # use outboxd::uow::*;
    /// struct OrderPlaced;
    /// # impl DomainEvent for OrderPlaced { fn decide(&self) -> Result<Decision, Failure> { Ok(Decision::InMemory) } }
    /// struct OrderCancelled;
    /// # impl DomainEvent for OrderCancelled { fn decide(&self) -> Result<Decision, Failure> { Ok(Decision::InMemory) } }
    /// struct Audit;
    /// impl Handle<OrderPlaced> for Audit {
    ///     async fn handle(&self, _: &OrderPlaced, _: &mut UnitOfWork) -> Result<(), Failure> { Ok(()) }
    /// }
    /// Registry::new().on::<OrderCancelled, _>(Audit); // error: it does not handle that event
    /// ```
    #[must_use]
    pub fn on<E: DomainEvent, H: Handle<E>>(mut self, handler: H) -> Self {
        let handler: Arc<dyn Erased> = Arc::new(Of::<E, H>(handler, PhantomData));
        let none = || Handlers { event: std::any::type_name::<E>(), all: Vec::new() };
        self.handlers.entry(TypeId::of::<E>()).or_insert_with(none).all.push(handler);
        self
    }

    pub(super) fn of(&self, event: &AnyEvent) -> Vec<Arc<dyn Erased>> {
        self.handlers.get(&event.as_any().type_id()).map(|handlers| handlers.all.clone()).unwrap_or_default()
    }

    /// The same handlers, each in a coat: `wrap` gets the name of the event's type and the handler.
    pub(super) fn map(mut self, wrap: impl Fn(&'static str, Arc<dyn Erased>) -> Arc<dyn Erased>) -> Self {
        for Handlers { event, all } in self.handlers.values_mut() {
            *all = all.drain(..).map(|handler| wrap(event, handler)).collect();
        }
        self
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for Handlers { event, all } in self.handlers.values() {
            map.entry(event, &all.iter().map(|handler| handler.name()).collect::<Vec<_>>());
        }
        map.finish()
    }
}
