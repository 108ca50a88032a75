//! Facts: everything about a server and an outbox that the doctor needs before it can judge them. Reads only. A fact that cannot
//! be read is reported as such, beside the others. Judges nothing.

mod read;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ListedUse;
use super::adoption::InspectedAdoption;
use super::blind_spots::BlindSpot;
use super::feed::ListedCursor;
use super::rebase::LowSequence;
use crate::domain::ServerIdentity;

pub use read::{read_adoptions, read_facts};

/// Everything; `None`: it could not be read, and `unread` says why.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub schema: String,
    pub server: Option<ServerSettings>,
    /// The fault of the version of the outbox; `Some(None)`: none.
    pub schema_refusal: Option<Option<String>>,
    pub identity: Option<ServerIdentity>,
    pub catalogue: Option<Vec<Object>>,
    pub sequence: Option<SequenceSettings>,
    pub low_sequences: Option<Vec<LowSequence>>,
    pub is_bell_right: Option<bool>,
    pub blind_spots: Option<Vec<BlindSpot>>,
    pub transactions: Option<Vec<OpenTransaction>>,
    pub prepared: Option<Vec<PreparedTransaction>>,
    pub tables: Option<Vec<TableHealth>>,
    pub missing_grants: Option<Vec<MissingGrant>>,
    pub relays: Option<Vec<SilentRelay>>,
    pub handlers: Option<Vec<KnownHandler>>,
    pub unmatched: Option<Vec<UnmatchedPattern>>,
    pub unwanted: Option<Vec<UnwantedType>>,
    pub inbox: Option<InboxAge>,
    pub contract_use: Option<Vec<ListedUse>>,
    /// Cursors that clients of the feed have left to the server.
    pub cursors: Option<Vec<ListedCursor>>,
    /// Filled in by a caller that has a configuration.
    pub adoptions: Option<Vec<InspectedAdoption>>,
    /// Filled in by a caller whose configuration names a ledger of destroyed keys.
    pub erasure: Option<ErasureFacts>,
    pub clock: Option<ClockReading>,
    /// Whether a notification arrives in a session that listens.
    pub is_listen_heard: Option<bool>,
    pub unread: Vec<Unread>,
}

/// The ledger of destroyed keys beside the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureFacts {
    /// Subjects that the ledger names and that have a key.
    pub revived: Vec<String>,
    /// Destroyed keys that the ledger does not name.
    pub unwritten: usize,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Unread {
    pub check: &'static str,
    pub reason: String,
}

#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub major: i32,
    pub role: String,
    pub database: String,
    /// Of the database, not of the session.
    pub encoding: String,
    /// The first schema of ours in the search path that exists and that this role may use.
    pub current_schema: String,
    /// The schema exists, whether or not it may be used.
    pub has_schema: bool,
    pub is_standby: bool,
    pub fsync: bool,
    pub full_page_writes: bool,
    pub synchronous_commit: String,
    pub autovacuum: bool,
    pub track_counts: bool,
    /// Share of the notification queue that is full.
    pub queue_usage: f64,
    pub sees_all_sessions: bool,
    pub has_outbox: bool,
}

/// One object of the schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// `column`, `constraint`, `index`, `trigger`, `view`, `function` or `type`.
    pub kind: String,
    pub relation: String,
    pub name: String,
    /// Type of a column, text of anything else.
    pub definition: String,
    #[serde(default)]
    pub is_not_null: bool,
    /// Of a column: its default, identity or generation.
    #[serde(default)]
    pub filling: Option<String>,
    #[serde(default = "yes")]
    pub is_sound: bool,
    /// Of a column: where in the row.
    #[serde(default)]
    pub place: i32,
}

fn yes() -> bool {
    true
}

/// The time that the marks of receivers have to outlive.
#[derive(Debug, Clone, Copy)]
pub struct InboxAge {
    /// Some receiver keeps its marks here.
    pub is_used: bool,
    /// Age of the oldest event in the log.
    pub oldest_event: Duration,
}

#[derive(Debug, Clone)]
pub struct SequenceSettings {
    pub cache: i64,
    pub increment: i64,
    pub cycles: bool,
}

#[derive(Debug, Clone)]
pub struct OpenTransaction {
    pub pid: i32,
    pub application: String,
    pub role: String,
    pub database: String,
    pub state: String,
    /// It has written something, or locked a row.
    pub has_number: bool,
    pub age: Duration,
}

#[derive(Debug, Clone)]
pub struct PreparedTransaction {
    pub gid: String,
    pub role: String,
    pub database: String,
    pub age: Duration,
}

#[derive(Debug, Clone)]
pub struct TableHealth {
    pub name: String,
    pub live: i64,
    pub dead: i64,
    pub bytes: i64,
    /// The bytes that the living rows would need; `None`: the table was never analyzed.
    pub needed_bytes: Option<i64>,
    pub is_autovacuum_off: bool,
    pub is_analyzed: bool,
    /// Rows changed since the last analyze.
    pub changed: i64,
}

/// `grant <privileges> on <kind><schema>.<name>` is missing.
#[derive(Debug, Clone)]
pub struct MissingGrant {
    /// Empty for tables and views, else `sequence ` or `function `.
    pub kind: String,
    pub name: String,
    pub privileges: String,
}

#[derive(Debug, Clone)]
pub struct SilentRelay {
    pub id: String,
    pub host: String,
    pub pid: i32,
    pub silent: Duration,
    /// It stands as the owner of a subscription.
    pub owns: bool,
}

#[derive(Debug, Clone)]
pub struct KnownHandler {
    pub name: String,
    pub partitions: i32,
}

#[derive(Debug, Clone)]
pub struct UnmatchedPattern {
    pub handler: String,
    /// As LIKE has it.
    pub pattern: String,
    /// Types that were recorded.
    pub recorded: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct UnwantedType {
    pub event_type: String,
    pub events: i64,
}

/// Two clocks, read together.
#[derive(Debug, Clone, Copy)]
pub struct ClockReading {
    /// How far the server is ahead of us, in microseconds.
    pub ahead_micros: i64,
    /// Half of the time that asking took.
    pub uncertain: Duration,
}
