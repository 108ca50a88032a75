//! Options of units of work: which outbox they record in, how many events they dispatch, their isolation level, and their clock.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use super::shredding::MasterKeys;

/// Options of a unit of work. Cheap to clone.
#[derive(Clone)]
pub struct Options {
    pub(super) schema: Arc<str>,
    pub(super) limit: usize,
    pub(super) isolation: Isolation,
    clock: Option<Arc<dyn Clock>>,
    pub(super) validation: Validation,
    pub(super) master_keys: Option<Arc<MasterKeys>>,
}

/// Which notifications are compared with the schema of their contract before they are recorded. Only those of contracts that have a
/// [`SCHEMA`](super::Contract::SCHEMA), and only where this crate has its feature `daemon`, which is the default.
#[derive(Clone, Default)]
pub enum Validation {
    /// [`Always`](Self::Always) in a build with debug assertions, as tests are; [`Never`](Self::Never) in others.
    #[default]
    InDebugBuilds,
    /// All of them. The commit of a unit of work with an invalid one fails, and nothing of it exists.
    Always,
    /// One of so many, beginning with the first. An invalid one is reported and recorded all the same: a business transaction must not fail at random.
    Sampled {
        /// 1 is every notification.
        one_in: NonZeroU32,
        /// Called for each invalid one, within the transaction: it should only log or count.
        tell: Arc<dyn Fn(&InvalidNotification) + Send + Sync>,
    },
    /// None.
    Never,
}

/// A notification that is not what the schema of its contract says. Repeats no value of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event_type}@{version} is not what its schema says: {}", .problems.join("; "))]
pub struct InvalidNotification {
    /// The type of the contract.
    pub event_type: String,
    /// The version of the contract.
    pub version: u32,
    /// Each with the path of the place: `/total/cents: ...`.
    pub problems: Vec<String>,
}

/// Tells the time. Only tests need one of their own.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The isolation level of a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// As the database is configured; usually read committed.
    #[default]
    Default,
    /// One snapshot for the whole transaction; who changes what changed since has a serialisation failure.
    RepeatableRead,
    /// As if transactions ran one after the other; who cannot be put in an order has a serialisation failure.
    Serializable,
}

/// Marks a transaction; see [`Isolation::statement`].
pub(super) const MARK: &str = "set local outboxd.unit = 'open'";

impl Isolation {
    /// Begins the transaction and marks it as that of a unit of work, in one round trip. The mark ends with the transaction, however that
    /// is ended, so a later reader knows whether it is still the same one.
    pub(super) const fn statement(self) -> &'static str {
        match self {
            Self::Default => "begin; set local outboxd.unit = 'open'",
            Self::RepeatableRead => "begin isolation level repeatable read; set local outboxd.unit = 'open'",
            Self::Serializable => "begin isolation level serializable; set local outboxd.unit = 'open'",
        }
    }
}

/// Far more than any honest command raises.
const LIMIT: usize = 1_000;

impl Options {
    /// The outbox in the schema `outbox`, at most 1,000 domain events, the isolation and the clock of the database.
    pub fn new() -> Self {
        Self {
            schema: "outbox".into(),
            limit: LIMIT,
            isolation: Isolation::Default,
            clock: None,
            validation: Validation::default(),
            master_keys: None,
        }
    }

    /// The schema of the outbox.
    #[must_use]
    pub fn schema(self, schema: &str) -> Self {
        Self { schema: schema.into(), ..self }
    }

    /// Domain events that one unit of work may dispatch; beyond it fails.
    #[must_use]
    pub fn limit(self, events: usize) -> Self {
        Self { limit: events, ..self }
    }

    /// Sets the isolation level. The pipeline runs a command again after a serialisation failure.
    #[must_use]
    pub fn isolation(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }

    /// A clock of the caller's, which also says when notifications occurred.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Some(Arc::new(clock)), ..self }
    }

    /// Which notifications are compared with the schema of their contract.
    #[must_use]
    pub fn validation(self, validation: Validation) -> Self {
        Self { validation, ..self }
    }

    /// The keys that wrap the keys of subjects; needed to record and to read [`Shredded`](super::shredding::Shredded) values.
    #[must_use]
    pub fn master_keys(self, keys: MasterKeys) -> Self {
        Self { master_keys: Some(Arc::new(keys)), ..self }
    }

    pub(super) fn now(&self) -> SystemTime {
        self.given_now().unwrap_or_else(SystemTime::now)
    }

    /// `None`: the clock of the database decides.
    pub(super) fn given_now(&self) -> Option<SystemTime> {
        self.clock.as_ref().map(|clock| clock.now())
    }
}

impl fmt::Debug for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InDebugBuilds => f.write_str("InDebugBuilds"),
            Self::Always => f.write_str("Always"),
            Self::Sampled { one_in, .. } => f.debug_struct("Sampled").field("one_in", one_in).finish_non_exhaustive(),
            Self::Never => f.write_str("Never"),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("schema", &self.schema)
            .field("limit", &self.limit)
            .field("validation", &self.validation)
            .field("master_keys", &self.master_keys)
            .finish_non_exhaustive()
    }
}
