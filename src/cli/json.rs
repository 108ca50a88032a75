//! JSON for people: indents a document without reading its values, so that every number and escape is as it was written.

/// A JSON text with one member per line. Changes white space only; what is no JSON comes out unharmed, if not pretty.
pub(super) fn indent_json(text: &str) -> String {
    let mut pretty = String::with_capacity(text.len() * 2);
    let mut depth = 0;
    let mut characters = text.chars().filter({
        let (mut in_string, mut is_escaped) = (false, false);
        move |c| {
            let is_content = in_string || !c.is_ascii_whitespace();
            (in_string, is_escaped) = step(*c, in_string, is_escaped);
            is_content
        }
    });
    let (mut in_string, mut is_escaped) = (false, false);
    let mut next = characters.next();
    while let Some(c) = next {
        next = characters.next();
        let was_in_string = in_string;
        (in_string, is_escaped) = step(c, in_string, is_escaped);
        match c {
            _ if was_in_string => pretty.push(c),
            '{' | '[' if matches!(next, Some('}' | ']')) => pretty.push(c),
            '{' | '[' => {
                depth += 1;
                pretty.push(c);
                break_line(&mut pretty, depth);
            }
            '}' | ']' => {
                if !pretty.ends_with(['{', '[']) {
                    depth = usize::saturating_sub(depth, 1);
                    break_line(&mut pretty, depth);
                }
                pretty.push(c);
            }
            ',' => {
                pretty.push(c);
                break_line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            c => pretty.push(c),
        }
    }
    pretty
}

/// Whether we are in a string, and behind a backslash, after this character.
fn step(c: char, in_string: bool, is_escaped: bool) -> (bool, bool) {
    match c {
        _ if is_escaped => (in_string, false),
        '\\' => (in_string, in_string),
        '"' => (!in_string, false),
        _ => (in_string, false),
    }
}

fn break_line(pretty: &mut String, depth: usize) {
    pretty.push('\n');
    pretty.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_white_space_changes() {
        for (text, want) in [
            ("{}", "{}"),
            ("[ ]", "[]"),
            ("{\"n\":12345678901234567890.10,\"e\":1E400}", "{\n  \"n\": 12345678901234567890.10,\n  \"e\": 1E400\n}"),
            ("{\"a\" : [1,{}], \"a\":null}", "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"a\": null\n}"),
            ("{\"s\":\"{ \\\" , : } \\\\\"}", "{\n  \"s\": \"{ \\\" , : } \\\\\"\n}"),
            ("[[],[{}]]", "[\n  [],\n  [\n    {}\n  ]\n]"),
        ] {
            assert_eq!(indent_json(text), want);
        }
    }
}
