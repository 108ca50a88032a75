//! Dumps: what a dump holds after a person was forgotten, and a backup from before that is restored.

use std::path::Path;
use std::process::Stdio;

use outboxd::launcher::Postgres;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::process::Command;

use super::{MARKER, load, outboxd, person};
use crate::support::{Binary, own_server};

fn pool(server: &Postgres, database: &str) -> PgPool {
    let options: PgConnectOptions = server.url(database).parse().expect("an address");
    PgPoolOptions::new().max_connections(5).connect_lazy_with(options.options([("search_path", "outbox,pg_catalog,public")]))
}

async fn dump(program: &Path, server: &Postgres, database: &str) -> String {
    let dumped = Command::new(program).arg(server.url(database)).output().await.expect("pg_dump runs");
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    String::from_utf8(dumped.stdout).expect("a plain dump is a text")
}

async fn restore(psql: &Path, server: &Postgres, database: &str, dump: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dump.sql");
    std::fs::write(&file, dump).expect("the folder is ours");
    let arguments = ["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--file"];
    let restored = Command::new(psql).args(arguments).arg(&file).arg(server.url(database)).stdin(Stdio::null()).output().await;
    let restored = restored.expect("psql runs");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_holds_no_byte_of_a_forgotten_person_and_a_restored_backup_is_refused_until_they_are_forgotten_again() {
    let server = own_server(&[]).await;
    let (Some(pg_dump), Some(psql)) = (server.program("pg_dump"), server.program("psql")) else {
        assert!(std::env::var_os("OUTBOXD_TEST_REQUIRE_ALL").is_none(), "the programs of Postgres have no pg_dump");
        return eprintln!("there is no pg_dump beside the server: nothing was tested");
    };
    let admin = pool(&server, "postgres");
    for name in ["shop", "restored"] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create database {name}"))).execute(&admin).await.expect("a database");
    }
    let shop = pool(&server, "shop");
    outboxd::store::migrate(&shop, "outbox", None).await.expect("the migrations apply");
    person(&shop, 42, MARKER, 1).await;
    person(&shop, 43, "bob", 1).await;
    let backup = dump(&pg_dump, &server, "shop").await;
    assert!(backup.contains(MARKER), "the state of a careless program holds it");

    let config = |database: &str| {
        format!(
            "{}[erasure]\nledger = \"forgotten.jsonl\"\n",
            Binary::relay_config(&server.url(database), "[[handlers]]\nname = \"a\"\nkind = \"discard\"\n")
        )
    };
    let binary = Binary::with_config(&config("shop"));
    let forget = ["forget", "--subject", "customer/42", "--because", "OPS-1", "--yes"];
    let done = binary.run(&forget).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let after = dump(&pg_dump, &server, "shop").await;
    assert!(!after.contains(MARKER) && after.contains("customer/42"), "the subject is remembered, and nothing of it");
    let bob = load(&shop, "43").await.expect("it is loaded");
    assert_eq!(bob.state().shown, "bob name");
    let healthy = binary.run(&["check", "--connect"]).await;
    assert!(healthy.code == Some(0) && healthy.stdout.contains("erasure.ledger: no subject of"), "{healthy:?}");

    // The backup from before comes back, in the place of the database.
    restore(&psql, &server, "restored", &backup).await;
    let restored = pool(&server, "restored");
    assert_eq!(load(&restored, "42").await.expect("it is loaded").state().shown, format!("{MARKER} name"));
    binary.rewrite(&config("restored"));
    let words = "holds keys of 1 subjects that were forgotten";
    let refused = binary.run(&["run"]).await;
    assert!(refused.code == Some(75) && refused.stderr.contains(words) && refused.stderr.contains("--again"), "{refused:?}");
    let checked = binary.run(&["check", "--connect"]).await;
    assert!(checked.code == Some(75) && checked.stdout.contains(words), "{checked:?}");
    let doctor = binary.run(&["doctor"]).await;
    assert!(doctor.code == Some(2) && doctor.stdout.contains("outboxd forget --again"), "{doctor:?}");

    let dry = binary.run(&["forget", "--again", "--because", "restored", "--dry-run"]).await;
    assert!(dry.code == Some(0) && dry.stderr.contains("1 subject of the ledger"), "{dry:?}");
    let again = binary.run(&["forget", "--again", "--because", "restored", "--yes"]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(load(&restored, "42").await.expect("it is loaded").state().email.as_ref().is_some_and(|email| email.is_forgotten()));
    assert!(!dump(&pg_dump, &server, "restored").await.contains(MARKER));
    let running = binary.spawn(&["run"]);
    running.wait_for_output("relay").await;
    running.terminate();
    let finished = running.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");

    // A ledger that was lost is told, and completed; one that is damaged stops everything that reads it.
    std::fs::remove_file(binary.directory().join("forgotten.jsonl")).expect("it is there");
    let doctor = binary.run(&["doctor"]).await;
    assert!(doctor.stdout.contains("the ledger lacks 1 keys"), "{doctor:?}");
    let completed = binary.run(&["forget", "--again", "--because", "completing", "--json"]).await;
    let report: serde_json::Value = serde_json::from_str(&completed.stdout).unwrap_or_default();
    assert_eq!((completed.code, &report["ledger_completed"]), (Some(0), &json!(1)), "{completed:?}");
    std::fs::write(binary.directory().join("forgotten.jsonl"), "{\"v\":1}\n").expect("it is ours");
    let refused = binary.run(&["run"]).await;
    assert!(refused.code == Some(75) && refused.stderr.contains("line 1 of the erasure ledger"), "{refused:?}");
    let none = outboxd(&Binary::with_config(""), &server.url("shop"), &["forget", "--again", "--because", "x"]).await.0;
    assert!(none.code == Some(64) && none.stderr.contains("--ledger"), "{none:?}");
}
