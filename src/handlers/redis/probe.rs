//! Probing: connects and logs in as a delivery would, examines the stream, and tests whether entries would be accepted, without
//! adding one.

use redis::{RedisError, Value};

use super::RedisStreams;
use super::connection::Connection;
use crate::domain::{Reason, Verdict};

/// No server takes this for the id of an entry; it says so after it has looked at our rights, its memory and its role.
const NO_ID: &str = "outboxd-probe";

/// A server that refuses us was reached; then what it said is all there is to say.
fn unconnected(verdict: &Verdict) -> String {
    match verdict.reason {
        Reason::Unauthorized | Reason::NotFound | Reason::Misconfigured => verdict.detail.clone(),
        _ => format!("could not connect: {}", verdict.detail),
    }
}

impl RedisStreams {
    pub(super) async fn look(&self) -> Result<String, String> {
        let held = self.link.get(Connection::is_alive, || self.server.connect()).await;
        let connection = held.map_err(|verdict| unconnected(&verdict))?.connection;
        let looking = tokio::time::timeout(self.confirm_timeout, self.look_through(&connection));
        let found =
            looking.await.map_err(|_| format!("no answer from {} within {:?}", self.link.target(), self.confirm_timeout))??;
        let version = connection.facts.version.as_deref().unwrap_or("version unknown");
        let said = [vec![format!("connected to {} ({version})", self.link.target()), found], connection.facts.dangers.clone()];
        Ok(said.concat().join("; "))
    }

    async fn look_through(&self, connection: &Connection) -> Result<String, String> {
        let Some(stream) = self.stream.constant() else { return Ok("the stream depends on the event".to_owned()) };
        let found = self.look_at(stream, connection).await?;
        self.try_in_vain(stream, connection).await?;
        Ok(found)
    }

    async fn look_at(&self, stream: &str, connection: &Connection) -> Result<String, String> {
        let kind = redis::cmd("TYPE").arg(stream).query_async::<String>(&mut connection.commands.clone()).await;
        match kind.as_deref() {
            Ok("stream") => {}
            Ok("none") if self.form.creates_stream => return Ok(format!("the first event will create the stream {stream:?}")),
            Ok("none") => return Err(format!("there is no stream {stream:?}, and create_stream is false")),
            Ok(other) => return Err(format!("{stream:?} is a {other}, not a stream")),
            Err(error) => return self.hidden(stream, error),
        }
        match redis::cmd("XLEN").arg(stream).query_async::<u64>(&mut connection.commands.clone()).await {
            Ok(length) => Ok(format!("the stream {stream:?} has the length {length}")),
            Err(error) => self.hidden(stream, &error),
        }
    }

    /// A user that may only add entries is all that a relay needs.
    fn hidden(&self, stream: &str, error: &RedisError) -> Result<String, String> {
        match error.code() {
            Some("NOPERM") => Ok(format!("may not look at the stream {stream:?}")),
            _ => Err(self.server.setback(error).verdict.detail),
        }
    }

    async fn try_in_vain(&self, stream: &str, connection: &Connection) -> Result<(), String> {
        let mut command = redis::cmd("XADD");
        command.arg(stream).arg(NO_ID).arg("payload").arg("");
        match command.query_async::<Value>(&mut connection.commands.clone()).await {
            Err(error) if error.detail().is_some_and(|text| text.starts_with("Invalid stream ID")) => Ok(()),
            Err(error) => Err(self.server.setback(&error).verdict.detail),
            Ok(_) => Err(format!("{} took an entry that no Redis takes", self.link.target())),
        }
    }
}
