//! `webhook`: the body that Alertmanager sends to its own webhooks (version 4), so that receivers of those accept these. Signed
//! by the Standard Webhooks scheme, so that a receiver can verify the sender and recognise a repetition.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::alertmanager::labels_of;
use super::http::{HttpClient, hidden_parts, read_headers, read_url};
use super::wording::{describe_change, summary, title};
use super::{Channel, ChannelKind, SendFailure};
use crate::domain::alerts::{Change, Notice, Notices};
use crate::handlers::Signer;
use crate::settings::{Field, FieldType, Section};

pub const KIND: ChannelKind = ChannelKind {
    name: "webhook",
    summary: "post to a URL in the format of Alertmanager's webhooks, signed",
    fields: &[
        Field::required("url", FieldType::Secret, "Address of the receiver, an http or https URL. Redirects are not followed."),
        Field::new(
            "secrets",
            FieldType::SecretList,
            "",
            "Secrets to sign with (\"whsec_...\"): all of them sign, the first is the current one.",
        ),
        Field::new("headers", FieldType::SecretMap, "", "Additional headers, for example authorization."),
        Field::new("ca", FieldType::Text, "", "Certificates (PEM) to trust instead of those of the platform."),
    ],
    example: include_str!("../../config/examples/alerts-webhook.toml"),
    build,
};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

struct Webhook {
    client: HttpClient,
    url: Url,
    headers: HeaderMap,
    signer: Signer,
    /// The name of the channel, which is the receiver in the words of Alertmanager.
    receiver: String,
}

fn build(section: &Section<'_>) -> Option<Arc<dyn Channel>> {
    let (url, headers) = (read_url(section, "url"), read_headers(section));
    let signer = Signer::new(&section.secrets("secrets"))
        .map_err(|error| section.mistake("secrets", &format!("one of them is not a signing secret, {error}")))
        .ok();
    let (url, headers, signer) = (url?, headers?, signer?);
    let hidden = hidden_parts(&url).into_iter().chain(section.secret_map("headers").into_values()).collect();
    let client = HttpClient::build(section, true, url.scheme() == "https", hidden)?;
    let receiver = section.path().rsplit('.').next().unwrap_or_default().to_owned();
    Some(Arc::new(Webhook { client, url, headers, signer, receiver }))
}

impl Channel for Webhook {
    fn send<'a>(&'a self, notices: &'a Notices) -> BoxFuture<'a, Result<(), SendFailure>> {
        Box::pin(async move {
            let body = serde_json::to_vec(&self.body(notices)).expect("a value is JSON");
            let timestamp = jiff::Timestamp::now().as_second();
            let mut headers = self.headers.clone();
            let id = format!("alert_{}", notices.id);
            headers.insert(ID, HeaderValue::from_str(&id).expect("an id is printable ASCII"));
            headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
            if !self.signer.is_empty() {
                let signature = self.signer.sign(&id, timestamp, &body);
                headers.insert(SIGNATURE, HeaderValue::from_str(&signature).expect("a signature is printable ASCII"));
            }
            self.client.post(&self.url, headers, body).await?.check()
        })
    }
}

impl Webhook {
    fn body(&self, notices: &Notices) -> Value {
        let alerts: Vec<Value> = notices.notices.iter().map(|notice| entry(notices, notice)).collect();
        json!({
            "version": "4",
            "groupKey": format!("outboxd/{}", notices.relay),
            "status": if notices.is_resolved() { "resolved" } else { "firing" },
            "receiver": self.receiver,
            "groupLabels": { "relay": notices.relay },
            "commonLabels": common(&alerts, "labels"),
            "commonAnnotations": common(&alerts, "annotations"),
            "externalURL": notices.external_url.as_deref().unwrap_or_default(),
            "truncatedAlerts": 0,
            "title": title(notices),
            "alerts": alerts,
        })
    }
}

fn entry(notices: &Notices, notice: &Notice) -> Value {
    let alert = &notice.alert;
    let labels = labels_of(&notices.relay, alert, alert.severity);
    let is_over = notice.change == Change::Resolved;
    let mut annotations = json!({
        "summary": summary(alert), "state": describe_change(notice.change), "command": alert.command(), "count": alert.count.to_string(),
    });
    if let Some(sample) = &alert.sample {
        annotations["sample_event"] = json!(sample.event);
        annotations["sample_type"] = json!(sample.event_type);
        annotations["sample_error"] = json!(sample.error.as_deref().unwrap_or_default());
        if let Some(payload) = &sample.payload {
            annotations["sample_payload"] = json!(payload);
        }
    }
    let fingerprint = fingerprint(&labels);
    json!({
        "status": if is_over { "resolved" } else { "firing" },
        "labels": labels,
        "annotations": annotations,
        "startsAt": alert.started_at,
        // The value that Alertmanager uses if there is no end.
        "endsAt": if is_over { alert.changed_at.to_string() } else { "0001-01-01T00:00:00Z".to_owned() },
        "generatorURL": notices.external_url.as_deref().unwrap_or_default(),
        "fingerprint": fingerprint,
    })
}

/// The members of `part` that all alerts share.
fn common(alerts: &[Value], part: &str) -> Map<String, Value> {
    let Some(first) = alerts.first().and_then(|alert| alert[part].as_object()) else { return Map::new() };
    let is_shared = |name: &str, value: &Value| alerts.iter().all(|alert| alert[part].get(name) == Some(value));
    first.iter().filter(|(name, value)| is_shared(name, value)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Identifies a set of labels; not the hash of Alertmanager, on which no receiver relies.
fn fingerprint(labels: &Map<String, Value>) -> String {
    let mut hash = Sha256::new();
    for (name, value) in labels {
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(value.as_str().unwrap_or_default().as_bytes());
        hash.update([0]);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
