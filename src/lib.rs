//! outboxd: a transactional outbox relay for Postgres, and the small library an application records events with.
//!
#![doc = include_str!("../docs/tutorial.md")]
//!
//! # Where things are
//!
//! - [`uow`]: domain events, handlers, contracts, commands, scopes, recording; [`uow::inbox`] for receivers, [`uow::testing`] for tests
//! - [`NewEvent`]: an event as it is recorded
#![cfg_attr(
    feature = "daemon",
    doc = "- [`RelayBuilder`]: a relay inside a program or a test; [`Handler`] and [`Verdict`]: receivers in Rust"
)]
#![cfg_attr(
    feature = "daemon",
    doc = "- Everything else is the daemon: [`app`] wires it, [`handlers`] are the kinds of receivers, [`store`] is the SQL"
)]

pub mod domain;
#[cfg(feature = "daemon")]
pub mod failpoints;
pub mod uow;

#[cfg(feature = "daemon")]
pub mod api;
#[cfg(feature = "daemon")]
pub mod app;
#[cfg(feature = "daemon")]
pub mod channels;
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod doctor;
#[cfg(feature = "daemon")]
pub mod handlers;
#[cfg(feature = "daemon")]
pub mod launcher;
#[cfg(feature = "daemon")]
pub mod rebase;
#[cfg(feature = "daemon")]
pub mod registration;
#[cfg(feature = "daemon")]
pub mod relay;
#[cfg(feature = "daemon")]
pub mod settings;
#[cfg(feature = "daemon")]
pub mod status;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(feature = "daemon")]
pub mod telemetry;

pub use domain::NewEvent;
#[cfg(feature = "daemon")]
pub use {
    app::{EmbeddedRelay, RelayBuilder},
    domain::{Notification, Outcome, Reason, Verdict},
    handlers::{Handler, handler_fn},
};
