//! The switch: readers of the view see another version from one moment on, in one transaction, once that version has come as far as the live
//! one. While it waits for that, the live version stands still, and the other one catches up.
//! A transaction that ends in the middle leaves everything as it was.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::super::functions::quoted_name;
use super::super::{Actor, StoreError, begin, commit, ring_control};
use super::acts::{lock, lock_subscription, note};
use super::{StoppedAt, Version, list};
use crate::domain::{covers, reached_seq};
use crate::failpoints::failpoint;

/// A version that is farther behind than this is not waited for: the live one would stand still for nothing.
const NEAR: i64 = 10_000;
/// Between looks at how far it has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The requested switch.
#[derive(Debug, Clone, Copy)]
pub struct Switch<'a> {
    pub name: &'a str,
    pub version: u32,
    /// How long the live version may stand still.
    pub patience: Duration,
    /// Switch although the version has seen fewer events than the live one.
    pub accepts_missing: bool,
    pub actor: Actor<'a>,
    pub because: Option<&'a str>,
}

/// The result.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Switched {
    /// Readers see the version. `from`: the one that was live before.
    Done { from: Option<u32>, view: Option<String> },
    /// There is no such version, or it was dropped.
    Unknown,
    /// It stands at an event.
    Stopped(StoppedAt),
    /// It has not come as far: the sequence numbers that both have reached.
    Behind { own: i64, live: i64, is_served: bool },
    /// At the same position it has seen fewer events: some are not in the log any more.
    Missing { own: u64, live: u64 },
    /// Postgres refused to replace the view.
    Refused(String),
}

/// Lets readers see a version.
pub async fn switch(pool: &PgPool, wish: &Switch<'_>) -> Result<Switched, StoreError> {
    let mut transaction = begin(pool).await?;
    let versions = lock(&mut transaction, wish.name).await?;
    let Some(version) = find(&versions, wish.version).cloned() else { return Ok(Switched::Unknown) };
    let live = versions.iter().find(|version| version.is_live && version.version != wish.version).cloned();
    if let Some(live) = &live {
        if let Some(stopped) = &version.stopped {
            return Ok(Switched::Stopped(stopped.clone()));
        }
        if distance(&version, live) > NEAR {
            return Ok(behind(&version, live));
        }
        // From here on the live version records nothing, and what it was doing is told that it is not live any more.
        lock_subscription(&mut transaction, live).await?;
        failpoint!("projection-switch-locked");
        if let Some(refusal) = catch_up(pool, &mut transaction, wish, live.version).await? {
            return Ok(refusal);
        }
    }
    lock_subscription(&mut transaction, &version).await?;
    if let (Some(view), Some(target)) = (&version.view, &version.target)
        && let Some(why) = replace_view(&mut transaction, view, target).await?
    {
        return Ok(Switched::Refused(why));
    }
    failpoint!("projection-view-replaced");
    sqlx::query(include_str!("../sql/make_projection_live.sql"))
        .bind(wish.name)
        .bind(i32::try_from(wish.version).unwrap_or(i32::MAX))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("make the version live"))?;
    let from = live.map(|live| live.version);
    let details = serde_json::json!({ "from": from, "view": version.view, "target": version.target });
    note(&mut transaction, "switch", &version, (wish.actor, wish.because), &details).await?;
    commit(transaction).await?;
    failpoint!("projection-switched");
    Ok(Switched::Done { from, view: version.view.filter(|_| version.target.is_some()) })
}

/// Waits until the version is where the live one stands. `Some`: it is not, or it lacks something.
async fn catch_up(
    pool: &PgPool,
    connection: &mut PgConnection,
    wish: &Switch<'_>,
    live: u32,
) -> Result<Option<Switched>, StoreError> {
    let until = Instant::now() + wish.patience;
    // In a transaction of its own: this one's would ring at its end.
    ring_control(pool).await?;
    loop {
        let versions = list(&mut *connection).await?;
        let of_projection: Vec<Version> = versions.into_iter().filter(|version| version.name == wish.name).collect();
        let (Some(version), Some(live)) = (find(&of_projection, wish.version), find(&of_projection, live)) else {
            return Ok(Some(Switched::Unknown));
        };
        if let Some(stopped) = &version.stopped {
            return Ok(Some(Switched::Stopped(stopped.clone())));
        }
        if version.position.as_ref().zip(live.position.as_ref()).is_some_and(|(own, live)| covers(own, live)) {
            let lacks = version.filter == live.filter && version.handled < live.handled && !wish.accepts_missing;
            return Ok(lacks.then_some(Switched::Missing { own: version.handled, live: live.handled }));
        }
        if Instant::now() >= until {
            return Ok(Some(behind(version, live)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn find(versions: &[Version], number: u32) -> Option<&Version> {
    versions.iter().find(|version| version.version == number)
}

fn reached(version: &Version) -> i64 {
    version.position.as_ref().map_or(0, reached_seq)
}

fn distance(version: &Version, live: &Version) -> i64 {
    reached(live).saturating_sub(reached(version))
}

fn behind(version: &Version, live: &Version) -> Switched {
    Switched::Behind {
        own: reached(version),
        live: reached(live),
        is_served: version.owner.is_some() && version.paused_at.is_none(),
    }
}

/// Lets the view show the target. A view with other columns is made anew, with the rights that were granted on it. `Some`: why Postgres
/// refuses; the transaction is of no use then.
async fn replace_view(connection: &mut PgConnection, view: &str, target: &str) -> Result<Option<String>, StoreError> {
    let (view, target) = (quoted_name(view), quoted_name(target));
    // Readers that come after this wait behind it; so it must not wait long for one that stays.
    let statement =
        format!("set local lock_timeout = '2s'; savepoint view; create or replace view {view} as select * from {target}");
    let refusal = match run(connection, statement).await? {
        None => return Ok(None),
        Some((code, message)) if code == "42P16" => message,
        Some((_, message)) => return Ok(Some(message)),
    };
    if let Some((_, message)) = run(connection, "rollback to savepoint view".to_owned()).await? {
        return Ok(Some(message));
    }
    let rights: Vec<String> = sqlx::query_scalar(include_str!("../sql/read_view_rights.sql"))
        .bind(&view)
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::query("read who may use the view"))?;
    let anew = format!("drop view {view}; create view {view} as select * from {target}; {}", rights.join("; "));
    Ok(run(connection, anew).await?.map(|(_, message)| format!("{refusal}; and it could not be made anew: {message}")))
}

/// `Some`: the code and the words with which Postgres refuses.
async fn run(connection: &mut PgConnection, statements: String) -> Result<Option<(String, String)>, StoreError> {
    match sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await {
        Ok(_) => Ok(None),
        Err(sqlx::Error::Database(refusal)) => {
            Ok(Some((refusal.code().unwrap_or_default().into_owned(), refusal.message().to_owned())))
        }
        Err(cause) => Err(StoreError::query("replace the view")(cause)),
    }
}
