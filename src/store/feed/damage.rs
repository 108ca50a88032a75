//! Pages with an event that the server cannot read out, because its row is damaged. The page is narrowed down to that place, and
//! what is left of the event is returned without its payload. One damaged row must not keep all other events from every client.

use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::read::{FeedPage, PageQuery, PlacedEvent, read_page};
use crate::domain::Notification;
use crate::store::StoreError;

/// Reads the next page, and around an event that it fails on: what comes before that event, and the event itself without its payload if it is
/// known that it is wanted.
pub async fn read_page_around_damage(pool: &PgPool, query: &PageQuery<'_>) -> Result<FeedPage, StoreError> {
    match read_page(pool, query).await {
        Err(cause) if cause.is_about_data() => narrow(pool, query, cause).await,
        read => read,
    }
}

async fn narrow(pool: &PgPool, query: &PageQuery<'_>, mut cause: StoreError) -> Result<FeedPage, StoreError> {
    // Of no place at all: what fails even then has been asked for wrongly.
    let mut page = read_page(pool, &PageQuery { span: 0, ..query.clone() }).await?;
    // The places behind `after`: up to `readable` they can be read, up to `failing` they cannot.
    let (mut readable, mut failing) = (0, query.span.min((page.head - query.after).max(1)));
    while failing - readable > 1 {
        let span = readable + (failing - readable) / 2;
        match read_page(pool, &PageQuery { span, ..query.clone() }).await {
            // The page was full before the place.
            Ok(read) if read.reached < query.after + span => return Ok(read),
            Ok(read) => (readable, page) = (span, read),
            Err(error) if error.is_about_data() => (failing, cause) = (span, error),
            Err(error) => return Err(error),
        }
    }
    let place = query.after + failing;
    page.events.extend(read_place(pool, place, query, &cause).await?);
    page.reached = place;
    Ok(page)
}

/// The event at a place that cannot be read out. `None`: it is not wanted, or that cannot be known, and a client that may not see an event learns nothing
/// of it.
async fn read_place(
    pool: &PgPool,
    place: i64,
    query: &PageQuery<'_>,
    cause: &StoreError,
) -> Result<Option<PlacedEvent>, StoreError> {
    let mut found = try_place(pool, place, query, true).await;
    if found.as_ref().is_err_and(StoreError::is_about_data) {
        found = try_place(pool, place, query, false).await;
    }
    match found {
        Ok(event) => Ok(event.map(|event| PlacedEvent { place, event: Box::new(event), damage: Some(cause.innermost()) })),
        Err(error) if error.is_about_data() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn try_place(
    pool: &PgPool,
    place: i64,
    query: &PageQuery<'_>,
    with_details: bool,
) -> Result<Option<Notification>, StoreError> {
    let row = sqlx::query(include_str!("../sql/read_feed_place.sql"))
        .bind(place)
        .bind(query.types[0])
        .bind(query.types[1])
        .bind(query.types[2])
        .bind(query.headers)
        .bind(query.aggregate_id)
        .bind(with_details)
        .fetch_optional(pool)
        .await
        .map_err(StoreError::query("read what is left of an event of the feed"))?;
    row.as_ref().map(remains).transpose().map_err(StoreError::query("understand what is left of an event of the feed"))
}

fn remains(row: &PgRow) -> Result<Notification, sqlx::Error> {
    Ok(Notification {
        event_type: row.try_get("type")?,
        aggregate_type: row.try_get("aggregate_type")?,
        aggregate_id: row.try_get("aggregate_id")?,
        headers: row.try_get::<Option<String>, _>("headers")?.unwrap_or_else(|| "{}".to_owned()),
        occurred_at: row.try_get("occurred_at")?,
        ..Notification::unread(row.try_get("seq")?, row.try_get("id")?)
    })
}
