//! A reload, carried out: changes what the relay serves while it runs. Registers new handlers first, so a change that fails has
//! changed nothing.
//!
//! A loop keeps the handler that it began with. If that is no longer the handler of its name, the loop drains as in a stop and
//! gives its lease back, and the next round starts it with the new handler. All other loops go on.

use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::places::register;
use super::{Supervisor, count_loops, share};
use crate::relay::reload::{Change, Request};
use crate::relay::{HandlerShared, Order, RelayError};

impl Supervisor {
    pub(super) async fn enter_request(&mut self, request: Request) {
        let ended = self.apply(request.change).await;
        request.answer.send(ended).ok(); // the requester may have gone
    }

    async fn apply(&mut self, change: Change) -> Result<(), RelayError> {
        let Change { put, removed, relay, outbox } = change;
        let is_replaced =
            |name: &str| removed.iter().any(|other| other == name) || put.iter().any(|other| other.config.name == name);
        let kept = self.handlers.iter().filter(|handler| !is_replaced(&handler.config.name)).cloned();
        let mut handlers: Vec<Arc<HandlerShared>> = kept.collect();
        let has_changed = !put.is_empty() || !removed.is_empty();
        handlers.extend(put.into_iter().map(|handler| Arc::new(share(handler, &self.shared.contract_use))));
        if handlers.is_empty() {
            return Err(RelayError::NoHandlers);
        }
        if has_changed {
            // Bounded, because leases must be renewed meanwhile.
            let registering = register(&self.shared.connections.keeper, &handlers);
            let bound = self.shared.options().lease / 3;
            self.places = tokio::time::timeout(bound, registering).await.map_err(|_| RelayError::SlowRegistration)??;
            self.handlers = handlers;
        }
        self.shared.settings.replace(relay, count_loops(&self.handlers));
        self.outbox.send_if_modified(|current| {
            let differs = *current != outbox;
            *current = outbox;
            differs
        });
        self.drain_outdated();
        Ok(())
    }

    /// Tells every loop that serves a handler as it no longer is to finish.
    fn drain_outdated(&mut self) {
        let idle = self.running.iter().filter(|(id, running)| running.task.is_none() && !self.places.contains_key(id));
        for id in idle.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.enter_released(id); // nothing to wait for; its lease is not renewed and runs out
        }
        let release_at = Instant::now() + self.shared.options().drain_timeout;
        for (id, running) in &mut self.running {
            // One that does not run begins with what is current then.
            let Some(serves) = running.serves.as_ref().filter(|_| running.task.is_some()) else { continue };
            let is_current = self.places.get(id).is_some_and(|(handler, _)| Arc::ptr_eq(handler, serves));
            if !is_current && running.works() {
                running.order(Order::Drain);
                running.release_at = Some(release_at);
            }
        }
    }

    /// Deliveries that do not finish in time are released uncounted, as in a stop.
    pub(super) fn release_overdue(&mut self) {
        let now = Instant::now();
        for running in self.running.values_mut() {
            if running.release_at.is_some_and(|at| at <= now) {
                running.release_at = None;
                running.order(Order::Release);
            }
        }
    }

    /// A loop has given its lease back; if its handler is gone, so is what it showed.
    pub(super) fn enter_released(&mut self, id: i32) {
        let serves = self.running.remove(&id).and_then(|running| running.serves);
        self.shared.metrics.leases_held(self.running.len());
        if let Some(handler) = serves.filter(|_| !self.places.contains_key(&id)) {
            info!(handler = handler.config.name, "handler is not served any more");
        }
    }
}
