//! Overrides: settings of the command line that replace those of the file, the same for every command: the address of the
//! database and the schema. The value of the file is removed before it is resolved, so a variable that only this value needs may
//! be missing.

use toml::{Table, Value};

use crate::settings::Secret;

/// The values of the command line.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Replaces `database.url`.
    pub database_url: Option<Secret>,
    /// Replaces `outbox.schema`.
    pub schema: Option<String>,
}

impl Overrides {
    /// Removes the replaced settings from a document before it is resolved.
    pub(super) fn remove_from(&self, document: &mut Table) {
        for (section, key, _) in self.values() {
            if let Some(Value::Table(table)) = document.get_mut(section) {
                table.remove(key);
                table.remove(&format!("{key}_file"));
            }
        }
    }

    /// Inserts the values into a resolved document; values of the command line are not expanded.
    pub(super) fn put_into(&self, resolved: &mut Table) {
        for (section, key, text) in self.values() {
            if let Value::Table(table) = resolved.entry(section).or_insert_with(|| Value::Table(Table::new())) {
                table.insert(key.to_owned(), Value::String(text));
            }
        }
    }

    fn values(&self) -> impl Iterator<Item = (&'static str, &'static str, String)> {
        let url = self.database_url.as_ref().map(|url| ("database", "url", url.expose().to_owned()));
        let schema = self.schema.clone().map(|schema| ("outbox", "schema", schema));
        url.into_iter().chain(schema)
    }
}

#[cfg(test)]
mod tests {
    use super::super::environment::FakeEnvironment;
    use super::super::fields::Kinds;
    use super::*;

    const NO_KINDS: Kinds = Kinds { handlers: |_| None, channels: |_| None };

    #[test]
    fn what_is_given_beside_the_file_takes_the_place_of_what_the_file_says() {
        for text in [
            "",
            "[database]\nurl = \"${NOT_SET}\"\n[outbox]\nschema = \"other\"",
            "[database]\nurl_file = \"/gone\"\n[outbox]\nschema = \"Not One\"",
        ] {
            let given = Overrides { database_url: Some(Secret::new("postgres://h/${d}")), schema: Some("events".to_owned()) };
            let draft = super::super::load::read_with(text, &given, &FakeEnvironment::default(), NO_KINDS).expect("TOML");
            let config = draft.finish(Vec::new()).unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"));
            assert_eq!((config.database.url.expose(), config.outbox.schema.as_str()), ("postgres://h/${d}", "events"), "{text}");
        }
    }
}
