//! Tests of others: the recorder tests that the Python library `eventsourcing` brings, over a thin adapter.

use crate::feed::client::{FEED, Served};
use crate::support::{TestDatabase, find_program, python, run_client};

/// Appends and conflicts, notification ids without gaps, ten writers at once, and two transactions of 1,000 events that never interleave.
#[tokio::test(flavor = "multi_thread")]
async fn the_recorder_tests_of_a_python_library_pass_over_the_append() {
    let interpreter = python();
    let look = ["-c", "import eventsourcing.tests.persistence, psycopg"];
    if find_program(&[&interpreter.to_string_lossy()], &look).await.is_none() {
        return;
    }
    let database = TestDatabase::create().await;
    let served = Served::start(&database, FEED).await;
    // Its tests count from a feed that has begun.
    crate::support::eventually("the feed has begun", || async { (database.count("feed_places").await == 1).then_some(()) }).await;
    let result = run_client("eventsourcing_recorder.py", &[database.url()]).await.pop().expect("a result");
    assert_eq!(result["failures"], serde_json::json!([]), "{result:#}");
    assert!(result["ran"].as_u64().is_some_and(|ran| ran >= 7), "{result}");
    served.stop().await;
}
