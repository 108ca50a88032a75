//! Kinds against what they really deliver to: what the suite of all kinds cannot ask, because everyone fails in a way of its own.

mod exec;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "redis")]
pub mod redis;
