//! Calling a projection for some events in one transaction, which stays open for the record of the position. Every result is a verdict
//! about the events or in an error that says that the database is away.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sqlx::{PgConnection, Postgres, Transaction};

use super::Projector;
use super::reading::Item;
use crate::domain::{Notification, Reason, Verdict};
use crate::failpoints::failpoint;
use crate::handlers::{Projected, ProjectedEvent, SqlFunction};
use crate::relay::functions::find_server;
use crate::relay::{RelayError, prepare};
use crate::store::projections::{begin_calls, call_function, end_calls};
use crate::store::{self, Argument, FunctionCall, PayloadType, Rendered, StoreError};
use crate::telemetry::{DatabaseOperation, chain};

/// The result of a call.
pub(super) enum Called {
    /// All events are in the transaction.
    Done(Transaction<'static, Postgres>),
    /// Nothing is; for several events the verdict is of one of them.
    Failed(Verdict),
}

/// How long code may wait for a lock, as functions do by default.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

impl Projector {
    /// Calls the projection for these events, up to the first one that has no valid form for it. Tells for how many.
    pub(super) async fn call(&mut self, items: &[Item], is_replaying: bool) -> Result<(usize, Called), RelayError> {
        let (events, refused) = self.prepare(items);
        if events.is_empty() {
            let verdict = refused.expect("an event that is not called has a verdict");
            return Ok((1, Called::Failed(verdict)));
        }
        let count = events.len();
        let ended = match self.spec.projected.clone() {
            Projected::Function(function) => self.call_in_database(&function, &events, is_replaying).await,
            Projected::Code(code) => self.call_code(code.as_ref(), &events, is_replaying).await,
        };
        match ended {
            Ok(Ok(transaction)) => {
                failpoint!("projection-called");
                Ok((count, Called::Done(transaction)))
            }
            Ok(Err(verdict)) => Ok((count, Called::Failed(verdict))),
            Err(lost) => self.who_ended_it(lost).await.map(|verdict| (count, Called::Failed(verdict))),
        }
    }

    /// The events in the versions that the projection reads, up to the first one that has none, with the verdict about that.
    fn prepare(&self, items: &[Item]) -> (Vec<Notification>, Option<Verdict>) {
        let mut events = Vec::with_capacity(items.len());
        for item in items {
            let prepared = match (item, &self.post.handler.config.contracts) {
                (Item::Unreadable(unreadable), _) => Err(Verdict::permanent(Reason::Unreadable, unreadable.cause.clone())),
                (Item::Event(event), None) => Ok(event.as_ref().clone()),
                (Item::Event(event), Some(pins)) => prepare(pins, event).map(std::borrow::Cow::into_owned),
            };
            match prepared {
                Ok(event) => events.push(event),
                Err(verdict) => return (events, Some(verdict)),
            }
        }
        (events, None)
    }

    async fn call_in_database(
        &self,
        function: &SqlFunction,
        events: &[Notification],
        is_replaying: bool,
    ) -> Result<Result<Transaction<'static, Postgres>, Verdict>, StoreError> {
        // A single event has its full configured time; several events are called together only while that is quick.
        let statement_timeout = match (events.len(), function.statement_timeout) {
            (1, own) => own,
            (_, own) if own.is_zero() => self.budget(),
            (_, own) => own.min(self.budget()),
        };
        let call = FunctionCall {
            function: &function.function,
            statement_timeout,
            lock_timeout: function.lock_timeout,
            role: function.role.as_deref(),
            payload: PayloadType::Jsonb,
            session: &self.post.shared.session,
        };
        let argument = |event: &Notification| Argument {
            seq: event.seq,
            key: event.key.clone(),
            has_failed: false,
            // With contracts the event may be in another version than the log has it.
            rendered: event
                .contract
                .is_some()
                .then(|| Arc::new(Rendered { payload: event.payload.clone(), headers: event.headers.clone() })),
            refused: None,
        };
        let arguments: Vec<Argument> = events.iter().map(argument).collect();
        let mut transaction = self.post.shared.answered(store::begin(&self.post.shared.connections.calls)).await?;
        let patience = self.post.shared.answer_timeout.filter(|_| !statement_timeout.is_zero());
        let calling = call_function(&mut transaction, &call, &arguments, is_replaying);
        let verdict = store::answered(patience.map(|patience| patience + statement_timeout), calling, |silent| silent).await?;
        Ok(if verdict.is_delivered() { Ok(transaction) } else { Err(verdict) })
    }

    async fn call_code(
        &self,
        code: &dyn crate::handlers::AnyProjection,
        events: &[Notification],
        is_replaying: bool,
    ) -> Result<Result<Transaction<'static, Postgres>, Verdict>, StoreError> {
        let timeout = self.post.handler.config.timeout;
        let call = FunctionCall {
            function: "",
            statement_timeout: timeout,
            lock_timeout: LOCK_TIMEOUT.min(timeout),
            role: None,
            payload: PayloadType::Jsonb,
            session: &self.post.shared.session,
        };
        let mut transaction = self.post.shared.answered(store::begin(&self.post.shared.connections.calls)).await?;
        let opened = self.post.shared.answered(begin_calls(&mut transaction, &call)).await?;
        if !opened.is_delivered() {
            return Ok(Err(opened));
        }
        let mut failed = None;
        for notification in events {
            failed = take(code, ProjectedEvent { notification, is_replaying }, &mut transaction, timeout).await;
            if failed.is_some() {
                break;
            }
        }
        let verdict = self.post.shared.answered(end_calls(&mut transaction, &call, failed)).await?;
        Ok(if verdict.is_delivered() { Ok(transaction) } else { Err(verdict) })
    }

    /// A session has ended, or fallen silent, while the projection ran in it. Fails where the server is away, which is no event's fault.
    async fn who_ended_it(&mut self, lost: StoreError) -> Result<Verdict, RelayError> {
        self.post.shared.heard(&lost);
        self.post.shared.metrics.database_error(DatabaseOperation::Flush);
        let start = find_server(&self.post.shared.connections.ledger).await;
        let Some(start) = start.filter(|_| !lost.is_end_of_server()) else { return Err(lost.into()) };
        if start != self.server_start {
            self.server_start = start;
            return Err(lost.into());
        }
        let reason = if lost.is_silence() { Reason::Timeout } else { Reason::Crashed };
        Ok(Verdict::retry(reason, format!("the session ended while the projection ran: {}", chain(&lost))))
    }
}

/// One event. `Some`: why the code did not take it.
async fn take(
    code: &dyn crate::handlers::AnyProjection,
    event: ProjectedEvent<'_>,
    connection: &mut PgConnection,
    timeout: Duration,
) -> Option<Verdict> {
    let taking = AssertUnwindSafe(code.project(event, connection)).catch_unwind();
    match tokio::time::timeout(timeout, taking).await {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => Some(Verdict::retry(Reason::Refused, chain(error.as_ref()))),
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Some(Verdict::retry(Reason::Panicked, text.unwrap_or("it says nothing").to_owned()))
        }
        Err(_) => Some(Verdict::retry(Reason::Timeout, format!("it did not end within {timeout:?}"))),
    }
}
