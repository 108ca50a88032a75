//! The kinds that talk to a broker, each against the real one, read back by a client that we did not write.

pub mod redis;
