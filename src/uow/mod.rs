//! The application's side: domain events, the unit of work that dispatches them before the commit, and the notifications that it
//! records. Opens no connection and starts no task.
//!
//! Reading order: `event`, `recorder`, `registry`, `unit`, `pipeline`; `record`, `inbox` and `handled` stand alone; `sourcing`
//! has the aggregates whose events are their data, `shredding` values that can be forgotten.

#![warn(missing_docs)]

mod context;
mod contract;
mod error;
mod event;
mod handled;
pub mod inbox;
mod options;
#[cfg(feature = "daemon")]
mod payload;
mod pipeline;
mod private;
mod record;
mod recorder;
mod registry;
mod scope;
pub mod shredding;
pub mod sourcing;
pub mod testing;
mod transaction;
mod unit;
#[cfg(feature = "daemon")]
mod validation;

pub use context::Context;
pub use contract::Contract;
pub use error::{Conflict, Error, Fails, Failure, IsError, LeadsToError, is_worth_another_try};
pub use event::{Decision, DomainEvent};
pub use handled::{Waited, wait_until_handled, wait_until_handled_in};
pub use options::{Clock, InvalidNotification, Isolation, Options, Validation};
#[cfg(feature = "daemon")]
pub use payload::{PayloadError, Versions};
pub use pipeline::{Command, Done, Pipeline};
pub use private::Private;
pub use record::{RecordError, record, record_in};
pub use recorder::Recorder;
pub use registry::{Handle, Registry};
pub use scope::Scope;
pub use transaction::{TransactionId, Unknowable, was_committed};
pub use unit::{Committed, Notified, UnitOfWork};

/// A table of the outbox in this schema, quoted.
fn qualified(schema: &str, table: &str) -> String {
    format!("\"{}\".{table}", schema.replace('"', "\"\""))
}

/// A statement of this crate for a schema. The header of the file is for readers of the source; the server would read it with every text.
fn in_schema(statement: &str, schema: &str) -> String {
    let start = statement.lines().take_while(|line| line.starts_with("--")).map(|line| line.len() + 1).sum();
    statement.get(start..).unwrap_or(statement).replace("outbox.", &qualified(schema, ""))
}
