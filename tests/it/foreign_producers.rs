//! Programs that know nothing of outboxd record events: psql and Python with psycopg2, as any application would.
//! Where one of them is not installed its test says so and passes, unless OUTBOXD_TEST_REQUIRE_ALL is set.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::support::{TestDatabase, find_program};

async fn run(program: PathBuf, arguments: &[&str]) {
    let output = Command::new(&program).args(arguments).stdin(Stdio::null()).output().await.expect("it was just found");
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn psql_records_an_event_beside_its_own_change() {
    let Some(psql) = find_program(&["psql"], &["--version"]).await else { return };
    let database = TestDatabase::create().await;

    let sql = "begin; create table public.orders (id integer); insert into public.orders values (7);
               insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('order.placed', 'order', 7, '{\"total\": 1.50}');
               commit;";
    run(psql, &["--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet", "--command", sql, database.url()]).await;

    assert_eq!(database.count("events where aggregate_id = '7' and payload::text = '{\"total\": 1.50}'").await, 1);
}

#[tokio::test]
async fn python_records_events_and_rolls_some_back() {
    let Some(python) = find_program(&["python3", "/usr/bin/python3"], &["-c", "import psycopg2"]).await else { return };
    let database = TestDatabase::create().await;

    let script = r#"
import json, sys, psycopg2
connection = psycopg2.connect(sys.argv[1])
for number in range(10):
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into outbox.events (type, aggregate_type, aggregate_id, payload, headers) values (%s, %s, %s, %s, %s)",
            ("order.placed", "order", str(number), json.dumps({"number": number, "name": "Zoë"}), json.dumps({"tenant": "acme"})))
    connection.rollback() if number % 5 == 4 else connection.commit()
"#;
    run(python, &["-c", script, database.url()]).await;

    assert_eq!(database.count("events where headers @> '{\"tenant\": \"acme\"}' and payload->>'name' = 'Zoë'").await, 8);
}
