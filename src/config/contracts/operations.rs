//! The operations of a cast in TOML: `{ rename = ["id", "order_id"] }`. Reports every mistake with its place; a cast with a
//! mistake is left out.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::contracts::{Cast, Decimal, Operation, Path, ScalarType};
use crate::settings::{Mistakes, unknown_key};

/// Each operation with its further keys.
const WORDS: &[(&str, &[&str])] = &[
    ("rename", &[]),
    ("move", &[]),
    ("drop", &[]),
    ("default", &["value", "json", "invented"]),
    ("const", &["value", "json"]),
    ("cast", &["to"]),
    ("scale", &["to", "by", "as"]),
    ("map", &["values", "otherwise"]),
    ("nest", &["into"]),
    ("unnest", &[]),
    ("loses", &[]),
];

/// Reads one edge. `path` is where its mistakes are reported.
pub(super) fn read_edge(path: &str, list: &Value, mistakes: &Mistakes) -> Option<Cast> {
    let Some(entries) = list.as_array() else {
        mistakes.add(
            path,
            format!("got a {}, expected a list of operations such as [{{ rename = [\"id\", \"order_id\"] }}]", list.type_str()),
        );
        return None;
    };
    let (mut operations, mut loses, mut is_good) = (Vec::new(), Vec::new(), true);
    for (index, entry) in entries.iter().enumerate() {
        match read_entry(entry) {
            Ok(Read::Operation(operation)) => operations.push(operation),
            Ok(Read::Loses(paths)) => loses.extend(paths),
            Err((key, text)) => {
                is_good = false;
                let key = if key.is_empty() { String::new() } else { format!(".{key}") };
                mistakes.add(format!("{path}[{index}]{key}"), text);
            }
        }
    }
    is_good.then(|| Cast::new(operations, loses))
}

enum Read {
    Operation(Operation),
    Loses(Vec<Path>),
}

/// The wrong key, empty for the whole entry, and the mistake.
type Wrong = (&'static str, String);

fn read_entry(entry: &Value) -> Result<Read, Wrong> {
    let Some(table) = entry.as_table() else {
        return Err(("", format!("got {entry}, expected a table such as {{ rename = [\"id\", \"order_id\"] }}")));
    };
    let named: Vec<_> = WORDS.iter().filter(|(word, _)| table.contains_key(*word)).collect();
    let [(word, also)] = named.as_slice() else {
        let words: Vec<String> = WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let text = match (named.is_empty(), table.keys().next()) {
            (true, Some(key)) => unknown_key(key, WORDS.iter().map(|(word, _)| *word)),
            (true, None) => format!("is empty, expected one of {}", words.join(", ")),
            (false, _) => format!("has more than one operation; write each as a table of its own: {}", words.join(", ")),
        };
        return Err(("", text));
    };
    if let Some(key) = table.keys().find(|key| *key != word && !also.contains(&key.as_str())) {
        return Err(("", unknown_key(key, std::iter::once(*word).chain(also.iter().copied()))));
    }
    if *word == "loses" {
        return Ok(Read::Loses(paths(table, "loses")?));
    }
    operation(word, table).map(Read::Operation)
}

fn operation(word: &'static str, table: &Table) -> Result<Operation, Wrong> {
    let invalid = |error: crate::contracts::InvalidOperation| (word, error.to_string());
    match word {
        "rename" => {
            let [from, to] = pair(table, word)?;
            Operation::rename(path(word, &from)?, &to).map_err(invalid)
        }
        "move" => {
            let [from, to] = pair(table, word)?;
            Operation::move_to(path(word, &from)?, path(word, &to)?).map_err(invalid)
        }
        "drop" => Ok(Operation::Drop { path: path(word, text(table, word)?)? }),
        "default" => {
            if table.get("invented") != Some(&Value::Boolean(true)) {
                let text = "needs invented = true: the producer never recorded this value, and readers should know that";
                return Err(("default", text.to_owned()));
            }
            Ok(Operation::Default { path: path(word, text(table, word)?)?, value: json(table)? })
        }
        "const" => Ok(Operation::Const { path: path(word, text(table, word)?)?, value: json(table)? }),
        "cast" => Ok(Operation::Cast { path: path(word, text(table, word)?)?, to: scalar_type("to", text(table, "to")?)? }),
        "scale" => {
            let to = table.contains_key("to").then(|| text(table, "to")).transpose()?;
            let form = table.contains_key("as").then(|| scalar_type("as", text(table, "as")?)).transpose()?;
            if form == Some(ScalarType::Boolean) {
                return Err(("as", "got \"boolean\", expected \"text\", \"integer\" or \"number\"".to_owned()));
            }
            Operation::scale(path(word, text(table, word)?)?, to, factor(table)?, form).map_err(invalid)
        }
        "map" => map(table),
        "nest" => Operation::nest(paths(table, word)?, text(table, "into")?).map_err(invalid),
        _ => Ok(Operation::Unnest { path: path("unnest", text(table, "unnest")?)? }),
    }
}

fn text<'t>(table: &'t Table, key: &'static str) -> Result<&'t str, Wrong> {
    match table.get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err((key, format!("got {other}, expected a text"))),
        None => Err((key, "is needed".to_owned())),
    }
}

fn path(key: &'static str, text: &str) -> Result<Path, Wrong> {
    Path::parse(text).map_err(|invalid| (key, format!("got {text:?}: {invalid}")))
}

fn texts(table: &Table, key: &'static str) -> Result<Vec<String>, Wrong> {
    let list = table.get(key).and_then(Value::as_array);
    let texts: Option<Vec<String>> = list.and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect());
    texts.ok_or_else(|| {
        let got = table.get(key).map_or_else(|| "nothing".to_owned(), ToString::to_string);
        (key, format!("got {got}, expected a list of texts"))
    })
}

fn pair(table: &Table, key: &'static str) -> Result<[String; 2], Wrong> {
    let texts = texts(table, key)?;
    let count = texts.len();
    texts.try_into().map_err(|_| (key, format!("got {count} texts, expected two: the old name and the new name")))
}

fn paths(table: &Table, key: &'static str) -> Result<Vec<Path>, Wrong> {
    texts(table, key)?.iter().map(|text| path(key, text)).collect()
}

fn scalar_type(key: &'static str, text: &str) -> Result<ScalarType, Wrong> {
    ScalarType::named(text).ok_or_else(|| {
        let known: Vec<String> = ScalarType::ALL.iter().map(|known| format!("\"{}\"", known.as_str())).collect();
        (key, format!("got {text:?}, expected {}", known.join(" or ")))
    })
}

/// The factor, exactly as written.
fn factor(table: &Table) -> Result<Decimal, Wrong> {
    let text = match table.get("by") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Integer(number)) => number.to_string(),
        Some(Value::Float(number)) => {
            return Err(("by", format!("got {number}, expected a text such as \"{number}\": a float is not exact")));
        }
        Some(other) => return Err(("by", format!("got {other}, expected a number in a text such as \"0.01\""))),
        None => return Err(("by", "is needed: the factor, such as \"0.01\"".to_owned())),
    };
    Decimal::parse(&text).ok_or_else(|| ("by", format!("got {text:?}, expected a number such as \"0.01\"")))
}

fn map(table: &Table) -> Result<Operation, Wrong> {
    let Some(values) = table.get("values").and_then(Value::as_table) else {
        return Err(("values", "is needed: a table such as { new = \"created\", paid = \"settled\" }".to_owned()));
    };
    let values =
        values.iter().map(|(from, to)| Ok((from.clone(), as_json("values", to)?))).collect::<Result<BTreeMap<_, _>, Wrong>>()?;
    if values.is_empty() {
        return Err(("values", "is empty, so no value could be cast".to_owned()));
    }
    let otherwise = table.get("otherwise").map(|value| as_json("otherwise", value)).transpose()?;
    Ok(Operation::Map { path: path("map", text(table, "map")?)?, values, otherwise })
}

/// The value of a default or const: TOML, or JSON as a text for values that TOML does not have.
fn json(table: &Table) -> Result<String, Wrong> {
    match (table.get("value"), table.get("json")) {
        (Some(value), None) => as_json("value", value),
        (None, Some(Value::String(text))) => match serde_json::from_str::<&serde_json::value::RawValue>(text) {
            Ok(raw) => Ok(raw.get().to_owned()),
            Err(error) => Err(("json", format!("got {text:?}, which is not JSON: {error}"))),
        },
        (None, Some(other)) => Err(("json", format!("got {other}, expected JSON in a text such as \"null\""))),
        (Some(_), Some(_)) => Err(("json", "\"value\" is given as well; keep one of the two".to_owned())),
        (None, None) => {
            Err(("value", "is needed; for a value that TOML does not have, such as null, write json = \"null\"".to_owned()))
        }
    }
}

fn as_json(key: &'static str, value: &Value) -> Result<String, Wrong> {
    Ok(match value {
        Value::String(text) => serde_json::Value::from(text.as_str()).to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) if number.is_finite() => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Array(items) => {
            let items = items.iter().map(|item| as_json(key, item)).collect::<Result<Vec<_>, Wrong>>()?;
            format!("[{}]", items.join(","))
        }
        Value::Table(members) => {
            let member = |(name, value): (&String, &Value)| {
                Ok(format!("{}:{}", serde_json::Value::from(name.as_str()), as_json(key, value)?))
            };
            format!("{{{}}}", members.iter().map(member).collect::<Result<Vec<_>, Wrong>>()?.join(","))
        }
        other => return Err((key, format!("got {other}, which JSON does not have; write it as a text"))),
    })
}
