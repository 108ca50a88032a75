//! The words: SQL only in the store, and one name for each thing everywhere.

use crate::source::Source;

/// Where statements may stand. The demo and the bench play an application, which writes its own SQL; the doctor prints statements
/// for people to paste and executes none.
const SQL_PLACES: &[&str] = &["src/store/", "src/launcher/", "src/doctor/", "src/cli/demo", "src/cli/bench"];

/// How statements begin; the second word keeps plain English ("select a handler") out.
const STATEMENTS: &[(&str, &[&str])] = &[
    ("select", &[" from ", "select 1", "select pg_", "("]),
    ("insert", &["insert into "]),
    ("update", &[" set "]),
    ("delete", &["delete from "]),
    ("with", &[" as (", " as materialized ("]),
];

/// Words of other systems for things that have a name of their own here (ARCHITECTURE.md).
const BANNED: &[&str] = &["sink", "consumer", "subscriber", "job"];

/// Names that other crates gave, and where everybody knows whose they are.
const FOREIGN: &[&str] = &["tracing_subscriber", "SubscriberExt", "SubscriberInitExt", "SinkExt", "SplitSink"];
const FOREIGN_AT_HOME: &[(&str, &str)] = &[("src/telemetry/logging.rs", "subscriber")];

pub fn sql(source: &Source) -> Vec<String> {
    if !source.is_shipped() || SQL_PLACES.iter().any(|place| source.path.starts_with(place)) {
        return vec![];
    }
    let statements = source.literals.iter().filter(|(_, text)| is_statement(text));
    statements.map(|(line, _)| format!(":{line}: SQL outside src/store")).collect()
}

fn is_statement(text: &str) -> bool {
    let text = text.trim_start().to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    STATEMENTS.iter().any(|(verb, marks)| {
        let begins = text.strip_prefix(verb).is_some_and(|rest| rest.starts_with(' '));
        begins && marks.iter().any(|mark| text.contains(mark))
    })
}

pub fn names(source: &Source) -> Vec<String> {
    if !source.path.starts_with("src/") {
        return vec![];
    }
    let mut violations = Vec::new();
    for (number, line) in source.code.lines().enumerate() {
        for identifier in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
            let is_at_home = FOREIGN_AT_HOME.contains(&(source.path.as_str(), identifier.to_lowercase().as_str()));
            if !is_at_home && !FOREIGN.contains(&identifier) && parts(identifier).iter().any(|part| is_banned(part)) {
                violations.push(format!(":{}: `{identifier}` is not our word; ARCHITECTURE.md has the words", number + 1));
            }
        }
    }
    violations
}

fn is_banned(part: &str) -> bool {
    BANNED.contains(&part) || part.strip_suffix('s').is_some_and(|singular| BANNED.contains(&singular))
}

/// `EventSink` and `event_sink` have the same two parts.
fn parts(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in identifier.chars() {
        if c == '_' || c.is_uppercase() {
            parts.push(String::new());
        }
        if c != '_' {
            parts.last_mut().expect("it begins with one part").extend(c.to_lowercase());
        }
    }
    parts
}

#[test]
fn statements_and_foreign_words_are_found() {
    let found = |text: &str| {
        let source = Source::new("src/relay/a.rs".to_owned(), text.to_owned());
        (sql(&source).len(), names(&source).len())
    };
    assert_eq!(found("f(\"SELECT *\\n from events\"); g(\"update a\\n set b = 1\");"), (2, 0));
    assert_eq!(found("f(\"select a handler\", \"with one owner\");"), (0, 0));
    assert_eq!(found("struct EventSink { old_jobs: u8 } // a sink"), (0, 2));
    assert_eq!(found("use tracing_subscriber::fmt;"), (0, 0));
}
