//! `alertmanager`: posts alerts to every configured Alertmanager, in its API of version 2.
//!
//! Alertmanager forgets an alert that is not refreshed. A firing alert is posted every minute with an end a few minutes ahead, so
//! the alerts of a dead relay end by themselves. Alertmanager groups, repeats and routes by the labels.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use serde_json::{Map, Value, json};
use url::Url;

use super::http::{HttpClient, hidden_parts, parse_url};
use super::wording::{describe_change, facts, summary};
use super::{Channel, ChannelKind, SendFailure};
use crate::domain::alerts::{Alert, AlertKind, Change, Notice, Notices, Severity};
use crate::settings::{Field, FieldType, Section};

pub const KIND: ChannelKind = ChannelKind {
    name: "alertmanager",
    summary: "post alerts to Prometheus Alertmanager",
    fields: &[
        // Secret, because an address may hold a password.
        Field::new("urls", FieldType::SecretList, "", "Base URLs of every Alertmanager of the cluster; each receives every alert."),
        Field::new("labels", FieldType::TextMap, "", "Labels to add to every alert, for routing."),
        Field::new("ca", FieldType::Text, "", "Certificates (PEM) to trust instead of those of the platform."),
    ],
    example: include_str!("../../config/examples/alerts-alertmanager.toml"),
    build,
};

/// How often a firing alert is posted again, and how long Alertmanager believes it.
const REFRESH: Duration = Duration::from_secs(60);
const BELIEVED: Duration = Duration::from_secs(240);

const OWN_LABELS: &[&str] = &["alertname", "severity", "service", "relay", "handler", "channel", "table"];

struct Alertmanager {
    client: HttpClient,
    urls: Vec<Url>,
    labels: Map<String, Value>,
}

fn build(section: &Section<'_>) -> Option<Arc<dyn Channel>> {
    let (urls, labels) = (read_urls(section), read_labels(section));
    let (urls, labels) = (urls?, labels?);
    let is_https = urls.iter().any(|url| url.scheme() == "https");
    let client = HttpClient::build(section, true, is_https, urls.iter().flat_map(hidden_parts).collect())?;
    // Below the base, whether or not it ends in a slash.
    let endpoint = |url: Url| parse_url(&format!("{}/api/v2/alerts", url.as_str().trim_end_matches('/')));
    Some(Arc::new(Alertmanager { client, urls: urls.into_iter().filter_map(endpoint).collect(), labels }))
}

fn read_urls(section: &Section<'_>) -> Option<Vec<Url>> {
    let texts = section.secrets("urls");
    let urls: Vec<Url> = texts.iter().filter_map(|text| parse_url(text.expose())).collect();
    if texts.is_empty() || urls.len() < texts.len() {
        section.mistake("urls", "expected at least one URL, and only http or https URLs such as \"http://alertmanager:9093\"");
        return None;
    }
    Some(urls)
}

// If Alertmanager refuses one name, it refuses the whole request.
fn read_labels(section: &Section<'_>) -> Option<Map<String, Value>> {
    let labels = section.text_map("labels");
    let is_label = |name: &str| {
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !OWN_LABELS.contains(&name)
    };
    let mut is_valid = true;
    for name in labels.keys().filter(|name| !is_label(name)) {
        section.mistake(&format!("labels.{name}"), "expected letters, digits and underscores, and none of outboxd's own labels");
        is_valid = false;
    }
    is_valid.then(|| labels.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, json!(value))).collect())
}

impl Channel for Alertmanager {
    fn send<'a>(&'a self, notices: &'a Notices) -> BoxFuture<'a, Result<(), SendFailure>> {
        Box::pin(async move {
            let body = serde_json::to_vec(&self.body(notices)).expect("a value is JSON");
            let posts = self.urls.iter().map(|url| self.post(url, &body));
            let answers = join_all(posts).await;
            // Each of a cluster knows only what it is told itself, but calls operators for all: one is enough, and the next
            // refresh tells the others.
            if answers.iter().any(Result::is_ok) {
                for failure in answers.into_iter().filter_map(Result::err) {
                    tracing::warn!(error = %failure, "one Alertmanager of several was not reached");
                }
                return Ok(());
            }
            answers.into_iter().next().unwrap_or(Ok(()))
        })
    }

    fn refresh(&self) -> Option<Duration> {
        Some(REFRESH)
    }

    fn report<'a>(&'a self, notices: &'a Notices) -> BoxFuture<'a, Result<Option<String>, SendFailure>> {
        Box::pin(async move {
            let Some(notice) = notices.notices.first() else { return Ok(None) };
            let labels = labels_of(&notices.relay, &notice.alert, notice.alert.severity);
            let reports = join_all(self.urls.iter().map(|url| self.ask(url, &labels))).await;
            Ok(Some(reports.into_iter().collect::<Result<Vec<_>, _>>()?.join("; ")))
        })
    }
}

impl Alertmanager {
    async fn post(&self, url: &Url, body: &[u8]) -> Result<(), SendFailure> {
        self.client.post(url, reqwest::header::HeaderMap::new(), body.to_vec()).await?.check()
    }

    /// The state of an alert at one Alertmanager, and its receivers.
    async fn ask(&self, url: &Url, labels: &Map<String, Value>) -> Result<String, SendFailure> {
        let mut url = url.clone();
        for name in ["alertname", "relay", "handler"] {
            let value = labels.get(name).and_then(Value::as_str).unwrap_or_default();
            url.query_pairs_mut().append_pair("filter", &format!("{name}={}", json!(value)));
        }
        let host = format!("{}{}", url.host_str().unwrap_or("it"), url.port().map(|port| format!(":{port}")).unwrap_or_default());
        let answer = self.client.get(&url).await?;
        let found: Option<Vec<Value>> = serde_json::from_str(&answer.excerpt).ok();
        answer.check()?;
        Ok(match found.as_deref() {
            None => format!("Alertmanager {host} took it; what it has could not be read"),
            Some([]) => {
                format!("Alertmanager {host} took it and does not have it: its end has passed, or its clock differs from ours")
            }
            Some([alert, ..]) => format!("Alertmanager {host} has it: {}", describe(alert)),
        })
    }

    fn body(&self, notices: &Notices) -> Value {
        Value::Array(notices.notices.iter().flat_map(|notice| self.entries(notices, notice)).collect())
    }

    /// The alert, and the milder one that it was before: Alertmanager takes another severity for another alert.
    fn entries(&self, notices: &Notices, notice: &Notice) -> Vec<Value> {
        let is_over = notice.change == Change::Resolved;
        let mut entries = vec![self.entry(notices, notice, notice.alert.severity, is_over)];
        if notice.alert.kind == AlertKind::BacklogAge && notice.change == Change::Raised {
            let milder = Severity::ALL.iter().filter(|severity| **severity < notice.alert.severity);
            entries.extend(milder.map(|severity| self.entry(notices, notice, *severity, true)));
        }
        entries
    }

    fn entry(&self, notices: &Notices, notice: &Notice, severity: Severity, is_over: bool) -> Value {
        let alert = &notice.alert;
        // The end must not lie ahead, by whichever clock, or it would go on until then.
        let ends_at = if is_over { alert.changed_at.max(alert.started_at) } else { notices.at.after(BELIEVED) };
        let facts = facts(notice).into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>();
        let mut annotations = json!({
            "summary": summary(alert), "description": facts.join("\n"), "command": alert.command(),
            "state": describe_change(notice.change),
        });
        if let Some(sample) = &alert.sample {
            annotations["sample_event"] = json!(sample.event);
        }
        let mut entry = json!({
            "labels": self.labels_of(&notices.relay, alert, severity),
            "annotations": annotations,
            "startsAt": alert.started_at,
            "endsAt": ends_at,
        });
        if let Some(url) = &notices.external_url {
            entry["generatorURL"] = json!(url);
        }
        entry
    }

    // Labels identify an alert in Alertmanager, so no label may change while the alert lasts.
    fn labels_of(&self, relay: &str, alert: &Alert, severity: Severity) -> Value {
        let mut labels = self.labels.clone();
        labels.extend(labels_of(relay, alert, severity));
        Value::Object(labels)
    }
}

/// The name of an alert in Prometheus and Alertmanager.
pub(super) fn labels_of(relay: &str, alert: &Alert, severity: Severity) -> Map<String, Value> {
    let mut labels = Map::new();
    labels.insert("alertname".to_owned(), json!(alert_name(alert.kind)));
    labels.insert("severity".to_owned(), json!(severity));
    labels.insert("service".to_owned(), json!("outboxd"));
    labels.insert("relay".to_owned(), json!(relay));
    if let Some(handler) = alert.handler() {
        labels.insert("handler".to_owned(), json!(handler));
    } else if alert.kind == AlertKind::AdoptionBroken {
        labels.insert("table".to_owned(), json!(alert.subject));
    } else if let (AlertKind::CursorLag, Some((client, cursor))) = (alert.kind, alert.subject.split_once('/')) {
        labels.insert("client".to_owned(), json!(client));
        labels.insert("cursor".to_owned(), json!(cursor));
    } else if !alert.subject.is_empty() {
        labels.insert("channel".to_owned(), json!(alert.subject));
    }
    labels
}

/// An alert as the API gives it: its state and receivers.
fn describe(alert: &Value) -> String {
    let names = |list: &Value, name: &str| -> Vec<String> {
        let text = |one: &Value| one.get(name).unwrap_or(one).as_str().map(str::to_owned);
        list.as_array().into_iter().flatten().filter_map(text).collect()
    };
    let status = &alert["status"];
    let (silences, inhibitors) = (names(&status["silencedBy"], "id"), names(&status["inhibitedBy"], "id"));
    let receivers = names(&alert["receivers"], "name").join(", ");
    let state = status["state"].as_str().unwrap_or("in an unknown state");
    match (silences.as_slice(), inhibitors.as_slice()) {
        ([], []) => format!("{state}, for the receiver {receivers}"),
        ([], _) => format!("{state}: no notification is sent, because other alerts inhibit it"),
        (silences, _) => format!("{state}: no notification is sent, because it is silenced by {}", silences.join(", ")),
    }
}

/// `OutboxDeadLetters`.
fn alert_name(kind: AlertKind) -> String {
    let words = kind.as_str().split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    format!("Outbox{}", words.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        assert_eq!(alert_name(AlertKind::DeadLetters), "OutboxDeadLetters");
        assert_eq!(alert_name(AlertKind::RelayNotPolling), "OutboxRelayNotPolling");
    }
}
