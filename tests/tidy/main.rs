//! The rules of the house that a compiler does not know, checked on the text of the source. All violations are reported at
//! once. A rule that is wrong is changed here, with its reason; there is no way to switch one off in passing.

mod layers;
mod mutants;
mod prose;
mod source;
mod words;

use std::fs;
use std::path::Path;

use source::{Source, root, sources};

const LONGEST: usize = 400;

/// Where tasks may be started: one place per kind of life, so that a stop can wait for all of them. `app` wires and waits for
/// what it has wired; `run` listens for signals.
const SPAWNERS: &[&str] = &[
    "src/relay/supervisor/",
    "src/relay/dispatch.rs",
    "src/app/",
    "src/api/",
    // A client may listen for an hour, and one that is slow must not slow down the others.
    "src/feed/server.rs",
    // Browsers keep their connections open.
    "src/console/server.rs",
    // A connection of the hub outlives its requests.
    "src/hub/session.rs",
    "src/handlers/kafka/producer.rs",
    "src/handlers/webhook/pool.rs",
    "src/handlers/exec/",
    "src/handlers/mqtt/connection.rs",
    "src/handlers/redis/connection.rs",
    "src/cli/console.rs",
    "src/cli/run.rs",
    "src/cli/demo",
    "src/cli/bench",
];

#[test]
fn the_rules_of_the_house_hold() {
    let sources = sources();
    let mut violations: Vec<String> = Vec::new();
    for source in &sources {
        let rules =
            [head, length, spawning, unwrapping, unescaped, unfinished, layers::imports, words::sql, words::names, prose::messages];
        violations.extend(rules.iter().flat_map(|rule| rule(source)).map(|text| format!("{}{text}", source.path)));
    }
    violations.extend(prose::documents());
    violations.extend(sql_files());
    violations.extend(migration_names());
    violations.extend(mutants::that_do_not_apply());
    violations.sort();
    for violation in &violations {
        eprintln!("{violation}");
    }
    println!("tidy: {} files, {} violations", sources.len(), violations.len());
    assert!(violations.is_empty(), "the rules and their reasons are in tests/tidy and docs/style.md");
}

fn head(source: &Source) -> Vec<String> {
    let starts = source.text.starts_with("//! ");
    if starts { vec![] } else { vec![": the file does not begin with `//!` and what it is for".to_owned()] }
}

fn length(source: &Source) -> Vec<String> {
    let head: String = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
    let lines = source.text.lines().count();
    if lines <= LONGEST || head.contains("long") {
        return vec![];
    }
    vec![format!(": {lines} lines; split it by concept, or say in its head why it is long")]
}

fn spawning(source: &Source) -> Vec<String> {
    if !source.is_shipped() || SPAWNERS.iter().any(|place| source.path.starts_with(place)) {
        return vec![];
    }
    source.lines_with(
        &["tokio::spawn", "task::spawn", "JoinSet", "thread::spawn"],
        "starts a task; only the supervisor does, so that a stop can wait",
    )
}

fn unwrapping(source: &Source) -> Vec<String> {
    if !source.is_shipped() {
        return vec![];
    }
    source.lines_with(&[".unwrap()"], "unwraps; return the error, or `expect` with the broken invariant as the message")
}

/// Pages escape whatever is put into them. What is written as it is, a stranger may have written.
fn unescaped(source: &Source) -> Vec<String> {
    if !source.path.starts_with("src/") {
        return vec![];
    }
    source.lines_with(&["PreEscaped"], "writes text into a page as it is; let the template escape it")
}

fn unfinished(source: &Source) -> Vec<String> {
    // Written apart, so that this file passes its own rule.
    let marks = ["todo", "unimplemented"].map(|name| format!("{name}!"));
    let mut found = source.lines_with(&marks.each_ref().map(String::as_str), "is not finished");
    found.extend(source.lines_with(&["#[ignore"], "switches a test off"));
    let note = ["FIX", "ME"].concat();
    let noted = source.text.lines().enumerate().filter(|(_, line)| line.contains(&note));
    found.extend(noted.map(|(number, _)| format!(":{}: is not finished", number + 1)));
    found
}

/// One statement per file, and the file says which.
fn sql_files() -> Vec<String> {
    let mut violations = Vec::new();
    for (path, text) in source::files(&root().join("src/store/sql"), "sql") {
        let stem = Path::new(&path).file_stem().unwrap_or_default().to_string_lossy();
        if !text.starts_with(&format!("-- {stem}: ")) {
            violations.push(format!("{path}: the file does not begin with `-- {stem}: ` and its purpose"));
        }
    }
    violations
}

fn migration_names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root().join("migrations"))
        .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.sort();
    let mut violations = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let number = format!("{:04}_", place + 1);
        let rest = name.strip_prefix(&number).and_then(|rest| rest.strip_suffix(".sql"));
        if !rest
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        {
            violations.push(format!("migrations/{name}: expected a name such as {number}what_it_adds.sql, without gaps"));
        }
    }
    violations
}
