//! What happens to the process of one relay: killed, frozen past its lease, stopped and started again.

use fastrand::Rng;

use super::{Leaves, Target, World, last};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Killed,
    Frozen,
    /// The only one after which nothing may arrive twice.
    Restarted,
}

impl Act {
    pub const ALL: [Self; 3] = [Self::Killed, Self::Frozen, Self::Restarted];
}

pub async fn apply(world: &World, place: usize, act: Act, rng: &mut Rng) {
    let _peace = world.fleet.read().await;
    let (relay, began) = (&world.relays[place], world.clock.now());
    let (name, leaves) = match act {
        Act::Killed => {
            relay.kill().await;
            ("relay: killed", Leaves::LostOutcomes)
        }
        Act::Frozen => {
            relay.freeze().await;
            last(rng, 3_300..5_500).await;
            relay.thaw().await;
            ("relay: frozen past its lease", Leaves::LostOutcomes)
        }
        Act::Restarted => {
            relay.stop().await;
            ("relay: stopped and started", Leaves::NoDoubt)
        }
    };
    world.note(name, Target::Relay(place as u8), leaves, began);
    if act != Act::Frozen {
        last(rng, 0..1_000).await;
        relay.start().await;
    }
}
