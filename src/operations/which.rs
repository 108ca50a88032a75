//! Which deliveries an operation is about, as an operator says it: the same words on every road.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use super::{OperationError, check_handler};
use crate::domain::Timestamp;
use crate::settings::parse_duration;
use crate::store::{self, DeliveryFilter, Fingerprint};

/// Which deliveries; everything that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    /// Delivered events, instead of dead letters.
    pub delivered: bool,
    pub handler: Option<String>,
    /// Glob over the type.
    pub event_type: Option<String>,
    pub key: Option<String>,
    /// A word of `domain::Reason`.
    pub reason: Option<String>,
    pub ids: Vec<Uuid>,
    pub since: Option<Moment>,
    pub until: Option<Moment>,
    /// Part of the detail.
    pub text: Option<String>,
    pub group: Option<Fingerprint>,
}

/// A moment as an operator gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    At(Timestamp),
    Ago(Duration),
}

/// A moment such as `2026-01-31T08:00:00Z`, or how long ago, such as `2h`.
pub fn parse_moment(text: &str) -> Result<Moment, &'static str> {
    let at = text.parse().ok().map(Moment::At);
    at.or_else(|| parse_duration(text).map(Moment::Ago))
        .ok_or("expected a moment such as 2026-01-31T08:00:00Z, or how long ago, such as 2h")
}

impl Moment {
    /// By a clock that stands at `now`.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => now.before(span),
        }
    }
}

impl Which {
    /// The filter, by the clock of the database; a handler that the database does not know is refused.
    pub async fn resolve(&self, pool: &PgPool) -> Result<DeliveryFilter, OperationError> {
        let is_relative = |moment: Option<Moment>| matches!(moment, Some(Moment::Ago(_)));
        let needs_clock = is_relative(self.since) || is_relative(self.until);
        let now = if needs_clock { store::read_now(pool).await? } else { Timestamp::from_micros(0) };
        self.resolve_at(pool, now).await
    }

    /// The filter, by a clock that stands at `now`.
    pub async fn resolve_at(&self, pool: &PgPool, now: Timestamp) -> Result<DeliveryFilter, OperationError> {
        let Self { delivered, handler, event_type, key, reason, ids, since, until, text, group } = self.clone();
        if let Some(handler) = &handler {
            check_handler(pool, handler).await?;
        }
        let moment = |moment: Moment| moment.at(now);
        let (since, until) = (since.map(moment), until.map(moment));
        Ok(DeliveryFilter { delivered, handler, event_type, key, reason, ids, since, until, text, group })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        assert_eq!(parse_moment("2023-11-14T22:13:20Z"), Ok(Moment::At(at)));
        assert_eq!(parse_moment("2h"), Ok(Moment::Ago(Duration::from_secs(7200))));
        for text in ["", "2", "yesterday", "2023-11-14"] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }
}
