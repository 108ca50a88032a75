//! The integration tests: one binary, so that all of them share one private Postgres, each with a database of its own.
//! Run them with `cargo test --test it`. `OUTBOXD_TEST_DATABASE_URL` names a server to use instead (its role must be allowed
//! to create databases), `OUTBOXD_POSTGRES_BIN` other server programs, `OUTBOXD_TEST_KEEP=1` keeps the data of the run.

mod adoption;
mod alerts;
mod bad_days;
mod bad_input;
mod blame;
mod brokers;
mod conformance;
mod data;
mod dead_letters;
mod demo;
mod disasters;
mod docs;
mod doctor;
mod embedded;
mod erasure;
#[cfg(any(debug_assertions, feature = "failpoints"))]
mod failpoints;
mod failures;
mod first_steps;
mod foreign_producers;
mod functions;
mod handlers;
mod hot_keys;
mod idle;
mod image;
mod leases;
mod metrics;
mod migrate;
mod migrations;
mod numbers;
mod outbox_table;
mod plans;
mod pooler;
mod prometheus;
mod rebase;
mod receivers;
mod recovery;
mod registration;
mod replays;
mod rows_read;
mod runbook_alerts;
mod runbooks;
mod sessions;
mod shop;
mod silence;
mod status;
mod stuck;
mod support;
mod support_works;
mod take_over;
mod uow;
mod usage;
mod version;
mod windows;
