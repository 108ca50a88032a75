//! W3C trace context: as the producer recorded it with an event, for the outgoing request and for the log. Handlers pass it on
//! unchanged; a value that is not well-formed is left out.

use serde::Deserialize;
use serde_json::Value;

/// The trace that an event belongs to, as its headers have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceContext {
    parent: Option<String>,
    state: Option<String>,
}

// Reads only these fields: other headers may hold numbers that no Rust type can represent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TraceHeaders {
    traceparent: Value,
    tracestate: Value,
}

impl TraceContext {
    /// Reads an event's headers, a JSON object as text. Empty if they have no trace, or one that the specification says to ignore.
    pub fn of(headers: &str) -> Self {
        if headers.len() <= 2 {
            return Self::default();
        }
        let recorded: TraceHeaders = serde_json::from_str(headers).unwrap_or_default();
        let text = |value: Value| match value {
            Value::String(text) => Some(text),
            _ => None,
        };
        let parent = text(recorded.traceparent).filter(|parent| parse(parent).is_some());
        // Without the parent the state means nothing.
        let state = parent.as_ref().and(text(recorded.tracestate)).filter(|state| is_state(state));
        Self { parent, state }
    }

    /// The `traceparent` as it was recorded: printable ASCII, at most 256 bytes.
    pub fn parent(&self) -> Option<&str> {
        self.parent.as_deref()
    }

    /// The `tracestate` as it was recorded; only beside a `traceparent`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// 32 lower-case hexadecimal digits; the log field `trace_id`.
    pub fn trace_id(&self) -> Option<&str> {
        self.parent.as_deref().and_then(parse)
    }
}

/// The trace id of a `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`. `None` if the specification says to ignore it.
fn parse(text: &str) -> Option<&str> {
    let mut fields = text.splitn(5, '-');
    let version = hex_field(fields.next()?, 2)?;
    let trace_id = hex_field(fields.next()?, 32)?;
    let parent_id = hex_field(fields.next()?, 16)?;
    hex_field(fields.next()?, 2)?;
    // Version ff is forbidden; 00 has exactly four fields, later versions may append more.
    let is_known_shape = version != "ff" && (version != "00" || fields.next().is_none());
    // It becomes a header of a request, whatever a later version appends.
    let fits_a_header = text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic());
    (is_known_shape && fits_a_header && !is_zero(trace_id) && !is_zero(parent_id)).then_some(trace_id)
}

/// The field, if it has this length and only lower-case hexadecimal digits.
fn hex_field(text: &str, length: usize) -> Option<&str> {
    let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == length && text.bytes().all(is_hex)).then_some(text)
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'0')
}

fn is_state(text: &str) -> bool {
    (1..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_specification_is_read() {
        let trace = TraceContext::of(&format!(r#"{{"traceparent":"{PARENT}","tracestate":"a=b, c=d","n":1e999}}"#));
        assert_eq!(trace.parent(), Some(PARENT));
        assert_eq!(trace.state(), Some("a=b, c=d"));
        assert_eq!(trace.trace_id(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    }

    #[test]
    fn what_the_specification_forbids_is_ignored() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            "00-äbf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x\ny",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        assert!(parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what-comes").is_some());
    }

    #[test]
    fn headers_without_a_trace_have_none() {
        for headers in ["", "{}", "{]", r#"{"traceparent":7}"#, r#"{"traceparent":"x\ny"}"#, r#"{"tracestate":"a=b"}"#] {
            assert_eq!(TraceContext::of(headers), TraceContext::default(), "{headers}");
        }
    }

    #[test]
    fn a_bad_state_does_not_take_the_parent_with_it() {
        let trace = TraceContext::of(&format!(r#"{{"traceparent":"{PARENT}","tracestate":"a\u0000"}}"#));
        assert_eq!((trace.parent(), trace.state()), (Some(PARENT), None));
    }
}
