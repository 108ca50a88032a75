//! `[[adopt]]`: tables of applications, and the columns that supply the parts of an event. Reads no database; `outboxd adopt` checks
//! whether a table and its columns exist.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::adoption_path;
use super::fields::{ADOPT, ADOPTION};
use crate::domain::{Adoption, CopyAt, Shape, Source, TableName};
use crate::settings::{Mistakes, Section};

/// Reads the list; an entry whose table has no usable name is reported and left out.
pub(super) fn read_adoptions(list: &Value, mistakes: &Mistakes) -> Vec<Adoption> {
    let Some(entries) = list.as_array() else {
        mistakes.add(ADOPT, format!("got a {}, expected a list: write every table as [[adopt]]", list.type_str()));
        return Vec::new();
    };
    let read = entries.iter().enumerate().filter_map(|(index, entry)| read_entry(index, entry, mistakes));
    let adoptions: Vec<Adoption> = read.collect();
    let (mut seen, mut reported) = (BTreeSet::new(), BTreeSet::new());
    for Adoption { table, .. } in &adoptions {
        if !seen.insert(table) && reported.insert(table) {
            mistakes.add(adoption_path(table), "the table is adopted more than once; every table has one entry");
        }
    }
    adoptions
}

/// The path of an entry for mistakes: its table, or its place in the list if the table has no usable name.
pub(super) fn entry_path(index: usize, table: &str) -> String {
    table.parse::<TableName>().map_or_else(|_| format!("{ADOPT} #{}", index + 1), |table| adoption_path(&table))
}

fn read_entry(index: usize, entry: &Value, mistakes: &Mistakes) -> Option<Adoption> {
    let Some(table) = entry.as_table() else {
        mistakes.add(entry_path(index, ""), format!("got {entry}, expected a table: write every one as [[adopt]]"));
        return None;
    };
    read_adoption(index, table, mistakes)
}

fn read_adoption(index: usize, entry: &Table, mistakes: &Mistakes) -> Option<Adoption> {
    let name = entry.get("table").and_then(Value::as_str).unwrap_or_default();
    let section = Section::open(&entry_path(index, name), entry, ADOPTION, &[], mistakes);
    let table = match name.parse::<TableName>() {
        Ok(table) => table,
        Err(invalid) => {
            if entry.get("table").is_some_and(Value::is_str) {
                section.mistake("table", &format!("got {name:?}, {invalid}"));
            }
            return None;
        }
    };
    let shape = match section.text("shape").as_str() {
        "debezium" => Shape::Debezium,
        "open-outbox" => Shape::OpenOutbox,
        _ => Shape::Custom,
    };
    let mut adoption = Adoption::of_shape(table, shape);
    if section.text("copy") == "commit" {
        adoption.copy_at = CopyAt::Commit;
    }
    read_sources(&section, &mut adoption);
    adoption.existing = section.optional_text("existing").or(adoption.existing);
    if section.text("shape") == "custom" {
        report_missing(&section, &adoption);
    }
    Some(adoption)
}

fn read_sources(section: &Section<'_>, adoption: &mut Adoption) {
    for (name, source) in [
        ("type", &mut adoption.event_type),
        ("aggregate_type", &mut adoption.aggregate_type),
        ("aggregate_id", &mut adoption.aggregate_id),
    ] {
        if let Some(text) = section.optional_text(name) {
            *source = Some(read_source(section, name, &text));
        }
    }
    for (name, source) in [
        ("id", &mut adoption.id),
        ("aggregate_version", &mut adoption.aggregate_version),
        ("payload", &mut adoption.payload),
        ("headers", &mut adoption.headers),
        ("occurred_at", &mut adoption.occurred_at),
        ("trace_context", &mut adoption.trace_context),
    ] {
        if let Some(text) = section.optional_text(name) {
            if text.starts_with("constant:") {
                section.mistake(name, &format!("got {text:?}, expected a column: it cannot be the same for every event"));
            }
            *source = Some(read_source(section, name, &text));
        }
    }
    let extra = section.text_map("extra_headers");
    adoption.extra_headers = extra.into_iter().map(|(name, text)| (name, read_source(section, "extra_headers", &text))).collect();
}

fn read_source(section: &Section<'_>, name: &str, text: &str) -> Source {
    let source = Source::parse(text);
    if text == "constant:" || text.is_empty() || text.contains('\0') {
        section.mistake(name, &format!("got {text:?}, expected a column, or \"constant:\" and a text"));
    }
    source
}

/// The parts that every event has, and that a custom table must therefore name.
fn report_missing(section: &Section<'_>, adoption: &Adoption) {
    for (name, is_missing) in [("type", adoption.event_type.is_none()), ("payload", adoption.payload.is_none())] {
        if is_missing {
            section.mistake(name, "is not set; a custom table must name the column");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FakeEnvironment;
    use crate::config::fields::Kinds;

    const NO_KINDS: Kinds = Kinds { handlers: |_| None, channels: |_| None };

    fn read(text: &str) -> Result<Vec<Adoption>, Vec<String>> {
        let config = crate::config::parse(text, &FakeEnvironment::with_database(), NO_KINDS);
        config.map(|config| config.adopt).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_shape_stands_for_its_columns_and_each_can_be_replaced() {
        let text = "[[adopt]]\ntable = \"outboxevent\"\nshape = \"debezium\"\ncopy = \"commit\"\ntype = \"${KIND:-event}\"\n\
                    aggregate_type = \"constant:order\"\nextra_headers = { tenant = \"tenant_id\" }\nexisting = \"id > 7\"";
        let adoption = read(text).expect("valid").remove(0);
        assert_eq!(adoption.table.to_string(), "public.outboxevent");
        assert_eq!(adoption.event_type, Some(Source::column("event")));
        assert_eq!(adoption.aggregate_type, Some(Source::Constant("order".to_owned())));
        assert_eq!(
            (adoption.aggregate_id, adoption.payload),
            (Some(Source::column("aggregateid")), Some(Source::column("payload")))
        );
        assert_eq!(adoption.extra_headers["tenant"], Source::column("tenant_id"));
        assert_eq!((adoption.copy_at, adoption.existing.as_deref()), (CopyAt::Commit, Some("id > 7")));
    }

    #[test]
    fn mistakes_stand_where_a_person_would_look() {
        for (text, want) in [
            ("[[adopt]]\nshape = \"debezium\"", "adopt #1: needs \"table\""),
            ("[[adopt]]\ntable = \"a.b\"", "adopt.a.b: needs \"shape\""),
            ("[[adopt]]\ntable = \"a b\"\nshape = \"debezium\"", "adopt #1.table: got \"a b\", expected the name of a table"),
            ("[[adopt]]\ntable = \"x\"\nshape = \"debezum\"", "adopt.public.x.shape: got \"debezum\", expected \"debezium\" or"),
            ("[[adopt]]\ntable = \"x\"\nshape = \"debezium\"\nkopy = \"commit\"", "adopt.public.x: unknown key \"kopy\""),
            ("[[adopt]]\ntable = \"x\"\nshape = \"custom\"\ntype = \"t\"", "adopt.public.x.payload: is not set; a custom table"),
            (
                "[[adopt]]\ntable = \"x\"\nshape = \"debezium\"\nid = \"constant:7\"",
                "adopt.public.x.id: got \"constant:7\", expected a",
            ),
            (
                "[[adopt]]\ntable = \"x\"\nshape = \"debezium\"\ntype = \"constant:\"",
                "adopt.public.x.type: got \"constant:\", expected",
            ),
            ("[[adopt]]\ntable = \"outbox.events\"\nshape = \"debezium\"", "adopt.outbox.events: is a table of the outbox itself"),
            (
                "[[adopt]]\ntable = \"x\"\nshape = \"debezium\"\n[[adopt]]\ntable = \"public.x\"\nshape = \"debezium\"",
                "adopt.public.x: the table is adopted more than once",
            ),
            ("[adopt]\ntable = \"x\"", "adopt: got a table, expected a list"),
            ("adopt = [7]", "adopt #1: got 7, expected a table"),
            ("[[adopted]]\ntable = \"x\"", "unknown key \"adopted\"; did you mean \"adopt\"?"),
        ] {
            let mistakes = read(text).expect_err(text);
            assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
            assert!(mistakes[0].starts_with(want), "{text}: {}", mistakes[0]);
        }
    }
}
