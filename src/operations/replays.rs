//! Replays: a frozen set of deliveries that leaves bit by bit, started, listed, shown, cancelled and resumed.

use sqlx::PgPool;
use uuid::Uuid;

use super::{Caller, OperationError, Page, RefusalKind};
use crate::store::{self, Changed, DeliveryFilter, NewReplay, Replay, ReplayPlace, Started};

/// The options of a replay besides its set.
#[derive(Debug, Clone, Default)]
pub struct ReplayOrder {
    pub id: Uuid,
    /// Deliveries a second, over all handlers; `None`: as many as the handlers take.
    pub rate: Option<f64>,
    /// Why; kept in the audit.
    pub note: Option<String>,
    /// Receivers have had these events, and the operator knows.
    pub force: bool,
    /// With it nothing is started if another number matches by now.
    pub expected: Option<u64>,
}

/// Starts a replay of what a preview has shown, by the filter of the preview. The same order with the same id changes nothing.
pub async fn start(
    pool: &PgPool,
    caller: &Caller,
    filter: &DeliveryFilter,
    order: &ReplayOrder,
) -> Result<Started, OperationError> {
    check_force(filter, order.force)?;
    let ReplayOrder { id, rate, note, expected, .. } = order.clone();
    let replay = NewReplay { id, filter: filter.clone(), rate, note, expected };
    match store::start_replay(pool, &replay, caller.actor()).await? {
        Started::Taken => {
            let text = format!("replay {id} exists and asks for something else; choose a new id");
            Err(OperationError::refused(RefusalKind::Taken, text, format!("outboxd replays show {id}")))
        }
        started => Ok(started),
    }
}

/// Refuses to send again what receivers have had, unless the operator says that they know.
pub fn check_force(filter: &DeliveryFilter, force: bool) -> Result<(), OperationError> {
    if !filter.delivered || force {
        return Ok(());
    }
    let text = "receivers have had these events; add --force to send them again";
    Err(OperationError::plain(RefusalKind::NeedsForce, text))
}

/// A page of replays, the newest first.
pub async fn list(pool: &PgPool, after: Option<ReplayPlace>, limit: u32) -> Result<Page<Replay>, OperationError> {
    Ok(Page::of(store::list_replays(pool, after, limit + 1).await?, limit))
}

/// One replay with what has become of it.
pub async fn show(pool: &PgPool, id: Uuid) -> Result<Replay, OperationError> {
    store::read_replay(pool, id).await?.ok_or_else(|| {
        let text = format!("there is no replay {id}; `outboxd replays list` shows the newest");
        OperationError::refused(RefusalKind::NotFound, text, "outboxd replays list")
    })
}

/// Ends a replay; gives how many deliveries had not left and stay what they were.
pub async fn cancel(pool: &PgPool, caller: &Caller, id: Uuid, note: Option<&str>) -> Result<u64, OperationError> {
    let before = show(pool, id).await?;
    match store::cancel_replay(pool, id, caller.actor(), note).await? {
        Changed::Done(cancelled) => Ok(cancelled),
        Changed::NotNow => {
            let text = format!("nothing of replay {id} is left to cancel: {}, {}", before.state, describe_outcome(&before));
            Err(OperationError::refused(RefusalKind::NotNow, text, format!("outboxd replays show {id}")))
        }
    }
}

/// Lets a cancelled replay go on; gives how many deliveries are held again.
pub async fn resume(pool: &PgPool, caller: &Caller, id: Uuid) -> Result<u64, OperationError> {
    let before = show(pool, id).await?;
    match store::resume_replay(pool, id, caller.actor()).await? {
        Changed::Done(held) => Ok(held),
        Changed::NotNow => {
            let text = format!("replay {id} is not cancelled but {}", before.state);
            Err(OperationError::refused(RefusalKind::NotNow, text, format!("outboxd replays show {id}")))
        }
    }
}

/// Whether all the handlers that a replay waits for are stopped: paused, circuit open, or served by no relay.
pub async fn is_stopped(pool: &PgPool, replay: &Replay) -> Result<bool, OperationError> {
    let waiting = store::count_open_handlers(pool, replay.id).await?;
    Ok(!replay.is_over() && waiting == replay.stopped.len() as u64)
}

/// The outcome in words, which adds up.
pub fn describe_outcome(replay: &Replay) -> String {
    let parts = [
        (replay.delivered, "delivered"),
        (replay.failed, "failed again"),
        (replay.cancelled, "cancelled"),
        (replay.dropped, "dropped"),
        (replay.released, "under way"),
        (replay.held, "to leave"),
    ];
    let told = parts.iter().enumerate().filter(|(place, (count, _))| *count > 0 || *place < 2);
    let told: Vec<String> = told.map(|(_, (count, what))| format!("{count} {what}")).collect();
    format!("{} asked: {}", replay.asked, told.join(", "))
}

/// Deliveries a second, from a rate such as `50/s`, `10/m` or `1000/h`.
pub fn parse_rate(text: &str) -> Result<f64, &'static str> {
    const EXPECTED: &str = "expected a rate such as 50/s, 10/m or 1000/h";
    let (count, unit) = text.split_once('/').ok_or(EXPECTED)?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(EXPECTED),
    };
    let count: u32 = count.trim().parse().map_err(|_| EXPECTED)?;
    if count == 0 {
        Err("a rate of nothing never ends; `outboxd handlers pause` holds a handler")
    } else {
        Ok(f64::from(count) / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_unit_of_time() {
        for (text, want) in [("50/s", 50.0), ("30/m", 0.5), ("3600 / h", 1.0)] {
            assert_eq!(parse_rate(text), Ok(want));
        }
        for text in ["", "50", "0/s", "-1/s", "50/d", "x/s", "1.5/s"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
