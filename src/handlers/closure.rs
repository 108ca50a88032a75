//! Handlers registered in code: an async closure as a handler.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Handler;
use crate::domain::{Notification, Verdict};

struct HandlerFn<F>(F);

impl<F, R> Handler for HandlerFn<F>
where
    F: Fn(Notification) -> R + Send + Sync + 'static,
    R: Future<Output = Verdict> + Send + 'static,
{
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        Box::pin((self.0)(notification.clone()))
    }
}

/// Makes a handler of an async closure.
pub fn handler_fn<F, R>(function: F) -> Arc<dyn Handler>
where
    F: Fn(Notification) -> R + Send + Sync + 'static,
    R: Future<Output = Verdict> + Send + 'static,
{
    Arc::new(HandlerFn(function))
}
