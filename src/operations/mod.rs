//! Operations: what an operator can do, apart from how it is requested. The CLI, the API and the console call the functions of
//! this layer. Each operation is a plan (what would change, how much, a sample, as of when) and a function that carries it out
//! for a [`Caller`]. Never prints, never parses arguments, never knows HTTP.

pub mod alerts;
pub mod audit;
mod caller;
mod commands;
mod configuration;
pub mod corrections;
pub mod dead_letters;
pub mod doctor;
pub mod events;
mod explain;
pub mod forget;
pub mod handlers;
pub mod handover;
pub mod keys;
mod known;
pub mod map;
pub mod moves;
mod page;
mod preview;
mod refusal;
pub mod reload;
pub mod replays;
mod shared;
pub mod status;
pub mod trial;
mod which;

pub use crate::domain::json::{parse_path, redact_json};
pub use caller::{Caller, Role, Via};
pub use commands::{filter_options, shell_word};
pub use configuration::{Configuration, ReadConfiguration};
pub use explain::{Explanation, explain};
pub use known::{check_handler, nearest, refuse_projection};
pub use page::Page;
pub use preview::{Preview, Purpose, preview, seen};
pub use refusal::{OperationError, Refusal, RefusalKind};
pub use shared::Shared;
pub use which::{Moment, Which, parse_moment};
