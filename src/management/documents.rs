//! Documents that only the API has: pages with a cursor, and what depends on what a caller may see.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::operations::dead_letters::LetterDelivery;
use crate::operations::handlers::HandlerView;
use crate::operations::status::RelayStatus;
use crate::operations::{Explanation, Preview};
use crate::store::events::{Attempt, Event, EventState, EventSummary};
use crate::store::{AuditRow, DeadLetter, DeadLetterGroup, MoveCounts, Replay};

/// Any JSON object.
#[derive(Debug)]
pub struct Anything;

impl utoipa::PartialSchema for Anything {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::Object).into()
    }
}

impl ToSchema for Anything {}

#[derive(Debug, Serialize, ToSchema)]
pub struct Relays {
    pub relays: Vec<RelayStatus>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Handlers {
    pub handlers: Vec<HandlerView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    pub audit: Vec<AuditRow>,
    /// The cursor of the next page; null: this is the last.
    pub next: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct EventPage {
    /// The newest first.
    pub events: Vec<EventSummary>,
    /// The search stopped before the end of the log; the next page goes on there.
    pub is_cut_short: bool,
    pub next: Option<String>,
}

/// An event with what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventDocument {
    pub event: Event,
    pub handlers: Vec<EventState>,
    pub attempts: Vec<Attempt>,
    pub payload_bytes: usize,
    /// Members of the event that the caller may not see; they are null.
    pub hidden: &'static [&'static str],
}

/// A dead letter with what can be done about it.
#[derive(Debug, Serialize, ToSchema)]
pub struct LetterDocument {
    pub event: Event,
    pub deliveries: Vec<LetterDelivery>,
    pub payload_bytes: usize,
    /// Members of the event that the caller may not see; they are null.
    pub hidden: &'static [&'static str],
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Explanations {
    pub event: Uuid,
    /// One for each handler that wants the event.
    pub handlers: Vec<Explanation>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LetterPage {
    /// The newest first.
    pub dead_letters: Vec<DeadLetter>,
    /// There are more than the limit let through.
    pub more: bool,
    /// The cursor of the next page; null: this is the last.
    pub next: Option<String>,
    /// The same list on the command line.
    pub command: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Groups {
    /// The largest first.
    pub groups: Vec<DeadLetterGroup>,
    pub more: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayPage {
    /// The newest first.
    pub replays: Vec<Replay>,
    pub next: Option<String>,
}

/// A preview; the act repeats `as_of`, and `matched` as `expected`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewDocument {
    #[serde(flatten)]
    pub preview: Preview,
    /// The same act on the command line.
    pub command: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Discarded {
    pub discarded: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Noted {
    pub group: crate::store::Fingerprint,
    /// Handlers that have dead letters of the group.
    pub handlers: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Moved {
    pub handler: String,
    #[serde(flatten)]
    pub counts: MoveCounts,
}

/// The relays that were asked.
#[derive(Debug, Serialize, ToSchema)]
pub struct Asked {
    pub relays: Vec<AskedInstance>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AskedInstance {
    pub id: String,
    pub host: String,
    pub pid: i32,
}
