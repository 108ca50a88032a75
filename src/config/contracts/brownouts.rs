//! `brownouts = [{ from = "...", until = "..." }]`: planned times in which a version is not sent.

use toml::{Table, Value};

use crate::contracts::Brownout;
use crate::domain::Timestamp;
use crate::settings::Mistakes;

/// Reads the list. `path`: of the list, for mistakes.
pub(super) fn read_brownouts(path: &str, list: &Value, mistakes: &Mistakes) -> Vec<Brownout> {
    const FORM: &str = "expected a list such as [{ from = \"2026-12-01T08:00:00Z\", until = \"2026-12-01T09:00:00Z\" }]";
    let Some(entries) = list.as_array() else {
        mistakes.add(path, format!("got a {}, {FORM}", list.type_str()));
        return Vec::new();
    };
    let mut brownouts = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(entry) = entry.as_table() else {
            mistakes.add(path, format!("got a {}, {FORM}", entry.type_str()));
            continue;
        };
        for key in entry.keys().filter(|key| !["from", "until"].contains(&key.as_str())) {
            mistakes.add(path.clone(), format!("unknown key \"{key}\"; a brownout has from and until"));
        }
        if let (Some(from), Some(until)) = (time(&path, entry, "from", mistakes), time(&path, entry, "until", mistakes)) {
            brownouts.push(Brownout { from, until });
        }
    }
    brownouts
}

/// As a text, or as TOML has times.
fn time(path: &str, entry: &Table, key: &str, mistakes: &Mistakes) -> Option<Timestamp> {
    let text = match entry.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Datetime(moment)) => moment.to_string(),
        Some(other) => other.to_string(),
        None => "nothing".to_owned(),
    };
    let moment = text.parse().ok();
    if moment.is_none() {
        mistakes
            .add(format!("{path}.{key}"), format!("got {text}, expected a time with its zone such as \"2026-12-01T08:00:00Z\""));
    }
    moment
}
