//! A person mends what a handler refuses, and replays its dead letters with the command.

use fastrand::Rng;

use super::{Leaves, Target, World};
use crate::plan::{FUNCTION, HANDLERS, RELAYS, STRICT, configuration};
use crate::support::Binary;

pub async fn replay(world: &World, rng: &mut Rng) {
    // What is unknown to a receiver stays so: its dead letters are left.
    let mendable: Vec<usize> = (0..HANDLERS.len()).filter(|handler| *handler != STRICT).collect();
    let handler = *rng.choice(&mendable).expect("there are others");
    // What is newer stays poison, and becomes a dead letter once more if it is replayed, too.
    let below = (world.newest)().saturating_sub(rng.u32(0..2_000));
    match world.receivers.get(handler) {
        Some(receiver) => receiver.mend_below(below),
        None => {
            debug_assert_eq!(handler, FUNCTION);
            let mended = sqlx::query("update chaos.mended set below = $1").bind(i64::from(below));
            if mended.execute(&world.database.pool).await.is_err() {
                return world.miss("person: replays dead letters");
            }
        }
    }
    let began = world.clock.now();
    let urls: Vec<String> = world.receivers.iter().map(crate::receivers::Place::url).collect();
    let desk = Binary::with_config(&configuration(RELAYS, world.database.url(), "", &urls, world.crowd));
    let finished = desk.run(&["replay", "--handler", HANDLERS[handler].name, "--yes", "--detach"]).await;
    if finished.code == Some(0) {
        world.note("person: replays dead letters", Target::Nobody, Leaves::NoDoubt, began);
    } else {
        world.miss("person: replays dead letters");
    }
}
