//! Networks that fail, by the proxy between a relay and the database, and by that between the relays and a receiver.

use std::time::Duration;

use fastrand::Rng;

use super::{Leaves, Target, World, last};
use crate::support::Proxy;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Connections are reset, new ones, too.
    Reset,
    /// Half open: nothing comes through, nothing is closed, and what has piled up comes in the end.
    Silent,
    /// Half open for ever: those that were open stay silent, new ones work.
    Forgotten,
    Slow,
    /// A byte at a time.
    Trickle,
    /// Reset in the middle of an answer.
    BrokenOff,
}

impl Trouble {
    pub const ALL: [Self; 6] = [Self::Reset, Self::Silent, Self::Forgotten, Self::Slow, Self::Trickle, Self::BrokenOff];

    fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Silent => "silent",
            Self::Forgotten => "forgotten",
            Self::Slow => "slow",
            Self::Trickle => "a byte at a time",
            Self::BrokenOff => "broken off in mid-answer",
        }
    }

    async fn befall(self, proxy: &Proxy, rng: &mut Rng) {
        match self {
            Self::Reset => proxy.cut(),
            Self::Silent => proxy.swallow(),
            Self::Forgotten => proxy.forget(),
            Self::Slow => proxy.delay(Duration::from_millis(rng.u64(50..700))),
            Self::Trickle => proxy.trickle(Duration::from_millis(rng.u64(20..1_000))),
            Self::BrokenOff => proxy.break_off_after(rng.usize(1..120)),
        }
        last(rng, if matches!(self, Self::Forgotten) { 1_000..2_000 } else { 500..4_500 }).await;
        proxy.heal();
    }
}

pub async fn trouble_database(world: &World, place: usize, trouble: Trouble, rng: &mut Rng) {
    let _peace = world.fleet.read().await;
    let began = world.clock.now();
    trouble.befall(&world.relays[place].proxy, rng).await;
    world.note(&format!("database link: {}", trouble.name()), Target::Relay(place as u8), Leaves::LostOutcomes, began);
    last(rng, 0..800).await;
}

pub async fn trouble_receiver(world: &World, place: usize, trouble: Trouble, rng: &mut Rng) {
    let began = world.clock.now();
    trouble.befall(&world.receivers[place].proxy, rng).await;
    world.note(&format!("receiver link: {}", trouble.name()), Target::Receiver(place as u8), Leaves::LostAnswers, began);
}
