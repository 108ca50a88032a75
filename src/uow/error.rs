//! The errors between the beginning of a unit of work and its commit.

use std::error::Error as StdError;

use sqlx::error::DatabaseError;

use super::shredding::ShredError;
use super::sourcing::SourcingError;
use super::{InvalidNotification, RecordError, TransactionId};

/// The error of a handler of domain events: any error type.
pub type Failure = Box<dyn StdError + Send + Sync + 'static>;

/// Why a unit of work did not commit. Unless it says otherwise, nothing of it exists.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection, or the server refused.
    #[error("could not begin a transaction")]
    Begin(#[source] sqlx::Error),
    /// A statement of a command, a scope or the inbox.
    #[error("a statement of the unit of work failed")]
    Statement(#[from] sqlx::Error),
    /// A handler returned an error.
    #[error("handler {handler} of the domain event {event} failed")]
    Handler {
        /// Name of the Rust type of the handler, for display; nothing may depend on it.
        handler: &'static str,
        /// Name of the Rust type of the event.
        event: &'static str,
        /// The error that it returned.
        #[source]
        cause: Failure,
    },
    /// The event's own decision failed: its contract is no JSON object, or its type is none.
    #[error("the domain event {event} could not become a notification")]
    Notification {
        /// Name of its Rust type, for display.
        event: &'static str,
        /// The mistake in it.
        #[source]
        cause: Failure,
    },
    /// A notification is not what the schema of its contract says; see [`Options::validation`](super::Options::validation).
    #[error("a notification could not be recorded")]
    Invalid(#[from] InvalidNotification),
    /// Handlers raised more than the limit of the [`Options`](super::Options).
    #[error(
        "more than {limit} domain events in one unit of work, the last is {event}: handlers that raise one another's events never end"
    )]
    DispatchLimit {
        /// Domain events that one unit of work may dispatch.
        limit: usize,
        /// The event that was one too many.
        event: &'static str,
    },
    /// A scope was ended after the one around it.
    #[error("the savepoint belongs to another scope: end scopes in the reverse order of their beginning")]
    ScopeOrder,
    /// The notifications could not be inserted.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A handler, a repository or the command ended the transaction by SQL. What it had done before may be committed or undone, as it said;
    /// what came after it is as it may be; the notifications are not recorded.
    #[error(
        "the transaction of the unit of work has been ended by SQL before its commit: COMMIT, ROLLBACK, END or PREPARE TRANSACTION was run on \
         its connection; leave that to the unit of work, and use a scope for what may fail alone"
    )]
    Ended,
    /// Another writer was faster; the pipeline runs the command again.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// A stream could not be read or appended to, for a reason that stays.
    #[error(transparent)]
    Sourcing(#[from] SourcingError),
    /// A shredded value could not be sealed or opened.
    #[error(transparent)]
    Shredding(#[from] ShredError),
    /// The server refused the commit.
    #[error("could not commit")]
    Commit(#[source] sqlx::Error),
    /// The connection broke while the commit was being answered: it may have happened. `was_committed` finds out.
    #[error("the answer to the commit was lost, so that the unit of work may have been committed")]
    CommitUnknown {
        /// `None`: nothing was written, so there is nothing that could have been committed.
        transaction: Option<TransactionId>,
        /// How the connection broke.
        #[source]
        cause: sqlx::Error,
    },
}

impl Error {
    /// For a domain event whose contract cannot be built.
    pub(super) fn notification(event: &'static str, cause: impl Into<Failure>) -> Self {
        Self::Notification { event, cause: cause.into() }
    }
}

/// Another writer has changed the aggregate in between. The command can be run again, on the current state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{aggregate} has been changed by another writer meanwhile")]
pub struct Conflict {
    /// Which one, for display: `order 42`.
    pub aggregate: String,
    #[source]
    mark: Stale,
}

/// An error that is `transparent` for a conflict is not in the chain itself, nor is the conflict; what is behind it still is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the version that was read is not the current one")]
struct Stale;

impl Conflict {
    /// For the aggregate with this name: `Conflict::of("order 42")`.
    pub fn of(aggregate: impl Into<String>) -> Self {
        Self { aggregate: aggregate.into(), mark: Stale }
    }

    /// Checks that an `update ... where version = $expected` found its row.
    pub fn unless_one(rows_affected: u64, aggregate: impl Into<String>) -> Result<(), Self> {
        if rows_affected == 1 { Ok(()) } else { Err(Self::of(aggregate)) }
    }
}

/// An error type of a command in which a cause can be looked for. `Kind` is inferred; it distinguishes the two ways to implement that.
pub trait Fails<Kind> {
    /// The error, to look through its causes.
    fn as_cause(&self) -> &(dyn StdError + 'static);
}

/// [`Fails`] for a type that is an error.
#[derive(Debug)]
pub enum IsError {}

/// [`Fails`] for a type that leads to one: [`Failure`], `anyhow::Error`, `eyre::Report`.
#[derive(Debug)]
pub enum LeadsToError {}

impl<E: StdError + 'static> Fails<IsError> for E {
    fn as_cause(&self) -> &(dyn StdError + 'static) {
        self
    }
}

impl<E: std::ops::Deref<Target = dyn StdError + Send + Sync>> Fails<LeadsToError> for E {
    fn as_cause(&self) -> &(dyn StdError + 'static) {
        &**self
    }
}

/// Whether running the whole command again may help: a serialisation failure, a deadlock, or a [`Conflict`], anywhere in the chain,
/// also behind errors that are `#[error(transparent)]`.
pub fn is_worth_another_try(error: &(dyn StdError + 'static)) -> bool {
    std::iter::successors(Some(error), |cause: &&(dyn StdError + 'static)| (*cause).source()).any(|cause| {
        let of_server = || match cause.downcast_ref::<sqlx::Error>() {
            Some(error) => error.as_database_error(),
            // What is left of an `sqlx::Error` behind a transparent one.
            None => cause.downcast_ref::<Box<dyn DatabaseError>>().map(|error| &**error),
        };
        cause.is::<Stale>() || of_server().is_some_and(is_of_the_moment)
    })
}

fn is_of_the_moment(error: &dyn DatabaseError) -> bool {
    matches!(error.code().as_deref(), Some("40001" | "40P01"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the order could not be placed")]
    struct PlaceOrder(#[source] Error);

    /// As most applications write theirs.
    #[derive(Debug, thiserror::Error)]
    enum Transparent {
        #[error(transparent)]
        Conflict(#[from] Conflict),
        #[error(transparent)]
        Work(#[from] Error),
        #[error(transparent)]
        Statement(#[from] sqlx::Error),
    }

    /// The SQLSTATEs of a server that could not put two transactions in an order.
    #[derive(Debug, thiserror::Error)]
    #[error("could not serialize access")]
    struct Unordered;

    impl DatabaseError for Unordered {
        fn message(&self) -> &str {
            "could not serialize access"
        }
        fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
            Some("40001".into())
        }
        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Failure {
            self
        }
    }

    /// Seen: an error that was transparent for a conflict, as almost every error of an application is, ended the command at once.
    #[test]
    fn a_conflict_is_found_behind_transparent_errors() {
        let unordered = || sqlx::Error::Database(Box::new(Unordered));
        for error in [
            Transparent::Conflict(Conflict::of("order 42")),
            Transparent::Work(Conflict::of("order 42").into()),
            Transparent::Work(unordered().into()),
            Transparent::Statement(unordered()),
        ] {
            assert!(is_worth_another_try(&error), "{error:?}");
        }
        assert!(!is_worth_another_try(&Transparent::Statement(sqlx::Error::PoolTimedOut)));
    }

    #[test]
    fn a_conflict_is_found_anywhere_in_the_chain() {
        let handler = |cause: Failure| Error::Handler { handler: "EarnPoints", event: "OrderPlaced", cause };
        let worth = |error: &(dyn StdError + 'static)| is_worth_another_try(error);
        assert!(worth(&Conflict::of("order 42")));
        assert!(worth(&PlaceOrder(handler(Box::new(Conflict::of("account ann"))))));
        assert!(worth(&Error::Conflict(Conflict::of("order 42"))));
        assert!(!worth(&PlaceOrder(handler("out of stock".into()))));
        assert!(!worth(&Error::Statement(sqlx::Error::PoolTimedOut)));
    }

    #[test]
    fn an_update_that_found_nothing_is_a_conflict() {
        assert_eq!(Conflict::unless_one(1, "order 42"), Ok(()));
        assert_eq!(
            Conflict::unless_one(0, "order 42").expect_err("no row").to_string(),
            "order 42 has been changed by another writer meanwhile"
        );
    }
}
