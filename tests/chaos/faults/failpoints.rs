//! A relay that kills or stops itself at a named point between reading and recording, in the middle of whatever it does.

use std::time::Duration;

use fastrand::Rng;

use super::{Kind, Leaves, Target, World, last};

const VARIABLE: &str = "OUTBOXD_FAILPOINTS";
/// A point that is not passed within so long is not passed here now.
const PASSES_WITHIN: Duration = Duration::from_secs(6);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Kill,
    Stop,
}

/// Every point with every action.
pub fn all(names: &[&'static str]) -> Vec<Kind> {
    let actions = [Action::Kill, Action::Stop];
    names.iter().flat_map(|name| actions.map(|action| Kind::Failpoint(name, action))).collect()
}

pub async fn apply(world: &World, place: usize, point: &str, action: Action, rng: &mut Rng) {
    let _peace = world.fleet.read().await;
    let relay = &world.relays[place];
    let verb = if action == Action::Kill { "kill" } else { "stop" };
    let name = format!("failpoint: {point}={verb}");
    relay.stop().await;
    relay.start_with(Some((VARIABLE, &format!("{point}={verb}@{}", rng.u32(1..40))))).await;
    if !reaches_it(world, place, action).await {
        world.miss(&name);
        // Without the variable from now on.
        relay.stop().await;
        return relay.start().await;
    }
    let began = world.clock.now();
    match action {
        Action::Kill => relay.bury().await,
        Action::Stop => {
            last(rng, 3_300..4_500).await;
            relay.thaw().await;
        }
    }
    world.note(&name, Target::Relay(place as u8), Leaves::LostOutcomes, began);
    relay.start().await;
}

async fn reaches_it(world: &World, place: usize, action: Action) -> bool {
    let relay = &world.relays[place];
    let until = world.clock.elapsed() + PASSES_WITHIN;
    while world.clock.elapsed() < until {
        let is_there = match action {
            Action::Kill => relay.has_died().await,
            Action::Stop => relay.has_stopped_itself().await,
        };
        if is_there {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}
