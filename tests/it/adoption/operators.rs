//! What a person does with it: look first, adopt, change, remove, be told what is wrong.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor};

use super::{DEBEZIUM, DEBEZIUM_ENTRY, Shop, execute};
use crate::support::Binary;

const INSERT: &str = "insert into outboxevent values (gen_random_uuid(), 'order', '1', 't', '{}')";
/// A role that every server has; what is granted to it goes away with the database of the test.
const ROLE: &str = "pg_monitor";

#[tokio::test]
async fn adopting_again_changes_nothing_and_removing_leaves_what_was_recorded() {
    let shop = Shop::open(DEBEZIUM, DEBEZIUM_ENTRY).await;
    let mut application = shop.database.connect().await;
    assert!(shop.succeed(&["adopt"]).await.contains("public.outboxevent is adopted: every row"));
    execute(&mut application, INSERT).await;
    // Nobody waits for anybody where nothing is to be done.
    execute(&mut application, &format!("begin; {INSERT}")).await;
    assert_eq!(shop.succeed(&["adopt", "public.outboxevent"]).await, "public.outboxevent was adopted already\n");
    execute(&mut application, "commit").await;
    let json: Value = serde_json::from_str(&shop.succeed(&["adopt", "--json"]).await).expect("a document");
    assert_eq!(json, serde_json::json!([{ "table": "public.outboxevent", "outcome": "unchanged" }]));

    assert!(shop.succeed(&["adopt", "--remove"]).await.contains("is no longer adopted"));
    execute(&mut application, INSERT).await;
    assert_eq!(shop.database.count("events").await, 2);
    assert_eq!(shop.database.count("pg_proc where proname like 'adopt\\_%'").await, 0);
    assert!(shop.succeed(&["adopt", "--remove"]).await.contains("was not adopted"));
}

#[tokio::test]
async fn what_a_dry_run_prints_is_what_would_be_done() {
    let shop = Shop::open(DEBEZIUM, DEBEZIUM_ENTRY).await;
    execute(&mut shop.database.connect().await, INSERT).await;
    let script = shop.succeed(&["adopt", "--dry-run", "--existing"]).await;
    assert_eq!(shop.database.count("pg_trigger where tgname like 'adopt%'").await, 0, "a dry run changes nothing");
    let json: Value =
        serde_json::from_str(&shop.succeed(&["adopt", "--dry-run", "--existing", "--json"]).await).expect("a document");
    assert_eq!(json["sql"], script.as_str());
    // With the path that any other tool has.
    execute(&mut shop.database.connect().await, &script).await;
    assert_eq!(shop.database.count("events").await, 1);
    execute(&mut shop.database.connect().await, INSERT).await;
    assert_eq!(shop.database.count("events").await, 2);
    assert_eq!(shop.succeed(&["adopt", "--dry-run"]).await, "-- public.outboxevent: is adopted as configured\n");
    execute(&mut shop.database.connect().await, &script).await;
    assert_eq!(shop.database.count("events").await, 2, "and it can be run again");
}

#[tokio::test]
async fn whatever_the_table_has_not_is_told_at_once_and_nothing_is_changed() {
    let tables = format!(
        "{DEBEZIUM}; create table public.odd (id int, kind text, body text, at text, v text);
         create view public.seen as select 1 as id;
         create table public.parted (kind text) partition by list (kind); create table public.part partition of public.parted default"
    );
    let custom = "shape = \"custom\"\ntype = \"kind\"\npayload = \"body\"\n";
    let entries = format!(
        "{DEBEZIUM_ENTRY}payload = \"after\"\nextra_headers = {{ a = \"b\" }}\n\
         [[adopt]]\ntable = \"gone\"\n{custom}[[adopt]]\ntable = \"seen\"\n{custom}[[adopt]]\ntable = \"part\"\n{custom}\
         [[adopt]]\ntable = \"odd\"\n{custom}occurred_at = \"at\"\naggregate_version = \"v\"\n"
    );
    let shop = Shop::open(&tables, &entries).await;
    let told = shop.fail(&["adopt"]).await;
    for want in [
        "adopt.public.outboxevent.payload: there is no column \"after\"; the table has id, aggregatetype, ",
        "adopt.public.outboxevent.extra_headers: there is no column \"b\"",
        "adopt.public.gone: there is no table public.gone in this database",
        "adopt.public.seen: is a view; adopt the table behind it",
        "adopt.public.part: is a partition; adopt the table that it is part of",
        "adopt.public.odd.occurred_at: the column has the type text, expected a timestamp, or a bigint",
        "adopt.public.odd.aggregate_version: the column has the type text, expected smallint",
    ] {
        assert!(told.contains(want), "{want} in\n{told}");
    }
    assert_eq!(shop.database.count("pg_trigger where tgname like 'adopt%'").await, 0);
    for (arguments, want) in [
        (&["adopt", "public.other"][..], "the configuration does not adopt public.other; it adopts public.outboxevent, "),
        (&["adopt", "a.b.c"], "expected the name of a table"),
    ] {
        let finished = shop.binary.run(arguments).await;
        assert!(finished.code != Some(0) && finished.stderr.contains(want), "{finished:?}");
    }
    let nothing = Binary::with_config(&format!("[database]\nurl = \"{}\"", shop.database.url())).run(&["adopt"]).await;
    assert!(nothing.code == Some(64) && nothing.stderr.contains("adopts no table"), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_use_is_waited_for_no_longer_than_a_lock_may_take() {
    let shop = Shop::open(DEBEZIUM, DEBEZIUM_ENTRY).await;
    let mut application = shop.database.connect().await;
    execute(&mut application, &format!("begin; {INSERT}")).await;
    let told = shop.fail(&["adopt"]).await;
    assert!(told.contains("longer than database.lock_timeout; nothing was changed"), "{told}");
    execute(&mut application, "commit").await;
    shop.succeed(&["adopt"]).await;
}

#[tokio::test]
async fn a_role_that_may_not_is_told_which_grants_are_missing_and_they_are_enough() {
    let shop = Shop::open(
        &format!("create schema shop; {}", DEBEZIUM.replace("public.", "shop.")),
        &DEBEZIUM_ENTRY.replace("public.", "shop."),
    )
    .await;
    shop.database
        .execute(&format!(
            "grant all on schema outbox to {ROLE}; grant all on all tables in schema outbox to {ROLE};
             grant all on all sequences in schema outbox to {ROLE}"
        ))
        .await;
    let as_role =
        format!("{}{}options=-crole%3D{ROLE}", shop.database.url(), if shop.database.url().contains('?') { "&" } else { "?" });
    let arguments = ["adopt", "--existing", "--database-url", &as_role];
    let told = shop.fail(&arguments).await;
    let grants = told.split("let the owner of the table run: ").nth(1).unwrap_or_else(|| panic!("{told}")).trim().to_owned();
    assert_eq!(
        grants,
        format!(
            "grant usage on schema shop to {ROLE}; grant trigger on shop.outboxevent to {ROLE}; grant select on shop.outboxevent to {ROLE}"
        )
    );
    shop.database.execute(&grants).await;
    shop.succeed(&arguments).await;
    execute(&mut shop.database.connect().await, &INSERT.replace("outboxevent", "shop.outboxevent")).await;
    assert_eq!(shop.database.count("events").await, 1);
    // A role that does not own the table takes off what is its own.
    shop.succeed(&["adopt", "--remove", "shop.outboxevent", "--database-url", &as_role]).await;
    assert_eq!(shop.database.count("pg_trigger where tgname like 'adopt%'").await, 0);
}

/// The function has the rights of the outbox's owner: on a table of an attacker it would record whatever they like.
#[tokio::test]
async fn nobody_else_can_put_the_function_on_a_table_of_their_own() {
    let shop = Shop::adopted(DEBEZIUM, DEBEZIUM_ENTRY).await;
    shop.database.execute(&format!("grant usage on schema outbox to {ROLE}; grant create on schema public to {ROLE}")).await;
    let function: String = sqlx::query_scalar("select proname::text from pg_proc where proname like 'adopt\\_%'")
        .fetch_one(shop.database.pool())
        .await
        .expect("there is one");
    let mut attacker = shop.database.connect().await;
    execute(&mut attacker, &format!("set role {ROLE}; {}", DEBEZIUM.replace("outboxevent", "mine"))).await;
    let trigger = format!(
        "create trigger t after insert on mine referencing new table as inserted for each statement execute function outbox.{function}()"
    );
    let refused = attacker.execute(AssertSqlSafe(trigger)).await.expect_err("it may not");
    assert!(refused.to_string().contains("permission denied for function"), "{refused}");
}

#[tokio::test]
async fn another_configuration_or_another_table_takes_effect_when_it_is_adopted_again() {
    let shop =
        Shop::adopted(&format!("{DEBEZIUM}; alter table public.outboxevent add kind text default 'k'"), DEBEZIUM_ENTRY).await;
    let mut application = shop.database.connect().await;
    for (entry, want) in [
        (format!("{DEBEZIUM_ENTRY}type = \"kind\"\n"), "k"),
        (format!("{DEBEZIUM_ENTRY}type = \"constant:c\"\ncopy = \"commit\"\n"), "c"),
        (DEBEZIUM_ENTRY.to_owned(), "t"),
    ] {
        shop.binary.rewrite(&format!("[database]\nurl = \"{}\"\n[http]\nlisten = \"\"\n{entry}", shop.database.url()));
        assert!(shop.succeed(&["adopt"]).await.contains("is adopted: every row"));
        execute(&mut application, INSERT).await;
        assert_eq!(shop.events("type").await.last().map(String::as_str), Some(want));
    }
    // Renamed, and the entry with it: one trigger, and no event comes twice.
    execute(&mut application, "alter table outboxevent rename to messages").await;
    let renamed = DEBEZIUM_ENTRY.replace("outboxevent", "messages");
    shop.binary.rewrite(&format!("[database]\nurl = \"{}\"\n[http]\nlisten = \"\"\n{renamed}", shop.database.url()));
    shop.succeed(&["adopt"]).await;
    assert_eq!(shop.database.count("pg_trigger where tgname like 'adopt%'").await, 1);
    execute(&mut application, &INSERT.replace("outboxevent", "messages")).await;
    assert_eq!(shop.database.count("events").await, 4);
}

async fn findings(shop: &Shop) -> Vec<(String, String)> {
    let finished = shop.binary.run(&["doctor", "--json", "--older-than", "1h"]).await;
    let report: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    let all = report["findings"].as_array().expect("a list").iter().filter(|finding| finding["check"] == "adoption");
    all.map(|finding| {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        (text(&finding["what"]), text(&finding["fixes"][0]["text"]))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_and_check_know_when_a_table_is_not_adopted_as_configured() {
    let shop = Shop::open(DEBEZIUM, DEBEZIUM_ENTRY).await;
    let missing = findings(&shop).await;
    assert_eq!(missing[0].0, "table public.outboxevent is configured to be adopted and has no trigger");
    let checked = shop.binary.run(&["check", "--connect"]).await;
    assert!(checked.stdout.contains("FAILED  adopt.public.outboxevent: is not adopted"), "{checked:?}");
    let fix: Vec<&str> = missing[0].1.split(' ').skip(1).collect();
    shop.succeed(&fix).await;
    assert_eq!(findings(&shop).await, []);
    assert!(shop.succeed(&["check", "--connect"]).await.contains("ok      adopt.public.outboxevent"));

    let trigger: String = sqlx::query_scalar("select tgname::text from pg_trigger where tgname like 'adopt%'")
        .fetch_one(shop.database.pool())
        .await
        .expect("there is one");
    shop.database.execute(&format!("alter table public.outboxevent disable trigger {trigger}")).await;
    let off = findings(&shop).await;
    assert_eq!(off[0].0, "the trigger of the adopted table public.outboxevent is switched off");
    shop.database.execute(&off[0].1).await;
    assert_eq!(findings(&shop).await, []);

    // The table was changed, and the entry with it.
    shop.database.execute("alter table public.outboxevent rename column type to kind").await;
    // What was said before, that its rows are no events, was not the truth: the application cannot insert any more.
    let failed = sqlx::raw_sql(INSERT).execute(shop.database.pool()).await.expect_err("the trigger fails");
    let found = findings(&shop).await;
    assert!(
        found[0].0.starts_with("every insert of the application into the adopted table public.outboxevent fails: "),
        "{found:?}"
    );
    let column = failed.as_database_error().expect("the server refuses").message().to_owned();
    assert!(found[0].0.ends_with(&column), "{found:?}: {column}");
    let config = |entries: &str| format!("[database]\nurl = \"{}\"\n[http]\nlisten = \"\"\n{entries}", shop.database.url());
    shop.binary.rewrite(&config(&format!("{DEBEZIUM_ENTRY}type = \"kind\"\n")));
    let outdated = findings(&shop).await;
    // The entry is right now, the trigger is still the old one.
    assert!(outdated[0].0.starts_with("every insert of the application into the adopted table"), "{outdated:?}");
    shop.succeed(&outdated[0].1.split(' ').skip(1).collect::<Vec<_>>()).await;
    assert_eq!(findings(&shop).await, []);

    shop.binary.rewrite(&config(""));
    let left = findings(&shop).await;
    assert_eq!(left[0].0, "table public.outboxevent is adopted and no [[adopt]] entry names it");
    shop.succeed(&left[0].1.split(' ').skip(1).collect::<Vec<_>>()).await;
    assert_eq!(findings(&shop).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_says_at_its_start_and_after_a_reload_which_tables_are_not_adopted_as_configured() {
    let second = DEBEZIUM_ENTRY.replace("outboxevent", "second");
    let handler = "[[handlers]]\nname = \"all\"\nkind = \"discard\"\n";
    let entries = format!("{handler}{DEBEZIUM_ENTRY}{second}");
    let shop = Shop::open(&format!("{DEBEZIUM};{}", DEBEZIUM.replace("outboxevent", "second")), &entries).await;
    let relay = shop.binary.spawn(&["run"]);
    for table in ["public.outboxevent", "public.second"] {
        relay.wait_for_output(&format!("mend=\"outboxd adopt {table}\"")).await;
    }

    shop.succeed(&["adopt"]).await;
    let name = "select tgname from pg_trigger where tgrelid = 'public.second'::regclass and not tgisinternal";
    let trigger: String = sqlx::query_scalar(name).fetch_one(shop.database.pool()).await.expect("the trigger");
    shop.database.execute(&format!("alter table public.second disable trigger {trigger}")).await;
    relay.hang_up();
    let told = relay.wait_for_output("is switched off").await;
    assert!(told.contains("WARN") && told.contains("mend=\"outboxd adopt public.second\""), "{told}");

    relay.terminate();
    let finished = relay.finish().await;
    let output = finished.stdout + &finished.stderr;
    let warnings = |table: &str| output.lines().filter(|line| line.contains(&format!("mend=\"outboxd adopt {table}\""))).count();
    // The second was looked at between the change and the reload, perhaps.
    assert!(warnings("public.outboxevent") == 1 && warnings("public.second") >= 2, "one for each table, each time: {output}");
}

/// Breaks the trigger of an adopted table in one way, and gives whether inserts fail then.
const BREAKS: &[(&str, &str, bool)] = &[
    ("dropped", "drop trigger {trigger} on public.outboxevent", false),
    ("switched off", "alter table public.outboxevent disable trigger {trigger}", false),
    ("its function dropped", "drop function outbox.{trigger}() cascade", false),
    ("a column renamed", "alter table public.outboxevent rename column aggregatetype to kind", true),
    ("a column dropped", "alter table public.outboxevent drop column payload", true),
    (
        "the table replaced",
        "alter table public.outboxevent rename to old; create table public.outboxevent (like public.old)",
        false,
    ),
    ("moved to another schema", "create schema other; alter table public.outboxevent set schema other", false),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_table_that_breaks_is_noticed_by_status_metric_and_alert_without_being_asked() {
    futures_util::future::join_all(BREAKS.iter().map(|(what, sql, fails)| breaks(what, sql, *fails))).await;
}

async fn breaks(what: &str, sql: &str, inserts_fail: bool) {
    let entries = format!("[alerts]\ninterval = \"1s\"\n[[handlers]]\nname = \"all\"\nkind = \"discard\"\n{DEBEZIUM_ENTRY}");
    let shop = Shop::adopted(DEBEZIUM, &entries).await;
    let config = format!("[database]\nurl = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n{entries}", shop.database.url());
    shop.binary.rewrite(&config);
    let (relay, address) = shop.binary.serve().await;
    let metric = |value: u8| format!("outboxd_adoption_broken{{table=\"public.outboxevent\"}} {value}");
    let shows = |text: String| {
        let address = address.clone();
        async move { crate::support::get(&address, "/metrics").await.ok().filter(|(_, page)| page.contains(&text)) }
    };
    crate::support::eventually("it is well", || shows(metric(0))).await;

    let trigger: String = sqlx::query_scalar("select tgname::text from pg_trigger where tgname like 'adopt%'")
        .fetch_one(shop.database.pool())
        .await
        .expect("there is one");
    shop.database.execute(&sql.replace("{trigger}", &trigger)).await;
    crate::support::eventually(&format!("{what}: the metric shows it"), || shows(metric(1))).await;
    crate::support::eventually(&format!("{what}: the alert fires"), || async {
        let firing = "alerts where key = 'adoption_broken/public.outboxevent' and status = 'firing' and severity = 'critical'";
        (shop.database.count(firing).await == 1).then_some(())
    })
    .await;
    let status = shop.binary.run(&["status"]).await;
    assert!(status.code == Some(2) && status.stdout.contains("the adopted table public.outboxevent"), "{what}: {status:?}");
    let says_fails = status.stdout.contains("fails at every insert of the application");
    assert_eq!(says_fails, inserts_fail, "{what}: {status:?}");
    relay.terminate();
    relay.finish().await;
}
