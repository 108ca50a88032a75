//! One table of the configuration, read through its declared fields.
//! A getter never fails: a wrong value is reported once, when the section is opened, and the default takes its place.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use toml::{Table, Value};

use super::{Field, FieldType, Mistakes, Secret, parse_bytes, parse_duration};

static EMPTY: LazyLock<Table> = LazyLock::new(Table::new);

/// A table, the fields it may have, and where its mistakes go.
pub struct Section<'a> {
    path: String,
    table: &'a Table,
    fields: Vec<&'static Field>,
    mistakes: &'a Mistakes,
}

impl<'a> Section<'a> {
    /// Opens a table and reports every unknown, missing or wrong value in it. `also` are further fields of the same table.
    pub fn open(path: &str, table: &'a Table, fields: &'static [Field], also: &'static [Field], mistakes: &'a Mistakes) -> Self {
        let section = Self { path: path.to_owned(), table, fields: fields.iter().chain(also).collect(), mistakes };
        section.check();
        section
    }

    /// Reports something that only the reader of the values can know, at `path.name`.
    pub fn mistake(&self, name: &str, text: &str) {
        self.mistakes.add(self.join(name), text);
    }

    /// Whether the table says something about this field.
    pub fn is_set(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn text(&self, name: &str) -> String {
        self.read(name, as_text).unwrap_or_default()
    }

    /// `None` if not set or empty.
    pub fn optional_text(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    pub fn secret(&self, name: &str) -> Option<Secret> {
        self.optional_text(name).map(Secret::new)
    }

    pub fn duration(&self, name: &str) -> Duration {
        self.read(name, |value| value.as_str().and_then(parse_duration)).unwrap_or_default()
    }

    /// `None` if not set and the default is empty.
    pub fn optional_duration(&self, name: &str) -> Option<Duration> {
        self.read(name, |value| value.as_str().and_then(parse_duration))
    }

    pub fn bytes(&self, name: &str) -> u64 {
        self.read(name, |value| value.as_str().and_then(parse_bytes)).unwrap_or_default()
    }

    pub fn integer(&self, name: &str) -> i64 {
        self.read(name, as_integer).unwrap_or_default()
    }

    pub fn optional_integer(&self, name: &str) -> Option<i64> {
        self.read(name, as_integer)
    }

    pub fn number(&self, name: &str) -> f64 {
        self.read(name, as_number).unwrap_or_default()
    }

    pub fn boolean(&self, name: &str) -> bool {
        self.read(name, as_boolean).unwrap_or_default()
    }

    /// Empty if not set.
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.value(name).and_then(Value::as_array).into_iter().flatten().filter_map(as_text).collect()
    }

    pub fn secrets(&self, name: &str) -> Vec<Secret> {
        self.texts(name).into_iter().map(Secret::new).collect()
    }

    pub fn durations(&self, name: &str) -> Vec<Duration> {
        self.texts(name).iter().filter_map(|text| parse_duration(text)).collect()
    }

    pub fn text_map(&self, name: &str) -> BTreeMap<String, String> {
        let table = self.value(name).and_then(Value::as_table).unwrap_or(&EMPTY);
        table.iter().filter_map(|(key, value)| Some((key.clone(), as_text(value)?))).collect()
    }

    /// The values as JSON has them: a whole number stays one, and a text is not a number.
    pub fn scalar_map(&self, name: &str) -> BTreeMap<String, serde_json::Value> {
        let table = self.value(name).and_then(Value::as_table).unwrap_or(&EMPTY);
        table.iter().filter_map(|(key, value)| Some((key.clone(), as_scalar(value)?))).collect()
    }

    pub fn secret_map(&self, name: &str) -> BTreeMap<String, Secret> {
        self.text_map(name).into_iter().map(|(key, text)| (key, Secret::new(text))).collect()
    }

    /// A nested table; an absent one reads as empty, so that its defaults hold. Its mistakes are reported here.
    pub fn table(&self, name: &str) -> Section<'a> {
        let FieldType::Table(fields) = self.field(name).field_type else { panic!("{name} is declared as a table") };
        let table = self.value(name).and_then(Value::as_table).unwrap_or(&EMPTY);
        Section { path: self.join(name), table, fields: fields.iter().collect(), mistakes: self.mistakes }
    }

    fn check(&self) {
        for name in self.table.keys() {
            if !self.fields.iter().any(|field| field.name == name) {
                self.mistakes.add(self.path.clone(), unknown_key(name, self.fields.iter().map(|field| field.name)));
            }
        }
        for field in &self.fields {
            match self.value(field.name) {
                None if field.default.is_none() => {
                    self.mistakes.add(
                        self.path.clone(),
                        format!("needs \"{}\", {}: {}", field.name, expected(field.field_type), field.help),
                    );
                }
                None => {}
                Some(value) => self.check_value(field, value),
            }
            if matches!(field.field_type, FieldType::Table(_)) && self.value(field.name).is_none_or(Value::is_table) {
                self.table(field.name).check();
            }
        }
    }

    fn check_value(&self, field: &Field, value: &Value) {
        if fits(field.field_type, value) {
            return;
        }
        let got = match field.field_type {
            // The value of a secret must not appear in an error; its type may.
            FieldType::Secret | FieldType::SecretList | FieldType::SecretMap => format!("a value of type {}", value.type_str()),
            _ => shorten(&value.to_string()),
        };
        let mut text = format!("got {got}, expected {}", expected(field.field_type));
        if let (FieldType::Choice(choices), Some(given)) = (field.field_type, value.as_str())
            && let Some(near) = nearest(given, choices.iter().copied())
        {
            text.push_str(&format!("; did you mean \"{near}\"?"));
        }
        self.mistake(field.name, &text);
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.table.get(name)
    }

    fn field(&self, name: &str) -> &'static Field {
        self.fields.iter().find(|field| field.name == name).unwrap_or_else(|| panic!("{name} is a declared field of {}", self.path))
    }

    fn read<T>(&self, name: &str, convert: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let field = self.field(name);
        let given = self.value(name).filter(|value| fits(field.field_type, value)).and_then(&convert);
        given.or_else(|| convert(&Value::String(field.default?.to_owned())))
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// The message about an unknown key, with the nearest known one.
pub(crate) fn unknown_key<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("unknown key \"{name}\"; did you mean \"{near}\"?"),
        None => format!("unknown key \"{name}\""),
    }
}

fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

fn fits(field_type: FieldType, value: &Value) -> bool {
    let all_texts = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_str));
    match field_type {
        FieldType::Text | FieldType::Secret => value.is_str(),
        FieldType::Duration => value.as_str().is_some_and(|text| parse_duration(text).is_some()),
        FieldType::Bytes => value.as_str().is_some_and(|text| parse_bytes(text).is_some()),
        FieldType::Integer(low, high) => value.as_integer().is_some_and(|number| (low..=high).contains(&number)),
        FieldType::Number(low, high) => {
            value.as_float().or(value.as_integer().map(|n| n as f64)).is_some_and(|number| (low..=high).contains(&number))
        }
        FieldType::Boolean => value.is_bool(),
        FieldType::Choice(choices) => value.as_str().is_some_and(|text| choices.contains(&text)),
        FieldType::TextList | FieldType::SecretList => all_texts(value),
        FieldType::DurationList => {
            all_texts(value) && value.as_array().into_iter().flatten().all(|item| item.as_str().and_then(parse_duration).is_some())
        }
        FieldType::TextMap | FieldType::SecretMap => value.as_table().is_some_and(|table| table.values().all(Value::is_str)),
        FieldType::ScalarMap => value.as_table().is_some_and(|table| table.values().all(|value| as_scalar(value).is_some())),
        FieldType::Table(_) => value.is_table(),
    }
}

fn expected(field_type: FieldType) -> String {
    match field_type {
        FieldType::Text => "a text".to_owned(),
        FieldType::Secret => "a text, best from the environment: \"${NAME}\"".to_owned(),
        FieldType::Duration => "a duration such as \"30s\"".to_owned(),
        FieldType::Bytes => "a size such as \"64KiB\"".to_owned(),
        FieldType::Integer(low, high) => format!("a whole number from {low} to {high}"),
        FieldType::Number(low, high) => format!("a number from {low} to {high}"),
        FieldType::Boolean => "true or false".to_owned(),
        FieldType::Choice(choices) => choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(" or "),
        FieldType::TextList | FieldType::SecretList => "a list of texts such as [\"a\", \"b\"]".to_owned(),
        FieldType::DurationList => "a list of durations such as [\"5s\", \"5m\"]".to_owned(),
        FieldType::TextMap | FieldType::SecretMap => "a table of texts such as { name = \"value\" }".to_owned(),
        FieldType::ScalarMap => "a table of texts, numbers and booleans such as { tenant = \"acme\", version = 2 }".to_owned(),
        FieldType::Table(_) => "a table".to_owned(),
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 { text.to_owned() } else { text.chars().take(57).chain("...".chars()).collect() }
}

fn as_text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

// JSON has neither dates nor infinity.
fn as_scalar(value: &Value) -> Option<serde_json::Value> {
    match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Integer(number) => Some((*number).into()),
        Value::Float(number) => serde_json::Number::from_f64(*number).map(Into::into),
        Value::Boolean(is_so) => Some((*is_so).into()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

// A default arrives as text, a given value as what TOML made of it.
fn as_integer(value: &Value) -> Option<i64> {
    value.as_integer().or_else(|| value.as_str()?.parse().ok())
}

fn as_number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|n| n as f64)).or_else(|| value.as_str()?.parse().ok())
}

fn as_boolean(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: &[Field] = &[Field::new("base", FieldType::Duration, "5s", "First delay.")];
    const FIELDS: &[Field] = &[
        Field::required("url", FieldType::Text, "Where to send."),
        Field::new("timeout", FieldType::Duration, "15s", "Longest wait."),
        Field::new("ordering", FieldType::Choice(&["key", "none"]), "key", "Order."),
        Field::new("token", FieldType::Secret, "", "Secret."),
        Field::new("concurrency", FieldType::Integer(1, 1024), "16", "At once."),
        Field::table("retry", INNER, "Retry."),
    ];

    fn mistakes_of(text: &str) -> Vec<String> {
        let (table, mistakes) = (text.parse::<Table>().expect("valid TOML"), Mistakes::default());
        Section::open("handlers.billing", &table, FIELDS, &[], &mistakes);
        mistakes.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_is_reported_with_path_got_and_expected() {
        assert_eq!(
            mistakes_of("timeout = 30\ntime_out = \"5s\"\nordering = \"keys\"\ntoken = 7\nconcurrency = 0\n[retry]\nbase = \"x\""),
            [
                "handlers.billing: unknown key \"time_out\"; did you mean \"timeout\"?",
                "handlers.billing: needs \"url\", a text: Where to send.",
                "handlers.billing.timeout: got 30, expected a duration such as \"30s\"",
                "handlers.billing.ordering: got \"keys\", expected \"key\" or \"none\"; did you mean \"key\"?",
                "handlers.billing.token: got a value of type integer, expected a text, best from the environment: \"${NAME}\"",
                "handlers.billing.concurrency: got 0, expected a whole number from 1 to 1024",
                "handlers.billing.retry.base: got \"x\", expected a duration such as \"30s\"",
            ]
        );
    }

    #[test]
    fn defaults_take_the_place_of_what_is_not_said() {
        let (table, mistakes) = ("url = \"http://x\"".parse::<Table>().expect("valid TOML"), Mistakes::default());
        let section = Section::open("h", &table, FIELDS, &[], &mistakes);
        assert!(mistakes.is_empty());
        assert_eq!(section.duration("timeout"), Duration::from_secs(15));
        assert_eq!(section.integer("concurrency"), 16);
        assert_eq!(section.text("ordering"), "key");
        assert_eq!(section.secret("token"), None);
        assert_eq!(section.table("retry").duration("base"), Duration::from_secs(5));
    }
}
