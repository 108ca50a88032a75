//! Waiting for a condition instead of for a time.

use std::time::Duration;

/// Longer than anything takes on a busy machine: a test that fails waits this long, one that passes never does.
pub const DEADLINE: Duration = Duration::from_secs(240);

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a test waits for what should come. `OUTBOXD_TEST_DEADLINE`, in seconds, is for whoever expects it to fail, as
/// `scripts/mutants.sh` does.
pub fn deadline() -> Duration {
    let given = std::env::var("OUTBOXD_TEST_DEADLINE").ok().filter(|text| !text.is_empty());
    given.map_or(DEADLINE, |text| Duration::from_secs(text.parse().expect("OUTBOXD_TEST_DEADLINE is a number of seconds")))
}

/// Looks until `condition` gives something; panics with `claim` when it never does.
pub async fn eventually<T, F: Future<Output = Option<T>>>(claim: &str, mut condition: impl FnMut() -> F) -> T {
    let looking = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(deadline(), looking).await {
        Ok(value) => value,
        Err(_) => panic!("never became true: {claim}"),
    }
}
