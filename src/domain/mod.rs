//! The pure core: events, their possible outcomes, and every decision that the relay takes. Performs no I/O, cannot log, knows no
//! clock and draws no random number: time and draws are arguments.

#[cfg(feature = "daemon")]
mod adoption;
#[cfg(feature = "daemon")]
mod advice;
#[cfg(feature = "daemon")]
pub mod alerts;
#[cfg(feature = "daemon")]
mod backoff;
#[cfg(feature = "daemon")]
mod circuit;
#[cfg(feature = "daemon")]
mod correction;
#[cfg(feature = "daemon")]
mod delivery;
#[cfg(feature = "daemon")]
mod destinations;
#[cfg(feature = "daemon")]
mod error_group;
mod event;
#[cfg(feature = "daemon")]
mod filter;
#[cfg(feature = "daemon")]
mod following;
mod handled;
#[cfg(feature = "daemon")]
mod incarnation;
#[cfg(feature = "daemon")]
pub mod json;
#[cfg(feature = "daemon")]
mod lanes;
#[cfg(feature = "daemon")]
mod level;
#[cfg(feature = "daemon")]
mod notification;
#[cfg(feature = "daemon")]
mod outcome;
#[cfg(feature = "daemon")]
mod pace;
#[cfg(feature = "daemon")]
mod policy;
#[cfg(feature = "daemon")]
mod position;
#[cfg(feature = "daemon")]
mod progress;
#[cfg(feature = "daemon")]
mod rate;
#[cfg(feature = "daemon")]
mod role;
#[cfg(feature = "daemon")]
mod routing;
#[cfg(feature = "daemon")]
mod share;
#[cfg(feature = "daemon")]
mod suspects;
#[cfg(feature = "daemon")]
mod tail;
#[cfg(feature = "daemon")]
pub mod text;
#[cfg(feature = "daemon")]
mod timestamp;

pub(crate) use event::{ClearValue, ContractOfEvent, SHREDDED};
pub use event::{InvalidEvent, NewEvent};
pub use handled::Stage;

#[cfg(feature = "daemon")]
pub use {
    adoption::{Adoption, CopyAt, InvalidTableName, Shape, Source, TableName},
    advice::circuit_command,
    backoff::{Backoff, InvalidBackoff},
    circuit::{Admission, Circuit, CircuitPolicy, CircuitState},
    correction::{CORRECTS, ONLY_FOR},
    delivery::DeliveryState,
    destinations::{Access, DestinationPolicy, Destinations, OnBadDestination, Sentence, Trouble},
    error_group::ErrorGroup,
    filter::EventFilter,
    following::{Narrowing, Stretch, covers, follow, reached_seq},
    incarnation::{Incarnation, Numbering, ServerIdentity, Standing},
    lanes::{LaneKey, LaneRef, Lanes, Origin, Queued},
    level::Level,
    notification::{Notification, PublicVersion, VERSION},
    outcome::{Outcome, Reach, Reason, Verdict},
    pace::Pace,
    policy::{Next, OnDeadLetter, Ordering, Record, RetryPolicy, at_fault, decide},
    position::{OpenWindow, Position, Snapshot},
    progress::{Progress, SegmentId},
    rate::{Allowance, RateLimit},
    role::Role,
    routing::{is_routable, matches_glob, plain_headers},
    share::{Hashes, Share, hash_text},
    suspects::{Judgement, Span, Suspects, Tick},
    tail::{Tail, TailBounds, Taken},
    timestamp::Timestamp,
};
