//! Postgres: all SQL, one statement per file under `sql/`, and functions that execute these statements.
//!
//! Decides nothing about deliveries and knows neither configuration nor handlers. A function that is one statement takes an
//! executor, so it can be part of its caller's transaction. A function whose statements belong together takes a pool or a
//! connection and has a transaction of its own (`ledger`, `moves`, `rebase`, `replays` and others).

pub mod adoption;
pub mod alerts;
mod audit;
mod backlog;
mod bell;
pub mod blind_spots;
mod burials;
mod connect;
mod contract_use;
mod corrections;
mod dead_letters;
mod deliveries;
mod destinations;
mod encryption;
pub mod erasure;
pub mod events;
pub mod facts;
pub mod feed;
mod filter;
mod functions;
mod groups;
mod handlers;
mod instances;
mod keys;
mod ledger;
mod migrate;
mod moves;
mod orphans;
mod patience;
mod pending;
mod pooler;
pub mod progress;
pub mod projections;
pub mod rebase;
mod refused;
mod reloads;
mod remains;
mod repartition;
mod replays;
mod retention;
mod server;
mod session;
mod splits;
pub mod status;
pub mod streams;
pub mod subjects;
pub mod subscriptions;
mod text;
mod together;
mod traffic;
mod types;
mod unreadable;
mod windows;

pub use audit::{Actor, AuditEntry, AuditQuery, AuditRow, list_audit, record_audit};
pub use bell::{BellLock, BellSession, Ring, ring_control};
pub use burials::{Burial, bury_event};
pub use connect::{Connections, Options, ServerWatch, answer_timeout, connect, connect_lazily, connect_relay, connect_thoroughly};
pub use contract_use::{CountedUse, ListedUse, read_contract_use, record_contract_use};
pub use corrections::{Corrected, NewCorrection, correct_letter, is_correction, is_sourced, read_max_payload};
pub use dead_letters::{
    Acted, DeadLetter, DeliveryCount, ExportedLetter, LetterPlace, count_dead_letters, discard_dead_letters, export_dead_letters,
    list_dead_letters,
};
pub use deliveries::{
    RecordedDelivery, RecordedLane, RecordedRead, UnreadableDelivery, count_unfinished, find_next_due, read_due, read_lanes,
    read_waiting,
};
pub use destinations::{
    DestinationNews, ListedDestination, StoredDestination, list_destinations, read_destinations, record_destinations,
};
pub use encryption::unencrypted;
pub use filter::{DeliveryFilter, Fingerprint};
pub use functions::{Argument, CallEnd, FunctionCall, PayloadType, Rendered, call, find_payload_type, try_function};
pub use groups::{DeadLetterGroup, GroupNote, group_dead_letters, note_group};
pub use handlers::{Forgotten, Owed, close_circuit, count_owed, forget_handler, list_handler_names, pause_handler, resume_handler};
pub use instances::{Beat, Instance, beat, leave, read_identity, store_incarnation};
pub use keys::{
    BlockedKey, KeyHead, MOST_FOLLOWERS, OnlyWitness, Skipped, find_key_head, list_blocked_keys, list_only_witnesses, skip_key,
};
pub use ledger::{
    Done, Entries, Fence, Fenced, Flushed, Reached, RecordedAttempt, RecordedOutcome, begin, commit, count_attempt, record,
    record_within,
};
pub use migrate::{Migrated, check_schema, encoding_refusal, migrate, migration_script};
pub use moves::{Move, MoveCounts, MoveKind, MoveTarget, find_move_target, move_handler, plan_move};
pub use orphans::end_orphans;
pub use patience::{answered, forget_idle};
pub use pending::{PendingType, Unfinished, read_unfinished};
pub use refused::Unstorable;
pub use reloads::{AskedRelay, ReloadAnswer, ReloadOutcome, ReloadReport, answer_reload, ask_reload, read_reload};
pub use repartition::{Moved, Rebuilt, Repartition, rename_handler, repartition};
pub use replays::{
    Changed, NewReplay, Released, Replay, ReplayPlace, Started, cancel_replay, count_open_handlers, count_replayable,
    find_oldest_replayable, finish_replays, list_replayable, list_replays, read_replay, release_replays, resume_replay,
    start_replay,
};
pub use retention::{
    Handled, Removed, Stretch, list_sourced_subscriptions, remove_finished, remove_handled, remove_inbox, remove_replay_items,
};
pub use server::{Server, describe_server, has_function, read_now, read_server_start};
pub use session::SessionSettings;
pub use splits::splits_alike;
pub use together::{Successes, record_together};
pub use traffic::{LOOKED_AT, TypeTraffic, TypeTrouble, list_type_traffic, list_type_troubles};
pub use unreadable::{Unreadable, read_unreadable};
pub use windows::{
    Moment, OpenedPage, OpenedWindow, PAGE_SPAN, Page, Recorded, Room, Selection, WindowBounds, WindowRead, nudge_flush,
    open_window, read_end, read_flush_lsn, read_page, read_window,
};

use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// Why the store could not do its work. The cause is in the chain.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database address is not one; expected postgres://user:password@host:port/database")]
    Address(#[source] sqlx::Error),
    #[error("could not connect to Postgres at {server}{hint}")]
    Connect {
        server: String,
        hint: &'static str,
        #[source]
        cause: sqlx::Error,
    },
    #[error("could not {action}")]
    Query {
        action: &'static str,
        #[source]
        cause: sqlx::Error,
    },
    #[error(
        "the connection to {server} goes through a pooler that shares sessions between transactions, such as PgBouncer with pool_mode = \
         transaction: LISTEN, locks, settings and prepared statements would get lost or reach others; give outboxd a direct connection, \
         or an entry of the pooler with pool_mode = session"
    )]
    SharedSessions { server: String },
    /// About one event, whose number is all that is known of it.
    #[error("could not read the event with the sequence number {seq}")]
    Event {
        seq: i64,
        #[source]
        cause: sqlx::Error,
    },
    #[error("{0}")]
    Refused(String),
    /// Of a statement that wrote for several loops: each gets it.
    #[error(transparent)]
    Together(std::sync::Arc<StoreError>),
}

impl StoreError {
    /// Whether waiting may help: the server is away, starting, or full; not a wrong password.
    pub fn is_transient(&self) -> bool {
        let Some(cause) = self.cause() else { return false };
        match cause {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) => true,
            sqlx::Error::Database(error) => error
                .code()
                .is_some_and(|code| code.starts_with("57P") || code.starts_with("53") || code.starts_with("08") || code == "55P03"),
            _ => false,
        }
    }

    /// The server ended the session because of something else than what ran in it: the crash of another session, or its own end.
    pub fn is_end_of_server(&self) -> bool {
        let (Self::Connect { cause, .. } | Self::Query { cause, .. }) = self.itself() else { return false };
        matches!(cause, sqlx::Error::Database(error) if matches!(error.code().as_deref(), Some("57P02" | "57P03")))
    }

    /// No answer came: the connection has fallen silent, or the server works on.
    pub fn is_silence(&self) -> bool {
        matches!(self.itself(), Self::Query { cause: sqlx::Error::PoolTimedOut, .. })
    }

    /// The server refused the statement and goes on: nothing of it is written.
    pub fn is_refusal(&self) -> bool {
        let Some(sqlx::Error::Database(error)) = self.cause() else { return false };
        error.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| error.severity() == PgSeverity::Error)
    }

    /// The root cause, in the words of the server where it gave one.
    pub fn root(&self) -> String {
        match self.cause() {
            Some(sqlx::Error::Database(error)) => error.message().to_owned(),
            Some(other) => other.to_string(),
            None => self.to_string(),
        }
    }

    /// Whether a value is to blame, and neither the server nor the statement: one row that cannot be read, stored or understood. The
    /// SQLSTATE classes 22 (data exception), 23 (integrity constraint violation), 54 (program limit exceeded), and data that is corrupted.
    pub fn is_about_data(&self) -> bool {
        match self.cause() {
            Some(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)) || code == "XX001")
            }
            Some(sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }) => true,
            _ => false,
        }
    }

    /// The SQLSTATE, where the server has answered with one.
    pub fn sqlstate(&self) -> Option<String> {
        match self.cause()? {
            sqlx::Error::Database(error) => error.code().map(std::borrow::Cow::into_owned),
            _ => None,
        }
    }

    /// The number of the event that it is about, where that is known.
    pub fn seq(&self) -> Option<i64> {
        match self {
            Self::Event { seq, .. } => Some(*seq),
            _ => None,
        }
    }

    /// The root cause, in the words of the server and with its SQLSTATE.
    pub fn innermost(&self) -> String {
        match self.sqlstate() {
            Some(code) => format!("{} (SQLSTATE {code})", self.root()),
            None => self.root(),
        }
    }

    fn at_seq(self, seq: i64) -> Self {
        match self {
            Self::Query { cause, .. } => Self::Event { seq, cause },
            other => other,
        }
    }

    fn cause(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Connect { cause, .. } | Self::Query { cause, .. } | Self::Event { cause, .. } | Self::Address(cause) => {
                Some(cause)
            }
            Self::Together(error) => error.cause(),
            Self::SharedSessions { .. } | Self::Refused(_) => None,
        }
    }

    /// The error itself, also of a statement that wrote for several loops.
    fn itself(&self) -> &Self {
        match self {
            Self::Together(error) => error.itself(),
            own => own,
        }
    }

    /// Wraps a failed statement; `action` completes "could not ...".
    pub fn query(action: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |cause| Self::Query { action, cause }
    }
}
