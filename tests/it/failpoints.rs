//! A relay that dies, or stands still, at every named point between reading and recording (`outboxd::failpoints`), in a scene in which
//! it passes that point; a test fails if it never died there. What the next owner makes of it has to be the same wherever that was.

mod scene;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use outboxd::failpoints::NAMES;

use scene::Scene;

use crate::support::{Binary, TestDatabase};

/// Scenes that are played at the same time, by all tests here.
static PLACES: Semaphore = Semaphore::const_new(6);

/// Points at which a relay that stands still owns nothing, or which a command passes.
const NO_OWNER_STANDS_STILL_AT: &[&str] =
    &["handlers-registered", "lease-released", "attempt-counted", "replay-frozen", "replay-finished", "position-moved"];

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_relay_is_killed_the_next_one_loses_nothing_and_repeats_only_what_was_not_recorded() {
    play(NAMES.iter().copied(), die_at).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_relay_stands_still_past_its_lease_it_writes_nothing_when_it_goes_on() {
    play(NAMES.iter().copied().filter(|name| !NO_OWNER_STANDS_STILL_AT.contains(name)), stand_still_at).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_does_not_exist_ends_the_process_at_once() {
    let database = TestDatabase::create().await;
    for wrong in ["flush-writen=kill", "flush-written=explode", "flush-written"] {
        let binary = Binary::relay(database.url(), "").env(outboxd::failpoints::VARIABLE, wrong);
        let finished = binary.run(&["version"]).await;
        assert_eq!(finished.code, Some(64), "{wrong}");
        assert!(finished.stderr.contains(outboxd::failpoints::VARIABLE), "{}", finished.stderr);
    }
}

/// Plays a scene for each of these points, some at a time, and names those that failed. Their databases are dropped at the end, where
/// nobody waits for it: dropping one holds up a thread of the runtime for as long as the server takes.
async fn play<F>(names: impl Iterator<Item = &'static str>, scene: fn(&'static str) -> F)
where
    F: Future<Output = Scene> + Send + 'static,
{
    let mut playing = JoinSet::new();
    for name in names {
        playing.spawn(async move {
            let _place = PLACES.acquire().await.expect("the semaphore stays open");
            (name, tokio::spawn(scene(name)).await)
        });
    }
    let (mut played, mut failed) = (Vec::new(), Vec::new());
    for (name, ended) in playing.join_all().await {
        match ended {
            Ok(scene) => played.push(scene),
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    tokio::task::spawn_blocking(move || drop(played)).await.expect("dropping does not panic");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

async fn die_at(name: &'static str) -> Scene {
    let mut scene = Scene::new(name).await;
    scene.record(12).await;
    match name {
        // Only an owner whose predecessor died counts before it tries.
        "attempt-counted" => {
            scene.relay_dies_at("answer-received").await;
            scene.relay_dies_at(name).await;
        }
        "lease-released" => scene.relay_dies_while_it_stops_at(name).await,
        "replay-frozen" => {
            scene.settle().await;
            scene.mend();
            scene.command_dies_at(name, &["replay", "--all", "--yes", "--detach"]).await;
            assert_eq!(scene.database.count("replays").await, 0);
            scene.replay().await;
        }
        "replay-released" | "replay-settled" | "replay-finished" => {
            scene.settle().await;
            scene.mend();
            scene.replay().await;
            scene.relay_dies_at(name).await;
        }
        "position-moved" => {
            scene.settle().await;
            let rewind = ["handlers", "rewind", "hook", "--to", "beginning", "--force", "--yes"];
            scene.command_dies_at(name, &rewind).await;
        }
        _ => scene.relay_dies_at(name).await,
    }
    scene.record(12).await;
    scene.settle().await;
    scene.check().await;
    scene.close().await
}

async fn stand_still_at(name: &'static str) -> Scene {
    let mut scene = Scene::new(name).await;
    scene.record(12).await;
    if name.starts_with("replay-") {
        scene.settle().await;
        scene.mend();
        scene.replay().await;
    }
    let frozen = scene.relay_stops_at(name).await;
    let other = scene.start();
    scene.record(12).await;
    scene.wait_until_settled().await;
    let recorded = scene.recorded().await;

    frozen.thaw();
    frozen.wait_for_output("lease lost").await;
    scene.record(12).await;
    scene.wait_until_settled().await;

    scene.check_untouched(&recorded).await;
    for running in [frozen, other] {
        running.terminate();
        let finished = running.finish().await;
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }
    scene.check().await;
    scene.close().await
}
