//! `[contracts]`: the folder with the public events, their versions, schemas and examples. Every mistake in every file is
//! reported in one run. Reads files and never fetches anything; `contracts::Registry` checks the contracts as a whole.

mod brownouts;
mod operations;
mod pins;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;
use toml::{Table, Value};

use super::Config;
use super::environment::Environment;
use super::fields::{CONTRACT, CONTRACT_VERSION};
use crate::contracts::{Contract, Deprecation, Example, Naming, Registry, Schema, State, Version};
use crate::settings::{Field, FieldType, Mistakes, Section};

pub(super) use pins::read_pins;

/// The lists in a contract and in a version, by name only; separate code reads them.
const LISTS: &[Field] = &[Field::new("versions", FieldType::TextList, "", "Its versions.")];
const EDGES: &[Field] = &[
    Field::new("from_previous", FieldType::TextList, "", "The cast from the version before."),
    Field::new("from_next", FieldType::TextList, "", "The cast from the version after."),
    Field::new("brownouts", FieldType::TextList, "", "Planned times in which the version is not sent."),
];

/// `[contracts]`
#[derive(Debug, Clone)]
pub struct Contracts {
    /// The folder; `None`: there are no contracts.
    pub path: Option<String>,
    /// The version in CloudEvents.
    pub naming: Naming,
    /// The content of the folder.
    pub registry: Arc<Registry>,
}

/// Reads the section; the folder is read by [`load`].
pub(super) fn read_contracts(section: &Section<'_>) -> Contracts {
    let naming = Naming { cloudevents_type: section.text("cloudevents_type"), dataschema: section.optional_text("dataschema") };
    for (name, text) in [("cloudevents_type", Some(&naming.cloudevents_type)), ("dataschema", naming.dataschema.as_ref())] {
        let Some(text) = text else { continue };
        let bare = text.replace("{type}", "").replace("{version}", "");
        if bare.contains(['{', '}']) {
            section.mistake(name, &format!("got {text:?}; the values that it can have are {{type}} and {{version}}"));
        } else if text.is_empty() || !bare.bytes().all(|byte| byte.is_ascii_graphic()) {
            section.mistake(name, &format!("got {text:?}, expected text without white space such as \"{{type}}.v{{version}}\""));
        }
    }
    Contracts { path: section.optional_text("path"), naming, registry: Arc::default() }
}

/// Reads the folder and gives every handler and client its versions.
pub(super) fn load(config: &mut Config, environment: &dyn Environment, mistakes: &Mistakes) {
    let found = Mistakes::default();
    if let Some(path) = &config.contracts.path {
        config.contracts.registry = Arc::new(read_folder(&environment.directory().join(path), environment, &found));
    }
    if found.is_empty() {
        pins::resolve(config, mistakes);
    }
    found.into_vec().into_iter().for_each(|mistake| mistakes.add(mistake.path, mistake.text));
}

fn read_folder(folder: &Path, environment: &dyn Environment, mistakes: &Mistakes) -> Registry {
    let files = match environment.list_directory(folder) {
        Ok(files) => files,
        Err(error) => {
            mistakes.add("contracts.path", format!("could not read the folder {}: {error}", folder.display()));
            return Registry::default();
        }
    };
    let files: Vec<PathBuf> = files.into_iter().filter(|file| has_extension(file, "toml")).collect();
    if files.is_empty() {
        mistakes.add("contracts.path", format!("the folder {} has no file *.toml with [[contracts]]", folder.display()));
    }
    let reader = Reader { folder, environment, mistakes };
    let contracts = files.iter().flat_map(|file| reader.file(file)).collect();
    let contracts = without_duplicates(contracts, mistakes);
    if !mistakes.is_empty() {
        // A mistake in one contract would cause a second mistake in the check of all contracts together.
        return Registry::default();
    }
    Registry::new(contracts).unwrap_or_else(|faults| {
        faults.into_iter().for_each(|fault| mistakes.add(format!("contracts.{}", fault.place), fault.text));
        Registry::default()
    })
}

fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|found| found == extension)
}

fn without_duplicates(contracts: Vec<Contract>, mistakes: &Mistakes) -> Vec<Contract> {
    let mut seen = BTreeSet::new();
    for contract in &contracts {
        if !seen.insert(contract.event_type.clone()) {
            mistakes.add(
                format!("contracts.{}", contract.event_type),
                "the contract is given more than once; every event type has one",
            );
        }
    }
    contracts
}

struct Reader<'a> {
    folder: &'a Path,
    environment: &'a dyn Environment,
    mistakes: &'a Mistakes,
}

impl Reader<'_> {
    fn file(&self, file: &Path) -> Vec<Contract> {
        let place = format!("contracts.{}", file.file_name().unwrap_or_default().to_string_lossy());
        let text = match self.environment.read_file(file) {
            Ok(text) => text,
            Err(error) => {
                self.mistakes.add(place, format!("could not be read: {error}"));
                return Vec::new();
            }
        };
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                let error: toml::de::Error = error;
                let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
                self.mistakes.add(place, format!("line {line}: {}", error.message().trim().replace('\n', ", ")));
                return Vec::new();
            }
        };
        for key in table.keys().filter(|key| *key != "contracts") {
            self.mistakes.add(place.clone(), format!("unknown key \"{key}\"; a file in this folder has [[contracts]] only"));
        }
        match table.get("contracts") {
            Some(Value::Array(entries)) => {
                entries.iter().enumerate().filter_map(|(index, entry)| self.contract(&place, index, entry)).collect()
            }
            Some(other) => {
                self.mistakes
                    .add(place, format!("got a {} contracts, expected a list: write every one as [[contracts]]", other.type_str()));
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn contract(&self, file: &str, index: usize, entry: &Value) -> Option<Contract> {
        let Some(entry) = entry.as_table() else {
            self.mistakes
                .add(format!("{file} #{}", index + 1), format!("got {entry}, expected a table: write every one as [[contracts]]"));
            return None;
        };
        let mut entry = entry.clone();
        let versions = entry.remove("versions");
        let event_type = entry.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let path = if event_type.is_empty() { format!("{file} #{}", index + 1) } else { format!("contracts.{event_type}") };
        let section = Section::open(&path, &entry, CONTRACT, LISTS, self.mistakes);
        if event_type.contains('@') || event_type.len() > 255 {
            section
                .mistake("type", &format!("got {event_type:?}, expected at most 255 bytes without \"@\", which begins a version"));
        }
        let versions = match versions {
            Some(Value::Array(versions)) => versions,
            Some(other) => {
                section.mistake(
                    "versions",
                    &format!("got a {}, expected a list: write every one as [[contracts.versions]]", other.type_str()),
                );
                return None;
            }
            None => {
                section.mistake("versions", "is not there; a contract has at least one [[contracts.versions]]");
                return None;
            }
        };
        let mut read = BTreeMap::new();
        for (index, version) in versions.iter().enumerate() {
            let Some(version) = self.version(&path, index, version) else { continue };
            let number = version.number;
            if read.insert(number, version).is_some() {
                self.mistakes.add(format!("{path}@{number}"), "the version is given more than once");
            }
        }
        Some(Contract { event_type, owner: section.optional_text("owner"), versions: read })
    }

    fn version(&self, contract: &str, index: usize, entry: &Value) -> Option<Version> {
        let Some(entry) = entry.as_table() else {
            self.mistakes
                .add(format!("{contract} #{}", index + 1), format!("got {entry}, expected a table: write [[contracts.versions]]"));
            return None;
        };
        let mut entry = entry.clone();
        let (up, down) = (entry.remove("from_previous"), entry.remove("from_next"));
        let brownouts = entry.remove("brownouts");
        let number = entry.get("version").and_then(Value::as_integer).and_then(|number| u32::try_from(number).ok());
        let path = number.map_or_else(|| format!("{contract} #{}", index + 1), |number| format!("{contract}@{number}"));
        let section = Section::open(&path, &entry, CONTRACT_VERSION, EDGES, self.mistakes);
        let deprecation = section.is_set("deprecated").then(|| self.deprecation(&section.table("deprecated"))).flatten();
        let default = if section.is_set("deprecated") { State::Deprecated } else { State::Active };
        let edge = |name: &str, list: Option<Value>| {
            list.and_then(|list| operations::read_edge(&format!("{path}.{name}"), &list, self.mistakes))
        };
        let (from_previous, from_next) = (edge("from_previous", up), edge("from_next", down));
        let (schema, examples) = (self.schema(&section), self.examples(&section));
        let brownouts = brownouts.map(|list| brownouts::read_brownouts(&format!("{path}.brownouts"), &list, self.mistakes));
        Some(Version {
            number: number?,
            state: section.optional_text("state").and_then(|text| State::named(&text)).unwrap_or(default),
            schema: Arc::new(schema?),
            examples,
            deprecation,
            brownouts: brownouts.unwrap_or_default(),
            from_previous,
            from_next,
            allows: section.text_map("allow"),
        })
    }

    fn schema(&self, section: &Section<'_>) -> Option<Schema> {
        // A missing name was reported already.
        let name = section.optional_text("schema")?;
        let text = self.read(section, "schema", &name)?;
        match Schema::parse(&text) {
            Ok(schema) => Some(schema),
            Err(problems) => {
                problems.iter().for_each(|problem| section.mistake("schema", &format!("{name} {problem}")));
                None
            }
        }
    }

    fn read(&self, section: &Section<'_>, key: &str, name: &str) -> Option<String> {
        let path = self.folder.join(name);
        let read = self.environment.read_file(&path);
        read.map_err(|error| section.mistake(key, &format!("could not read {}: {error}", path.display()))).ok()
    }

    fn examples(&self, section: &Section<'_>) -> Vec<Example> {
        let Some(name) = section.optional_text("examples") else { return Vec::new() };
        let folder = self.folder.join(name.trim_end_matches("/*.json"));
        let files = match self.environment.list_directory(&folder) {
            Ok(files) => files.into_iter().filter(|file| has_extension(file, "json")).collect::<Vec<_>>(),
            Err(error) => {
                section.mistake("examples", &format!("could not read the folder {}: {error}", folder.display()));
                return Vec::new();
            }
        };
        if files.is_empty() {
            section.mistake("examples", &format!("the folder {} has no file *.json", folder.display()));
        }
        let example = |file: PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = self
                .environment
                .read_file(&file)
                .map_err(|error| section.mistake("examples", &format!("could not read {name}: {error}")));
            Some(Example { name, text: text.ok()? })
        };
        files.into_iter().filter_map(example).collect()
    }

    fn deprecation(&self, section: &Section<'_>) -> Option<Deprecation> {
        let link = section.optional_text("link");
        if let Some(link) = link.as_ref().filter(|link| !link.starts_with("https://") && !link.starts_with("http://")) {
            section.mistake("link", &format!("got {link:?}, expected an address such as \"https://example.org/migrate\""));
        }
        let successor = section.optional_integer("successor").and_then(|number| u32::try_from(number).ok());
        Some(Deprecation { since: date(section, "since")?, sunset: date(section, "sunset"), successor, link })
    }
}

fn date(section: &Section<'_>, name: &str) -> Option<Date> {
    let text = section.optional_text(name)?;
    let date = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
    if date.is_none() {
        section.mistake(name, &format!("got {text:?}, expected a day such as \"2026-12-31\""));
    }
    date
}

#[cfg(test)]
mod tests;
