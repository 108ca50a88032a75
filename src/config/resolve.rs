//! Replaces all references in a table: variables by their values, `<key>_file` by the content of the file. Checks no value. A key that
//! could not be resolved is recorded, so that its placeholder is not reported as a second mistake.

use std::cell::RefCell;
use std::collections::BTreeSet;

use toml::{Table, Value};

use super::adopt::entry_path;
use super::console::token_path;
use super::environment::{Environment, expand};
use super::feed::client_path;
use super::fields::{self, Kinds};
use super::{channel_path, handler_path, projections};
use crate::settings::{Field, FieldType, Mistakes};

const SUFFIX: &str = "_file";

/// A resolved document, and the paths in it that hold only a placeholder because their source failed.
pub(super) struct Resolved {
    pub table: Table,
    pub failed: BTreeSet<String>,
}

/// Resolves a whole document. Every failure is reported; none stops it.
pub(super) fn resolve(document: Table, environment: &dyn Environment, kinds: Kinds, mistakes: &Mistakes) -> Resolved {
    let resolver = Resolver { environment, mistakes, failed: RefCell::default() };
    let mut document = document;
    let handlers = document.remove(fields::HANDLERS);
    let adopted = document.remove(fields::ADOPT);
    let clients = document.remove(fields::CLIENTS);
    let projections = document.remove(fields::PROJECTIONS);
    let alerts = document.get_mut("alerts").and_then(Value::as_table_mut);
    let channels = alerts.and_then(|alerts| alerts.remove(fields::CHANNELS));
    let console = document.get_mut("console").and_then(Value::as_table_mut);
    let tokens = console.and_then(|console| console.remove(fields::TOKENS));
    let mut table = resolver.table("", document, &|name| find(fields::SECTIONS, name));
    resolver.take_database_url(&mut table);
    if let Some(handlers) = handlers {
        table
            .insert(fields::HANDLERS.to_owned(), resolver.entries(handlers, &|index, entry| resolver.handler(index, entry, kinds)));
    }
    if let Some(adopted) = adopted {
        table.insert(fields::ADOPT.to_owned(), resolver.entries(adopted, &|index, entry| resolver.adoption(index, entry)));
    }
    if let Some(projections) = projections {
        let projections = resolver.entries(projections, &|index, entry| resolver.projection(index, entry));
        table.insert(fields::PROJECTIONS.to_owned(), projections);
    }
    if let Some(clients) = clients {
        table.insert(fields::CLIENTS.to_owned(), resolver.entries(clients, &|index, entry| resolver.client(index, entry)));
    }
    if let (Some(channels), Some(Value::Table(alerts))) = (channels, table.get_mut("alerts")) {
        let channels = resolver.entries(channels, &|index, entry| resolver.channel(index, entry, kinds));
        alerts.insert(fields::CHANNELS.to_owned(), channels);
    }
    if let (Some(tokens), Some(Value::Table(console))) = (tokens, table.get_mut("console")) {
        let tokens = resolver.entries(tokens, &|index, entry| resolver.token(index, entry));
        console.insert(fields::TOKENS.to_owned(), tokens);
    }
    Resolved { table, failed: resolver.failed.into_inner() }
}

/// Whether a key of this type may come from a file. Numbers and booleans may not, because they are never secrets.
pub(super) fn may_be_file(field_type: FieldType) -> bool {
    use FieldType as T;
    matches!(field_type, T::Text | T::Secret | T::Duration | T::Bytes | T::Choice(_)) || is_list(field_type)
}

fn is_list(field_type: FieldType) -> bool {
    matches!(field_type, FieldType::TextList | FieldType::SecretList | FieldType::DurationList)
}

struct Resolver<'a> {
    environment: &'a dyn Environment,
    mistakes: &'a Mistakes,
    failed: RefCell<BTreeSet<String>>,
}

impl Resolver<'_> {
    fn entries(&self, value: Value, entry: &dyn Fn(usize, Value) -> Value) -> Value {
        let Value::Array(entries) = value else { return value };
        Value::Array(entries.into_iter().enumerate().map(|(index, value)| entry(index, value)).collect())
    }

    // Name and kind come first: the name is part of the path of every mistake, and the kind determines the fields.
    fn said(&self, entry: &Table, key: &str) -> Option<String> {
        entry.get(key).and_then(Value::as_str).and_then(|text| expand(text, self.environment).ok())
    }

    fn channel(&self, index: usize, entry: Value, kinds: Kinds) -> Value {
        let Value::Table(entry) = entry else { return entry };
        let path = channel_path(index, &self.said(&entry, "name").unwrap_or_default());
        let of_kind = self.said(&entry, "kind").and_then(|kind| (kinds.channels)(&kind)).unwrap_or_default();
        let lists = [fields::CHANNEL_IDENTITY, fields::CHANNEL_COMMON, of_kind];
        Value::Table(self.table(&path, entry, &|name| lists.into_iter().find_map(|fields| find(fields, name))))
    }

    fn handler(&self, index: usize, entry: Value, kinds: Kinds) -> Value {
        let Value::Table(entry) = entry else { return entry };
        let path = handler_path(index, &self.said(&entry, "name").unwrap_or_default());
        let of_kind = self.said(&entry, "kind").and_then(|kind| (kinds.handlers)(&kind)).unwrap_or_default();
        let known = |name: &str| [fields::IDENTITY, fields::COMMON, of_kind].into_iter().find_map(|fields| find(fields, name));
        Value::Table(self.table(&path, entry, &known))
    }

    fn client(&self, index: usize, entry: Value) -> Value {
        let Value::Table(entry) = entry else { return entry };
        let path = client_path(index, &self.said(&entry, "name").unwrap_or_default());
        Value::Table(self.table(&path, entry, &|name| find(fields::CLIENT, name)))
    }

    fn token(&self, index: usize, entry: Value) -> Value {
        let Value::Table(entry) = entry else { return entry };
        let path = token_path(index, &self.said(&entry, "name").unwrap_or_default());
        Value::Table(self.table(&path, entry, &|name| find(fields::CONSOLE_TOKEN, name)))
    }

    fn projection(&self, index: usize, entry: Value) -> Value {
        let Value::Table(entry) = entry else { return entry };
        let path = projections::entry_path(index, &entry);
        Value::Table(self.table(&path, entry, &|name| find(fields::PROJECTION, name)))
    }

    fn adoption(&self, index: usize, entry: Value) -> Value {
        let Value::Table(entry) = entry else { return entry };
        let path = entry_path(index, &self.said(&entry, "table").unwrap_or_default());
        Value::Table(self.table(&path, entry, &|name| find(fields::ADOPTION, name)))
    }

    fn table(&self, path: &str, table: Table, known: &dyn Fn(&str) -> Option<FieldType>) -> Table {
        let mut resolved = Table::new();
        for (key, value) in table {
            let value = self.value(&join(path, &key), value, known(&key));
            resolved.insert(key, value);
        }
        self.replace_files(path, &mut resolved, known);
        resolved
    }

    fn value(&self, path: &str, value: Value, field_type: Option<FieldType>) -> Value {
        match (value, field_type) {
            (Value::String(text), _) => Value::String(self.text(path, text)),
            (Value::Array(list), _) => Value::Array(list.into_iter().map(|item| self.value(path, item, None)).collect()),
            (Value::Table(table), Some(FieldType::Table(fields))) => {
                Value::Table(self.table(path, table, &|name| find(fields, name)))
            }
            (Value::Table(table), Some(FieldType::SecretMap)) => {
                // Its keys are not declared: every key that ends in `_file` names a file, and all others are secrets.
                Value::Table(self.table(path, table, &|name| (!name.ends_with(SUFFIX)).then_some(FieldType::Secret)))
            }
            (Value::Table(table), _) => Value::Table(self.table(path, table, &|_| None)),
            (other, _) => other,
        }
    }

    fn text(&self, path: &str, text: String) -> String {
        expand(&text, self.environment).unwrap_or_else(|error| {
            self.fail(path, path, &error);
            text
        })
    }

    fn replace_files(&self, path: &str, table: &mut Table, known: &dyn Fn(&str) -> Option<FieldType>) {
        let keys: Vec<String> = table.keys().filter(|key| key.ends_with(SUFFIX)).cloned().collect();
        for key in keys {
            let name = key.trim_end_matches(SUFFIX);
            // A declared key keeps its own meaning, for example a certificate that the kind itself wants as a path.
            let (None, Some(field_type)) = (known(&key), known(name)) else { continue };
            if !may_be_file(field_type) {
                continue;
            }
            let file = table.remove(&key).expect("the key was listed a moment ago");
            if table.contains_key(name) {
                self.mistakes.add(join(path, &key), format!("\"{name}\" is given as well; keep one of the two"));
                continue;
            }
            table.insert(name.to_owned(), self.file(path, name, &key, &file, field_type));
        }
    }

    fn file(&self, path: &str, name: &str, key: &str, file: &Value, field_type: FieldType) -> Value {
        let content = self.read(file).unwrap_or_else(|error| {
            // A path that could not be expanded was reported already.
            if !self.failed.borrow().contains(&join(path, key)) {
                self.fail(&join(path, key), &join(path, name), &error);
            }
            self.failed.borrow_mut().insert(join(path, name));
            "unreadable".to_owned()
        });
        if is_list(field_type) {
            Value::Array(content.lines().map(str::trim).filter(|line| !line.is_empty()).map(Value::from).collect())
        } else {
            Value::String(content.trim_end_matches(['\r', '\n']).to_owned())
        }
    }

    fn read(&self, file: &Value) -> Result<String, String> {
        let file = file.as_str().ok_or_else(|| format!("got {file}, expected the path of a file"))?;
        let path = self.environment.directory().join(file);
        self.environment.read_file(&path).map_err(|error| format!("could not read {}: {error}", path.display()))
    }

    fn fail(&self, path: &str, placeholder: &str, text: &str) {
        self.mistakes.add(path, text);
        self.failed.borrow_mut().insert(placeholder.to_owned());
    }

    /// The one setting that also has a variable of its own, because every platform sets it.
    fn take_database_url(&self, table: &mut Table) {
        let database = table.entry("database").or_insert_with(|| Value::Table(Table::new()));
        if let (Value::Table(database), Some(url)) = (database, self.environment.variable("DATABASE_URL")) {
            let is_said = database.get("url").is_some_and(|given| given.as_str() != Some(""));
            if !is_said {
                database.insert("url".to_owned(), Value::String(url));
            }
        }
    }
}

fn find(fields: &'static [Field], name: &str) -> Option<FieldType> {
    fields.iter().find(|field| field.name == name).map(|field| field.field_type)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::super::environment::FakeEnvironment;
    use super::*;

    const KIND: &[Field] = &[
        Field::new("token", FieldType::Secret, "", "A secret."),
        Field::new("secrets", FieldType::SecretList, "", "Secrets."),
        Field::new("headers", FieldType::SecretMap, "", "Headers."),
        Field::new("ca_file", FieldType::Text, "", "A path."),
        Field::new("ca", FieldType::Text, "", "A certificate."),
        Field::new("size", FieldType::Integer(0, 9), "1", "A number."),
    ];

    const KINDS: Kinds = Kinds { handlers: |name| if name == "k" { Some(KIND) } else { None }, channels: |_| None };

    fn resolved(text: &str, environment: &FakeEnvironment) -> (Table, Vec<String>) {
        let mistakes = Mistakes::default();
        let text = format!("[[handlers]]\nname = \"x\"\nkind = \"k\"\n{text}");
        let document = text.parse().expect("valid TOML");
        let mut table = resolve(document, environment, KINDS, &mistakes).table;
        let Some(Value::Array(mut handlers)) = table.remove("handlers") else { panic!("handlers stay a list") };
        let Value::Table(handler) = handlers.remove(0) else { panic!("a handler stays a table") };
        (handler, mistakes.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_file_takes_the_place_of_its_key() {
        let environment = FakeEnvironment::default()
            .file("/etc/outboxd/token", "abc\n")
            .file("/run/secrets", "one\n\n two\r\n")
            .file("/run/auth", "Bearer x\n")
            .variable("RUN", "/run");
        let (handler, mistakes) = resolved(
            "token_file = \"token\"\nsecrets_file = \"${RUN}/secrets\"\nca_file = \"own.pem\"\nheaders = { authorization_file = \"/run/auth\", x = \"y\" }",
            &environment,
        );
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(handler["token"].as_str(), Some("abc"));
        assert_eq!(
            handler["secrets"].as_array().map(|list| list.iter().filter_map(Value::as_str).collect()),
            Some(vec!["one", "two"])
        );
        assert_eq!(handler["ca_file"].as_str(), Some("own.pem"), "a declared key keeps its meaning");
        assert_eq!(handler["headers"]["authorization"].as_str(), Some("Bearer x"));
        assert!(!handler.contains_key("token_file"));
    }

    #[test]
    fn whatever_fails_is_reported_once_with_its_path() {
        let environment = FakeEnvironment::default();
        let (handler, mistakes) = resolved(
            "secrets = [\"${NEW}\"]\ntoken_file = \"gone\"\nsize_file = \"7\"\nheaders = { a_file = 1, b = \"${B}\", b_file = \"x\" }",
            &environment,
        );
        assert_eq!(
            mistakes,
            [
                "handlers.x.headers.b: the environment variable \"B\" is not set",
                "handlers.x.headers.a_file: got 1, expected the path of a file",
                "handlers.x.headers.b_file: \"b\" is given as well; keep one of the two",
                "handlers.x.secrets: the environment variable \"NEW\" is not set",
                "handlers.x.token_file: could not read /etc/outboxd/gone: No such file or directory (os error 2)",
            ]
        );
        assert!(handler.contains_key("size_file"), "left for the check of unknown keys");
    }
}
