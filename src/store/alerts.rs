//! Alerts as they are stored: the conditions, what each channel was told, and who looks after them.
//! One owner at a time, by a lease with a rising epoch: whatever it writes passes the fence first. People write single rows.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, PgExecutor, PgPool, Postgres, Row, Transaction};
use uuid::Uuid;

use super::text::{storable, storable_json, storable_or_none};
use super::{Actor, AuditEntry, StoreError, begin, commit, record_audit};
use crate::domain::Timestamp;
use crate::domain::alerts::{Alert, Sample, Told};

/// How a channel is doing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct ChannelRow {
    pub name: String,
    pub kind: String,
    pub last_sent_at: Option<Timestamp>,
    /// In a row, since it last took something.
    pub failures: u32,
    pub last_error: Option<String>,
    pub failed_at: Option<Timestamp>,
    /// Nothing is sent before this.
    pub retry_at: Option<Timestamp>,
}

/// What a channel was last told of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeRow {
    /// The key of the alert.
    pub alert: String,
    pub channel: String,
    pub told: Told,
}

/// A dead letter as an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExampleRow {
    pub event: Uuid,
    pub event_type: String,
    pub reason: Option<String>,
    pub status: Option<i32>,
    pub detail: Option<String>,
}

/// The newest dead letter of a handler.
pub async fn read_newest_dead_letter(pool: &PgPool, handler: &str) -> Result<Option<ExampleRow>, StoreError> {
    let row = sqlx::query(include_str!("sql/read_newest_dead_letter.sql"))
        .bind(handler)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("look at a dead letter"))?;
    let example = |row: PgRow| {
        Ok(ExampleRow {
            event: row.try_get(0)?,
            event_type: row.try_get(1)?,
            reason: row.try_get(2)?,
            status: row.try_get(3)?,
            detail: row.try_get(4)?,
        })
    };
    row.map(example).transpose().map_err(StoreError::query("understand a dead letter"))
}

/// Takes the alerts, if nobody looks after them; gives the new epoch.
pub async fn acquire(pool: &PgPool, instance: &str, lease: Duration) -> Result<Option<i64>, StoreError> {
    sqlx::query_scalar(include_str!("sql/acquire_alerts.sql"))
        .bind(instance)
        .bind(micros(lease))
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("take up the alerts"))
}

/// The fence: renews the lease and gives the time of the database. `None`: the lease is lost, write nothing.
pub async fn hold(executor: impl PgExecutor<'_>, epoch: i64, lease: Duration) -> Result<Option<Timestamp>, StoreError> {
    sqlx::query_scalar(include_str!("sql/hold_alerts.sql"))
        .bind(epoch)
        .bind(micros(lease))
        .fetch_optional(executor)
        .await
        .map_err(StoreError::query("keep the alerts"))
}

/// Gives the alerts back.
pub async fn release(pool: &PgPool, epoch: i64) -> Result<(), StoreError> {
    let released = sqlx::query(include_str!("sql/release_alerts.sql")).bind(epoch).execute(pool).await;
    released.map(drop).map_err(StoreError::query("give back the alerts"))
}

/// Keeps people's changes out until the end of the transaction.
pub async fn lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    let locked = sqlx::query(include_str!("sql/lock_alerts.sql")).execute(connection).await;
    locked.map(drop).map_err(StoreError::query("wait for people who change alerts"))
}

/// Every alert that is remembered and that this version understands, the newest change first. A newer one may know other kinds.
pub async fn read(executor: impl PgExecutor<'_>) -> Result<Vec<Alert>, StoreError> {
    let rows =
        sqlx::query(include_str!("sql/read_alerts.sql")).fetch_all(executor).await.map_err(StoreError::query("read the alerts"))?;
    Ok(rows.iter().filter_map(|row| alert(row).ok()).collect())
}

fn alert(row: &PgRow) -> Result<Alert, sqlx::Error> {
    let count = |column: &str| row.try_get::<i64, _>(column).map(|count| count.max(0).unsigned_abs());
    let sample = row.try_get::<Option<String>, _>("sample")?;
    Ok(Alert {
        kind: word(row, "kind")?,
        subject: row.try_get("subject")?,
        severity: word(row, "severity")?,
        status: word(row, "status")?,
        started_at: row.try_get("started_at")?,
        last_seen_at: row.try_get("last_seen_at")?,
        changed_at: row.try_get("changed_at")?,
        revision: count("revision")?,
        count: count("count")?,
        age_seconds: row.try_get::<Option<i64>, _>("age_seconds")?.map(|age| age.max(0).unsigned_abs()),
        detail: row.try_get("detail")?,
        sample: sample.and_then(|text| serde_json::from_str::<Sample>(&text).ok()),
        told_count: count("told_count")?,
        told_at: row.try_get("told_at")?,
        clear_since: row.try_get("clear_since")?,
        snoozed_until: row.try_get("snoozed_until")?,
        acknowledged_by: row.try_get("acknowledged_by")?,
    })
}

fn word<T: std::str::FromStr<Err = ()>>(row: &PgRow, column: &str) -> Result<T, sqlx::Error> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|()| sqlx::Error::Decode(format!("{text:?} is no {column} of an alert").into()))
}

/// Writes one alert as a whole. One whose texts Postgres refuses is written without them: it must not keep the others from people.
pub async fn save(connection: &mut PgConnection, alert: &Alert) -> Result<(), StoreError> {
    let mut savepoint = savepoint(connection).await?;
    match try_save(&mut savepoint, alert).await {
        Err(error) if error.is_about_data() => undo(savepoint).await?,
        saved => return keep(savepoint, saved).await,
    }
    let why = "its detail could not be stored".to_owned();
    let plain = Alert {
        detail: Some(why),
        sample: None,
        acknowledged_by: alert.acknowledged_by.as_ref().map(|_| String::new()),
        ..alert.clone()
    };
    try_save(connection, &plain).await
}

async fn savepoint(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, StoreError> {
    connection.begin().await.map_err(StoreError::query("store what alerts are about"))
}

async fn undo(savepoint: Transaction<'_, Postgres>) -> Result<(), StoreError> {
    savepoint.rollback().await.map_err(StoreError::query("store what alerts are about"))
}

async fn keep(savepoint: Transaction<'_, Postgres>, saved: Result<(), StoreError>) -> Result<(), StoreError> {
    saved?;
    savepoint.commit().await.map_err(StoreError::query("store what alerts are about"))
}

async fn try_save(connection: &mut PgConnection, alert: &Alert) -> Result<(), StoreError> {
    let sample = alert.sample.as_ref().map(|sample| serde_json::to_string(sample).expect("a sample is JSON"));
    sqlx::query(include_str!("sql/save_alert.sql"))
        .bind(alert.key())
        .bind(alert.kind.as_str())
        .bind(storable(&alert.subject))
        .bind(alert.severity.as_str())
        .bind(alert.status.as_str())
        .bind(alert.started_at)
        .bind(alert.last_seen_at)
        .bind(alert.changed_at)
        .bind(alert.revision.cast_signed())
        .bind(alert.count.cast_signed())
        .bind(alert.age_seconds.map(u64::cast_signed))
        .bind(storable_or_none(alert.detail.as_deref()))
        .bind(sample.as_deref().map(storable_json))
        .bind(alert.told_count.cast_signed())
        .bind(alert.told_at)
        .bind(alert.clear_since)
        .bind(alert.snoozed_until)
        .bind(storable_or_none(alert.acknowledged_by.as_deref()))
        .execute(connection)
        .await
        .map(drop)
        .map_err(StoreError::query("store an alert"))
}

/// Forgets an alert and what was told of it.
pub async fn remove(connection: &mut PgConnection, key: &str) -> Result<(), StoreError> {
    let removed = sqlx::query(include_str!("sql/remove_alert.sql")).bind(key).execute(connection).await;
    removed.map(drop).map_err(StoreError::query("forget an alert"))
}

/// What every channel was last told.
pub async fn read_notices(executor: impl PgExecutor<'_>) -> Result<Vec<NoticeRow>, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_alert_notices.sql"))
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("read what channels were told"))?;
    let notice = |row: &PgRow| {
        let told = Told {
            revision: row.try_get::<i64, _>(2)?.max(0).unsigned_abs(),
            is_firing: row.try_get(3)?,
            sent_at: row.try_get(4)?,
            thread: row.try_get(5)?,
        };
        Ok(NoticeRow { alert: row.try_get(0)?, channel: row.try_get(1)?, told })
    };
    rows.iter().map(notice).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand what channels were told"))
}

/// Remembers what a channel was told, if need be without the thread that it named.
pub async fn save_notice(connection: &mut PgConnection, notice: &NoticeRow) -> Result<(), StoreError> {
    let mut savepoint = savepoint(connection).await?;
    match try_save_notice(&mut savepoint, notice).await {
        Err(error) if error.is_about_data() => undo(savepoint).await?,
        saved => return keep(savepoint, saved).await,
    }
    let plain = NoticeRow { told: Told { thread: None, ..notice.told.clone() }, ..notice.clone() };
    try_save_notice(connection, &plain).await
}

async fn try_save_notice(connection: &mut PgConnection, notice: &NoticeRow) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/save_alert_notice.sql"))
        .bind(&notice.alert)
        .bind(&notice.channel)
        .bind(notice.told.revision.cast_signed())
        .bind(notice.told.is_firing)
        .bind(notice.told.sent_at)
        .bind(storable_or_none(notice.told.thread.as_deref()))
        .execute(connection)
        .await
        .map(drop)
        .map_err(StoreError::query("remember what a channel was told"))
}

/// How every channel is doing that was ever used.
pub async fn read_channels(executor: impl PgExecutor<'_>) -> Result<Vec<ChannelRow>, StoreError> {
    let rows = sqlx::query(include_str!("sql/read_alert_channels.sql"))
        .fetch_all(executor)
        .await
        .map_err(StoreError::query("read how the channels are doing"))?;
    let channel = |row: &PgRow| {
        Ok(ChannelRow {
            name: row.try_get(0)?,
            kind: row.try_get(1)?,
            last_sent_at: row.try_get(2)?,
            failures: row.try_get::<i32, _>(3)?.max(0).unsigned_abs(),
            last_error: row.try_get(4)?,
            failed_at: row.try_get(5)?,
            retry_at: row.try_get(6)?,
        })
    };
    rows.iter().map(channel).collect::<Result<_, sqlx::Error>>().map_err(StoreError::query("understand how the channels are doing"))
}

/// Remembers how a channel is doing, if need be without its error.
pub async fn save_channel(connection: &mut PgConnection, channel: &ChannelRow) -> Result<(), StoreError> {
    let mut savepoint = savepoint(connection).await?;
    match try_save_channel(&mut savepoint, channel).await {
        Err(error) if error.is_about_data() => undo(savepoint).await?,
        saved => return keep(savepoint, saved).await,
    }
    let why = channel.last_error.as_ref().map(|_| "its error could not be stored".to_owned());
    try_save_channel(connection, &ChannelRow { last_error: why, ..channel.clone() }).await
}

async fn try_save_channel(connection: &mut PgConnection, channel: &ChannelRow) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/save_alert_channel.sql"))
        .bind(&channel.name)
        .bind(&channel.kind)
        .bind(channel.last_sent_at)
        .bind(i32::try_from(channel.failures).unwrap_or(i32::MAX))
        .bind(storable_or_none(channel.last_error.as_deref()))
        .bind(channel.failed_at)
        .bind(channel.retry_at)
        .execute(connection)
        .await
        .map(drop)
        .map_err(StoreError::query("remember how a channel is doing"))
}

/// Forgets the channels that are not among these.
pub async fn keep_channels(connection: &mut PgConnection, names: &[String]) -> Result<(), StoreError> {
    let removed = sqlx::query(include_str!("sql/remove_alert_channels.sql")).bind(names).execute(connection).await;
    removed.map(drop).map_err(StoreError::query("forget the channels that have gone"))
}

/// A person knows. `false`: it is not firing; then nothing is written.
pub async fn acknowledge(pool: &PgPool, key: &str, actor: Actor<'_>, reason: Option<&str>) -> Result<bool, StoreError> {
    let mut transaction = begin(pool).await?;
    let changed = sqlx::query(include_str!("sql/acknowledge_alert.sql"))
        .bind(key)
        .bind(storable(actor.name))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("acknowledge the alert"))?
        .rows_affected();
    if changed == 0 {
        return Ok(false);
    }
    note(&mut transaction, "acknowledge", actor, &serde_json::json!({ "alert": key }), reason).await?;
    commit(transaction).await?;
    Ok(true)
}

/// Silence for so long; none: tell people again. `false`: there is no such alert, or it is over; then nothing is written.
pub async fn snooze(pool: &PgPool, key: &str, time: Duration, actor: Actor<'_>, reason: Option<&str>) -> Result<bool, StoreError> {
    let mut transaction = begin(pool).await?;
    let changed = sqlx::query(include_str!("sql/snooze_alert.sql"))
        .bind(key)
        .bind(micros(time))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::query("snooze the alert"))?
        .rows_affected();
    if changed == 0 {
        return Ok(false);
    }
    let filter = serde_json::json!({ "alert": key, "seconds": time.as_secs() });
    note(&mut transaction, "snooze", actor, &filter, reason).await?;
    commit(transaction).await?;
    Ok(true)
}

async fn note(
    connection: &mut PgConnection,
    action: &'static str,
    actor: Actor<'_>,
    filter: &serde_json::Value,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let filter = filter.to_string();
    record_audit(connection, &AuditEntry { actor, action, handler: None, filter: &filter, affected: 1, reason }).await
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
