//! W3C trace context: reads a `traceparent`, so that log lines can carry its trace.
//! Never changes one: handlers pass the header on as the producer wrote it.

/// A valid `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent<'a> {
    trace_id: &'a str,
    parent_id: &'a str,
    flags: u8,
}

impl<'a> TraceParent<'a> {
    /// Reads the header's value; `None` if the specification says to ignore it.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut fields = text.splitn(5, '-');
        let version = hex_field(fields.next()?, 2)?;
        let trace_id = hex_field(fields.next()?, 32)?;
        let parent_id = hex_field(fields.next()?, 16)?;
        let flags = hex_field(fields.next()?, 2)?;
        // Version ff is forbidden; 00 has exactly four fields, later versions may append more.
        let is_known_shape = version != "ff" && (version != "00" || fields.next().is_none());
        let is_valid = is_known_shape && !is_zero(trace_id) && !is_zero(parent_id);
        is_valid.then(|| Self { trace_id, parent_id, flags: u8::from_str_radix(flags, 16).unwrap_or(0) })
    }

    /// 32 lower-case hexadecimal digits; the log field `trace_id`.
    pub fn trace_id(&self) -> &'a str {
        self.trace_id
    }

    /// 16 lower-case hexadecimal digits: the span of the producer.
    pub fn parent_id(&self) -> &'a str {
        self.parent_id
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

/// The field, if it has this length and only lower-case hexadecimal digits.
fn hex_field(text: &str, length: usize) -> Option<&str> {
    let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == length && text.bytes().all(is_hex)).then_some(text)
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_read() {
        let parent = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(parent.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.parent_id(), "00f067aa0ba902b7");
        assert!(parent.is_sampled());
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
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        let text = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what-comes";
        assert_eq!(TraceParent::parse(text).map(|parent| parent.is_sampled()), Some(false));
    }
}
