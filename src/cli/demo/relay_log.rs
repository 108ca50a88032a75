//! The relay's own log during the demo: written to a file, and read along for the story.
//! Nothing of it reaches the screen as it is.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tracing::Event;
use tracing::field::{Field, Visit};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use uuid::Uuid;

use super::ledger::Ledger;
use super::story::{Fact, Story};
use crate::telemetry::logging;

/// Sends the logs of this process to a file and what they say about deliveries to the story.
pub fn install(path: &Path, ledger: Arc<Ledger>, story: Story) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let file = Mutex::new(File::create(path)?);
    tracing_subscriber::registry()
        .with(Listener { ledger, story })
        .with(logging::parse_filter("info")?)
        .with(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(file))
        .try_init()?;
    Ok(())
}

struct Listener {
    ledger: Arc<Ledger>,
    story: Story,
}

impl Layer<Registry> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, Registry>) {
        if !event.metadata().target().starts_with("outboxd::relay") {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(fact) = self.understand(&fields) {
            self.story.tell(fact);
        }
    }
}

impl Listener {
    /// Known by their fields: the words of a message may change.
    fn understand(&self, fields: &Fields) -> Option<Fact> {
        if let Some(again_in) = fields.get("retry_in") {
            self.ledger.retried();
            let (entry, attempt) = (self.ledger.entry(fields.id()?)?, fields.get("attempt")?.parse().ok()?);
            return Some(Fact::Retrying { entry, attempt, cause: fields.cause("reason"), again_in: rounded(again_in) });
        }
        if fields.get("look").is_some() {
            let id = fields.id()?;
            self.ledger.died(id);
            return Some(Fact::Dead { entry: self.ledger.entry(id)?, cause: fields.cause("cause") });
        }
        if let Some(probe_in) = fields.get("probe_in") {
            return Some(Fact::CircuitOpened { cause: fields.cause("reason"), probe_in: rounded(probe_in) });
        }
        if let Some(pause) = fields.get("pause") {
            return Some(Fact::SlowedDown { pause: rounded(pause) });
        }
        fields.get("message")?.starts_with("circuit closed").then_some(Fact::CircuitClosed)
    }
}

#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    fn id(&self) -> Option<Uuid> {
        self.get("event_id")?.parse().ok()
    }

    /// `server_error (500)`
    fn cause(&self, name: &str) -> String {
        let reason = self.get(name).unwrap_or("unknown").replace('_', " ");
        match self.get("status") {
            Some(status) => format!("{reason} ({status})"),
            None => reason,
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_owned()));
    }
}

/// `531.204ms` becomes `0.5 s`.
fn rounded(duration: &str) -> String {
    let digits = duration.trim_end_matches(char::is_alphabetic).trim_end_matches('µ');
    let factor = match &duration[digits.len()..] {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        _ => return duration.to_owned(),
    };
    digits.parse::<f64>().map_or_else(|_| duration.to_owned(), |number| format!("{:.1} s", number * factor))
}

#[test]
fn durations_are_told_in_seconds() {
    let told = ["531.204ms", "2s", "1.25s", "300µs", "soon"].map(rounded);
    assert_eq!(told, ["0.5 s", "2.0 s", "1.2 s", "0.0 s", "soon"]);
}
