//! The line: one event as one line of JSON, as the kinds write it that speak to programs instead of servers.
//! The payload and the headers go out as they were recorded; they are never parsed, so that large numbers survive.

use serde::Serialize;
use serde_json::value::RawValue;

use super::envelope::rfc_3339;
use crate::domain::Notification;

#[derive(Serialize)]
struct Envelope<'n> {
    id: uuid::Uuid,
    r#type: &'n str,
    /// Of the contract; left out where the type has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    aggregate_type: Option<&'n str>,
    aggregate_id: Option<&'n str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregate_version: Option<i64>,
    /// RFC 3339; left out where it has no words for the time, as for years beyond 9999.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    attempt: u32,
    #[serde(skip_serializing_if = "is_false")]
    replay: bool,
    #[serde(skip_serializing_if = "is_false")]
    test: bool,
    headers: &'n RawValue,
    payload: &'n RawValue,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The event as one line that ends with a line break: a JSON object with the id first and the payload, as it was recorded, last.
pub fn json_line(notification: &Notification) -> String {
    let (headers, payload) = (one_line(&notification.headers), one_line(&notification.payload));
    let envelope = Envelope {
        id: notification.id,
        r#type: &notification.event_type,
        version: notification.contract.as_ref().map(|public| public.version),
        aggregate_type: notification.aggregate_type.as_deref(),
        aggregate_id: notification.aggregate_id.as_deref(),
        aggregate_version: notification.aggregate_version,
        time: rfc_3339(notification.occurred_at),
        attempt: notification.attempt,
        replay: notification.is_replay,
        test: notification.is_test,
        headers: raw(&headers),
        payload: raw(&payload),
    };
    serde_json::to_string(&envelope).expect("an envelope is JSON") + "\n"
}

/// JSON without line breaks. Inside JSON one can only stand between its parts, never within a text: a space in its place changes
/// nothing.
pub fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

// What Postgres stored as JSON is JSON; should that ever fail, `null` is better than a line that cannot be parsed.
fn raw(json: &str) -> &RawValue {
    serde_json::from_str(json).unwrap_or(RawValue::NULL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn a_time_that_rfc_3339_does_not_know_is_left_out() {
        for micros in [i64::MAX, i64::MIN, 253_402_300_800_000_000] {
            let event = Notification { occurred_at: Timestamp::from_micros(micros), ..Notification::sample("t", "{}") };
            let line: serde_json::Value = serde_json::from_str(&json_line(&event)).expect("JSON");
            assert_eq!(line.get("time"), None, "{micros}");
        }
    }

    #[test]
    fn a_json_line_is_one_line_with_the_payload_as_it_was_recorded() {
        let event = Notification::sample("order \"placed\"\n", "{\"n\": 9007199254740993,\n\t\"a\":\"é\\n\"}");
        let line = json_line(&event);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(
            line,
            "{\"id\":\"018f0000-0000-7000-8000-000000000001\",\"type\":\"order \\\"placed\\\"\\n\",\"aggregate_type\":\"order\",\
             \"aggregate_id\":\"42\",\"time\":\"2023-11-14T22:13:20.000000Z\",\"attempt\":1,\"headers\":{},\
             \"payload\":{\"n\": 9007199254740993, \t\"a\":\"é\\n\"}}\n"
        );
    }
}
