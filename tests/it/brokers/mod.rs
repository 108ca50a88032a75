//! Kinds of handlers against what they really deliver to.

mod exec;
