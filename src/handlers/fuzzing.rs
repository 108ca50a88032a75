//! Functions of bytes for fuzzing: input that receivers and operators write and handlers read. They panic if something is wrong.
//! Used by the targets in `fuzz/` and by the short tests in `app::fuzzing`. Never part of a binary.

use std::time::Duration;

use jiff::Timestamp as Moment;
use serde_json::Value;

use super::cloud_event::{CloudEvents, percent_encoded};
use super::envelope::{facts, rfc_3339};
use super::template::Template;
use super::webhook::{Answer, Rules, answered, parse_retry_after};
use super::{Signer, verify};
use crate::domain::{Notification, Outcome, Timestamp};
use crate::settings::Secret;
use crate::telemetry::TraceContext;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Texts, separated by a zero byte; what is missing is empty.
fn texts<const N: usize>(data: &[u8]) -> [String; N] {
    let mut parts = data.splitn(N, |byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// A template, a payload and headers.
pub fn template(data: &[u8]) {
    let [text, payload, headers] = texts(data);
    let Ok(template) = Template::parse(&text) else { return };
    let notification = Notification { headers, ..Notification::sample("order.placed", &payload) };
    let rendered = template.render(&notification);
    if let Some(constant) = template.constant() {
        assert_eq!(rendered.as_deref(), Ok(constant), "a constant template is always the same");
    }
    if let Ok(rendered) = rendered {
        assert!(template.literals().all(|literal| rendered.contains(literal)), "its constant parts are in it");
    }
}

/// A status in two bytes, and a `Retry-After`.
pub fn answer(data: &[u8]) {
    let (status, header) = data.split_at(data.len().min(2));
    let status = status.iter().fold(0, |status: u16, byte| status << 8 | u16::from(*byte));
    let header = String::from_utf8_lossy(header);
    let retry_after = parse_retry_after(&header, Moment::UNIX_EPOCH);
    assert!(retry_after.is_none_or(|wait| wait <= Duration::from_secs(6 * 3600)), "no receiver stops a handler for longer");
    for (conflict_is_duplicate, retry_client_errors) in [(false, false), (true, true)] {
        let answer = Answer { status, excerpt: header.clone().into_owned(), retry_after, location_host: None };
        let mut rules = Rules { retry_client_errors, ..Rules::default() };
        if conflict_is_duplicate {
            rules.answers.set(409, Outcome::Duplicate);
        }
        let verdict = answered(answer, &rules);
        assert_eq!(verdict.outcome == Outcome::Delivered, (200..300).contains(&status), "only success is success");
        assert_eq!(verdict.outcome == Outcome::Duplicate, conflict_is_duplicate && status == 409);
    }
}

/// A signature, an id, a secret and a body.
pub fn signature(data: &[u8]) {
    let [header, id, secret, body] = texts(data);
    let known = [Secret::new(SECRET)];
    let genuine = Signer::new(&known).expect("a secret").sign(&id, 7, body.as_bytes());
    assert!(verify(&known, &id, 7, body.as_bytes(), &genuine), "a genuine signature verifies");
    assert!(verify(&known, &id, 7, body.as_bytes(), &format!("{header} {genuine}")), "also beside other signatures");
    let is_forged = verify(&known, &id, 7, body.as_bytes(), &header) && !header.split(' ').any(|part| part == genuine);
    assert!(!is_forged, "and nothing else does");
    if let Ok(signer) = Signer::new(&[Secret::new(secret)]) {
        assert!(signer.verify(&id, 7, body.as_bytes(), &signer.sign(&id, 7, body.as_bytes())));
    }
}

/// Eight bytes of time, then a type, an aggregate id, a key, headers and a payload.
pub fn envelope(data: &[u8]) {
    let (time, rest) = data.split_at(data.len().min(8));
    let time = Timestamp::from_micros(time.iter().fold(0, |time: i64, byte| time << 8 | i64::from(*byte)));
    let [event_type, aggregate_id, key, headers, payload] = texts(rest);
    let (aggregate_id, key, occurred_at) = (Some(aggregate_id), Some(key), time);
    let notification = Notification { aggregate_id, key, headers, occurred_at, ..Notification::sample(&event_type, &payload) };
    let trace = TraceContext::of(&notification.headers);
    assert!(rfc_3339(time).is_none_or(|text| text.parse::<Moment>().is_ok()), "a time that is told can be read");
    for (name, value) in facts(&notification, "id".to_owned()) {
        let encoded = percent_encoded(&value);
        assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()), "{name} fits into a header");
        let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8_lossy();
        assert_eq!(decoded, value, "{name} comes back as it was");
    }
    let body = CloudEvents::new("source", "{aggregate_id}").structured(&notification, "id", &trace);
    if let Ok(payload) = serde_json::from_str::<Value>(&payload) {
        let event: Value = serde_json::from_slice(&body).expect("a CloudEvent is JSON if the payload is");
        assert_eq!((event["data"].clone(), event["type"].as_str()), (payload, Some(event_type.as_str())));
    }
}
