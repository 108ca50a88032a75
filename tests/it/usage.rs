//! The command line as a whole: exit codes of what was typed wrongly, the flags that every command has, and what filters of a configuration
//! let through.

use serde_json::json;

use crate::support::{Binary, NewRow, TestDatabase};

const EVERY_COMMAND: &[&str] = &[
    "adopt",
    "alerts",
    "bench",
    "check",
    "clients",
    "completions",
    "config",
    "console",
    "contracts",
    "dead-letters",
    "demo",
    "doctor",
    "events",
    "feed",
    "forget",
    "handlers",
    "handover",
    "health",
    "keys",
    "man",
    "migrate",
    "projections",
    "rebase",
    "reload",
    "replay",
    "replays",
    "run",
    "secret",
    "status",
    "streams",
    "subjects",
    "verify",
];

#[tokio::test]
async fn wrong_usage_exits_with_64_in_every_command() {
    let binary = Binary::with_config("");
    for command in EVERY_COMMAND {
        let refused = binary.run(&[command, "--no-such-flag"]).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(64), ""), "{command}: {refused:?}");
        assert_eq!(binary.run(&[command, "--help"]).await.code, Some(0), "{command}");
    }
    let help = binary.run(&["--help"]).await.stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A long description goes on in lines of its own, further in.
    let begins = listed.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    let named: Vec<&str> = begins.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    assert_eq!(named, EVERY_COMMAND, "the list here has every command");
    assert_eq!(binary.run(&[]).await.code, Some(64));
}

/// Where the file leads astray, the command line is right in every command that uses an outbox.
#[tokio::test(flavor = "multi_thread")]
async fn the_address_and_the_schema_of_the_command_line_hold_in_every_command() {
    let database = TestDatabase::empty().await;
    let binary = Binary::with_config(
        "[database]\nurl = \"${NOT_SET}\"\n[outbox]\nschema = \"elsewhere\"\n[http]\nlisten = \"\"\n\
         [[handlers]]\nname = \"a\"\nkind = \"stdout\"",
    );
    let with = |arguments: &[&'static str]| [arguments, &["--database-url", database.url(), "--schema", "outbox"]].concat();
    let check = binary.run(&with(&["check"])).await;
    assert_eq!(check.code, Some(0), "{check:?}");
    let shown = binary.run(&with(&["config", "show"])).await;
    assert!(shown.stdout.contains("schema = \"outbox\""), "{shown:?}");
    assert_eq!(binary.run(&with(&["migrate"])).await.code, Some(0));
    let check = binary.run(&with(&["check", "--connect"])).await;
    assert!(check.code == Some(0) && check.stdout.contains("outbox in schema \"outbox\""), "{check:?}");

    let relay = binary.spawn(&with(&["run"]));
    relay.wait_for_output("relay started").await;
    let id = database.insert_event(NewRow::new("order.placed").of("order", 1)).await;
    relay.wait_for_output(&id.to_string()).await;
    for command in [&["status"][..], &["events", "list"], &["handlers", "list"], &["verify"], &["reload"], &["doctor"]] {
        let finished = binary.run(&with(command)).await;
        // The doctor finds that the server of the tests may lose what it has; it has looked at the right one.
        let is_well = if *command == ["doctor"] { finished.stdout.contains("fsync") } else { matches!(finished.code, Some(0 | 1)) };
        assert!(is_well && !finished.stderr.contains("elsewhere"), "{command:?}: {finished:?}");
    }
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));

    // Without `--schema` the schema is that of the file, for a command as for the relay.
    let elsewhere = binary.run(&["status", "--database-url", database.url()]).await;
    let told = [&elsewhere.stdout, &elsewhere.stderr].into_iter().any(|text| text.contains("\"elsewhere\""));
    assert!(elsewhere.code != Some(0) && told, "{elsewhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_compared_as_texts_numbers_and_booleans() {
    let database = TestDatabase::empty().await;
    database.migrate().await;
    let entry =
        |name: &str, wanted: &str| format!("[[handlers]]\nname = \"{name}\"\nkind = \"stdout\"\nwhere_headers = {wanted}\n");
    let handlers = [
        ("number", "{ version = 2 }"),
        ("boolean", "{ test = false }"),
        ("text", "{ version = \"2\" }"),
        ("float", "{ rate = 0.5, test = true }"),
    ];
    let binary = Binary::relay(database.url(), &handlers.map(|(name, wanted)| entry(name, wanted)).concat());
    let rows = [
        json!({"version": 2}),
        json!({"version": "2"}),
        json!({"version": 2.0, "test": false}),
        json!({"rate": 0.5, "test": true}),
        json!({"test": "false"}),
    ];
    let ids = database.insert_events(rows.map(|headers| NewRow::new("order.placed").headers(headers))).await;
    let relay = binary.spawn(&["run"]);
    crate::support::eventually("every handler is behind every event", || async {
        let counts =
            database.count("subscriptions").await == 4 && database.count("event_states where state = 'pending'").await == 0;
        (counts && database.count("deliveries where state = 'delivered'").await == 5).then_some(())
    })
    .await;
    for (name, want) in [("number", vec![0, 2]), ("boolean", vec![2]), ("text", vec![1]), ("float", vec![3])] {
        for (place, id) in ids.iter().enumerate() {
            let of_it = format!("event_states where handler = '{name}' and id = '{id}' and state = 'delivered'");
            assert_eq!(database.count(&of_it).await == 1, want.contains(&place), "{name} and event {place}");
        }
    }
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

/// Every name that `check` accepts is one that everything works with: long ones, and words that SQL keeps for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_any_accepted_name_works_to_the_end() {
    let longest = "x".repeat(63);
    let fifty_six = format!("{}_b", "a".repeat(54));
    for schema in ["user", "order", "select", longest.as_str(), fifty_six.as_str()] {
        let database = TestDatabase::empty().await;
        let config = format!(
            "[database]\nurl = \"{}\"\n[outbox]\nschema = \"{schema}\"\n[http]\nlisten = \"\"\n[relay]\nlease = \"3s\"\n\
             [[handlers]]\nname = \"a\"\nkind = \"stdout\"",
            database.url()
        );
        let binary = Binary::with_config(&config);
        for command in [&["check"][..], &["migrate"], &["check", "--connect"]] {
            let done = binary.run(command).await;
            assert_eq!(done.code, Some(0), "{schema} {command:?}: {done:?}");
        }
        let relay = binary.spawn(&["run"]);
        relay.wait_for_output("relay started").await;
        // The relay sleeps by now or in a moment: the insert rings, and must not fail.
        for number in 0..3 {
            let insert = format!("insert into \"{schema}\".events (type, payload) values ('t', '{{\"n\": {number}}}')");
            database.execute(&insert).await;
            relay.wait_for_output(&format!("\"n\": {number}")).await;
        }
        for command in [
            &["handlers", "pause", "a", "--because", "x"][..],
            &["handlers", "resume", "a"],
            &["reload"],
            &["status"],
            &["events", "list"],
        ] {
            let done = binary.run(command).await;
            assert_eq!(done.code, Some(0), "{schema} {command:?}: {done:?}");
        }
        let doctor = binary.run(&["doctor", "--json"]).await;
        let report: serde_json::Value = serde_json::from_str(&doctor.stdout).unwrap_or_else(|error| panic!("{error}: {doctor:?}"));
        let wrong: Vec<_> = report["findings"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|finding| {
                ["catalogue", "bell", "grants", "unread", "schema", "search_path"]
                    .contains(&finding["check"].as_str().unwrap_or_default())
            })
            .collect();
        assert!(wrong.is_empty(), "{schema}: {wrong:#?}");
        relay.terminate();
        assert_eq!(relay.finish().await.code, Some(0), "{schema}");
    }
    for schema in ["pg_outbox", "information_schema"] {
        let refused = Binary::with_config(&format!("[outbox]\nschema = \"{schema}\""))
            .env("DATABASE_URL", "postgres://h/d")
            .run(&["check"])
            .await;
        assert!(refused.code == Some(64) && refused.stderr.contains("Postgres reserves"), "{refused:?}");
    }
}

#[tokio::test]
async fn an_address_that_cannot_work_says_what_to_write() {
    let of_kind = |settings: &str| format!("[database]\nurl = \"postgres://h/d\"\n[[handlers]]\nname = \"x\"\n{settings}");
    for (config, path, want) in [
        ("[database]\nurl = \"postgres://u:s3cret@a:5432,b:5432/d\"".to_owned(), "database.url", "write one host"),
        ("[database]\nurl = \"postgres://u:s3cret@::1:5432/d\"".to_owned(), "database.url", "in brackets"),
        ("[database]\nurl = \"postgres://u:s3cret#x@h/d\"".to_owned(), "database.url", "%23 for #"),
        ("[database]\nurl = \"postgres://h/d\"\n[http]\nlisten = \"::1:9187\"".to_owned(), "http.listen", "in brackets"),
        (of_kind("kind = \"webhook\"\nurl = \"http://::1:80/x\""), "handlers.x.url", "in brackets"),
        (of_kind("kind = \"rabbitmq\"\nexchange = \"e\"\nurl = \"amqp://u:s3cret@a,b/v\""), "handlers.x.url", "write one host"),
        (of_kind("kind = \"redis\"\nstream = \"s\"\nurl = \"redis://u:s3cret/x@h\""), "handlers.x.url", "%2F for /"),
        (of_kind("kind = \"mqtt\"\ntopic = \"t\"\nurl = \"mqtt://::1\""), "handlers.x.url", "in brackets"),
        (of_kind("kind = \"nats\"\nsubject = \"s\"\nservers = [\"nats://a:1,b:2\"]"), "handlers.x.servers", "write one host"),
        (of_kind("kind = \"kafka\"\ntopic = \"t\"\nbrokers = [\"a:1,b:2\"]"), "handlers.x.brokers", "an entry of its own"),
    ] {
        let refused = Binary::with_config(&config).run(&["check"]).await;
        let told = refused.stderr.lines().find(|line| line.contains(path)).unwrap_or_else(|| panic!("{config}: {refused:?}"));
        assert!(refused.code == Some(64) && told.contains(want) && !refused.stderr.contains("s3cret"), "{config}: {told}");
    }
    let refused = Binary::with_config("").run(&["status", "--database-url", "postgres://u:s3cret@a,b/d"]).await;
    assert!(refused.stdout.contains("write one host") || refused.stderr.contains("write one host"), "{refused:?}");
    assert!(!format!("{refused:?}").contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_address_in_brackets_works_for_database_and_listener() {
    let Ok(probe) = tokio::net::TcpListener::bind("[::1]:0").await else { return }; // a machine without IPv6
    drop(probe);
    let config = "[database]\nurl = \"postgres://[::1]:1/d\"\nconnect_timeout = \"1s\"\n[http]\nlisten = \"[::1]:0\"\n[[handlers]]\nname = \"a\"\nkind = \"discard\"";
    let binary = Binary::with_config(config);
    let check = binary.run(&["check", "--connect"]).await;
    assert!(check.code == Some(75) && check.stdout.contains("no server answers there"), "the address was understood: {check:?}");
    let relay = binary.spawn(&["run"]);
    relay.wait_for_output("address=[::1]:").await;
    relay.terminate();
}
