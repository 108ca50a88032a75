//! Whole numbers that may be larger than 2^53 become texts in the API: JavaScript would round them. A payload stays byte for byte as it is.

/// Members whose numbers are sent as texts.
const QUOTED: &[&str] = &["seq", "aggregate_version", "id"];
/// Members that belong to others and are left alone.
const FOREIGN: &[&str] = &["payload", "headers", "filter"];

/// The JSON text with such numbers in quotes. Reads no value.
pub fn quote_numbers(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 64);
    let bytes = json.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    // Until the depth is below this again, everything belongs to a nested value.
    let mut foreign: Option<usize> = None;
    let mut name: &str = "";
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = end_of_string(bytes, at);
                let text = &json[at..end];
                out.push_str(text);
                at = end;
                // A name is followed by a colon.
                if bytes.get(at) == Some(&b':') {
                    name = &text[1..text.len() - 1];
                } else {
                    name = "";
                }
                continue;
            }
            b'{' | b'[' => {
                if foreign.is_none() && FOREIGN.contains(&name) {
                    foreign = Some(depth);
                }
                depth += 1;
                if bytes[at] == b'{' {
                    name = "";
                }
            }
            b'}' | b']' => {
                depth -= 1;
                if foreign == Some(depth) {
                    foreign = None;
                }
                name = "";
            }
            b'-' | b'0'..=b'9' if foreign.is_none() && QUOTED.contains(&name) => {
                let length = bytes[at..].iter().take_while(|byte| matches!(byte, b'-' | b'0'..=b'9')).count();
                out.push('"');
                out.push_str(&json[at..at + length]);
                out.push('"');
                at += length;
                name = "";
                continue;
            }
            _ => {}
        }
        let length = char_length(bytes[at]);
        out.push_str(&json[at..at + length]);
        at += length;
    }
    out
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Bytes of the character that begins with this one.
fn char_length(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_become_texts_and_payloads_stay_as_they_are() {
        for (json, want) in [
            (r#"{"seq":9223372036854775807,"n":1}"#, r#"{"seq":"9223372036854775807","n":1}"#),
            (r#"{"a":[{"seq":1},{"seq":-2}]}"#, r#"{"a":[{"seq":"1"},{"seq":"-2"}]}"#),
            (r#"{"aggregate_version":null,"seq":7}"#, r#"{"aggregate_version":null,"seq":"7"}"#),
            (r#"{"payload":{"seq":1,"a":{"seq":[1]}},"seq":2}"#, r#"{"payload":{"seq":1,"a":{"seq":[1]}},"seq":"2"}"#),
            (r#"{"headers":{"id":1},"filter":{"seq":3},"id":"x"}"#, r#"{"headers":{"id":1},"filter":{"seq":3},"id":"x"}"#),
            (r#"{"text":"\"seq\":1","ä":"😀","seq":1}"#, r#"{"text":"\"seq\":1","ä":"😀","seq":"1"}"#),
            (r#"{"name":"seq","x":1}"#, r#"{"name":"seq","x":1}"#),
            (r#"{"payload":"text","seq":1}"#, r#"{"payload":"text","seq":"1"}"#),
            (r#"{"payload":null,"x":{"seq":1}}"#, r#"{"payload":null,"x":{"seq":"1"}}"#),
            ("[]", "[]"),
        ] {
            assert_eq!(quote_numbers(json), want, "{json}");
        }
    }
}
