//! SQL as text: quoted names and values, and statements made from their files. The result is executed, or printed for an
//! operator.

use sha2::{Digest, Sha256};

use crate::domain::TableName;

/// A name, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) fn qualified(table: &TableName) -> String {
    format!("{}.{}", quoted(table.schema()), quoted(table.name()))
}

pub(super) fn literal(text: &str) -> String {
    // With a backslash in it as an escape string, so that it is the same whatever standard_conforming_strings says.
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// The statement of a file, without its header, its names filled in.
pub(super) fn statement(file: &str, names: &[(&str, String)]) -> String {
    let body: Vec<&str> = file.lines().filter(|line| !line.starts_with("--")).collect();
    let mut parts = vec![body.join("\n").trim_end().to_owned()];
    // One name after the other, and never within what was filled in: the name of a column may look like one of ours.
    let mut filled = vec![false];
    for (name, value) in names {
        let (mut next, mut marks) = (Vec::new(), Vec::new());
        for (part, is_filled) in parts.iter().zip(&filled) {
            if *is_filled {
                next.push(part.clone());
                marks.push(true);
                continue;
            }
            for (place, piece) in part.split(name).enumerate() {
                if place > 0 {
                    next.push(value.clone());
                    marks.push(true);
                }
                next.push(piece.to_owned());
                marks.push(false);
            }
        }
        (parts, filled) = (next, marks);
    }
    parts.concat()
}

/// The names of the trigger of a table and its function: readable, and different for every outbox and table.
pub(super) fn function_name(outbox: &str, table: &TableName) -> String {
    let hash = Sha256::digest(format!("{outbox}/{table}").as_bytes());
    let hash: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let plain: String =
        table.name().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    format!("adopt_{}_{hash}", plain.chars().take(40).collect::<String>())
}

/// Quotes around a body that it does not contain.
pub(super) fn tag(body: &str) -> String {
    let mut name = "adopt".to_owned();
    while body.contains(&format!("${name}$")) {
        name.push('x');
    }
    format!("${name}$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_its_quotes() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!((literal("it's"), literal("a\\'b")), ("'it''s'".to_owned(), "E'a\\\\''b'".to_owned()));
        assert_eq!(tag("x $adopt$ y $adoptx$"), "$adoptxx$");
        let filled = statement("-- head {a}\nselect {a}, {b}", &[("{a}", "{b}".to_owned()), ("{b}", "2".to_owned())]);
        assert_eq!(filled, "select {b}, 2");
    }

    #[test]
    fn a_function_is_named_after_its_table_and_no_two_share_one() {
        let name = |text: &str| function_name("outbox", &text.parse().expect("a name"));
        assert!(name("public.OutboxEvent").starts_with("adopt_outboxevent_"), "{}", name("public.OutboxEvent"));
        assert_ne!(name("public.outboxevent"), name("public.OutboxEvent"));
        assert!(name(&format!("a.{}", "x".repeat(63))).len() <= 63);
    }
}
