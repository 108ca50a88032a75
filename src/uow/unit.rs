//! The unit of work: one transaction, the domain events that happened in it, and their handlers, all of it one commit or nothing.
//!
//! The unit owns the transaction. Handlers and repositories borrow its connection, so none of them can end it. Domain events wait
//! in a queue. At the commit each event is taken from the front, decides what becomes of it (`event`), and is given to its
//! handlers, which may raise more events. So effects follow causes, all in one transaction. Two handlers that raise one another's
//! events end at a limit (`Options`). The notifications are recorded with one statement, which also returns the transaction id.
//!
//! A statement always runs before the commit, even if there is nothing to record: Postgres answers the commit of a failed
//! transaction with a rollback and no error.
//!
//! Starts no task and opens no connection of its own.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres, SqlStr, Transaction};
use uuid::Uuid;

use super::event::AnyEvent;
use super::record::{Within, record_all};
use super::scope::Scope;
use super::shredding::{self, Keyring};
use super::{Context, Decision, DomainEvent, Error, Options, Recorder, Registry, TransactionId, transaction};
use crate::domain::{ClearValue, NewEvent};

/// One transaction and what happened in it. Dropped without [`commit`](Self::commit), it never was.
///
/// Events are dispatched at the commit, first in first out, until none are left: causes before effects, and the handlers of one event
/// in the order of their registration. Do not wrap `commit` in a timeout or a `select!`: if it is dropped in the middle, only
/// [`was_committed`](super::was_committed) can find out its outcome.
pub struct UnitOfWork {
    transaction: Transaction<'static, Postgres>,
    registry: Arc<Registry>,
    options: Options,
    context: Context,
    queue: VecDeque<Raised>,
    notifications: Vec<Decided>,
    /// Events appended to streams, each with the number of its domain event.
    appended: Vec<(usize, Notified)>,
    /// Counts the events raised; says which belong to a scope.
    raised: usize,
    dispatched: usize,
    /// Open scopes.
    pub(super) depth: usize,
    /// The notification that caused what is raised now.
    cause: Option<Uuid>,
    keyring: Keyring,
}

/// A domain event that waits for its turn.
struct Raised {
    number: usize,
    event: AnyEvent,
    cause: Option<Uuid>,
}

/// A notification that waits for the commit.
struct Decided {
    number: usize,
    notification: Box<NewEvent>,
    cause: Option<Uuid>,
}

/// The result of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The recorded events: first those appended to streams, then the notifications, each in order. The ids are those that receivers see.
    pub notifications: Vec<Notified>,
    /// Domain events that were dispatched, in memory and recorded.
    pub dispatched: usize,
    /// `None`: nothing was written.
    pub transaction: Option<TransactionId>,
}

/// A notification that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notified {
    /// The id that receivers see.
    pub id: Uuid,
    /// Its type, as its contract says.
    pub event_type: String,
}

impl UnitOfWork {
    /// Begins a transaction on a connection of the pool, with every option at its default.
    pub async fn begin(pool: &PgPool, registry: &Arc<Registry>) -> Result<Self, Error> {
        Self::begin_with(pool, registry, &Options::default()).await
    }

    /// [`begin`](Self::begin) with these options.
    pub async fn begin_with(pool: &PgPool, registry: &Arc<Registry>, options: &Options) -> Result<Self, Error> {
        let transaction = pool.begin_with(options.isolation.statement()).await.map_err(Error::Begin)?;
        Ok(Self::of(transaction, registry, options))
    }

    /// Begins on a connection that the caller has, for example one with settings or advisory locks of its own.
    pub async fn begin_on(
        connection: PoolConnection<Postgres>,
        registry: &Arc<Registry>,
        options: &Options,
    ) -> Result<Self, Error> {
        let begun = Transaction::begin(connection, Some(SqlStr::from_static(options.isolation.statement()))).await;
        Ok(Self::of(begun.map_err(Error::Begin)?, registry, options))
    }

    /// Takes over a transaction that the caller has begun. What was done in it belongs to the unit of work: [`commit`](Self::commit)
    /// commits all of it, and nothing else does. Its isolation is the caller's, whatever the options say.
    pub async fn take_over(
        mut transaction: Transaction<'static, Postgres>,
        registry: &Arc<Registry>,
        options: &Options,
    ) -> Result<Self, Error> {
        transaction::mark(&mut transaction).await?;
        Ok(Self::of(transaction, registry, options))
    }

    fn of(transaction: Transaction<'static, Postgres>, registry: &Arc<Registry>, options: &Options) -> Self {
        Self {
            transaction,
            registry: Arc::clone(registry),
            options: options.clone(),
            context: Context::new(),
            queue: VecDeque::new(),
            notifications: Vec::new(),
            appended: Vec::new(),
            raised: 0,
            dispatched: 0,
            depth: 0,
            cause: None,
            keyring: Keyring::default(),
        }
    }

    /// The connection that everything of this unit of work goes through. A statement that fails aborts the whole transaction, unless a
    /// scope was begun before it.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Sets the origin that every notification names in its headers. Applies to all of them, whenever it is set.
    pub fn set_context(&mut self, context: Context) {
        self.context = context;
    }

    /// The time, by the clock of the options.
    pub fn now(&self) -> SystemTime {
        self.options.now()
    }

    /// Raises a domain event. It is dispatched at the commit.
    pub fn raise<E: DomainEvent>(&mut self, event: E) {
        self.push(AnyEvent::new(event));
    }

    /// Takes the events that an aggregate has recorded. Call it after the statement that changes or locks the aggregate.
    pub fn track(&mut self, recorder: &mut Recorder) {
        for event in recorder.drain() {
            self.push(event);
        }
    }

    /// Dispatches until no event is left, records the notifications with one statement, and commits.
    pub async fn commit(self) -> Result<Committed, Error> {
        match self.try_commit().await? {
            (committed, None) => Ok(committed),
            (Committed { transaction, .. }, Some(cause)) => Err(Error::CommitUnknown { transaction, cause }),
        }
    }

    /// The same. If an error stands beside the result, the answer was lost and the commit may not have happened.
    pub(super) async fn try_commit(mut self) -> Result<(Committed, Option<sqlx::Error>), Error> {
        self.dispatch().await?;
        let mut notifications = self.take_notifications();
        self.seal(&mut notifications).await?;
        let transaction = self.write(&notifications).await?;
        let lost = transaction::commit(self.transaction).await?;
        let notified = |event: NewEvent| Notified { id: event.id, event_type: event.event_type };
        let appended = self.appended.into_iter().map(|(_, appended)| appended);
        let notifications = appended.chain(notifications.into_iter().map(notified)).collect();
        Ok((Committed { notifications, dispatched: self.dispatched, transaction }, lost))
    }

    /// Undoes everything now, instead of when the connection is next used.
    pub async fn roll_back(self) -> Result<(), Error> {
        Ok(self.transaction.rollback().await?)
    }

    async fn dispatch(&mut self) -> Result<(), Error> {
        while let Some(Raised { number, event, cause }) = self.queue.pop_front() {
            self.count(event.name())?;
            // Before its handlers: an event is recorded before the events that followed from it.
            let cause = self.decide(number, &event, cause)?;
            for handler in self.registry.of(&event) {
                self.cause = cause;
                let handled = handler.handle(event.as_any(), self).await;
                self.cause = None;
                handled.map_err(|cause| Error::Handler { handler: handler.name(), event: event.name(), cause })?;
            }
        }
        Ok(())
    }

    fn count(&mut self, event: &'static str) -> Result<(), Error> {
        self.dispatched += 1;
        match self.dispatched > self.options.limit {
            true => Err(Error::DispatchLimit { limit: self.options.limit, event }),
            false => Ok(()),
        }
    }

    /// Gives what causes the events that its handlers raise: its notification, or else what caused the event itself.
    fn decide(&mut self, number: usize, event: &AnyEvent, cause: Option<Uuid>) -> Result<Option<Uuid>, Error> {
        match event.decide().map_err(|failure| Error::notification(event.name(), failure))? {
            Decision::InMemory => Ok(cause),
            Decision::Notify(notification) => {
                let id = notification.id;
                self.notifications.push(Decided { number, notification, cause });
                Ok(Some(id))
            }
        }
    }

    fn take_notifications(&mut self) -> Vec<NewEvent> {
        let appended = self.appended.first().map(|(_, first)| first.id);
        let first = appended.or_else(|| self.notifications.first().map(|first| first.notification.id));
        let first = first.map(|first| first.to_string()).unwrap_or_default();
        let complete = |Decided { mut notification, cause, .. }: Decided| {
            self.context.fill(&mut notification.headers, cause.map(|cause| cause.to_string()).as_deref(), &first);
            if notification.occurred_at.is_none() {
                notification.occurred_at = self.options.given_now();
            }
            *notification
        };
        std::mem::take(&mut self.notifications).into_iter().map(complete).collect()
    }

    // Also when there is nothing to record: the commit of a transaction that has failed rolls back and calls that a success, and any
    // statement before it does not.
    async fn write(&mut self, notifications: &[NewEvent]) -> Result<Option<TransactionId>, Error> {
        if notifications.is_empty() {
            return transaction::current(&mut self.transaction).await;
        }
        #[cfg(feature = "daemon")]
        super::validation::check(&self.options.validation, notifications)?;
        let recorded = record_all(&mut self.transaction, &self.options.schema, notifications, Within::Unit).await;
        Ok(Some(recorded.map_err(transaction::explain)?))
    }

    fn push(&mut self, event: AnyEvent) {
        self.queue.push_back(Raised { number: self.raised, event, cause: self.cause });
        self.raised += 1;
    }

    /// Says in an event that is appended now where it came from. `first` is the first of its save.
    pub(super) fn complete_appended(&self, event: &mut NewEvent, first: Uuid) {
        let first = self.appended.first().map_or(first, |(_, first)| first.id);
        self.context.fill(&mut event.headers, self.cause.map(|cause| cause.to_string()).as_deref(), &first.to_string());
        event.occurred_at = event.occurred_at.or_else(|| self.options.given_now());
    }

    /// Raises an event that was appended to a stream; it causes what its handlers raise.
    pub(super) fn raise_appended<E: DomainEvent>(&mut self, event: E, appended: &NewEvent) {
        let notified = Notified { id: appended.id, event_type: appended.event_type.clone() };
        self.appended.push((self.raised, notified));
        self.queue.push_back(Raised { number: self.raised, event: AnyEvent::new(event), cause: Some(appended.id) });
        self.raised += 1;
    }

    /// A statement of this crate for the schema of the options.
    pub(super) fn in_schema(&self, statement: &str) -> String {
        super::in_schema(statement, &self.options.schema)
    }

    /// Keys of subjects that were fetched so far.
    pub(super) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Creates and locks the keys that these values need.
    pub(super) async fn lock_keys(&mut self, values: impl Iterator<Item = &ClearValue>) -> Result<(), Error> {
        let subjects: BTreeSet<String> = values.filter(|value| value.clear.is_some()).map(|value| value.subject.clone()).collect();
        if subjects.is_empty() {
            return Ok(());
        }
        let sql = self.in_schema(include_str!("../store/sql/use_subject_keys.sql"));
        let keys = self.options.master_keys.as_deref();
        shredding::lock(&mut self.keyring, subjects, keys, sql, &mut self.transaction).await
    }

    /// Reads the keys that these payloads and states need.
    pub(super) async fn learn_keys(&mut self, texts: impl Iterator<Item = &str>) -> Result<(), Error> {
        let subjects: BTreeSet<String> = texts.flat_map(shredding::subjects_of).collect();
        if subjects.is_empty() {
            return Ok(());
        }
        let sql = self.in_schema(include_str!("../store/sql/read_subject_keys.sql"));
        let keys = self.options.master_keys.as_deref();
        Ok(shredding::learn(&mut self.keyring, subjects, keys, sql, &mut self.transaction).await?)
    }

    /// Puts envelopes in place of the shredded values of events.
    pub(super) async fn seal(&mut self, events: &mut [NewEvent]) -> Result<(), Error> {
        self.lock_keys(events.iter().flat_map(|event| &event.shredded)).await?;
        for event in events.iter_mut().filter(|event| !event.shredded.is_empty()) {
            shredding::seal_event(event, &self.keyring)?;
        }
        Ok(())
    }

    /// Events that were raised so far.
    pub(super) fn raised(&self) -> usize {
        self.raised
    }

    /// Forgets what was raised in a scope that is undone.
    pub(super) fn forget_from(&mut self, scope: &Scope) {
        self.queue.retain(|raised| raised.number < scope.first);
        self.notifications.retain(|decided| decided.number < scope.first);
        self.appended.retain(|(number, _)| *number < scope.first);
        self.keyring.forget();
    }
}

// Never the events: they may hold secrets.
impl fmt::Debug for UnitOfWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnitOfWork")
            .field("waiting", &self.queue.len())
            .field("dispatched", &self.dispatched)
            .finish_non_exhaustive()
    }
}
