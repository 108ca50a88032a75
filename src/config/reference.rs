//! The commented reference: one file with every key, its default and its meaning, compiled into the binary. The part about
//! kinds of handlers is generated from their declarations.

use std::fmt::Write;

use super::fields::default_value;
use crate::settings::{Field, FieldType};

/// `config/outboxd.toml`.
pub const REFERENCE: &str = include_str!("../../config/outboxd.toml");

const WIDTH: usize = 110;

/// Declared settings as commented TOML: for each its help and `key = default`. `prefix` names the table, for example `retry.`.
pub fn describe_fields(fields: &[Field], prefix: &str) -> String {
    let mut text = String::new();
    for field in fields {
        text.push_str(&wrap(field.help));
        match field.field_type {
            FieldType::Table(inner) => text.push_str(&describe_fields(inner, &format!("{prefix}{}.", field.name))),
            _ => writeln!(text, "# {prefix}{} = {}", field.name, placeholder(field)).expect("a String takes everything"),
        }
    }
    text
}

/// The default, or the form of a value if there is no default.
fn placeholder(field: &Field) -> String {
    let shape = match field.field_type {
        FieldType::TextList | FieldType::SecretList | FieldType::DurationList => "[]",
        FieldType::TextMap | FieldType::SecretMap | FieldType::ScalarMap => "{}",
        _ => "\"\"",
    };
    let required = if field.default.is_none() { "  # required" } else { "" };
    default_value(field).map_or_else(|| format!("{shape}{required}"), |value| value.to_string())
}

fn wrap(help: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in help.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > 1 {
            lines.push(format!("# {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::super::environment::FakeEnvironment;
    use super::super::fields::{
        ADOPTION, CHANNEL_COMMON, CHANNEL_IDENTITY, CLIENT, COMMON, CONSOLE_TOKEN, IDENTITY, Kinds, PROJECTION, SECTIONS,
    };
    use super::*;

    const NO_KINDS: Kinds = Kinds { handlers: |_| None, channels: |_| None };

    /// Every comment as one text, so that a wrapped help is found.
    fn comments(text: &str) -> String {
        let lines = text.lines().filter_map(|line| line.strip_prefix('#'));
        lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
    }

    fn assert_documented(reference: &str, path: &str, table: &Table, fields: &[Field]) {
        for field in fields {
            let path = format!("{path}.{}", field.name);
            assert!(comments(reference).contains(field.help), "{path}: the reference says exactly {:?}", field.help);
            match (field.field_type, default_value(field)) {
                (FieldType::Table(inner), _) => {
                    let inner_table = table[field.name].as_table().unwrap_or_else(|| panic!("{path} is a table"));
                    assert_documented(reference, &path, inner_table, inner);
                }
                (_, Some(default)) => assert_eq!(table.get(field.name), Some(&default), "{path} stands there with its default"),
                (_, None) if field.default.is_none() => assert!(table.contains_key(field.name), "{path} is required"),
                (_, None) => {
                    // Texts that are rather kept in a file are shown so.
                    let commented = [format!("\n# {} = ", field.name), format!("\n# {}_file = ", field.name)];
                    let is_shown = table.contains_key(field.name) || commented.iter().any(|line| reference.contains(line));
                    assert!(is_shown, "{path} stands there as a comment");
                }
            }
        }
    }

    #[test]
    fn every_declared_setting_stands_in_the_reference_with_its_default_and_help() {
        let document: Table = REFERENCE.parse().expect("the reference is valid TOML");
        assert_documented(REFERENCE, "", &document, SECTIONS);
        let channel = document["alerts"]["channels"][0].as_table().expect("the reference shows a channel");
        assert_documented(REFERENCE, "alerts.channels", channel, CHANNEL_IDENTITY);
        assert_documented(REFERENCE, "alerts.channels", channel, CHANNEL_COMMON);
        let handler = document["handlers"][0].as_table().expect("the reference shows a handler");
        assert_documented(REFERENCE, "handlers", handler, IDENTITY);
        assert_documented(REFERENCE, "handlers", handler, COMMON);
    }

    #[test]
    fn the_entry_that_stands_in_comments_is_complete_and_valid() {
        let start = REFERENCE.find("# [[adopt]]").expect("the reference shows an adopted table");
        let lines = REFERENCE[start..].lines().take_while(|line| line.starts_with('#'));
        let entry: String = lines.map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or_default())).collect();
        let document: Table = entry.parse().expect("without its comment marks it is valid TOML");
        assert_documented(&entry, "adopt", document["adopt"][0].as_table().expect("one entry"), ADOPTION);
        let config = super::super::parse(&entry, &FakeEnvironment::with_database(), NO_KINDS).expect("it is valid");
        assert_eq!(config.adopt[0].table.to_string(), "public.outboxevent");
    }

    #[test]
    fn the_client_that_stands_in_comments_is_complete_and_valid() {
        let start = REFERENCE.find("# [[clients]]").expect("the reference shows a client");
        let lines = REFERENCE[start..].lines().take_while(|line| line.starts_with('#'));
        let entry: String = lines.map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or_default())).collect();
        let document: Table = entry.parse().expect("without its comment marks it is valid TOML");
        assert_documented(&entry, "clients", document["clients"][0].as_table().expect("one entry"), CLIENT);
        let config = super::super::parse(&entry, &FakeEnvironment::with_database(), NO_KINDS).expect("it is valid");
        assert_eq!(config.clients[0].name, "acme");
    }

    #[test]
    fn the_token_that_stands_in_comments_is_complete_and_valid() {
        let start = REFERENCE.find("# [[console.tokens]]").expect("the reference shows a token");
        let lines = REFERENCE[start..].lines().take_while(|line| line.starts_with('#'));
        let entry: String = lines.map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or_default())).collect();
        let document: Table = entry.parse().expect("without its comment marks it is valid TOML");
        assert_documented(&entry, "console.tokens", document["console"]["tokens"][0].as_table().expect("one entry"), CONSOLE_TOKEN);
        let config = super::super::parse(&entry, &FakeEnvironment::with_database(), NO_KINDS).expect("it is valid");
        assert_eq!(config.console.tokens[0].name, "alice");
    }

    #[test]
    fn the_projection_that_stands_in_comments_is_complete_and_valid() {
        let start = REFERENCE.find("# [[projections]]").expect("the reference shows a projection");
        let lines = REFERENCE[start..].lines().take_while(|line| line.starts_with('#'));
        let entry: String = lines.map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or_default())).collect();
        let document: Table = entry.parse().expect("without its comment marks it is valid TOML");
        assert_documented(&entry, "projections", document["projections"][0].as_table().expect("one entry"), PROJECTION);
        let config = super::super::parse(&entry, &FakeEnvironment::with_database(), NO_KINDS).expect("it is valid");
        assert_eq!(config.handlers[0].name, "sales@1");
    }

    #[test]
    fn the_reference_is_a_valid_configuration_once_its_placeholder_is_set() {
        let environment = FakeEnvironment::with_database();
        let config = super::super::parse(REFERENCE, &environment, NO_KINDS).expect("the reference is valid");
        assert_eq!(config.handlers.len(), 1);
        let mistakes = super::super::parse(REFERENCE, &FakeEnvironment::default(), NO_KINDS).expect_err("no address");
        assert_eq!(mistakes.len(), 1);
    }

    #[test]
    fn a_description_is_wrapped_and_uncomments_into_toml() {
        const INNER: &[Field] = &[Field::new("base", FieldType::Duration, "5s", "Delay.")];
        const FIELDS: &[Field] = &[
            Field::required("url", FieldType::Text, "Where to send."),
            Field::new("secrets", FieldType::SecretList, "", "Keys."),
            Field::table("retry", INNER, "Retry."),
        ];
        let want =
            "# Where to send.\n# url = \"\"  # required\n# Keys.\n# secrets = []\n# Retry.\n# Delay.\n# retry.base = \"5s\"\n";
        assert_eq!(describe_fields(FIELDS, ""), want);
        let long = wrap(&"word ".repeat(40));
        assert!(long.lines().all(|line| line.len() <= WIDTH) && long.lines().count() == 2, "{long}");
    }
}
