//! The management API, `/api/v1`: what operators do, for programs. One table of routes is the source of the router, of the decision about access
//! and of the OpenAPI document; a route without an entry cannot exist.
//! Knows no token and no listener: the layer above says who calls, as a [`Caller`](crate::operations::Caller) in the extensions of the request.
//! Uses a small pool of its own, so that nothing an operator looks at waits for the relay or keeps it waiting.

mod acts;
mod answer;
mod cursor;
mod documents;
mod field;
mod numbers;
mod openapi;
mod problem;
mod reads;
mod serve;
mod state;
mod table;

pub use field::{Field, Kind};
pub use openapi::document;
pub use problem::Problem;
pub use serve::router;
pub use state::{ApiState, connect, connect_lazily};
pub use table::{Access, ROUTES, Route, decide};
