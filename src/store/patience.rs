//! Patience: how long an answer of the database is waited for. A connection may fall silent under a statement (a firewall that
//! forgot it, a host that is gone). Neither end is notified, and only a clock can end the wait.
//!
//! Everything that a loop, the start and retention request is bounded by twice the statement timeout and five seconds
//! (`connect::answer_timeout`), for a call of a function by that function's own timeout on top. The limits are above those that
//! the server keeps, so the wait never ends a statement that the server still executes. The pool closes a connection that was
//! given up.

use std::time::Duration;

use sqlx::PgPool;

use super::StoreError;

/// Fails when no answer has come within the limit; `None`: waits for ever. The connection is given up with the task.
pub async fn answered<T, E>(
    limit: Option<Duration>,
    task: impl Future<Output = Result<T, E>>,
    silent: impl FnOnce(StoreError) -> E,
) -> Result<T, E> {
    let Some(limit) = limit else { return task.await };
    let in_time = tokio::time::timeout(limit, task).await;
    in_time.unwrap_or_else(|_| Err(silent(StoreError::query("get an answer in time")(sqlx::Error::PoolTimedOut))))
}

/// Gives up the idle sessions of a pool. Where one has fallen silent, those beside it have as well: a firewall forgets all of
/// them at once, and each would be waited for anew.
pub fn forget_idle(pool: &PgPool) {
    while let Some(idle) = pool.try_acquire() {
        drop(idle.detach()); // closes the socket; a good-bye would wait for an answer
    }
}
