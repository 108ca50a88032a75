//! Topic names that Kafka accepts. Checked when the configuration is read, and for every name that a template makes of an event.

const LONGEST: usize = 249;

/// Why a text cannot name a topic.
pub fn problem(name: &str) -> Option<String> {
    match name {
        "" => Some("a topic needs a name".to_owned()),
        "." | ".." => Some(format!("Kafka takes no topic named {name:?}")),
        _ if name.len() > LONGEST => Some(format!("the name of a topic has {LONGEST} characters at most")),
        _ => problem_in_part(name),
    }
}

/// Why a text cannot be in the name of a topic.
pub fn problem_in_part(part: &str) -> Option<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let wrong = part.chars().find(|c| !is_allowed(*c))?;
    Some(format!("{wrong:?} cannot be in the name of a topic, expected letters, digits, \".\", \"_\" and \"-\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_kafka_takes_are_names() {
        for name in ["orders", "a.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(problem(name), None, "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "é", "a\0", "a\n", &"x".repeat(250)] {
            assert!(problem(name).is_some(), "{name:?}");
        }
    }
}
