//! outboxd: a transactional outbox relay for Postgres, and the small library an application records events with.
//!
#![doc = include_str!("../docs/tutorial.md")]
//!
//! # Where things are
//!
//! - [`uow`]: domain events, handlers, contracts, commands, scopes, recording; [`uow::inbox`] for receivers, [`uow::testing`] for tests;
//!   [`uow::sourcing`] for aggregates whose events are their data
//! - [`NewEvent`]: an event as it is recorded
#![cfg_attr(
    feature = "daemon",
    doc = "- [`RelayBuilder`]: a relay inside a program or a test; [`Handler`] and [`Verdict`]: receivers in Rust"
)]
#![cfg_attr(
    feature = "daemon",
    doc = "- [`app`] and [`config`]: the daemon inside another program; [`handlers`] and [`domain`]: the types that those speak of

These five modules and the names at the root are the interface. The rest of the crate is the daemon, reachable for its own binary and tests, \
hidden here, and free to change."
)]

#[cfg(feature = "daemon")]
pub mod app;
#[cfg(feature = "daemon")]
pub mod config;
pub mod domain;
#[cfg(feature = "daemon")]
pub mod handlers;
pub mod uow;

// What the binary and the tests of this crate reach into. It is no interface: any of it may change with any version.
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod api;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod channels;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod console;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod contracts;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod doctor;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod failpoints;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod feed;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod forgetting;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod hub;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod launcher;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod management;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod operations;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod rebase;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod registration;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod relay;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod settings;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod status;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod store;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod telemetry;

pub use domain::NewEvent;
#[cfg(feature = "daemon")]
pub use {
    app::{EmbeddedRelay, RelayBuilder},
    domain::{Notification, Outcome, Reason, Verdict},
    handlers::{Handler, ProjectedEvent, Projection, ProjectionError, handler_fn},
    settings::Secret,
};
