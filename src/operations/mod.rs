//! Operations: what an operator can do, apart from how it is requested. The CLI, the API and the console call the functions of
//! this layer. Each operation is a plan (what would change, how much, a sample, as of when) and a function that carries it out
//! for a [`Caller`]. Never prints, never parses arguments, never knows HTTP.

mod caller;

pub use caller::{Caller, Role, Via};
