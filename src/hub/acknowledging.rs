//! `Ack`: a client of the hub leaves its cursor to the server.

use serde_json::Value;

use super::calls::{mistake, read_acknowledgement};
use crate::feed::access::Client;
use crate::feed::kept;
use crate::feed::reader::Trouble;
use crate::feed::routes::{keep_pace, problem_of};
use crate::feed::{Feed, Refusal, Start};

/// Stores how far a client is, unless it has been further. `Err`: the message for the client.
pub async fn acknowledge(feed: &Feed, client: &Client, arguments: Vec<Value>) -> Result<Value, String> {
    keep_pace(client).map_err(|problem| problem.to_json().to_string())?;
    let (text, name) = read_acknowledgement(arguments).map_err(|error| mistake(&error))?;
    let cursor = match feed.source.cursors.start(&text) {
        Ok(Start::At(cursor)) => cursor,
        Ok(Start::Foreign) => {
            let foreign = Trouble::Refused(Refusal::AnotherHistory, None);
            return Err(problem_of(&feed.source, &foreign, None).to_json().to_string());
        }
        _ => return Err(mistake("cursor: expected the cursor of an event, as the hub has sent it")),
    };
    let stored = kept::acknowledge(feed, client, name.as_deref(), cursor).await;
    stored.map(|()| Value::Null).map_err(|problem| problem.to_json().to_string())
}
