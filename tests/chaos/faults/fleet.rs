//! What happens to all relays at once: the server is killed and recovers, every relay starts in the same moment and wants every lease,
//! somebody locks one of the tables for longer than a lease.

use fastrand::Rng;
use futures_util::future::join_all;
use sqlx::AssertSqlSafe;

use super::{Leaves, Target, World, last};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    ServerKilled,
    Race,
    Locked(&'static str),
}

impl Act {
    pub const ALL: [Self; 5] =
        [Self::ServerKilled, Self::Race, Self::Locked("events"), Self::Locked("deliveries"), Self::Locked("subscriptions")];
}

/// As long as a careless `alter table` or `vacuum full` takes: three leases.
const LOCKED_SECONDS: u32 = 10;

pub async fn apply(world: &World, act: Act, rng: &mut Rng) {
    match act {
        Act::ServerKilled => {
            let began = world.clock.now();
            world.database.crash().await;
            world.note("server: killed", Target::Server, Leaves::LostOutcomes, began);
        }
        Act::Race => {
            let _all = world.fleet.write().await;
            let began = world.clock.now();
            let gracefully = rng.bool();
            join_all(
                world.relays.iter().map(|relay| async move { if gracefully { relay.stop().await } else { relay.kill().await } }),
            )
            .await;
            last(rng, 0..500).await;
            join_all(world.relays.iter().map(|relay| relay.start())).await;
            let leaves = if gracefully { Leaves::NoDoubt } else { Leaves::LostOutcomes };
            world.note("relays: all started at once", Target::AllRelays, leaves, began);
        }
        Act::Locked(table) => {
            let (name, began) = (format!("table: {table} locked"), world.clock.now());
            let lock =
                format!("begin; lock table outbox.{table} in access exclusive mode; select pg_sleep({LOCKED_SECONDS}); commit");
            if sqlx::raw_sql(AssertSqlSafe(lock)).execute(&world.database.pool).await.is_ok() {
                world.note(&name, Target::Server, Leaves::LostOutcomes, began);
            } else {
                world.miss(&name);
            }
        }
    }
}
