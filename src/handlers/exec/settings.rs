//! The settings of the kind: declared once, read into a program that can be started or into mistakes that say what to write instead.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::envelope;
use super::super::redaction::Redaction;
use super::program::{Program, find};
use crate::settings::{Field, FieldType, Secret, Section, format_duration};

pub const FIELDS: &[Field] = &[
    Field::required(
        "command",
        FieldType::TextList,
        "Program and arguments, without a shell: an absolute path, or a name that is looked up in PATH.",
    ),
    Field::new(
        "mode",
        FieldType::Choice(&["once", "worker"]),
        "once",
        "A process for each event, or long-lived processes that read one line per event and answer with one line.",
    ),
    Field::new(
        "input",
        FieldType::Choice(&["event", "payload"]),
        "event",
        "Input of a process: one line of JSON as the kind stdout writes it, or the payload alone.",
    ),
    Field::new(
        "recycle_after",
        FieldType::Integer(1, i64::MAX),
        "",
        "Events after which a worker is replaced, for programs that leak memory; empty: never.",
    ),
    Field::new("working_directory", FieldType::Text, "", "Working directory of the program; empty: that of the relay."),
    Field::new(
        "environment",
        FieldType::SecretMap,
        "",
        "Environment variables for the program, besides PATH, HOME and LANG of the relay and those of the event.",
    ),
    Field::new(
        "exec_timeout",
        FieldType::Duration,
        "",
        "Maximum duration of the program for one event; empty: timeout minus kill_after and a second.",
    ),
    Field::new(
        "kill_after",
        FieldType::Duration,
        "5s",
        "Time between asking the program to end (SIGTERM) and killing it (SIGKILL).",
    ),
    envelope::MAX_PAYLOAD,
];

/// The time for starting and ending a program, beside its own.
const MARGIN: Duration = Duration::from_secs(1);

/// Variables of the relay that the program sees, unless it is given others.
const INHERITED: &[&str] = &["PATH", "HOME", "LANG"];
/// Variables that outboxd itself sets.
const RESERVED: &[&str] = &["TRACEPARENT", "TRACESTATE"];
const RESERVED_PREFIX: &str = "OUTBOXD_";

/// Settings that work.
pub struct Settings {
    pub program: Program,
    pub mode: Mode,
    pub limits: Limits,
    pub redaction: Redaction,
    pub max_payload: u64,
}

/// How the program gets its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Once(Input),
    Worker {
        /// Events after which a worker is replaced; `None`: never.
        recycle_after: Option<u64>,
    },
}

/// The form in which a process reads its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Event,
    Payload,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub exec_timeout: Duration,
    /// Between SIGTERM and SIGKILL.
    pub kill_after: Duration,
}

/// Reads them all before it gives up, so that every mistake is reported in one run.
pub fn read(section: &Section<'_>) -> Option<Settings> {
    let (environment, is_valid) = read_environment(section);
    let directory = read_directory(section);
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    let command = read_command(section, path);
    let (mode, limits) = (read_mode(section), read_limits(section));
    let (path, arguments) = command.filter(|_| is_valid)?;
    Some(Settings {
        program: Program::new(path, arguments, directory?, environment),
        mode: mode?,
        limits: limits?,
        redaction: Redaction::new(&hidden(section)),
        max_payload: section.bytes("max_payload"),
    })
}

fn read_command(section: &Section<'_>, path: Option<&OsStr>) -> Option<(PathBuf, Vec<String>)> {
    let mut command = section.texts("command");
    if !section.is_set("command") {
        return None; // reported when the section was opened
    }
    let problem = if command.iter().any(|part| part.contains('\0')) {
        "got a NUL character, which no program can be given".to_owned()
    } else if command.first().is_none_or(String::is_empty) {
        "got no program, expected a list such as [\"/opt/shop/on-order\", \"--quiet\"]".to_owned()
    } else {
        match find(&command.remove(0), path) {
            Ok(found) => return Some((found, command)),
            Err(problem) => problem,
        }
    };
    section.mistake("command", &problem);
    None
}

// A relative path would depend on where the relay was started.
fn read_directory(section: &Section<'_>) -> Option<Option<PathBuf>> {
    let Some(text) = section.optional_text("working_directory") else { return Some(None) };
    let problem = match Path::new(&text) {
        path if !path.is_absolute() => "expected an absolute path",
        path if !path.is_dir() => "which is no directory",
        path => return Some(Some(path.to_owned())),
    };
    section.mistake("working_directory", &format!("got {text:?}, {problem}"));
    None
}

/// All that a program sees of variables that do not belong to an event, and whether no mistake was reported.
fn read_environment(section: &Section<'_>) -> (Vec<(OsString, OsString)>, bool) {
    let inherited = INHERITED.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    let mut environment: Vec<(OsString, OsString)> = inherited.collect();
    let mut is_valid = true;
    for (name, value) in section.secret_map("environment") {
        match variable_problem(&name, value.expose()) {
            None => {
                environment.retain(|(known, _)| *known != *name);
                environment.push((name.into(), value.expose().into()));
            }
            Some(problem) => {
                section.mistake(&format!("environment.{name}"), problem);
                is_valid = false;
            }
        }
    }
    (environment, is_valid)
}

fn variable_problem(name: &str, value: &str) -> Option<&'static str> {
    if name.is_empty() || name.contains(['=', '\0']) {
        Some("is not the name of a variable")
    } else if name.starts_with(RESERVED_PREFIX) || RESERVED.contains(&name) {
        Some("is set by outboxd itself and cannot be set here")
    } else if value.contains('\0') {
        Some("got a value with a NUL character, which no variable can have")
    } else {
        None
    }
}

fn read_mode(section: &Section<'_>) -> Option<Mode> {
    let input = if section.text("input") == "payload" { Input::Payload } else { Input::Event };
    match section.text("mode").as_str() {
        "worker" if input == Input::Payload => {
            section.mistake("input", "got \"payload\", but a worker needs the id of the event for its answer: mode = \"once\"");
            None
        }
        "worker" => {
            let recycle_after = section.optional_integer("recycle_after").and_then(|events| u64::try_from(events).ok());
            Some(Mode::Worker { recycle_after })
        }
        _ if section.is_set("recycle_after") => {
            section.mistake("recycle_after", "is for workers, which live on; add mode = \"worker\"");
            None
        }
        _ => Some(Mode::Once(input)),
    }
}

// The timeout of the relay knows nothing of programs: it would cut off the end of one, and what it said.
fn read_limits(section: &Section<'_>) -> Option<Limits> {
    let (whole, kill_after) = (section.duration("timeout"), section.duration("kill_after"));
    let Some(left) = whole.checked_sub(kill_after + MARGIN).filter(|left| !left.is_zero()) else {
        let (got, whole) = (format_duration(kill_after), format_duration(whole));
        section.mistake(
            "kill_after",
            &format!("got {got}, which leaves no time of the handler's timeout ({whole}); raise timeout or lower kill_after"),
        );
        return None;
    };
    let exec_timeout = section.optional_duration("exec_timeout").unwrap_or(left);
    if exec_timeout.is_zero() {
        section.mistake("exec_timeout", "got no time at all, expected a duration such as \"15s\"");
        return None;
    }
    if exec_timeout + kill_after >= whole {
        let [got, kill_after, whole] = [exec_timeout, kill_after, whole].map(format_duration);
        let problem =
            format!("got {got}, which with kill_after ({kill_after}) is not below the handler's timeout ({whole}); raise timeout");
        section.mistake("exec_timeout", &problem);
        return None;
    }
    Some(Limits { exec_timeout, kill_after })
}

/// The configured values, and each line of those that have several: what a program prints is looked at line by line.
fn hidden(section: &Section<'_>) -> Vec<Secret> {
    let values: Vec<Secret> = section.secret_map("environment").into_values().collect();
    let lines: Vec<Secret> = values.iter().flat_map(|value| value.expose().lines()).map(Secret::new).collect();
    values.into_iter().chain(lines).collect()
}
