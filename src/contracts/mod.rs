//! Contracts: versions of a public event side by side. What each looks like, how one becomes another, and which changes readers bear.
//! Pure: no files, no clock, no logging; `config` reads the contracts, `relay` applies them to attempts.
//!
//! In the order of reading: `registry` is the whole, `cast` changes a payload from one version to another by the operations in
//! `operation`, `schema` validates, `shape` checks a cast against the schemas before any event comes, `compat` compares two schemas,
//! `retirement` judges whether a version may go.

mod asyncapi;
mod brownout;
mod cast;
pub mod compat;
mod decimal;
mod difference;
mod lock;
mod openapi;
mod operation;
mod path;
mod pins;
mod registry;
pub mod retirement;
mod schema;
mod shape;
mod tree;

pub use asyncapi::asyncapi;
pub use brownout::{Brownout, InBrownout};
pub use cast::{Cast, CastError};
pub use decimal::Decimal;
pub use difference::{Difference, differences};
pub use lock::{Change, InvalidLock, Lock, Locked, digest};
pub use openapi::openapi_schemas;
pub use operation::{InvalidOperation, Operation, ScalarType};
pub use path::{InvalidPath, Path};
pub use pins::{FormId, Naming, PinError, Pins, Rendered};
pub use registry::{Contract, Deprecation, Example, Fault, Registry, RenderError, State, Version};
pub use schema::{Invalid, InvalidSchema, LARGEST_SCHEMA, Schema};

#[cfg(test)]
mod tests;
