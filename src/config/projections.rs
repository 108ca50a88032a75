//! `[[projections]]`: versions of read tables that are built from the log. Each entry is a version; the relay treats it as a handler.
//! Reads no database: `outboxd check --connect` checks whether the function and the table exist.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::{Table, Value};

use super::contracts::read_pins;
use super::fields::{AGGREGATE_TYPES, EVENTS, PROJECTIONS};
use super::handler::{default_handler, parse_ordering_key, read_backfill, read_filter};
use super::rules::{is_name, report_name};
use super::{HandlerConfig, Start};
use crate::domain::{Ordering, Record};
use crate::settings::{Field, FieldType as T, Mistakes, Section};

/// The kind of the handlers that are versions of projections.
pub const PROJECTION_KIND: &str = "projection";

/// The settings of a `[[projections]]` entry.
pub const PROJECTION: &[Field] = &[
    Field::required(
        "name",
        T::Text,
        "Name of the projection, the same for all its versions: letters, digits, \"-\", \"_\" and \".\".",
    ),
    Field::required(
        "version",
        T::Integer(1, 1_000_000),
        "Number of the version, never reused; a second version beside the first is a second entry.",
    ),
    Field::required(
        "function",
        T::Text,
        "Function to call for each event, with its schema: fn(id uuid, type text, key text, payload jsonb, headers jsonb, occurred_at \
         timestamptz, replaying boolean).",
    ),
    Field::new("target", T::Text, "", "Table that only this version writes, with its schema."),
    Field::new("view", T::Text, "", "View for readers, with its schema; `outboxd projections switch` makes it show the target."),
    EVENTS,
    AGGREGATE_TYPES,
    Field::new(
        "where_headers",
        T::ScalarMap,
        "",
        "Headers that an event must have with exactly this text, number or boolean: \"2\" is not 2.",
    ),
    Field::new(
        "key",
        T::Text,
        "aggregate",
        "The key that the function receives: \"aggregate\", \"header:<name>\" or \"payload:<a.b.c>\".",
    ),
    Field::new("backfill", T::Text, "2000/s", "Events per second while the version reads history or follows the live version."),
    Field::new("statement_timeout", T::Duration, "30s", "Maximum duration of one call."),
    Field::new("lock_timeout", T::Duration, "5s", "Maximum wait of one call for a lock."),
    Field::new("role", T::Text, "", "Role to switch to for the call; empty: the role of the relay."),
];

/// The additional settings of a version of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionConfig {
    pub name: String,
    /// From 1.
    pub version: u32,
    /// `schema.name`, unquoted; empty: the projection is code of the program.
    pub function: String,
    pub target: Option<String>,
    pub view: Option<String>,
    pub statement_timeout: Duration,
    pub lock_timeout: Duration,
    pub role: Option<String>,
}

impl HandlerConfig {
    /// A version of a projection as a handler, with every other setting at its default.
    pub fn of_projection(projection: ProjectionConfig) -> Self {
        Self {
            name: projection_handler(&projection.name, projection.version),
            kind: PROJECTION_KIND.to_owned(),
            start: Start::Beginning,
            // The position alone records the progress; there are no rows for events.
            record: Record::Failures,
            backfill: Some(2_000),
            projection: Some(projection),
            ..default_handler()
        }
    }
}

/// The name of a version in commands, status and metrics. No handler of `[[handlers]]` can have such a name.
pub fn projection_handler(name: &str, version: u32) -> String {
    format!("{name}@{version}")
}

/// Reads the list; an entry without a usable name or version is reported and left out.
pub(super) fn read_projections(list: &Value, mistakes: &Mistakes) -> Vec<HandlerConfig> {
    let Some(entries) = list.as_array() else {
        mistakes.add(PROJECTIONS, format!("got a {}, expected a list: write every version as [[projections]]", list.type_str()));
        return Vec::new();
    };
    let read = entries.iter().enumerate().filter_map(|(index, entry)| read_entry(index, entry, mistakes));
    let handlers: Vec<HandlerConfig> = read.collect();
    check_versions(&handlers, mistakes);
    handlers
}

/// The path of an entry for mistakes: its name and version, or its place in the list if they are not usable.
pub(super) fn entry_path(index: usize, entry: &Table) -> String {
    let name = entry.get("name").and_then(Value::as_str).filter(|name| is_name(name));
    match name.zip(entry.get("version").and_then(Value::as_integer)) {
        Some((name, version)) => format!("{PROJECTIONS}.{name}@{version}"),
        None => format!("{PROJECTIONS} #{}", index + 1),
    }
}

fn read_entry(index: usize, entry: &Value, mistakes: &Mistakes) -> Option<HandlerConfig> {
    let Some(table) = entry.as_table() else {
        let path = entry_path(index, &Table::new());
        mistakes.add(path, format!("got {entry}, expected a table: write every version as [[projections]]"));
        return None;
    };
    let section = Section::open(&entry_path(index, table), table, PROJECTION, &[], mistakes);
    report_name(&section);
    let key = section.text("key");
    let ordering = parse_ordering_key(&key).unwrap_or_else(|| {
        section.mistake("key", &format!("got {key:?}, expected \"aggregate\", \"header:<name>\" or \"payload:<a.b.c>\""));
        Ordering::Aggregate
    });
    let [function, target, view] = ["function", "target", "view"].map(|name| qualified(&section, name));
    if view.is_some() && target.is_none() {
        section.mistake("view", "has no effect without a target, the table that it shows");
    } else if view.is_some() && view == target {
        section.mistake("view", "is the target itself; readers use a view, which shows one target after the other");
    }
    let projection = ProjectionConfig {
        name: section.text("name"),
        version: u32::try_from(section.integer("version")).unwrap_or_default(),
        function: function.unwrap_or_default(),
        target,
        view,
        statement_timeout: section.duration("statement_timeout"),
        lock_timeout: section.duration("lock_timeout"),
        role: Some(section.text("role")).filter(|role| !role.is_empty()),
    };
    let (filter, pins, backfill) = (read_filter(&section), read_pins(&section), read_backfill(&section));
    let is_usable = is_name(&projection.name) && (1..=1_000_000).contains(&projection.version);
    is_usable.then(|| HandlerConfig { filter, pins, ordering, backfill, ..HandlerConfig::of_projection(projection) })
}

/// Whether this is `schema.name`. Without a schema, the table would depend on the search path of the session.
pub fn is_qualified(name: &str) -> bool {
    name.split('.').count() == 2 && name.split('.').all(|part| !part.is_empty() && !part.contains('\0'))
}

fn qualified(section: &Section<'_>, name: &str) -> Option<String> {
    let text = section.optional_text(name)?;
    if !is_qualified(&text) {
        section.mistake(name, &format!("got {text:?}, expected a name with its schema, such as \"app.sales\""));
    }
    Some(text)
}

/// The rules between the versions of all projections.
fn check_versions(handlers: &[HandlerConfig], mistakes: &Mistakes) {
    let mut targets: BTreeMap<&str, &str> = BTreeMap::new();
    let mut views: BTreeMap<&str, &ProjectionConfig> = BTreeMap::new();
    for (at, handler) in handlers.iter().enumerate() {
        let Some(projection) = &handler.projection else { continue };
        let path = format!("{PROJECTIONS}.{}", handler.name);
        if handlers[..at].iter().any(|other| other.name == handler.name) {
            mistakes.add(path, "the version is given more than once; a changed projection is a new version");
            continue;
        }
        if let Some(target) = &projection.target
            && let Some(other) = targets.insert(target, &handler.name)
        {
            mistakes
                .add(format!("{path}.target"), format!("is written by {other} already; every version needs a table of its own"));
        }
        if let Some(view) = &projection.view {
            let first = *views.entry(view).or_insert(projection);
            if first.name != projection.name {
                mistakes.add(format!("{path}.view"), format!("belongs to the projection {} already", first.name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FakeEnvironment, Kinds, parse};
    use super::*;

    const NO_KINDS: Kinds = Kinds { handlers: |_| None, channels: |_| None };

    fn read(text: &str) -> Result<Vec<HandlerConfig>, Vec<String>> {
        let parsed = parse(text, &FakeEnvironment::with_database(), NO_KINDS);
        parsed.map(|config| config.handlers).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    const SALES: &str = "[[projections]]\nname = \"sales\"\nversion = 1\nfunction = \"app.project_sales_1\"\n";

    #[test]
    fn a_version_is_a_handler_that_begins_at_the_beginning() {
        let text = format!("{SALES}target = \"app.sales_1\"\nview = \"app.sales\"\nevents = [\"order.*\"]\nbackfill = \"50/s\"\n");
        let handlers = read(&text).expect("valid");
        let [handler] = handlers.as_slice() else { panic!("{handlers:?}") };
        assert_eq!((handler.name.as_str(), handler.kind.as_str()), ("sales@1", "projection"));
        assert_eq!((handler.start, handler.record, handler.partitions), (Start::Beginning, Record::Failures, 1));
        assert_eq!((handler.filter.types.as_slice(), handler.backfill), (&["order.*".to_owned()][..], Some(50)));
        let projection = handler.projection.as_ref().expect("it is a projection");
        assert_eq!((projection.target.as_deref(), projection.view.as_deref()), (Some("app.sales_1"), Some("app.sales")));
        assert_eq!(read(SALES).expect("valid")[0].backfill, Some(2_000), "history is read at a bounded rate");
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let text = "[[projections]]\nname = \"sa les\"\nversion = 0\nfunction = \"f\"\nbackfill = \"fast\"\nkey = \"id\"\n\
                    [[projections]]\nname = \"a\"\nversion = 1\nfunction = \"app.f\"\nview = \"app.a\"\nfunktion = 1\n\
                    [[projections]]\nname = \"b\"\nversion = 1\nfunction = \"app.f\"\ntarget = \"app.t\"\nview = \"app.v\"\n\
                    [[projections]]\nname = \"b\"\nversion = 2\nfunction = \"app.f\"\ntarget = \"app.t\"\nview = \"app.v\"\n\
                    [[projections]]\nname = \"b\"\nversion = 2\nfunction = \"app.f\"\n\
                    [[projections]]\nname = \"c\"\nversion = 1\nfunction = \"app.f\"\ntarget = \"app.c\"\nview = \"app.v\"\n";
        let mut mistakes = read(text).expect_err("invalid");
        mistakes.sort();
        assert_eq!(
            mistakes,
            [
                "projections #1.backfill: got \"fast\", expected events per second such as \"500/s\", at most 1000000",
                "projections #1.function: got \"f\", expected a name with its schema, such as \"app.sales\"",
                "projections #1.key: got \"id\", expected \"aggregate\", \"header:<name>\" or \"payload:<a.b.c>\"",
                "projections #1.name: got \"sa les\", expected letters, digits, \"-\", \"_\" and \".\", at most 64 of them",
                "projections #1.version: got 0, expected a whole number from 1 to 1000000",
                "projections.a@1.view: has no effect without a target, the table that it shows",
                "projections.a@1: unknown key \"funktion\"; did you mean \"function\"?",
                "projections.b@2.target: is written by b@1 already; every version needs a table of its own",
                "projections.b@2: the version is given more than once; a changed projection is a new version",
                "projections.c@1.view: belongs to the projection b already",
            ]
        );
    }

    #[test]
    fn a_projection_is_no_handler() {
        let text = "[[handlers]]\nname = \"sales\"\nkind = \"projection\"\nfunction = \"app.f\"\n";
        assert_eq!(
            read(text).expect_err("invalid"),
            ["handlers.sales.kind: got \"projection\", which is no kind of handler; write [[projections]] instead"]
        );
        assert!(read("projections = 7").expect_err("invalid")[0].starts_with("projections: got a integer, expected a list"));
    }
}
