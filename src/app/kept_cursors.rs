//! Cursors that clients have left to the server: tells metrics and alerts how far each is behind. Reads, and changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::PgPool;
use tracing::warn;

use crate::config::ClientConfig;
use crate::relay::CursorLag;
use crate::store::feed::{ListedCursor, list_client_cursors};
use crate::telemetry::{CursorMetrics, chain};

/// After which it is not worth waiting for: the next look comes soon.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at the stored cursors of the configured clients again and again.
#[derive(Debug, Default)]
pub(super) struct KeptCursors {
    metrics: BTreeMap<(String, String), CursorMetrics>,
    is_failing: bool,
}

impl KeptCursors {
    /// Whether there is anything to look at.
    pub fn concerns(clients: &[ClientConfig]) -> bool {
        clients.iter().any(|client| !client.cursors.is_empty())
    }

    /// How far the stored cursors of these clients are behind. `None`: that could not be read.
    pub async fn look(&mut self, pool: &PgPool, clients: &[ClientConfig]) -> Option<Vec<CursorLag>> {
        let lags = if Self::concerns(clients) { lags_of(self.read(pool).await?, clients) } else { Vec::new() };
        self.show(&lags, clients);
        Some(lags)
    }

    async fn read(&mut self, pool: &PgPool) -> Option<Vec<ListedCursor>> {
        let failure = match tokio::time::timeout(PATIENCE, list_client_cursors(pool)).await {
            Ok(Ok(listed)) => {
                self.is_failing = false;
                return Some(listed);
            }
            Ok(Err(failure)) => chain(&failure),
            Err(_) => "no answer in time".to_owned(),
        };
        if !std::mem::replace(&mut self.is_failing, true) {
            warn!(error = failure, "could not look at the cursors of clients");
        }
        None
    }

    /// The series of a cursor that is configured no more, or was removed, goes to zero.
    fn show(&mut self, lags: &[CursorLag], clients: &[ClientConfig]) {
        for (client, name) in clients.iter().flat_map(|client| client.cursors.iter().map(move |name| (&client.name, name))) {
            let series = || CursorMetrics::new(client, name);
            self.metrics.entry((client.clone(), name.clone())).or_insert_with(series);
        }
        for ((client, name), metrics) in &self.metrics {
            let lag = lags.iter().find(|lag| lag.client == *client && lag.name == *name);
            metrics.lags(lag.map_or(0, |lag| lag.behind), lag.and_then(|lag| lag.oldest));
        }
    }
}

/// Of what is stored, that which the configuration knows.
fn lags_of(listed: Vec<ListedCursor>, clients: &[ClientConfig]) -> Vec<CursorLag> {
    let is_known =
        |cursor: &ListedCursor| clients.iter().any(|client| client.name == cursor.client && client.cursors.contains(&cursor.name));
    let lag = |ListedCursor { client, name, behind, oldest, .. }| CursorLag { client, name, behind, oldest };
    listed.into_iter().filter(is_known).map(lag).collect()
}
