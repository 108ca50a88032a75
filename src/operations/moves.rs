//! Where a handler goes on: back, to deliver again, or forwards, to skip. A plan says first what would be skipped and delivered again; nothing
//! that was handled is delivered again without `force`.

use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Caller, OperationError, RefusalKind, check_handler, refuse_projection};
use crate::domain::Timestamp;
use crate::settings::parse_duration;
use crate::store::{self, Move, MoveCounts, MoveKind, MoveTarget};

/// A place in the log, and how the operator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub target: MoveTarget,
    pub text: String,
}

/// Which way a handler is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Deliver again from there on; skip nothing.
    Rewind,
    /// Go on there; skip what lies before.
    StartFrom,
}

/// The effect of a move.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct MovePlan {
    pub handler: String,
    /// Where to, as it was written.
    pub to: String,
    #[serde(flatten)]
    pub counts: MoveCounts,
    /// The move delivers again what was handled, so it needs `force`.
    pub needs_force: bool,
    #[serde(skip)]
    first_seq: i64,
    #[serde(skip)]
    kind: MoveKind,
}

impl MovePlan {
    /// Whether the move would change nothing.
    pub fn is_empty(&self) -> bool {
        self.counts.skipped == 0 && self.counts.again == 0
    }
}

/// The effect of a move. `force`: handled events may be delivered again.
pub async fn plan(pool: &PgPool, name: &str, place: &Place, direction: Direction, force: bool) -> Result<MovePlan, OperationError> {
    check_handler(pool, name).await?;
    let instead = "`outboxd projections rebuild` empties the table and reads from the beginning, `skip` passes over an event";
    refuse_projection(pool, name, instead).await?;
    let first_seq = match (store::find_move_target(pool, place.target).await?, place.target) {
        (Some(first_seq), _) => first_seq,
        (None, MoveTarget::Event(id)) => return Err(unknown_event(id)),
        (None, _) => return Err(gone(name)),
    };
    let found = store::plan_move(pool, name, first_seq).await?.ok_or_else(|| gone(name))?;
    let (counts, kind) = match direction {
        Direction::Rewind => (MoveCounts { skipped: 0, kept: 0, ..found }, MoveKind::Rewind),
        Direction::StartFrom if force && found.again > 0 => (found, MoveKind::Restart),
        Direction::StartFrom => (MoveCounts { again: 0, dead: 0, ..found }, MoveKind::Skip),
    };
    let needs_force = !force && found.again > 0 && (direction == Direction::Rewind || found.skipped == 0);
    Ok(MovePlan { handler: name.to_owned(), to: place.text.clone(), counts, needs_force, first_seq, kind }.remember(found.again))
}

impl MovePlan {
    /// A refusal names how many would be delivered again, also where the plan itself delivers none of them again.
    fn remember(mut self, again: u64) -> Self {
        if self.needs_force {
            self.counts.again = again;
        }
        self
    }

    /// Refuses a move that delivers again what was handled without being told to.
    pub fn check_force(&self) -> Result<(), OperationError> {
        if !self.needs_force {
            return Ok(());
        }
        let count = self.counts.again;
        let (events, were, them) = if count == 1 { ("event", "was", "it") } else { ("events", "were", "them") };
        let at_least = if self.counts.is_exact { "" } else { "at least " };
        let text = format!("{at_least}{count} {events} from there on {were} handled already; --force delivers {them} again");
        Err(OperationError::plain(RefusalKind::NeedsForce, text))
    }
}

/// Moves the handler as planned; gives what was changed.
pub async fn carry_out(
    pool: &PgPool,
    caller: &Caller,
    plan: &MovePlan,
    reason: Option<&str>,
) -> Result<MoveCounts, OperationError> {
    plan.check_force()?;
    let (name, kind, first_seq) = (plan.handler.as_str(), plan.kind, plan.first_seq);
    let asked = json!({ "to": plan.to, "first_seq": first_seq, "delivers_again": kind != MoveKind::Skip }).to_string();
    let request = Move { handler: name, kind, first_seq, actor: caller.actor(), reason, asked: &asked };
    store::move_handler(pool, &request).await?.ok_or_else(|| gone(name))
}

fn unknown_event(id: Uuid) -> OperationError {
    let text = format!("there is no event {id} in the log; it never was, or retention has removed it");
    OperationError::refused(RefusalKind::Invalid, text, "outboxd events list")
}

fn gone(name: &str) -> OperationError {
    let text = format!("handler \"{name}\" is gone; another command has removed it meanwhile");
    OperationError::refused(RefusalKind::NotNow, text, "outboxd handlers list")
}

/// `beginning`, the id of an event, a time, or how long ago.
pub fn parse_target(text: &str) -> Result<Place, &'static str> {
    let target = if text == "beginning" {
        MoveTarget::Beginning
    } else if let Ok(id) = text.parse::<Uuid>() {
        MoveTarget::Event(id)
    } else if let Some(ago) = parse_duration(text) {
        MoveTarget::Ago(ago)
    } else if let Ok(moment) = text.parse::<Timestamp>() {
        MoveTarget::Since(moment)
    } else {
        return Err("expected beginning, the id of an event, a time such as 2026-03-01T06:00:00Z, or how long ago, such as 2h");
    };
    Ok(Place { target, text: text.to_owned() })
}

/// [`parse_target`], or `now`.
pub fn parse_start(text: &str) -> Result<Place, &'static str> {
    if text == "now" {
        return Ok(Place { target: MoveTarget::Now, text: text.to_owned() });
    }
    parse_target(text).map_err(
        |_| "expected now, beginning, the id of an event, a time such as 2026-03-01T06:00:00Z, or how long ago, such as 30m",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_word_an_id_a_time_or_an_age() {
        let id = Uuid::from_u128(7);
        for (text, want) in [
            ("beginning", MoveTarget::Beginning),
            (id.to_string().as_str(), MoveTarget::Event(id)),
            ("2h", MoveTarget::Ago(std::time::Duration::from_secs(7200))),
            ("1970-01-01T00:00:01+00:00", MoveTarget::Since(Timestamp::from_micros(1_000_000))),
        ] {
            assert_eq!(parse_target(text).map(|place| place.target), Ok(want), "{text}");
        }
        assert_eq!(parse_start("now").map(|place| place.target), Ok(MoveTarget::Now));
        for text in ["", "now", "yesterday", "2026-03-01", "42"] {
            assert!(parse_target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_needs_force_is_told_with_its_number() {
        let refusal = |again| {
            let counts = MoveCounts { again, is_exact: true, ..MoveCounts::default() };
            let (handler, to) = ("billing".to_owned(), "2h".to_owned());
            let plan = MovePlan { handler, to, counts, needs_force: true, first_seq: 1, kind: MoveKind::Rewind };
            plan.check_force().expect_err("it needs force").to_string()
        };
        assert_eq!(refusal(1), "1 event from there on was handled already; --force delivers it again");
        assert_eq!(refusal(2), "2 events from there on were handled already; --force delivers them again");
    }
}
