//! Receivers that are there and of no use, or not there: refusing, asking to wait, failing, knowing nothing, hanging, answering late.

use fastrand::Rng;

use super::{Leaves, Target, World, last};
use crate::receivers::Mood;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// Nobody listens.
    Refuses,
    Has(Mood),
}

impl Outage {
    pub const ALL: [Self; 6] = [
        Self::Refuses,
        Self::Has(Mood::AsksToWait),
        Self::Has(Mood::Fails),
        Self::Has(Mood::KnowsNothing),
        Self::Has(Mood::Hangs),
        Self::Has(Mood::AnswersLate),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Refuses => "receiver: refuses connections",
            Self::Has(Mood::AsksToWait) => "receiver: asks to wait",
            Self::Has(Mood::Fails) => "receiver: fails",
            Self::Has(Mood::KnowsNothing) => "receiver: answers 404 to everything",
            Self::Has(Mood::Hangs) => "receiver: hangs",
            Self::Has(Mood::AnswersLate) => "receiver: answers late",
            Self::Has(Mood::Well) => "receiver: is well",
        }
    }
}

pub async fn apply(world: &World, place: usize, outage: Outage, rng: &mut Rng) {
    let (receiver, began) = (&world.receivers[place], world.clock.now());
    match outage {
        Outage::Refuses => receiver.proxy.close(),
        Outage::Has(mood) => receiver.set_mood(mood),
    }
    last(rng, 500..4_000).await;
    receiver.proxy.heal();
    receiver.set_mood(Mood::Well);
    world.note(outage.name(), Target::Receiver(place as u8), Leaves::LostAnswers, began);
}
