//! The rules of the relay against every order in which things can happen: an exhaustive search through a small world of writers,
//! snapshots, leases and crashes (`search`), and random interleavings of lanes, progress, circuit and policy against a reference
//! (`deliveries`). What decides is the code of `outboxd::domain` itself; only Postgres and the loop around it are modelled.

mod deliveries;
mod log;
mod outage;
mod relay;
mod rules;
mod search;
mod steps;
