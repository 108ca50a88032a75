//! Errors of streams. None of them is worth another try. A conflict has its own type, [`Conflict`](crate::uow::Conflict).

use crate::uow::Failure;

/// Why a stream could not be read or appended to. `stream` is its type and key, for display: `account/ann`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourcingError {
    /// An event has a type that the program does not know, and its aggregate says [`Unknown::Refuse`](super::Unknown::Refuse).
    #[error("version {version} of stream {stream} has the unknown event type \"{event_type}\"")]
    UnknownType {
        /// Which one.
        stream: String,
        /// Place of the event in it.
        version: u64,
        /// As recorded.
        event_type: String,
    },
    /// An event was recorded in a version that is newer than the program.
    #[error(
        "version {version} of stream {stream} is \"{event_type}\" in version {recorded}, and this program knows it up to version {known}"
    )]
    TooNew {
        /// Which one.
        stream: String,
        /// Place of the event in it.
        version: u64,
        /// As recorded.
        event_type: String,
        /// The version of the event.
        recorded: u32,
        /// The version in which this program records it.
        known: u32,
    },
    /// There is no upcast from a version that was recorded.
    #[error("there is no upcast of \"{event_type}\" from version {from}; version {version} of stream {stream} needs one")]
    NoUpcast {
        /// Which one.
        stream: String,
        /// Place of the event in it.
        version: u64,
        /// Its type, after renames.
        event_type: String,
        /// The version that is not left.
        from: u32,
    },
    /// An event is not what its type says, or an upcast of it failed.
    #[error("version {version} of stream {stream}, \"{event_type}\", could not be read")]
    Unreadable {
        /// Which one.
        stream: String,
        /// Place of the event in it.
        version: u64,
        /// As recorded.
        event_type: String,
        /// The mistake in it.
        #[source]
        cause: Failure,
    },
    /// A version is missing or has no event: it was erased, or the tables were changed by hand. A fold without it would be wrong.
    #[error("version {version} of stream {stream} has no event; `outboxd streams verify` says what is missing")]
    Missing {
        /// Which one.
        stream: String,
        /// The first that is missing.
        version: u64,
    },
    /// The program's own events do not fit together; a unit test with `testing::assert_round_trip` finds it.
    #[error("the events of {event} do not fit together: {reason}")]
    Events {
        /// Name of their Rust type, for display.
        event: &'static str,
        /// The part that does not fit.
        reason: String,
    },
    /// An event could not be written as JSON with an object as its payload.
    #[error("an event for stream {stream} could not be written")]
    Unwritable {
        /// Which one.
        stream: String,
        /// Why not.
        #[source]
        cause: Failure,
    },
    /// The state could not be written as JSON.
    #[error("the state of stream {stream} could not be written")]
    State {
        /// Which one.
        stream: String,
        /// Why not.
        #[source]
        cause: serde_json::Error,
    },
    /// Some of the event ids are recorded already, elsewhere or with other content.
    #[error("events for stream {stream} are recorded already, elsewhere or with other content")]
    RecordedElsewhere {
        /// Which one.
        stream: String,
        /// The error of the server.
        #[source]
        cause: sqlx::Error,
    },
    /// The stream is archived.
    #[error("stream {stream} is archived and takes no events")]
    Archived {
        /// Which one.
        stream: String,
    },
}
