//! Poolers: whether one stands between the relay and the server, and whether the session behind it is the relay's own. A pooler
//! in transaction mode is refused at the start.
//!
//! Why: a statement is prepared in one round trip and executed in the next. Between the two such a pooler may give the connection
//! another session, in which the statement does not exist or is another client's. Settings and locks of a session would reach the
//! application.
//!
//! One connection cannot notice this. Asking whether LISTEN took effect does not show it either, while the pooler happens to
//! return the same session. So two connections are compared, one of them inside a transaction.
//!
//! Changes nothing on the way: a shared session belongs to the application, too, and would keep what outboxd sets.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor, Row};

/// How the session at the other end takes its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sessions {
    /// At the start, as Postgres does.
    Direct,
    /// Behind a pooler that drops or refuses them: each connection has to set them after its start.
    Pooled,
}

/// Looks at the way to the server. Refuses a pooler that shares sessions between transactions, which cannot be noticed by one connection:
/// always if `thoroughly`, else only where something looks like a pooler at all.
pub(super) async fn inspect(
    options: &PgConnectOptions,
    plain: &PgConnectOptions,
    search_path: &str,
    timeout: Duration,
    thoroughly: bool,
) -> Result<Sessions, Inspection> {
    let looking = async {
        let sessions = match look(options).await {
            Ok((_, found)) if found == search_path => Sessions::Direct,
            Ok(_) => Sessions::Pooled,
            Err(error) if refuses_settings(&error) => Sessions::Pooled,
            Err(error) => return Err(Inspection::Failed(error)),
        };
        if thoroughly || sessions == Sessions::Pooled {
            let options = if sessions == Sessions::Pooled { plain } else { options };
            if is_shared(options).await.map_err(Inspection::Failed)? {
                return Err(Inspection::Shared);
            }
        }
        Ok(sessions)
    };
    tokio::time::timeout(timeout, looking).await.unwrap_or(Err(Inspection::Failed(sqlx::Error::PoolTimedOut)))
}

/// Why there is no way through.
#[derive(Debug)]
pub(super) enum Inspection {
    Failed(sqlx::Error),
    /// A pooler in transaction or statement mode.
    Shared,
}

/// Connects once, and gives the session that answered and its search path.
async fn look(options: &PgConnectOptions) -> Result<(i32, String), sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let found = read_session(&mut connection).await?;
    connection.close().await?;
    Ok(found)
}

async fn read_session(connection: &mut PgConnection) -> Result<(i32, String), sqlx::Error> {
    let row = connection.fetch_one(sqlx::raw_sql(include_str!("sql/read_session.sql"))).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// PgBouncer does not know the startup parameter `options`; from 1.20 on it knows some of what may stand in it.
fn refuses_settings(error: &sqlx::Error) -> bool {
    is_protocol_violation(error) && error.as_database_error().is_some_and(|error| error.message().contains("startup parameter"))
}

fn is_protocol_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("08P01"))
}

/// Whether two connections that are open at once can meet the same session, or one connection two: never with a session of one's own.
/// While the second holds a session in a transaction, the first must be given another one; whichever order the pooler has, one of the
/// looks shows it.
async fn is_shared(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    let (mut first, mut second) = (PgConnection::connect_with(options).await?, PgConnection::connect_with(options).await?);
    let (mine, _) = read_session(&mut first).await?;
    let mut transaction = match second.begin().await {
        Ok(transaction) => transaction,
        // A pooler in statement mode knows no transactions at all.
        Err(error) if is_protocol_violation(&error) => return Ok(true),
        Err(error) => return Err(error),
    };
    let (theirs, _) = read_session(&mut transaction).await?;
    if theirs == mine {
        return Ok(true);
    }
    let (while_held, _) = read_session(&mut first).await?;
    transaction.rollback().await?;
    let (afterwards, _) = read_session(&mut first).await?;
    let is_shared = while_held != mine || afterwards != mine;
    if !is_shared {
        first.close().await?;
        second.close().await?;
    }
    Ok(is_shared)
}
