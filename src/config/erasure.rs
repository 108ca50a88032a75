//! `[erasure]`: what `outboxd forget` does beyond the outbox, and where it is remembered outside of the database.

use std::path::PathBuf;

use super::is_qualified;
use crate::settings::Section;

/// `[erasure]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Erasure {
    /// The file with the destroyed keys; `None`: nothing outside of the database remembers them.
    pub ledger: Option<PathBuf>,
    /// `schema.name`, unquoted.
    pub functions: Vec<String>,
}

pub(super) fn read_erasure(section: &Section<'_>) -> Erasure {
    let functions = section.texts("functions");
    for function in functions.iter().filter(|function| !is_qualified(function)) {
        section
            .mistake("functions", &format!("got {function:?}, expected a name with its schema, such as \"app.forget_customer\""));
    }
    Erasure { ledger: section.optional_text("ledger").map(PathBuf::from), functions }
}

#[cfg(test)]
mod tests {
    use super::super::{FakeEnvironment, Kinds, parse};
    use super::*;

    const KINDS: Kinds = Kinds { handlers: |_| None, channels: |_| None };

    #[test]
    fn the_ledger_and_the_functions_are_read_and_a_function_has_a_schema() {
        let read = |text: &str| parse(text, &FakeEnvironment::with_database(), KINDS);
        assert_eq!(read("").expect("valid").erasure, Erasure::default());
        let erasure = read("[erasure]\nledger = \"/var/lib/outboxd/ledger\"\nfunctions = [\"app.forget\"]").expect("valid").erasure;
        assert_eq!(erasure, Erasure { ledger: Some("/var/lib/outboxd/ledger".into()), functions: vec!["app.forget".to_owned()] });
        let mistakes = read("[erasure]\nfunctions = [\"forget\"]").expect_err("no schema");
        assert_eq!(
            mistakes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["erasure.functions: got \"forget\", expected a name with its schema, such as \"app.forget_customer\""]
        );
    }
}
