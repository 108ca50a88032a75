//! Kinds that publish to a broker, against the real one: what the suite of all kinds cannot ask, because every broker fails in its own way.

#[cfg(feature = "kafka")]
mod kafka;
