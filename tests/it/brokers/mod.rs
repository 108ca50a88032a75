//! Each kind that speaks to a broker, against the real one: what an independent client reads there, and what comes of every trouble
//! that the broker can be in.

mod nats;
