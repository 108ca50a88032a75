//! `pagerduty`: events of PagerDuty's Events API v2: trigger, acknowledge, resolve. One alert per request. A second trigger with
//! the same deduplication key makes no second incident, so a request that may have arrived can be sent again.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};
use url::Url;

use super::http::{HttpClient, read_url};
use super::wording::{cut, facts, headline};
use super::{Channel, ChannelKind, SendFailure};
use crate::domain::alerts::{Change, Notice, Notices};
use crate::settings::{Field, FieldType, Secret, Section};

pub const KIND: ChannelKind = ChannelKind {
    name: "pagerduty",
    summary: "open, acknowledge and resolve incidents of PagerDuty",
    fields: &[
        Field::required("routing_key", FieldType::Secret, "The integration key of the service (Events API v2)."),
        Field::new("url", FieldType::Text, "https://events.pagerduty.com", "Base URL, for the European region or a test server."),
    ],
    example: include_str!("../../config/examples/alerts-pagerduty.toml"),
    build,
};

/// The bounds of the API, in characters.
const LONGEST_SUMMARY: usize = 1024;
const LONGEST_KEY: usize = 255;

struct PagerDuty {
    client: HttpClient,
    endpoint: Url,
    routing_key: Secret,
}

fn build(section: &Section<'_>) -> Option<Arc<dyn Channel>> {
    let (url, routing_key) = (read_url(section, "url"), section.secret("routing_key"));
    if section.is_set("routing_key") && routing_key.is_none() {
        section.mistake("routing_key", "is empty, expected the integration key of the service");
    }
    let (url, routing_key) = (url?, routing_key?);
    let endpoint = url.join("/v2/enqueue").map_err(|_| section.mistake("url", "expected a base URL")).ok()?;
    let client = HttpClient::build(section, false, url.scheme() == "https", vec![routing_key.clone()])?;
    Some(Arc::new(PagerDuty { client, endpoint, routing_key }))
}

impl Channel for PagerDuty {
    fn send<'a>(&'a self, notices: &'a Notices) -> BoxFuture<'a, Result<(), SendFailure>> {
        Box::pin(async move {
            for notice in &notices.notices {
                let body = serde_json::to_vec(&self.event(notices, notice)).expect("a value is JSON");
                self.client.post(&self.endpoint, HeaderMap::new(), body).await?.check()?;
            }
            Ok(())
        })
    }

    fn wants_acknowledgements(&self) -> bool {
        true
    }

    fn most_alerts(&self) -> usize {
        1
    }
}

impl PagerDuty {
    fn event(&self, notices: &Notices, notice: &Notice) -> Value {
        let alert = &notice.alert;
        let action = match notice.change {
            Change::Acknowledged => "acknowledge",
            Change::Resolved => "resolve",
            Change::Fired | Change::Raised | Change::Repeated | Change::Refreshed => "trigger",
        };
        let mut event = json!({
            "routing_key": self.routing_key.expose(),
            "event_action": action,
            "dedup_key": cut(&format!("{}/{}", notices.relay, alert.key()), LONGEST_KEY),
        });
        if action != "trigger" {
            return event;
        }
        let details: Map<String, Value> =
            facts(notice).into_iter().map(|(name, value)| (name.replace(' ', "_"), json!(value))).collect();
        event["payload"] = json!({
            "summary": cut(&headline(&notices.relay, alert), LONGEST_SUMMARY),
            "source": notices.relay,
            "severity": alert.severity,
            "timestamp": alert.started_at,
            "component": if alert.subject.is_empty() { "relay" } else { &alert.subject },
            "group": "outboxd",
            "class": alert.kind,
            "custom_details": details,
        });
        event["client"] = json!("outboxd");
        if let Some(url) = &notices.external_url {
            event["client_url"] = json!(url);
            event["links"] = json!([{ "href": url, "text": "Open" }]);
        }
        event
    }
}
