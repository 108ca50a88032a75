//! Programs that know nothing of outboxd record events, each with the driver of its language: the examples of docs/producers.md as they
//! stand in examples/producers, and psql. Where a language is not installed its test says so and passes, unless
//! OUTBOXD_TEST_REQUIRE_ALL is set.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::process::Command;
use url::Url;

use crate::support::{TestDatabase, find_program, run_program};

/// Where Debian has the JDBC driver.
const JDBC: &str = "/usr/share/java/postgresql.jar";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn example(path: &str) -> String {
    root().join("examples/producers").join(path).to_string_lossy().into_owned()
}

/// An address in the words of PDO and DBI.
fn data_source(prefix: &str, url: &str) -> String {
    let url = Url::parse(url).expect("the address of the test server");
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    let (host, port) = (url.host_str().unwrap_or("localhost"), url.port().unwrap_or(5432));
    let dbname = url.path().trim_start_matches('/');
    format!("{prefix}host={host};port={port};dbname={dbname};user={user};password={password}")
}

fn jdbc(url: &str) -> String {
    let url = Url::parse(url).expect("the address of the test server");
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    let (host, port) = (url.host_str().unwrap_or("localhost"), url.port().unwrap_or(5432));
    format!("jdbc:postgresql://{host}:{port}{}?user={user}&password={password}", url.path())
}

/// An example as it is started: what comes before the address, the order and its total.
struct Producer {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

impl Producer {
    fn new(program: PathBuf, arguments: &[&str]) -> Self {
        Self { program, arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(), variables: Vec::new() }
    }

    /// Whether it says that it has placed the order, and its words.
    async fn place(&self, address: &str, order: &str) -> (bool, String) {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args([address, order, "99.50"]).envs(self.variables.iter().cloned());
        let output = command.kill_on_drop(true).output().await.expect("it was just found");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// What every producer has to do: both rows in one transaction, or none and a failure.
    async fn prove(&self, database: &TestDatabase, address: &str) {
        database
            .execute(
                "create table public.orders (id bigint primary key, total numeric not null, status text not null);
                 alter table outbox.events add constraint unlucky check (aggregate_id <> '13')",
            )
            .await;

        let (is_placed, words) = self.place(address, "42").await;
        assert!(is_placed, "{words}");
        let event: Value =
            sqlx::query_scalar("select to_jsonb(e) || jsonb_build_object('row', o.xmin::text = e.xmin::text, 'total', o.total) from events e, public.orders o")
                .fetch_one(database.pool())
                .await
                .expect("an order and its event");
        for (name, want) in [
            ("type", json!("order.placed")),
            ("aggregate_type", json!("order")),
            ("aggregate_id", json!("42")),
            ("payload", json!({ "order_id": 42, "total": "99.50" })),
            ("total", json!(99.50)),
            ("row", json!(true)),
        ] {
            assert_eq!(event[name], want, "{name}");
        }

        // The order is refused: no event. The event is refused: no order.
        for order in ["42", "13"] {
            let (is_placed, words) = self.place(address, order).await;
            assert!(!is_placed && !words.is_empty(), "order {order}: {words}");
        }
        assert_eq!((database.count("events").await, database.count("public.orders").await), (1, 1));
    }
}

#[tokio::test]
async fn python_places_an_order_and_its_event_or_neither() {
    let clients = root().join("target/clients/bin/python3");
    let Some(python) = find_program(&[&clients.to_string_lossy(), "python3"], &["-c", "import psycopg"]).await else { return };
    let database = TestDatabase::create().await;
    Producer::new(python, &[&example("python/place_order.py")]).prove(&database, database.url()).await;
}

#[tokio::test]
async fn typescript_places_an_order_and_its_event_or_neither() {
    let home = root().join("target/producers/typescript");
    let compiler = home.join("node_modules/.bin/tsc");
    let Some(_) = find_program(&[&compiler.to_string_lossy()], &["--version"]).await else { return };
    let Some(node) = find_program(&["node"], &["--version"]).await else { return };
    // Beside its modules, because that is where both of them look.
    for file in ["place_order.ts", "tsconfig.json"] {
        std::fs::copy(example(&format!("typescript/{file}")), home.join(file)).expect("the directory is ours");
    }
    run_program(&compiler, &["--project", &home.to_string_lossy()], "").await;
    let database = TestDatabase::create().await;
    Producer::new(node, &[&home.join("place_order.js").to_string_lossy()]).prove(&database, database.url()).await;
}

#[tokio::test]
async fn java_places_an_order_and_its_event_or_neither() {
    let Some(java) = find_program(&["java"], &["--version"]).await else { return };
    // The driver is no program that could be asked.
    let Some(_) = find_program(&["test"], &["-e", JDBC]).await else { return };
    let database = TestDatabase::create().await;
    Producer::new(java, &["-cp", JDBC, &example("java/PlaceOrder.java")]).prove(&database, &jdbc(database.url())).await;
}

#[tokio::test]
async fn go_places_an_order_and_its_event_or_neither() {
    // With the driver of Debian, which knows no modules; a program of today has a go.mod.
    let compiled = tempfile::tempdir().expect("a directory");
    let binary = compiled.path().join("place_order");
    let home = root().join("target/producers/go");
    let variables = [
        ("GO111MODULE", "off".to_owned()),
        ("GOPATH", "/usr/share/gocode".to_owned()),
        ("GOFLAGS", String::new()),
        ("GOCACHE", home.to_string_lossy().into_owned()),
    ];
    let Some(go) = find_program(&["go"], &["version"]).await else { return };
    let Some(_) = find_program(&["ls"], &["/usr/share/gocode/src/github.com/lib/pq"]).await else { return };
    let mut build = Command::new(go);
    build.arg("build").arg("-o").arg(&binary).arg(example("go/place_order.go")).envs(variables);
    let output = build.output().await.expect("it was just found");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let database = TestDatabase::create().await;
    // The test server has no certificate, which this driver asks for unless told otherwise.
    Producer::new(binary, &[]).prove(&database, &format!("{}?sslmode=disable", database.url())).await;
}

#[tokio::test]
async fn ruby_places_an_order_and_its_event_or_neither() {
    let Some(ruby) = find_program(&["ruby"], &["-e", "require 'pg'"]).await else { return };
    let database = TestDatabase::create().await;
    Producer::new(ruby, &[&example("ruby/place_order.rb")]).prove(&database, database.url()).await;
}

#[tokio::test]
async fn php_places_an_order_and_its_event_or_neither() {
    let Some(php) = find_program(&["php"], &["-r", "exit(extension_loaded('pdo_pgsql') ? 0 : 1);"]).await else { return };
    let database = TestDatabase::create().await;
    Producer::new(php, &[&example("php/place_order.php")]).prove(&database, &data_source("pgsql:", database.url())).await;
}

#[tokio::test]
async fn perl_places_an_order_and_its_event_or_neither() {
    let Some(perl) = find_program(&["/usr/bin/perl", "perl"], &["-MDBD::Pg", "-MJSON::PP", "-e", "1"]).await else { return };
    let database = TestDatabase::create().await;
    Producer::new(perl, &[&example("perl/place_order.pl")]).prove(&database, &data_source("dbi:Pg:", database.url())).await;
}

#[tokio::test]
async fn psql_records_an_event_beside_its_own_change() {
    let Some(psql) = find_program(&["psql"], &["--version"]).await else { return };
    let database = TestDatabase::create().await;

    let sql = "begin; create table public.orders (id integer); insert into public.orders values (7);
               insert into outbox.events (type, aggregate_type, aggregate_id, payload) values ('order.placed', 'order', 7, '{\"total\": 1.50}');
               commit;";
    run_program(&psql, &["--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet", "--command", sql, database.url()], "").await;

    assert_eq!(database.count("events where aggregate_id = '7' and payload::text = '{\"total\": 1.50}'").await, 1);
}

#[tokio::test]
async fn an_older_python_driver_records_events_and_rolls_some_back() {
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
    run_program(&python, &["-c", script, database.url()], "").await;

    assert_eq!(database.count("events where headers @> '{\"tenant\": \"acme\"}' and payload->>'name' = 'Zoë'").await, 8);
}
