//! `slack`: an incoming webhook of Slack, or of a service with the same format. A webhook cannot change a posted message, so the
//! end of an alert is a message of its own, in green.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use url::Url;

use super::http::{HttpClient, hidden_parts, read_url};
use super::wording::{cut, facts, headline, label, title};
use super::{Channel, ChannelKind, SendFailure};
use crate::domain::alerts::{Change, Notice, Notices, Severity};
use crate::settings::{Field, FieldType, Section};

pub const KIND: ChannelKind = ChannelKind {
    name: "slack",
    summary: "post to an incoming webhook of Slack",
    fields: &[Field::required("url", FieldType::Secret, "URL of the incoming webhook; the URL is a secret.")],
    example: include_str!("../../config/examples/alerts-slack.toml"),
    build,
};

/// Slack's bound of one section is 3,000 characters.
const LONGEST_SECTION: usize = 2_900;

struct Slack {
    client: HttpClient,
    url: Url,
}

fn build(section: &Section<'_>) -> Option<Arc<dyn Channel>> {
    let url = read_url(section, "url")?;
    let client = HttpClient::build(section, false, url.scheme() == "https", hidden_parts(&url))?;
    Some(Arc::new(Slack { client, url }))
}

impl Channel for Slack {
    fn send<'a>(&'a self, notices: &'a Notices) -> BoxFuture<'a, Result<(), SendFailure>> {
        Box::pin(async move {
            let body = serde_json::to_vec(&body(notices)).expect("a value is JSON");
            self.client.post(&self.url, HeaderMap::new(), body).await?.check()
        })
    }

    fn most_alerts(&self) -> usize {
        20
    }
}

fn body(notices: &Notices) -> Value {
    let attachments: Vec<Value> = notices.notices.iter().map(|notice| attachment(notices, notice)).collect();
    json!({ "text": escape(&format!("[{}] {}", label(notices), title(notices))), "attachments": attachments })
}

fn attachment(notices: &Notices, notice: &Notice) -> Value {
    let lines = facts(notice).into_iter().map(|(name, value)| match name {
        "run" => format!("*{name}:* `{}`", escape(&value)),
        _ => format!("*{name}:* {}", escape(&value)),
    });
    let mut text = format!("*{}*\n{}", escape(&headline(&notices.relay, &notice.alert)), lines.collect::<Vec<_>>().join("\n"));
    if let Some(url) = &notices.external_url {
        text.push_str(&format!("\n<{url}|Open>"));
    }
    let section = json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(&text, LONGEST_SECTION) } });
    json!({ "color": colour(notice), "blocks": [section] })
}

fn colour(notice: &Notice) -> &'static str {
    match (notice.change, notice.alert.severity) {
        (Change::Resolved, _) => "#2eb67d",
        (_, Severity::Critical) => "#e01e5a",
        (_, Severity::Warning) => "#ecb22e",
        (_, Severity::Info) => "#36c5f0",
    }
}

/// The three characters that mean something to Slack; an error text must not mention a whole channel.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
