//! The pipeline: runs commands as commits. It begins a unit of work, runs the command, dispatches, commits, and runs the whole
//! command again after a serialisation failure, a deadlock or a conflict. An application would otherwise repeat this in each of
//! its endpoints.
//!
//! If the answer to a commit is lost, the pipeline queries the outcome of the transaction (`pg_xact_status`, in
//! `transaction`) before anything runs again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use super::{Committed, Context, Error, Fails, Options, Registry, UnitOfWork, is_worth_another_try, was_committed};

/// Something that an application does in one unit of work. May run several times, so it takes everything from its own fields and the database.
///
/// ```
/// use outboxd::uow::{Command, Error, UnitOfWork};
///
/// struct Rename { customer: i64, name: String }
/// impl Command for Rename {
///     type Output = ();
///     type Error = Error;
///     async fn run(&self, work: &mut UnitOfWork) -> Result<(), Error> {
///         sqlx::query("update customers set name = $2 where id = $1")
///             .bind(self.customer)
///             .bind(&self.name)
///             .execute(work.connection())
///             .await?;
///         Ok(())
///     }
/// }
/// ```
pub trait Command: Send + Sync {
    /// The result for the caller.
    type Output: Send;
    /// The caller's own errors; [`Error`] where there are none. Any type that is an error, [`Failure`](super::Failure), or one like
    /// `anyhow::Error`, which leads to an error without being one: see [`Fails`].
    type Error: From<Error> + Send + 'static;

    /// An error undoes everything.
    fn run(&self, work: &mut UnitOfWork) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
}

/// Runs commands. Build one for the whole application; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pool: PgPool,
    registry: Arc<Registry>,
    options: Options,
    attempts: u32,
}

/// A command that was committed.
#[derive(Debug)]
pub struct Done<T> {
    /// The result of the command.
    pub output: T,
    /// The commit, with the ids of the recorded notifications.
    pub committed: Committed,
}

/// Times that a command is run before it fails with the conflict.
const ATTEMPTS: u32 = 5;

/// Pause after the first conflict; doubles.
const PAUSE: Duration = Duration::from_millis(5);

impl Pipeline {
    /// With every option at its default, and five attempts.
    pub fn new(pool: PgPool, registry: Registry) -> Self {
        Self { pool, registry: Arc::new(registry), options: Options::default(), attempts: ATTEMPTS }
    }

    /// Options for every unit of work.
    #[must_use]
    pub fn options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// How often a command is run in all; at least once.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts: attempts.max(1), ..self }
    }

    /// Runs a command and commits it. Runs it again after a serialisation failure, a deadlock or a [`Conflict`](super::Conflict), on what is
    /// true by then. If the answer to the commit is lost, asks the database what became of it.
    pub async fn send<C: Command, Kind>(&self, command: &C) -> Result<C::Output, C::Error>
    where
        C::Error: Fails<Kind>,
    {
        Ok(self.send_in(&Context::new(), command).await?.output)
    }

    /// [`send`](Self::send) with a context, such as the actor; also returns which notifications were recorded.
    pub async fn send_in<C: Command, Kind>(&self, context: &Context, command: &C) -> Result<Done<C::Output>, C::Error>
    where
        C::Error: Fails<Kind>,
    {
        let mut attempt = 1;
        loop {
            match self.run(context, command).await {
                Err(error) if attempt < self.attempts && is_worth_another_try(error.as_cause()) => {
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                }
                ended => return ended,
            }
        }
    }

    async fn run<C: Command>(&self, context: &Context, command: &C) -> Result<Done<C::Output>, C::Error> {
        let mut work = UnitOfWork::begin_with(&self.pool, &self.registry, &self.options).await?;
        work.set_context(context.clone());
        let output = match command.run(&mut work).await {
            Ok(output) => output,
            Err(error) => {
                // The locks must be gone before the command runs again; the connection may stay.
                let _ = work.roll_back().await;
                return Err(error);
            }
        };
        let committed = self.commit(work).await?;
        Ok(Done { output, committed })
    }

    async fn commit(&self, work: UnitOfWork) -> Result<Committed, Error> {
        let (pending, lost) = work.try_commit().await?;
        let Some(cause) = lost else { return Ok(pending) };
        let Some(transaction) = pending.transaction else { return Ok(pending) }; // it had written nothing
        match was_committed(&self.pool, transaction).await {
            Ok(true) => Ok(pending),
            Ok(false) => Err(Error::Commit(cause)),
            Err(_) => Err(Error::CommitUnknown { transaction: Some(transaction), cause }),
        }
    }
}

/// Grows with every attempt, and differs between two that met.
fn pause(attempt: u32) -> Duration {
    let draw = f64::from(Uuid::new_v4().as_bytes()[0]) / 256.0;
    PAUSE * 2_u32.saturating_pow(attempt.min(8)) / 2 + PAUSE.mul_f64(draw)
}
