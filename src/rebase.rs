//! Whether an outbox may and must be rebased, and how to explain that to an operator. Judges what the store found.
//! `store::rebase` makes the change, in one transaction.

use crate::domain::{Numbering, Standing};
use crate::store::StoreError;
use crate::store::rebase::{RebasePlan, Rebased};
use sqlx::PgPool;

/// Why a rebase was refused, or failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RebaseError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no relay has run on this outbox yet, so there is no position to move; just start one: outboxd run")]
    Fresh,
    #[error("the positions belong to this server already; there is nothing to rebase")]
    Ours,
    #[error("the server is a standby; rebase on the primary")]
    Standby,
    #[error("a relay is connected to this database: {0}; stop it first, because it may be about to write")]
    RelayConnected(String),
}

/// Refuses what would be wrong or useless.
pub fn judge(plan: &RebasePlan) -> Result<(), RebaseError> {
    match plan.identity.standing() {
        Standing::Fresh => Err(RebaseError::Fresh),
        Standing::Ours => Err(RebaseError::Ours),
        Standing::Standby => Err(RebaseError::Standby),
        _ if !plan.relays.is_empty() => Err(RebaseError::RelayConnected(plan.relays.join(", "))),
        Standing::NewTimeline { .. }
        | Standing::OtherCluster { .. }
        | Standing::Copied { .. }
        | Standing::Renumbered { .. }
        | Standing::NumberedAgain { .. } => Ok(()),
    }
}

/// Moves the positions to this server, in one transaction.
pub async fn rebase(pool: &PgPool, actor: &str) -> Result<Rebased, RebaseError> {
    crate::store::rebase::rebase(pool, actor, judge).await
}

/// What has happened to the outbox, for a person.
pub fn explain(standing: &Standing) -> &'static str {
    match standing {
        Standing::Fresh => "no relay has run on this outbox yet",
        Standing::Ours => "the positions belong to this server",
        Standing::Standby => "this server is a standby",
        Standing::NewTimeline { .. } => {
            "this server was promoted, recovered to a moment, or is a clone of the one that the positions belong to"
        }
        Standing::OtherCluster { .. } => "this server belongs to another cluster than the positions",
        Standing::Copied { .. } => "this outbox is a copy: the positions were not written in this database",
        Standing::Renumbered { .. } => "the positions know transactions that this server has not begun",
        Standing::NumberedAgain { .. } => {
            "the sequence of the events stands below what the positions know: numbers were or will be given out a second time"
        }
    }
}

/// What that means for the positions, for a person.
pub fn explain_numbering(numbering: Numbering) -> &'static str {
    match numbering {
        Numbering::Continues => {
            "transaction numbers go on here as before: every position stays where it is, only owners and identity are reset"
        }
        Numbering::BeganAnew => {
            "transaction numbers mean something else here: what is pending is found by snapshot, by number and by who wrote the row, \
             and every position is written anew"
        }
    }
}

/// What no one can know from the rows, for a person.
pub const LIMITS: &str = "\
What the old server handed on after this copy was taken is not known here and is delivered again, with the same ids.
Where record = \"failures\" leaves no row for a success, that includes what was done but not yet flushed at that moment.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Incarnation, ServerIdentity};

    fn plan(stored: Option<&str>, relays: &[&str]) -> RebasePlan {
        let incarnation = |timeline: &str| Incarnation { system_identifier: 1, timeline: timeline.to_owned(), database: 5 };
        RebasePlan {
            identity: ServerIdentity {
                found: Some(incarnation("00000001")),
                stored: stored.map(incarnation),
                is_copied: false,
                next_transaction: 10,
                highest_known: 10,
                last_seq: 10,
                highest_seq: 10,
            },
            handlers: vec![],
            low_sequences: vec![],
            is_bell_right: true,
            relays: relays.iter().map(|relay| (*relay).to_owned()).collect(),
        }
    }

    #[test]
    fn only_what_belongs_to_another_server_is_rebased_and_only_without_a_relay() {
        assert!(matches!(judge(&plan(None, &[])), Err(RebaseError::Fresh)));
        assert!(matches!(judge(&plan(Some("00000001"), &[])), Err(RebaseError::Ours)));
        assert!(judge(&plan(Some("00000002"), &[])).is_ok());
        let refused = judge(&plan(Some("00000002"), &["10.0.0.7 (server process 12)"])).expect_err("a relay is connected");
        assert!(refused.to_string().contains("10.0.0.7 (server process 12)"), "{refused}");
    }
}
