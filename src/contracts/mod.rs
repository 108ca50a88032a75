//! Contracts: versions of a public event side by side. What each version looks like, how one becomes another, and which changes
//! readers tolerate. Pure: no files, no clock, no logging. `config::contracts` reads the folder, `relay::contracts` applies the
//! contracts to attempts.
//!
//! - Only what a cast names is parsed (`tree`). The document is opened member by member; everything else stays a slice of the
//!   recorded text. Numbers are multiplied as decimal digits (`decimal`) and never pass through a float.
//! - A cast is checked before any event comes (`shape`): it runs over what the schema of one version allows, and the result is
//!   compared with the schema of the other.
//! - Compatibility (`compat`) needs a proof in one direction and a counterexample in the other; everything else is reported as
//!   unknown.
//! - Pins have a fingerprint (`FormId`). After a reload, a handler whose contracts make the same of every event goes on; a
//!   handler whose cast has changed is restarted.
//!
//! In the order of reading: `registry` is the whole, `cast` changes a payload from one version to another by the operations in
//! `operation`, `schema` validates, `shape` checks a cast, `compat` compares two schemas, `pins` chooses versions for one
//! receiver, `retirement` judges whether a version may be retired.

mod asyncapi;
mod brownout;
mod cast;
mod changes;
pub mod compat;
mod decimal;
mod difference;
mod embedding;
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
pub use changes::{PayloadChange, changes};
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
