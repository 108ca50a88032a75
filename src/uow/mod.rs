//! The application's side: recording events in the transaction that made them happen.
//! Opens no connection and starts no task; the caller owns the transaction.

mod record;

pub use record::{RecordError, record, record_in};
