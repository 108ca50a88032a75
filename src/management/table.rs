//! The table of routes: address, required right, fields, answer. Long because it is one table.

use std::pin::Pin;

use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::answer::Answer;
use super::documents as d;
use super::field::{Field, Kind as K};
use super::problem::Problem;
use super::serve::Call;
use super::state::ApiState;
use super::{acts, openapi, reads};
use crate::operations as o;
use crate::operations::{Caller, Role};
use crate::store;

/// One route.
pub struct Route {
    pub verb: Verb,
    /// Below `/api/v1`.
    pub path: &'static str,
    pub access: Access,
    /// Names the operation in the OpenAPI document.
    pub name: &'static str,
    pub summary: &'static str,
    /// The command of the CLI that does the same; empty: none.
    pub command: &'static str,
    pub places: &'static [Field],
    pub query: &'static [Field],
    pub body: &'static [Field],
    /// The status of the usual answer, and the document in it.
    pub status: u16,
    pub shape: Shape,
    pub(super) handler: Handler,
}

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Get,
    Post,
    Put,
}

/// The right that a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    pub role: Role,
    pub needs_payloads: bool,
}

/// The document of an answer: the name of its schema, and the schemas that it is made of.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub name: fn() -> String,
    pub collect: fn(&mut Vec<(String, RefOr<Schema>)>),
}

pub(super) type Handler = fn(ApiState, Call) -> Pin<Box<dyn Future<Output = Result<Answer, Problem>> + Send>>;

/// The one decision about access.
pub fn decide(caller: &Caller, access: Access) -> Result<(), Problem> {
    if caller.role >= access.role && (caller.sees_payloads || !access.needs_payloads) {
        return Ok(());
    }
    Err(Problem::forbidden(caller, access))
}

impl Verb {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

const fn shape<T: ToSchema + PartialSchema>() -> Shape {
    Shape {
        name: || T::name().into_owned(),
        collect: |schemas| {
            schemas.push((T::name().into_owned(), T::schema()));
            T::schemas(schemas);
        },
    }
}

const READ: Access = Access { role: Role::Read, needs_payloads: false };
const PAYLOADS: Access = Access { role: Role::Read, needs_payloads: true };
const OPERATE: Access = Access { role: Role::Operate, needs_payloads: false };
const EDIT: Access = Access { role: Role::Operate, needs_payloads: true };
const ADMIN: Access = Access { role: Role::Admin, needs_payloads: false };

const HANDLER: Field = Field::required("handler", K::Text(255), "The handler");
const OF_HANDLER: Field = Field::new("handler", K::Text(255), "Only of this handler");
const EVENT: Field = Field::required("event", K::Uuid, "The id of the event");
const REPLAY: Field = Field::required("id", K::Uuid, "The id of the replay");
const CURSOR: Field = Field::new("cursor", K::Text(1024), "`next` of the page before");
const LIMIT: Field = Field::new("limit", K::Count(1, 1000), "At most so many; 50 by default");
const WHY: Field = Field::required("because", K::Text(4096), "Why, in the words of the operator; kept in the audit");
const PERHAPS_WHY: Field = Field::new("because", K::Text(4096), "Why, in the words of the operator; kept in the audit");
const TYPE: Field = Field::new("type", K::Text(255), "Only events of this type; * stands for any characters");
const KEY: Field = Field::new("key", K::Text(8192), "Only of this ordering key, for example order/42");
const REASON: Field = Field::new("reason", K::Reason, "Only those that failed for this reason");
const SINCE: Field = Field::new("since", K::Moment, "Only what was given up at this moment or later");
const UNTIL: Field = Field::new("until", K::Moment, "Only events that were given up before this time");
const TEXT: Field = Field::new("text", K::Text(1024), "Only deliveries whose error contains this text");
const GROUP: Field = Field::new("group", K::Group, "Only dead letters of this group");
const IDS: Field = Field::new("ids", K::Uuids, "Only these events");
const ALL: Field = Field::new("all", K::Flag, "Every dead letter of every handler; instead of a filter");
const DELIVERED: Field = Field::new("delivered", K::Flag, "Delivered events, instead of dead letters; a replay then needs force");
const FORCE: Field = Field::new("force", K::Flag, "Deliver handled events again");
const AS_OF: Field = Field::required("as_of", K::At, "The time of the preview");
const EXPECTED: Field =
    Field::required("expected", K::Expected, "`matched` of the preview; if another number matches, nothing is changed");

const PAYLOAD: Field = Field::required("payload", K::Object, "The corrected payload; recorded byte for byte");

const FILTER: &[Field] = &[OF_HANDLER, TYPE, KEY, REASON, SINCE, UNTIL, TEXT, GROUP, IDS, ALL];
const NO_FIELDS: &[Field] = &[];

macro_rules! route {
    ($verb:ident $path:literal, $access:expr, $name:literal, $summary:literal, $command:literal, $places:expr, $query:expr, $body:expr,
     $status:literal $shape:ty, $handler:path) => {
        Route {
            verb: Verb::$verb,
            path: $path,
            access: $access,
            name: $name,
            summary: $summary,
            command: $command,
            places: $places,
            query: $query,
            body: $body,
            status: $status,
            shape: shape::<$shape>(),
            handler: |state, call| Box::pin($handler(state, call)),
        }
    };
}

/// Every route there is.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    route!(Get "/status", READ, "getStatus", "The state of the whole relay, with reasons and commands", "status",
        NO_FIELDS, NO_FIELDS, NO_FIELDS, 200 o::status::Status, reads::status),
    route!(Get "/relays", READ, "listRelays", "The relays that run or ran", "status",
        NO_FIELDS, NO_FIELDS, NO_FIELDS, 200 d::Relays, reads::relays),
    route!(Get "/doctor", READ, "getDoctor", "Faults of the server, the outbox and the configuration, with their fixes", "doctor",
        NO_FIELDS, NO_FIELDS, NO_FIELDS, 200 crate::doctor::Report, reads::doctor),
    route!(Get "/handover", READ, "getHandover", "Faults now, acts of operators in the last hours, and work that is left open", "handover",
        NO_FIELDS, &[Field::new("hours", K::Count(1, o::handover::MOST_HOURS), "Hours of acts; 12 by default")],
        NO_FIELDS, 200 o::handover::Handover, reads::handover),
    route!(Get "/audit", READ, "listAudit", "The acts of operators, the newest first", "",
        NO_FIELDS,
        &[Field::new("actor", K::Text(1024), "Only of this actor"), Field::new("action", K::Text(64), "Only this action"), OF_HANDLER,
          Field::new("via", K::Via, "Only acts of this origin"), CURSOR, LIMIT],
        NO_FIELDS, 200 d::AuditPage, reads::audit),
    route!(Get "/openapi.json", READ, "getDocument", "This document", "",
        NO_FIELDS, NO_FIELDS, NO_FIELDS, 200 d::Anything, openapi::serve),

    route!(Get "/events", READ, "listEvents", "The newest events", "events list",
        NO_FIELDS,
        &[TYPE, Field::new("key", K::Aggregate, "Only events of this aggregate, such as order/42"),
          Field::new("aggregate_id", K::Text(8192), "Only events of aggregates with this id"), CURSOR, LIMIT],
        NO_FIELDS, 200 d::EventPage, reads::events),
    route!(Get "/events/{event}", READ, "getEvent", "An event with its deliveries; payload and headers only with the right to payloads", "events show",
        &[EVENT], NO_FIELDS, NO_FIELDS, 200 d::EventDocument, reads::event),
    route!(Get "/events/{event}/payload", PAYLOADS, "getPayload", "The payload of an event", "events show",
        &[EVENT], NO_FIELDS, NO_FIELDS, 200 d::Anything, reads::payload),
    route!(Get "/events/{event}/explain", READ, "explainEvent", "Why an event waits, for each handler", "events show",
        &[EVENT], &[OF_HANDLER], NO_FIELDS, 200 d::Explanations, reads::explain),
    route!(Post "/events/{event}/bury", OPERATE, "buryEvent", "Make an event a dead letter of one handler", "events bury",
        &[EVENT], NO_FIELDS, &[HANDLER, WHY], 200 o::events::Buried, acts::bury),

    route!(Get "/dead-letters", READ, "listDeadLetters", "Dead letters, the newest first", "dead-letters list",
        NO_FIELDS, &[OF_HANDLER, TYPE, KEY, REASON, SINCE, UNTIL, TEXT, GROUP, IDS, CURSOR, LIMIT], NO_FIELDS, 200 d::LetterPage, reads::letters),
    route!(Get "/dead-letters/groups", READ, "listGroups", "Dead letters grouped by failure, the largest group first", "dead-letters groups",
        NO_FIELDS, &[OF_HANDLER, TYPE, KEY, REASON, SINCE, UNTIL, TEXT, GROUP, IDS, LIMIT], NO_FIELDS, 200 d::Groups, reads::groups),
    route!(Post "/dead-letters/groups/{group}/notes", OPERATE, "noteGroup", "Write a note on a group", "dead-letters note",
        &[Field::required("group", K::Group, "The group")], NO_FIELDS, &[OF_HANDLER, Field::required("text", K::Text(4096), "The text of the note")],
        200 d::Noted, acts::note),
    route!(Get "/dead-letters/{event}/{handler}", READ, "getDeadLetter", "A dead letter with every attempt and what can be done", "dead-letters show",
        &[EVENT, HANDLER], NO_FIELDS, NO_FIELDS, 200 d::LetterDocument, reads::letter),
    route!(Post "/dead-letters/{event}/{handler}/edit/preview", PAYLOADS, "previewEdit", "The effect of a corrected payload", "dead-letters edit",
        &[EVENT, HANDLER], NO_FIELDS, &[PAYLOAD], 200 o::corrections::CorrectionPlan, acts::preview_edit),
    route!(Post "/dead-letters/{event}/{handler}/edit", EDIT, "editDeadLetter",
        "Record a dead letter with a corrected payload as a new event for its handler; the same request again changes nothing", "dead-letters edit",
        &[EVENT, HANDLER], NO_FIELDS,
        &[PAYLOAD, Field::required("id", K::Uuid, "The id of the new event, made by the client"), WHY,
          Field::new("force", K::Flag, "Also if events of its key wait behind the dead letter; they go before the correction")],
        201 o::corrections::RecordedCorrection, acts::edit),
    route!(Post "/dead-letters/preview", READ, "previewDiscard", "The effect of a discard", "dead-letters discard",
        NO_FIELDS, NO_FIELDS, FILTER, 200 d::PreviewDocument, acts::preview_discard),
    route!(Post "/dead-letters/discard", OPERATE, "discardDeadLetters", "Discard dead letters for good, as previewed", "dead-letters discard",
        NO_FIELDS, NO_FIELDS, &[OF_HANDLER, TYPE, KEY, REASON, SINCE, UNTIL, TEXT, GROUP, IDS, ALL, AS_OF, EXPECTED, WHY],
        200 d::Discarded, acts::discard),

    route!(Get "/replays", READ, "listReplays", "Replays, the newest first", "replays list",
        NO_FIELDS, &[CURSOR, LIMIT], NO_FIELDS, 200 d::ReplayPage, reads::replays),
    route!(Post "/replays/preview", READ, "previewReplay", "The effect of a replay", "replay",
        NO_FIELDS, NO_FIELDS, &[OF_HANDLER, TYPE, KEY, REASON, SINCE, UNTIL, TEXT, GROUP, IDS, ALL, DELIVERED],
        200 d::PreviewDocument, acts::preview_replay),
    route!(Put "/replays/{id}", OPERATE, "startReplay", "Start a replay, as previewed; the same request again changes nothing", "replay",
        &[REPLAY], NO_FIELDS,
        &[OF_HANDLER, TYPE, KEY, REASON, SINCE, UNTIL, TEXT, GROUP, IDS, ALL, DELIVERED, FORCE, AS_OF, EXPECTED, PERHAPS_WHY,
          Field::new("rate", K::Rate, "At most this many deliveries in a second, a minute or an hour")],
        201 store::Replay, acts::start_replay),
    route!(Get "/replays/{id}", READ, "getReplay", "A replay with its outcome", "replays show",
        &[REPLAY], NO_FIELDS, NO_FIELDS, 200 store::Replay, reads::replay),
    route!(Post "/replays/{id}/cancel", OPERATE, "cancelReplay", "Cancel a replay: deliveries that it has not sent keep their state", "replays cancel",
        &[REPLAY], NO_FIELDS, &[PERHAPS_WHY], 200 store::Replay, acts::cancel_replay),
    route!(Post "/replays/{id}/resume", OPERATE, "resumeReplay", "Resume a cancelled replay", "replays resume",
        &[REPLAY], NO_FIELDS, NO_FIELDS, 200 store::Replay, acts::resume_replay),

    route!(Get "/keys", READ, "listKeys", "Blocked keys, failing destinations, and events because of which alone a circuit is open", "keys list",
        NO_FIELDS, &[OF_HANDLER, LIMIT], NO_FIELDS, 200 o::keys::Blocked, reads::keys),
    route!(Post "/keys/skip", OPERATE, "skipKey", "Make the event that blocks a key a dead letter", "keys skip",
        NO_FIELDS, NO_FIELDS,
        &[HANDLER, Field::required("key", K::Text(8192), "The key"),
          Field::required("head", K::Uuid, "The event that blocks the key, as it was shown; the request fails if it is another one"), WHY],
        200 store::Skipped, acts::skip_key),

    route!(Get "/handlers", READ, "listHandlers", "Every handler with its state and backlog", "handlers list",
        NO_FIELDS, NO_FIELDS, NO_FIELDS, 200 d::Handlers, reads::handlers),
    route!(Get "/handlers/{handler}", READ, "getHandler", "A handler with its state and backlog", "handlers list",
        &[HANDLER], NO_FIELDS, NO_FIELDS, 200 o::handlers::HandlerView, reads::handler),
    route!(Post "/handlers/{handler}/pause", OPERATE, "pauseHandler", "Pause a handler: its events wait in the log", "handlers pause",
        &[HANDLER], NO_FIELDS, &[WHY], 200 o::handlers::HandlerChange, acts::pause),
    route!(Post "/handlers/{handler}/resume", OPERATE, "resumeHandler", "Resume a paused handler", "handlers resume",
        &[HANDLER], NO_FIELDS, NO_FIELDS, 200 o::handlers::HandlerChange, acts::resume),
    route!(Post "/handlers/{handler}/circuit/close", OPERATE, "closeCircuit", "Close the open circuit of a handler", "handlers circuit close",
        &[HANDLER], NO_FIELDS, &[PERHAPS_WHY], 200 o::handlers::HandlerChange, acts::close_circuit),
    route!(Post "/handlers/{handler}/test", OPERATE, "testHandler", "Send one made-up event through a configured handler", "handlers test",
        &[HANDLER], NO_FIELDS,
        &[Field::new("type", K::Text(255), "Type of the event; by default the first that the handler wants"),
          Field::new("payload", K::Object, "Payload; {} by default"),
          Field::new("aggregate", K::Aggregate, "Aggregate of the event, also its ordering key")],
        200 o::trial::TrialView, acts::test_handler),
    route!(Post "/handlers/{handler}/rewind/preview", READ, "previewRewind", "The effect of a rewind", "handlers rewind",
        &[HANDLER], NO_FIELDS, &[Field::required("to", K::Target, "The first event to deliver")], 200 o::moves::MovePlan, acts::preview_rewind),
    route!(Post "/handlers/{handler}/rewind", ADMIN, "rewindHandler", "Deliver again the events from an event or time on", "handlers rewind",
        &[HANDLER], NO_FIELDS, &[Field::required("to", K::Target, "The first event to deliver"), FORCE, PERHAPS_WHY], 200 d::Moved, acts::rewind),
    route!(Post "/handlers/{handler}/start-from/preview", READ, "previewStartFrom", "The effect of a start from another event", "handlers start-from",
        &[HANDLER], NO_FIELDS, &[Field::required("from", K::Start, "The first event to deliver"), FORCE], 200 o::moves::MovePlan, acts::preview_start_from),
    route!(Post "/handlers/{handler}/start-from", ADMIN, "startHandlerFrom", "Continue at an event or time, and skip the events before it", "handlers start-from",
        &[HANDLER], NO_FIELDS, &[Field::required("from", K::Start, "The first event to deliver"), FORCE, PERHAPS_WHY], 200 d::Moved, acts::start_from),
    route!(Post "/handlers/{handler}/forget/preview", READ, "previewForget", "The events that would be lost with a handler", "handlers forget",
        &[HANDLER], NO_FIELDS, NO_FIELDS, 200 o::forget::ForgetPlan, acts::preview_forget),
    route!(Post "/handlers/{handler}/forget", ADMIN, "forgetHandler", "Remove a handler that no relay serves any more", "handlers forget",
        &[HANDLER], NO_FIELDS, &[PERHAPS_WHY], 200 o::forget::Removed, acts::forget),

    route!(Get "/alerts", READ, "listAlerts", "The alerts that fire, and the state of each channel", "alerts list",
        NO_FIELDS, &[Field::new("all", K::Flag, "Also alerts that are over")], NO_FIELDS, 200 o::alerts::AlertList, reads::alerts),
    route!(Post "/alerts/{alert}/ack", OPERATE, "acknowledgeAlert", "Acknowledge an alert", "alerts ack",
        &[Field::required("alert", K::Text(512), "The key of the alert, with its slash as %2F")], NO_FIELDS, &[PERHAPS_WHY],
        200 o::alerts::AlertChange, acts::acknowledge),
    route!(Post "/alerts/{alert}/snooze", OPERATE, "snoozeAlert", "Silence an alert for a while", "alerts snooze",
        &[Field::required("alert", K::Text(512), "The key of the alert, with its slash as %2F")], NO_FIELDS,
        &[Field::required("for", K::Duration, "For how long; 0s ends a snooze"), PERHAPS_WHY], 200 o::alerts::AlertChange, acts::snooze),

    route!(Post "/reload", ADMIN, "reload", "Have the relays read their configuration again; their answers are in the list of relays", "reload",
        NO_FIELDS, NO_FIELDS, &[Field::new("instance", K::Text(255), "Only this relay, by its id")], 202 d::Asked, acts::reload),
];
