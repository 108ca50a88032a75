//! The end: the supervisor orders every loop to stop, and keeps the leases alive until the last loop has recorded what it knows.

use std::time::{Duration, Instant};

use tracing::warn;

use super::Supervisor;
use crate::relay::Order;
use crate::store::subscriptions;
use crate::telemetry::chain;

impl Supervisor {
    /// Stops every loop: what is in flight may finish within the deadline, the rest is released uncounted.
    pub(super) async fn drain(&mut self) {
        let deadline = Instant::now() + self.shared.options().drain_timeout;
        self.order_all(Order::Drain);
        // Only now: a reader of "stopping" may rely on it that nothing begins any more.
        self.shared.health.stopping();
        if !self.join_until(deadline).await {
            warn!(deliveries_of = self.running.len(), "the drain timeout is over, releasing what is in flight uncounted");
            self.order_all(Order::Release);
            self.join_until(Instant::now() + LAST_FLUSH).await;
        }
        self.tasks.shutdown().await;
    }

    /// Waits for the loops, keeping their leases alive. `false`: some still run.
    async fn join_until(&mut self, deadline: Instant) -> bool {
        let mut renewal = tokio::time::interval(self.shared.options().lease / 3);
        loop {
            tokio::select! {
                ended = self.tasks.join_next_with_id() => match ended {
                    Some(Ok((_, (id, Ok(_))))) => drop(self.running.remove(&id)),
                    Some(Ok((_, (_, Err(failure))))) => warn!(error = %chain(&failure), "a loop failed while it was drained"),
                    Some(Err(_)) => {}
                    None => return true,
                },
                _ = renewal.tick() => {
                    let lease = self.shared.options().lease;
                    let served: Vec<i32> = self.running.keys().copied().collect();
                    let renewed = subscriptions::renew(&self.shared.connections.keeper, &self.shared.instance.id, lease, &served);
                    tokio::time::timeout(lease / 3, renewed).await.ok(); // a lease that is lost here is found by its fence
                }
                () = tokio::time::sleep_until(deadline.into()) => return false,
            }
        }
    }

    fn order_all(&self, order: Order) {
        self.running.values().for_each(|running| running.order(order));
    }
}

/// For writing what is finished after the drain timeout.
const LAST_FLUSH: Duration = Duration::from_secs(5);
