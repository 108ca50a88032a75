//! Projections: functions that keep read tables, called in the transaction that moves their position, which makes their effect
//! exactly-once. Holds what is called and how; the relay decides when, and the store makes the call.

#![warn(missing_docs)]

use std::error::Error;
use std::ops::Deref;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use super::SqlFunction;
use crate::domain::Notification;

/// An event on its way into a read table.
#[derive(Debug, Clone, Copy)]
pub struct ProjectedEvent<'e> {
    /// The event as the handler of the projection is sent it.
    pub notification: &'e Notification,
    /// The event is history, or another version of the projection is live: only the read table may change, and nothing else may happen.
    pub is_replaying: bool,
}

impl Deref for ProjectedEvent<'_> {
    type Target = Notification;

    fn deref(&self) -> &Notification {
        self.notification
    }
}

/// Why a projection could not take an event. The projection stops at it and tries again.
pub type ProjectionError = Box<dyn Error + Send + Sync>;

/// A projection in Rust: keeps a read table, one event after the other in the order of the log.
///
/// Everything that `project` writes with the connection is committed together with the position of the projection, or not at all.
/// It must not begin, commit or roll back a transaction on it.
pub trait Projection: Send + Sync + 'static {
    /// Event types that it wants, as globs; empty: every type.
    fn events(&self) -> Vec<String>;

    /// The table that this version writes, such as `app.sales_2`.
    fn target(&self) -> Option<String> {
        None
    }

    /// The view that readers use, such as `app.sales`; `outboxd projections switch` lets it show the target.
    fn view(&self) -> Option<String> {
        None
    }

    /// Takes one event. An error stops the projection at this event; nothing that it wrote for the event stays.
    fn project(
        &self,
        event: ProjectedEvent<'_>,
        connection: &mut PgConnection,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;
}

/// A [`Projection`] of whatever type.
pub(crate) trait AnyProjection: Send + Sync {
    fn project<'a>(
        &'a self,
        event: ProjectedEvent<'a>,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), ProjectionError>>;
}

impl<P: Projection> AnyProjection for P {
    fn project<'a>(
        &'a self,
        event: ProjectedEvent<'a>,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), ProjectionError>> {
        Box::pin(Projection::project(self, event, connection))
    }
}

/// What is called for the events of a projection.
#[derive(Clone)]
pub(crate) enum Projected {
    Function(SqlFunction),
    Code(Arc<dyn AnyProjection>),
}

/// One version of a projection, as the relay serves it.
#[derive(Clone)]
pub struct ProjectionSpec {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) target: Option<String>,
    pub(crate) view: Option<String>,
    pub(crate) projected: Projected,
}

impl ProjectionSpec {
    /// Whether both call the same: of code, the very same.
    pub(crate) fn calls_as(&self, other: &Self) -> bool {
        match (&self.projected, &other.projected) {
            (Projected::Code(one), Projected::Code(other)) => Arc::ptr_eq(one, other),
            (Projected::Function(_), Projected::Function(_)) => true, // its settings are compared
            _ => false,
        }
    }
}
