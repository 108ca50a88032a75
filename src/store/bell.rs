//! The bell: the listening session, and the lock that decides whether producers ring. `relay::wake_up` has the protocol. Only
//! ever a hint; the poll is the truth.

use sqlx::postgres::{PgListener, PgPool};

use super::StoreError;
use crate::domain::Snapshot;

/// The session that makes producers notify, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BellLock {
    /// We hold the lock.
    Ours,
    /// Another relay holds it; its bell wakes us, too.
    AnotherRelay,
    /// A writer that skipped the bell is still in flight.
    NotNow,
}

/// The listening session.
pub struct BellSession(PgListener);

/// The reason of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// Events were recorded.
    Events,
    /// An operator changed something: pauses, replays.
    Control,
    /// The connection was lost and made anew: anything may have happened.
    Reconnected,
}

impl BellSession {
    /// Listens, and asks whether it does: something between us and the server may swallow LISTEN. The session has a pool of its own: when
    /// it ends, the driver sends UNLISTEN and waits for the answer without a limit. A session of `pool` that has fallen silent would stay
    /// counted there for ever.
    pub async fn open(pool: &PgPool) -> Result<Self, StoreError> {
        let error = || StoreError::query("listen for wake-ups");
        let channel: String =
            sqlx::query_scalar(include_str!("sql/read_bell_channel.sql")).fetch_one(pool).await.map_err(error())?;
        let own = pool.options().clone().max_connections(1).connect_lazy_with((*pool.connect_options()).clone());
        let mut listener = PgListener::connect_with(&own).await.map_err(error())?;
        listener.listen(&channel).await.map_err(error())?;
        let mut session = Self(listener);
        session.check().await?;
        Ok(session)
    }

    /// Whether the session still listens; finds half-open sockets, too. Bounded by the statement timeout of the caller.
    pub async fn check(&mut self) -> Result<(), StoreError> {
        let is_listening: bool = sqlx::query_scalar(include_str!("sql/check_listening.sql"))
            .fetch_one(&mut self.0)
            .await
            .map_err(StoreError::query("check the listening session"))?;
        if is_listening {
            return Ok(());
        }
        Err(StoreError::Refused(
            "something on the way to the server swallows LISTEN; connect directly, or set relay.wake_up = \"poll\"".to_owned(),
        ))
    }

    /// Tries to make producers ring from now on.
    pub async fn lock(&mut self) -> Result<BellLock, StoreError> {
        let error = || StoreError::query("take the bell");
        if sqlx::query_scalar(include_str!("sql/lock_bell.sql")).fetch_one(&mut self.0).await.map_err(error())? {
            return Ok(BellLock::Ours);
        }
        let theirs: bool =
            sqlx::query_scalar(include_str!("sql/find_bell_holder.sql")).fetch_one(&mut self.0).await.map_err(error())?;
        Ok(if theirs { BellLock::AnotherRelay } else { BellLock::NotNow })
    }

    /// The moment from which [`Self::find_news`] can look on.
    pub async fn moment(&mut self) -> Result<Snapshot, StoreError> {
        let text: String = sqlx::query_scalar(include_str!("sql/read_snapshot.sql"))
            .fetch_one(&mut self.0)
            .await
            .map_err(StoreError::query("look at the log"))?;
        parsed(&text)
    }

    /// Whether an event has become visible since then, and the moment from which to look on. Finds half-open sockets, too.
    pub async fn find_news(&mut self, since: &Snapshot) -> Result<(bool, Snapshot), StoreError> {
        let (text, has_news): (String, bool) = sqlx::query_as(include_str!("sql/find_news.sql"))
            .bind(since.as_str())
            .fetch_one(&mut self.0)
            .await
            .map_err(StoreError::query("look at the log"))?;
        Ok((has_news, parsed(&text)?))
    }

    /// Producers may skip the bell again.
    pub async fn unlock(&mut self) -> Result<(), StoreError> {
        sqlx::query(include_str!("sql/unlock_bell.sql"))
            .execute(&mut self.0)
            .await
            .map_err(StoreError::query("release the bell"))?;
        Ok(())
    }

    /// Waits for the next ring. Rings that came together are one.
    pub async fn next(&mut self) -> Result<Ring, StoreError> {
        let first = self.0.try_recv().await.map_err(StoreError::query("wait for a wake-up"))?;
        let Some(first) = first else { return Ok(Ring::Reconnected) };
        let mut is_control = first.payload() == CONTROL;
        while let Some(another) = self.0.next_buffered() {
            is_control |= another.payload() == CONTROL;
        }
        Ok(if is_control { Ring::Control } else { Ring::Events })
    }
}

fn parsed(text: &str) -> Result<Snapshot, StoreError> {
    text.parse().map_err(|error| StoreError::query("understand a look at the log")(sqlx::Error::Decode(Box::new(error))))
}

/// Payload of a ring by an operator's command.
const CONTROL: &str = "control";

/// Rings the bell on behalf of an operator: every listening relay looks at once.
pub async fn ring_control<'e>(executor: impl sqlx::PgExecutor<'e>) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/ring_control.sql"))
        .bind(CONTROL)
        .execute(executor)
        .await
        .map_err(StoreError::query("wake the relay"))?;
    Ok(())
}
