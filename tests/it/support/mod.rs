//! What every integration test needs: a database, a receiver, the built binary, and waiting without sleeping.

// Tests come and go; a helper that is unused for a while is no mistake.
#![allow(dead_code, unused_imports)]

mod authority;
mod binary;
mod clients;
mod damage;
mod database;
mod http;
mod kafka;
mod nats;
mod programs;
mod proxy;
mod receiver;
mod recorder;
mod server;
mod service;
mod waiting;

pub use authority::Authority;
pub use binary::{Binary, Finished, Running, example};
pub use clients::{Client, python, run_client, run_node_client};
pub use damage::Brittle;
pub use database::{NewRow, TestDatabase};
pub use http::get;
pub use kafka::{Kafka, read_topic};
pub use nats::{NatsServer, nats_server, nats_server_of};
pub use programs::{find_program, run_program};
pub use proxy::Proxy;
pub use receiver::{Answer, Received, Receiver};
pub use recorder::{Recorder, number, quick, quick_handler, relay};
pub use server::{own_server, server_url};
pub use service::{Recipe, Service, free_port};
pub use waiting::{DEADLINE, deadline, eventually};
