//! The kinds that publish to a broker, against the real one, read back by a client that is not ours.

#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
