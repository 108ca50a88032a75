//! Ways in which rows of the outbox can be invisible, be swallowed, or a trigger stay silent: each is found and mended.

use serde_json::Value;

use super::{findings, fix, make_and_mend, paste, report};
use crate::support::{Binary, NewRow, TestDatabase, eventually, get};

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_hides_rows_or_silences_a_trigger_is_found_and_mended() {
    let database = TestDatabase::create().await;
    database.execute("create function swallow() returns trigger language plpgsql as $$ begin return null; end $$").await;
    for (fault, word) in [
        ("create rule nothing as on insert to events do instead nothing", "rule nothing rewrites statements on outbox.events"),
        ("create table more () inherits (events)", "inherit from one another"),
        (
            "create trigger swallow before insert on events for each row execute function swallow()",
            "trigger swallow can change or swallow",
        ),
        ("create trigger swallow before update on deliveries for each row execute function swallow()", "rows of outbox.deliveries"),
        ("alter table attempts set unlogged", "outbox.attempts is unlogged"),
        // A crash would empty it, and retention would take its events for any others.
        ("alter table stream_events set unlogged", "outbox.stream_events is unlogged"),
        ("create trigger swallow before update on streams for each row execute function swallow()", "rows of outbox.streams"),
        ("alter table events disable trigger refuse_truncate", "refuse_truncate of outbox.events is missing or switched off"),
        ("alter table events disable trigger forget_event", "forget_event"),
        (
            "do $$ begin execute format('alter database %I set session_replication_role = replica', current_database()); end $$",
            "is preset for database",
        ),
    ] {
        make_and_mend(&database, fault, "blind_spots", word).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_level_security_is_told_everywhere_and_hides_no_event() {
    let database = TestDatabase::create().await;
    let mut url: url::Url = database.url().parse().expect("an address");
    let role = format!("relay_of_{}", url.path().trim_start_matches('/'));
    database
        .execute(&format!(
            "create role {role} login password 'secret'; grant usage on schema outbox to {role};
             grant all on all tables in schema outbox to {role}; grant all on all sequences in schema outbox to {role}"
        ))
        .await;
    url.set_username(&role).expect("an address with a host");
    url.set_password(Some("secret")).expect("an address with a host");
    let discard = "[[handlers]]\nname = \"one\"\nkind = \"discard\"\n[[handlers]]\nname = \"few\"\nkind = \"discard\"\nrecord = \"failures\"\n";
    let binary = Binary::relay_with_http(url.as_str(), discard);
    let (running, address) = binary.serve().await;
    running.wait_for_output("relay started").await;
    database.insert_event(NewRow::new("a")).await;
    eventually("the first is delivered", || async { (database.count("deliveries").await == 1).then_some(()) }).await;

    database
        .execute("alter table events enable row level security; create policy visible on events using (type <> 'secret')")
        .await;
    database.insert_events(["a", "secret", "b"].map(NewRow::new)).await;
    let ready = eventually("readiness tells it", || async {
        let (status, body) = get(&address, "/readyz").await.ok()?;
        (status == 503 && body.contains("row-level security on outbox.events")).then_some(body)
    })
    .await;
    assert!(ready.contains("alter table") && ready.contains("disable row level security"), "{ready}");
    let checked = binary.run(&["check", "--connect"]).await;
    assert!(checked.code == Some(75) && checked.stdout.contains("row-level security on outbox.events"), "{checked:?}");
    let told = report(url.as_str()).await;
    let finding =
        findings(&told, "blind_spots", "row-level security on outbox.events applies to role").first().map(|found| (*found).clone());
    let finding: Value = finding.unwrap_or_else(|| panic!("{told:#}"));
    assert_eq!((&finding["level"], database.count("deliveries").await), (&Value::from("critical"), 1));

    paste(database.url(), fix(&finding).1).await;
    eventually("nothing was passed over", || async { (database.count("deliveries").await == 4).then_some(()) }).await;
    eventually("it is ready again", || async { (get(&address, "/readyz").await.ok()?.0 == 200).then_some(()) }).await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}
