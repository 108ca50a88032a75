//! A relay that kills or stops itself at a named point between reading and recording, in the middle of whatever it does.

use std::time::Duration;

use fastrand::Rng;

use super::{Kind, Leaves, Target, World, last};

const VARIABLE: &str = "OUTBOXD_FAILPOINTS";
/// A point that is not passed within so long is not passed here now; it takes some lease rounds until a relay that starts has its share.
const PASSES_WITHIN: Duration = Duration::from_secs(7);
/// Points of the short form, which has no time for all of them; others with the next seed.
const FEW: usize = 4;
/// Points that only a command, an alert channel or the age of events brings about; no relay of this run passes them.
const ELSEWHERE: [&str; 6] =
    ["replay-frozen", "position-moved", "retention-removed", "retention-committed", "alert-sent", "alert-noted"];
/// At which passing: soon, or in the middle of things.
const PASSINGS: [u32; 6] = [1, 1, 1, 2, 5, 20];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Kill,
    Stop,
}

/// Every point with every action, or a few of them.
pub fn choose(names: &[&'static str], seed: u64, is_long: bool) -> Vec<Kind> {
    let names = names.iter().filter(|name| !ELSEWHERE.contains(name));
    let mut kinds: Vec<Kind> =
        names.flat_map(|name| [Action::Kill, Action::Stop].map(|action| Kind::Failpoint(name, action))).collect();
    if !is_long {
        Rng::with_seed(seed ^ 0x0066_6169_6c73).shuffle(&mut kinds);
        kinds.truncate(FEW);
    }
    kinds
}

pub async fn apply(world: &World, place: usize, point: &str, action: Action, rng: &mut Rng) {
    let _peace = world.fleet.read().await;
    let relay = &world.relays[place];
    let verb = if action == Action::Kill { "kill" } else { "stop" };
    let name = format!("failpoint: {point}={verb}");
    relay.stop().await;
    relay.start_with(Some((VARIABLE, &format!("{point}={verb}@{}", rng.choice(PASSINGS).expect("there are some"))))).await;
    if !reaches_it(world, place, action).await {
        world.miss(&name);
        // It may pass the point any moment, also while it stops: killed, and without the variable from now on.
        let began = world.clock.now();
        relay.kill().await;
        world.note("relay: killed", Target::Relay(place as u8), Leaves::LostOutcomes, began);
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
