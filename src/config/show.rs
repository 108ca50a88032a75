//! The configuration as it was read: every setting with its value or default, in the order of the declarations. Shows no secret:
//! the declarations say which values are secret.

use std::fmt::Write;

use toml::{Table, Value};
use url::Url;

use super::fields::{
    ADOPT, ADOPTION, CHANNEL_COMMON, CHANNEL_IDENTITY, CHANNELS, CLIENT, CLIENTS, COMMON, CONSOLE_TOKEN, HANDLERS, IDENTITY, Kinds,
    PROJECTION, PROJECTIONS, SECTIONS, TOKENS, default_value,
};
use crate::settings::{Field, FieldType};

const MASK: &str = "***";

/// A resolved document as TOML, secrets masked.
pub fn show(document: &Table, kinds: Kinds) -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let FieldType::Table(fields) = section.field_type else { continue };
        let empty = Table::new();
        let table = document.get(section.name).and_then(Value::as_table).unwrap_or(&empty);
        show_table(&mut text, &format!("[{}]", section.name), section.name, table, &fields.iter().collect::<Vec<_>>());
    }
    let channels = document.get("alerts").and_then(|alerts| alerts.get(CHANNELS)).and_then(Value::as_array);
    for channel in channels.into_iter().flatten().filter_map(Value::as_table) {
        let kind = channel.get("kind").and_then(Value::as_str).and_then(kinds.channels).unwrap_or_default();
        let fields: Vec<&Field> = CHANNEL_IDENTITY.iter().chain(kind).chain(CHANNEL_COMMON).collect();
        show_table(&mut text, "[[alerts.channels]]", "alerts.channels", channel, &fields);
    }
    let tokens = document.get("console").and_then(|console| console.get(TOKENS)).and_then(Value::as_array);
    for token in tokens.into_iter().flatten().filter_map(Value::as_table) {
        show_table(&mut text, "[[console.tokens]]", "console.tokens", token, &CONSOLE_TOKEN.iter().collect::<Vec<_>>());
    }
    for handler in document.get(HANDLERS).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table) {
        let kind = handler.get("kind").and_then(Value::as_str).and_then(kinds.handlers).unwrap_or_default();
        let fields: Vec<&Field> = IDENTITY.iter().chain(kind).chain(COMMON).collect();
        show_table(&mut text, "[[handlers]]", HANDLERS, handler, &fields);
    }
    for projection in document.get(PROJECTIONS).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table) {
        show_table(&mut text, "[[projections]]", PROJECTIONS, projection, &PROJECTION.iter().collect::<Vec<_>>());
    }
    for adopted in document.get(ADOPT).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table) {
        show_table(&mut text, "[[adopt]]", ADOPT, adopted, &ADOPTION.iter().collect::<Vec<_>>());
    }
    for client in document.get(CLIENTS).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table) {
        show_table(&mut text, "[[clients]]", CLIENTS, client, &CLIENT.iter().collect::<Vec<_>>());
    }
    text
}

/// An address with its passwords masked; completely masked if it is not an address.
pub fn masked_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return MASK.to_owned() };
    if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
        return MASK.to_owned();
    }
    if url.query_pairs().any(|(name, _)| name == "password") {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let masked = pairs.iter().map(|(name, value)| (name, if name == "password" { MASK } else { value }));
        url.query_pairs_mut().clear().extend_pairs(masked);
    }
    url.into()
}

fn show_table(text: &mut String, head: &str, path: &str, table: &Table, fields: &[&Field]) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(head);
    text.push('\n');
    // Tables come last: in TOML a key behind a nested table would belong to it.
    let (tables, plain): (Vec<&Field>, Vec<&Field>) =
        fields.iter().partition(|field| matches!(field.field_type, FieldType::Table(_)));
    for field in plain {
        if let Some(value) = table.get(field.name).cloned().or_else(|| default_value(field).filter(|_| !replaced(field, table))) {
            writeln!(text, "{} = {}", field.name, masked(path, field, &value)).expect("a String takes everything");
        }
    }
    for field in tables {
        let FieldType::Table(inner) = field.field_type else { continue };
        let empty = Table::new();
        let nested = table.get(field.name).and_then(Value::as_table).unwrap_or(&empty);
        let path = format!("{path}.{}", field.name);
        show_table(text, &format!("[{path}]"), &path, nested, &inner.iter().collect::<Vec<_>>());
    }
}

/// A schedule replaces these three, and the output must be a valid configuration again.
fn replaced(field: &Field, table: &Table) -> bool {
    table.contains_key("schedule") && matches!(field.name, "base" | "factor" | "max_delay")
}

fn masked(path: &str, field: &Field, value: &Value) -> Value {
    match (field.field_type, value) {
        (FieldType::Secret, Value::String(url)) if path == "database" => Value::String(masked_url(url)),
        (FieldType::Secret, _) => Value::String(MASK.to_owned()),
        (FieldType::SecretList, Value::Array(list)) => Value::Array(list.iter().map(|_| Value::String(MASK.to_owned())).collect()),
        (FieldType::SecretMap, Value::Table(map)) => {
            Value::Table(map.keys().map(|key| (key.clone(), Value::String(MASK.to_owned()))).collect())
        }
        // Addresses of brokers and receivers may carry a password, too.
        (FieldType::Text, Value::String(text)) if Url::parse(text).is_ok_and(|url| url.password().is_some()) => {
            Value::String(masked_url(text))
        }
        (_, value) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::environment::FakeEnvironment;
    use super::*;

    const KIND: &[Field] = &[
        Field::required("url", FieldType::Text, "Address."),
        Field::new("token", FieldType::Secret, "", "Secret."),
        Field::new("secrets", FieldType::SecretList, "", "Secrets."),
        Field::new("headers", FieldType::SecretMap, "", "Headers."),
        Field::new("size", FieldType::Bytes, "1KiB", "Size."),
    ];

    const KINDS: Kinds = Kinds { handlers: of_k, channels: of_k };

    fn of_k(name: &str) -> Option<&'static [Field]> {
        (name == "k").then_some(KIND)
    }

    const TEXT: &str = "[[handlers]]\nname = \"x\"\nkind = \"k\"\nurl = \"amqp://u:hunter2@h/x\"\ntoken = \"${TOKEN}\"\n\
                        secrets = [\"hunter2\", \"hunter2\"]\nheaders = { authorization = \"hunter2\" }\nretry.schedule = [\"1s\"]\n\
                        [[alerts.channels]]\nname = \"c\"\nkind = \"k\"\nurl = \"smtp://u:hunter2@h\"\ntoken = \"hunter2\"\n\
                        [[adopt]]\ntable = \"a.b\"\nshape = \"debezium\"\nextra_headers = { tenant = \"t\" }";

    #[test]
    fn no_secret_is_shown() {
        let environment =
            FakeEnvironment::default().variable("DATABASE_URL", "postgres://u:hunter2@h/d").variable("TOKEN", "hunter2");
        let draft = super::super::read(TEXT, &environment, KINDS).expect("valid TOML");
        let shown = show(draft.resolved(), KINDS);
        assert!(!shown.contains("hunter2"), "{shown}");
        for line in [
            "url = \"postgres://u:***@h/d\"",
            "url = \"amqp://u:***@h/x\"",
            "token = \"***\"",
            "secrets = [\"***\", \"***\"]",
            "headers = { authorization = \"***\" }",
            "url = \"smtp://u:***@h\"",
            "size = \"1KiB\"",
            "poll_interval = \"2ms\"",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} is missing in\n{shown}");
        }
    }

    #[test]
    fn what_is_shown_is_a_configuration_again() {
        let environment = FakeEnvironment::with_database().variable("TOKEN", "t");
        let shown = show(super::super::read(TEXT, &environment, KINDS).expect("valid TOML").resolved(), KINDS);
        let config = super::super::parse(&shown, &FakeEnvironment::default(), KINDS).expect("valid again");
        assert_eq!(config.handlers[0].retry.backoff.ceiling().as_secs(), 1);
        assert_eq!((config.adopt[0].table.to_string().as_str(), config.adopt[0].extra_headers.len()), ("a.b", 1));
    }

    #[test]
    fn a_password_is_masked_wherever_an_address_can_hold_it() {
        for (url, want) in [
            ("postgres://app:secret@db:5432/app?sslmode=require", "postgres://app:***@db:5432/app?sslmode=require"),
            ("postgres:///app?host=%2Frun&password=secret", "postgres:///app?host=%2Frun&password=***"),
            ("postgres://localhost/app", "postgres://localhost/app"),
            ("secret", "***"),
        ] {
            assert_eq!(masked_url(url), want);
        }
    }
}
