//! A look at the feed for an operator: the events that a client would see, with the same filters and the same rendering, by
//! pages.

use std::sync::Arc;

use sqlx::PgPool;

use super::access::Doors;
use super::cursor::{Refusal, Start};
use super::problem::Problem;
use super::reader::{Reader, Source, Trouble, check_cursor};
use super::render::Renderer;
use super::seal::Cursors;
use super::tail::Tail;
use crate::config::{self, ClientConfig};
use crate::store::StoreError;
use crate::telemetry::ContractUse;

/// What became of a cursor that a client has left to the server, in a word.
pub async fn judge_stored(pool: &PgPool, cursor: &str) -> Result<&'static str, LookError> {
    let Ok(Start::At(cursor)) = cursor.parse() else { return Ok("another-history") };
    match check_cursor(pool, cursor).await {
        Ok(()) => Ok("valid"),
        Err(Trouble::Store(error)) => Err(LookError::Store(error)),
        Err(Trouble::Refused(Refusal::Expired { .. }, _)) => Ok("expired"),
        Err(Trouble::Refused(Refusal::Diverged { .. }, _)) => Ok("history-diverged"),
        Err(_) => Ok("another-history"),
    }
}

/// The way of one client through the feed.
pub struct Look(Reader);

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error(transparent)]
    Store(StoreError),
    #[error("{0}")]
    Refused(String),
}

impl From<Trouble> for LookError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Store(error) => Self::Store(error),
            // The cursor in it is of no use here: only the words are shown.
            other => Self::Refused(Problem::of(&other, None, &Cursors::plain()).to_string()),
        }
    }
}

impl Look {
    /// Begins where the client would.
    pub async fn begin(pool: PgPool, feed: &config::Feed, client: &ClientConfig, after: &str) -> Result<Self, LookError> {
        let start = Cursors::new(feed).start(after).map_err(|error| LookError::Refused(error.to_string()))?;
        let source = Source::new(pool, None, Renderer::new(&feed.source, Cursors::new(feed)), Tail::new(0));
        let doors = Doors::new(&feed.events, std::slice::from_ref(client), ContractUse::default());
        let Some(client) = doors.first() else {
            return Err(LookError::Refused("[feed] events is not set, so there is no feed".to_owned()));
        };
        let filter = client.filter().clone();
        Ok(Self(Reader::open(Arc::new(source), &client, filter, start).await?))
    }

    /// The next events as JSON, and whether there is nothing more now.
    pub async fn next(&mut self, most: usize) -> Result<(Vec<String>, bool), LookError> {
        let batch = self.0.read(most).await?;
        let events = batch.events.iter().map(|event| String::from_utf8_lossy(&event.form.json).replace(['\n', '\r'], " "));
        Ok((events.collect(), batch.is_up_to_date))
    }
}
