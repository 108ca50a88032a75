//! Each kind of broker against the real server, read by a client that we did not write.

#[cfg(feature = "mqtt")]
pub mod mqtt;
