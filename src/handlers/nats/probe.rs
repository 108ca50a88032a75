//! Probing: connects as a delivery would and looks for the stream. Publishes nothing and changes nothing.

use std::time::Duration;

use async_nats::jetstream::context::{GetStreamByNameErrorKind, GetStreamErrorKind, RequestErrorKind};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::Info;
use serde_json::Value;
use tokio::time::timeout;

use super::Nats;
use super::connect::Connection;
use super::settings::Mode;
use crate::settings::describe_duration;

/// For one question. A user who may not ask gets no answer at all.
const LOOK_UP: Duration = Duration::from_secs(2);

impl Nats {
    pub(super) async fn look(&self) -> Result<String, String> {
        let connection = self.dialer.dial().await.map_err(|verdict| {
            let verdict = self.without_secrets(verdict);
            format!("could not connect: {}", verdict.detail)
        })?;
        let connected = format!("connected to {} (nats-server {})", connection.server, connection.client.server_info().version);
        let found = match self.mode {
            Mode::Core => Ok("core NATS keeps nothing: who does not listen just then never gets the event".to_owned()),
            Mode::JetStream => self.find(&connection).await,
        };
        found.map(|found| format!("{connected}, {found}")).map_err(|problem| format!("{connected}, but {problem}"))
    }

    async fn find(&self, connection: &Connection) -> Result<String, String> {
        let takes = match self.subjects.constant() {
            Some(subject) => Some(takes(connection, subject).await?),
            None => None,
        };
        match (takes.flatten(), &self.stream) {
            (Some(taker), Some(stream)) if taker != *stream => {
                Err(format!("the subject belongs to the stream {taker}, not to {stream}"))
            }
            (_, Some(stream)) => stream_of(connection, stream).await,
            (Some(taker), None) => stream_of(connection, &taker).await,
            (None, None) => account_of(connection).await,
        }
    }
}

/// The stream that takes a subject; `None`: no answer.
async fn takes(connection: &Connection, subject: &str) -> Result<Option<String>, String> {
    match timeout(LOOK_UP, connection.jetstream.stream_by_subject(subject)).await {
        Ok(Ok(stream)) => Ok(Some(stream)),
        Ok(Err(error)) if error.kind() == GetStreamByNameErrorKind::NotFound => {
            Err(format!("no stream takes the subject {subject}"))
        }
        _ => Ok(None),
    }
}

async fn stream_of(connection: &Connection, stream: &str) -> Result<String, String> {
    match timeout(LOOK_UP, connection.jetstream.get_stream(stream)).await {
        Ok(Ok(found)) => Ok(describe(found.cached_info())),
        Ok(Err(error)) => match error.kind() {
            GetStreamErrorKind::JetStream(error) => Err(format!("the stream {stream} cannot be used: {error}")),
            _ => account_of(connection).await,
        },
        Err(_) => Ok(format!("the stream {stream} could not be looked at: no answer, perhaps no permission")),
    }
}

fn describe(info: &Info) -> String {
    let (config, subjects) = (&info.config, info.config.subjects.join(", "));
    format!("stream {} takes {subjects} and remembers ids for {}", config.name, describe_duration(config.duplicate_window))
}

// Read as it comes: the client's own type of this answer has fields that older servers do not send.
async fn account_of(connection: &Connection) -> Result<String, String> {
    let asked = connection.jetstream.request::<_, _, Response<Value>>("INFO", &());
    match timeout(LOOK_UP, asked).await {
        Ok(Ok(Response::Ok(account))) => Ok(format!("JetStream is on, with {} streams", account["streams"])),
        Ok(Ok(Response::Err { error })) => Err(format!("JetStream cannot be used: {error}")),
        Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Err("JetStream is not on".to_owned()),
        _ => Ok("JetStream could not be looked at: no answer, perhaps no permission".to_owned()),
    }
}
