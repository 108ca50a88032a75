//! What the documents say, as far as a machine can tell: tests that are named exist, configurations parse, commands are
//! understood, links lead somewhere, and statements for operators do what is written beside them.

mod environment;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;
use outboxd::app;
use outboxd::cli::Cli;
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use crate::support::TestDatabase;
use environment::AnyEnvironment;

const PAGES: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/adoption.md",
    "docs/api.md",
    "docs/alerts.md",
    "docs/compatibility.md",
    "docs/console.md",
    "docs/contracts.md",
    "docs/deployment.md",
    "docs/clients.md",
    "docs/event-sourcing.md",
    "docs/guarantees.md",
    "docs/handlers.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/producers.md",
    "docs/receivers.md",
    "docs/tutorial.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The fenced blocks of a page whose first line is exactly this.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let (mut found, mut current) = (Vec::new(), None::<(bool, String)>);
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut current) {
            (Some(info), None) => current = Some((info == language, String::new())),
            (Some(_), Some(_)) => {
                let (is_wanted, block) = current.take().expect("it was just looked at");
                found.extend(is_wanted.then_some(block));
            }
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// The one block of its kind.
pub fn block(path: &str, language: &str) -> String {
    let mut found = blocks(&page(path), language);
    assert_eq!(found.len(), 1, "{path} has one block `{language}`");
    found.remove(0)
}

// ---- names of tests

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("a directory can be listed").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn names_of_tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    ["src", "tests"].iter().for_each(|directory| rust_files(&root().join(directory), &mut files));
    let mut names = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source can be read");
        let mut is_next = false;
        for line in text.lines().map(str::trim_start) {
            is_next |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_next && !line.starts_with("//")) {
                names.extend(rest.split_once('(').map(|(name, _)| name.to_owned()));
                is_next = false;
            }
        }
    }
    names
}

/// What stands in backticks and reads like a sentence.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let is_sentence = |word: &&str| {
        word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && word.matches('_').count() >= 3
            && !word.starts_with("outboxd_")
    };
    text.split('`').skip(1).step_by(2).filter(is_sentence)
}

#[test]
fn every_test_named_beside_a_promise_exists() {
    let known = names_of_tests();
    let text = page("docs/guarantees.md");
    let missing: Vec<&str> = sentences(&text).filter(|name| !known.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/guarantees.md names tests that do not exist: {missing:#?}");
}

#[test]
fn every_promise_names_a_test() {
    let readme = page("README.md");
    for number in 1..=9 {
        assert!(readme.lines().any(|line| line.starts_with(&format!("| {number} |"))), "the README has promise {number}");
    }
    let promises = page("docs/guarantees.md");
    let sections: Vec<&str> = promises.split("\n## ").filter(|section| section.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(sections.len(), 9);
    for section in sections {
        assert!(sentences(section).next().is_some() && section.contains("*Not promised"), "{section}");
    }
}

#[test]
fn every_mutation_is_told_beside_the_tests_that_catch_it() {
    let known = names_of_tests();
    let promises = page("docs/guarantees.md");
    let entries = std::fs::read_dir(root().join("tests/mutants")).expect("the directory can be read");
    let mut told = 0;
    for path in entries.map(|entry| entry.expect("a directory can be listed").path()) {
        let patch = std::fs::read_to_string(&path).expect("a patch can be read");
        let catchers: Vec<&str> = patch.lines().filter_map(|line| line.strip_prefix("# caught-by: ")).collect();
        let name = path.file_stem().expect("a file has a name").to_string_lossy();
        let row = promises.lines().find(|line| line.contains(&format!("(`{name}`)")));
        let row = row.unwrap_or_else(|| panic!("docs/guarantees.md does not tell of {name}"));
        assert!(!catchers.is_empty(), "{name} does not say which test has to catch it");
        for catcher in catchers {
            assert!(known.contains(catcher) && row.contains(&format!("`{catcher}`")), "{name}: {catcher}");
        }
        told += 1;
    }
    assert_eq!(promises.matches("`) | ").count(), told, "docs/guarantees.md tells of mutations that are gone");
}

// ---- configurations

#[test]
fn the_readme_configuration_is_valid() {
    let text = block("README.md", "toml");
    let loaded = app::parse(&text, &AnyEnvironment).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    let names: Vec<&str> = loaded.handlers.iter().map(|(config, _)| config.name.as_str()).collect();
    assert_eq!(names, ["billing", "stock"]);
}

#[test]
fn every_configuration_in_the_documents_is_valid() {
    for path in PAGES {
        for text in blocks(&page(path), "toml") {
            if let Err(mistakes) = app::parse(&text, &AnyEnvironment) {
                panic!("{path}: {mistakes:#?}\n{text}");
            }
        }
    }
}

// ---- programs

#[test]
fn every_program_of_a_producer_is_shown_as_it_is_tested() {
    let text = page("docs/producers.md");
    let infos = text.lines().filter_map(|line| line.strip_prefix("```")).filter(|info| info.contains(" examples/"));
    let shown: BTreeSet<&str> = infos.filter_map(|info| info.split_once(' ').map(|(_, path)| path)).collect();
    for path in &shown {
        let info =
            text.lines().find_map(|line| line.strip_prefix("```").filter(|info| info.ends_with(path))).expect("it was just seen");
        assert_eq!(block("docs/producers.md", info), page(path), "{path}");
    }
    let languages = std::fs::read_dir(root().join("examples/producers")).expect("the examples are there").flatten();
    for language in languages.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        assert!(shown.iter().any(|path| path.starts_with(&format!("examples/producers/{language}/"))), "{language} is not shown");
    }
}

// ---- commands

/// The words of a line of shell, as far as the documents use it: quotes, comments, `<id>`.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            '#' if !quoted && word.is_empty() => break,
            ' ' if !quoted => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            _ => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    let id = uuid::Uuid::nil().to_string();
    words.into_iter().map(|word| if word == "<id>" { id.clone() } else { word }).collect()
}

/// The commands that a page shows.
pub fn commands(path: &str) -> Vec<String> {
    let blocks = blocks(&page(path), "sh");
    blocks.iter().flat_map(|block| block.lines()).filter(|line| line.starts_with("outboxd ")).map(str::to_owned).collect()
}

/// The commands of one section, which ends with the next heading.
pub fn section_commands(path: &str, heading: &str) -> Vec<String> {
    let text = page(path);
    let (_, rest) = text.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("{path} has no section {heading:?}"));
    let section = rest.split("\n## ").next().unwrap_or_default();
    blocks(section, "sh")
        .iter()
        .flat_map(|block| block.lines())
        .filter(|line| line.starts_with("outboxd "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let mut count = 0;
    for path in PAGES {
        for line in commands(path) {
            if let Err(error) = Cli::try_parse_from(words(&line)) {
                panic!("{path}: {line}\n{error}");
            }
            count += 1;
        }
    }
    assert!(count > 10, "the documents show commands");
}

// ---- links

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for path in PAGES {
        let text = page(path);
        let here = root().join(path);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.starts_with("http") {
                continue;
            }
            let (file, fragment) = link.split_once('#').map_or((link, None), |(file, fragment)| (file, Some(fragment)));
            let target = if file.is_empty() { here.clone() } else { here.parent().expect("a page has a folder").join(file) };
            assert!(target.exists(), "{path}: {link}");
            if let Some(fragment) = fragment {
                let headings = std::fs::read_to_string(&target).expect("a page can be read");
                let is_there =
                    headings.lines().any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#')) == fragment);
                assert!(is_there, "{path}: {link}");
            }
        }
    }
}

// ---- statements

/// A role that every server has and that may do nothing here; its grants go away with the database of the test.
const ROLE: &str = "pg_monitor";

async fn as_application(database: &TestDatabase) -> PgConnection {
    let mut connection = database.connect().await;
    connection.execute(AssertSqlSafe(format!("set role {ROLE}"))).await.expect("the test role may act as another");
    connection
}

#[tokio::test]
async fn the_documented_grants_are_enough_to_record_and_for_nothing_else() {
    let database = TestDatabase::create().await;
    let mut application = as_application(&database).await;
    let insert = "insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('a', 'b', '1', '{}')";
    application.execute(insert).await.expect_err("nothing is granted yet");

    database.execute(&block("docs/producers.md", "sql grants").replace(" to app;", &format!(" to {ROLE};"))).await;

    application.execute(insert).await.expect("the documented rights are enough");
    // And while a relay sleeps, so that the trigger runs; and for the words about a bad row.
    let mut sleeper = database.connect().await;
    sleeper.execute("select pg_try_advisory_lock(outbox.bell_key())").await.expect("the bell is free");
    application.execute(insert).await.expect("the bell rings");
    let bad = application.execute("insert into outbox.events (type, payload) values ('', '{}')").await.expect_err("it has no type");
    assert!(bad.to_string().contains("the event has no type"), "{bad}");
    for more in ["select * from outbox.events", "delete from outbox.events", "select * from outbox.deliveries"] {
        application.execute(more).await.expect_err(more);
    }
    let returning = format!("{insert} returning id");
    application.execute(AssertSqlSafe(returning.clone())).await.expect_err("that reads");
    let with_id = "insert into outbox.events (id, type, payload) values ('018f0000-0000-7000-8000-000000000001', 'a', '{}')";
    let (targeted, bare) = (format!("{with_id} on conflict (id) do nothing"), format!("{with_id} on conflict do nothing"));
    application.execute(AssertSqlSafe(targeted.clone())).await.expect_err("that reads as well");
    application.execute(AssertSqlSafe(bare.clone())).await.expect("without a column nothing is read");
    application.execute(AssertSqlSafe(bare)).await.expect("the second is none");
    database.execute(&format!("grant select (id) on outbox.events to {ROLE}")).await;
    application.execute(AssertSqlSafe(returning)).await.expect("as the page says");
    application.execute(AssertSqlSafe(targeted)).await.expect("as the page says, too");
    assert_eq!(database.count("events").await, 4);
}

#[tokio::test]
async fn the_documented_grants_are_enough_to_append_and_then_to_read() {
    let database = TestDatabase::create().await;
    let mut application = as_application(&database).await;
    let statements = blocks(&page("docs/event-sourcing.md"), "sql streams");
    let [append, lock, read] = &statements[..] else { panic!("the page shows an append and a look: {statements:?}") };
    let grant = async |kind: &str| {
        let text = block("docs/event-sourcing.md", kind).replace(" to app;", &format!(" to {ROLE};"));
        database.execute(&text).await;
    };
    sqlx::raw_sql(AssertSqlSafe(append.clone())).execute(&mut application).await.expect_err("nothing is granted yet");
    application.execute("rollback").await.expect("it had begun");

    grant("sql append grants").await;
    sqlx::raw_sql(AssertSqlSafe(append.clone())).execute(&mut application).await.expect("the documented rights are enough");
    application.execute(AssertSqlSafe(lock.clone())).await.expect("and for a lock");
    for more in [
        "select * from outbox.events",
        "insert into outbox.events (type, payload) values ('a', '{}')",
        "update outbox.streams set version = 9",
        "select * from outbox.stream_events",
    ] {
        application.execute(more).await.expect_err(more);
    }
    grant("sql read grants").await;
    let versions = application.fetch_all(AssertSqlSafe(read.clone())).await.expect("as the page says");
    assert_eq!(versions.len(), 3);
    application.execute("delete from outbox.stream_events").await.expect_err("nobody but the owner");
}

/// What a program that uses the crate may lean on. Whoever makes another module public, or hides one, says so here.
#[test]
fn only_what_is_meant_to_be_public_is_shown() {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).expect("the front page is there");
    let lines: Vec<&str> = source.lines().collect();
    let is_shown = |place: usize| place == 0 || lines[place - 1] != "#[doc(hidden)]";
    let named = lines.iter().enumerate().filter(|(place, _)| is_shown(*place));
    let shown: Vec<&str> = named.filter_map(|(_, line)| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(shown, ["app", "config", "domain", "handlers", "uow"]);
    let roots: Vec<&str> = source.split("pub use").skip(1).flat_map(|part| part.split_once(';').map(|(names, _)| names)).collect();
    let names = roots.join(" ");
    for name in
        ["NewEvent", "EmbeddedRelay", "RelayBuilder", "Notification", "Outcome", "Reason", "Verdict", "Handler", "handler_fn"]
    {
        assert!(names.contains(name), "{name}: {names}");
    }
}
