//! `outboxd doctor`: every fault that it knows is made on a real server, found, and mended with the fix as it is printed.

mod blind_spots;
mod catalogue;
mod configuration;
mod server;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{Binary, Finished, TestDatabase, eventually};

/// The report on a database, without a configuration.
async fn report(url: &str) -> Value {
    json(&Binary::with_config("").run(&["doctor", "--json", "--older-than", "1h", "--database-url", url]).await)
}

fn json(finished: &Finished) -> Value {
    let report: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    let code = match report["level"].as_str() {
        Some("ok") => 0,
        Some("warning") => 1,
        _ => 2,
    };
    assert_eq!(finished.code, Some(code), "{report:#}");
    report
}

/// The findings of one check whose text contains a word.
fn findings<'a>(report: &'a Value, check: &str, word: &str) -> Vec<&'a Value> {
    let all = report["findings"].as_array().expect("a report has findings");
    let is_meant = |finding: &&Value| {
        assert!(!finding["fixes"].as_array().expect("a list").is_empty() && finding["why"] != "", "{finding:#}");
        finding["check"] == check && finding["what"].as_str().is_some_and(|what| what.contains(word))
    };
    all.iter().filter(is_meant).collect()
}

/// The first fix of a finding, and where it goes.
fn fix(finding: &Value) -> (&str, &str) {
    let fix = &finding["fixes"][0];
    (fix["where"].as_str().expect("a place"), fix["text"].as_str().expect("a text"))
}

/// Waits until a check finds something; what the server counts comes late.
async fn found(url: &str, check: &str, word: &str) -> Value {
    let look = || async { findings(&report(url).await, check, word).first().map(|finding| (*finding).clone()) };
    eventually(&format!("{check} is found: {word}"), look).await
}

async fn gone(url: &str, check: &str, word: &str) {
    eventually(&format!("{check} is found no more: {word}"), || async {
        findings(&report(url).await, check, word).is_empty().then_some(())
    })
    .await;
}

/// Makes a fault, finds it, pastes the fix, and finds it no more.
async fn make_and_mend(database: &TestDatabase, fault: &str, check: &str, word: &str) {
    assert!(findings(&report(database.url()).await, check, word).is_empty(), "{check} {word} before {fault}");
    database.execute(fault).await;
    let finding = found(database.url(), check, word).await;
    let (place, text) = fix(&finding);
    assert_eq!(place, "sql", "{finding:#}");
    paste(database.url(), text).await;
    gone(database.url(), check, word).await;
}

/// Executes a text as psql does: statement by statement.
async fn paste(url: &str, text: &str) {
    let mut connection = PgConnection::connect(url).await.expect("the server takes connections");
    for statement in statements(text) {
        let executed = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection).await;
        executed.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// Splits at the semicolons that end a line outside dollar quotes.
fn statements(text: &str) -> Vec<String> {
    let (mut statements, mut statement, mut is_quoted) = (Vec::new(), String::new(), false);
    for line in text.lines() {
        statement.push_str(line);
        statement.push('\n');
        // Both tags of a quote on one line, or one quote inside another, leave it as it was.
        is_quoted ^= line.matches("$$").count() % 2 == 1;
        is_quoted ^= line.matches("$function$").count() % 2 == 1;
        if line.trim_end().ends_with(';') && !is_quoted {
            statements.push(std::mem::take(&mut statement));
        }
    }
    assert!(statement.trim().is_empty(), "the fix ends with a whole statement: {text}");
    statements
}
