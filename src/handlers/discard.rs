//! `discard`: accepts every event and does nothing with it. For measurements, and for switching a handler off without losing its
//! position.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Built, Handler, Kind};
use crate::domain::{Notification, Verdict};

pub const KIND: Kind = Kind {
    name: "discard",
    summary: "accept every event and do nothing with it",
    fields: &[],
    example: include_str!("../../config/examples/discard.toml"),
    build: |_| Some(Built::Handler(Arc::new(Discard))),
};

struct Discard;

impl Handler for Discard {
    fn deliver<'a>(&'a self, _: &'a Notification) -> BoxFuture<'a, Verdict> {
        Box::pin(std::future::ready(Verdict::delivered()))
    }

    fn is_immediate(&self) -> bool {
        true
    }
}
