//! `outboxd forget` and `outboxd subjects`, beside programs and relays that run.

use std::sync::Arc;

use outboxd::failpoints::{FORGET_NAMES, VARIABLE};
use outboxd::uow::shredding::{MasterKeys, ShredError};
use outboxd::uow::sourcing::Root;
use outboxd::uow::{Error, Options, Registry, UnitOfWork};
use outboxd::{Reason, Verdict};
use serde_json::{Value, json};

use super::person::{Person, moved};
use super::{MARKER, begin, load, master, outboxd, person};
use crate::support::{Binary, Recorder, TestDatabase, eventually, quick_handler, relay};

const FORGET: [&str; 6] = ["forget", "--subject", "customer/42", "--because", "OPS-1", "--yes"];

fn rows(report: &Value, place: &str) -> i64 {
    let traces = report["traces"].as_array().into_iter().flatten();
    traces.filter(|trace| trace["place"] == place).filter_map(|trace| trace["rows"].as_i64()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_forgotten_with_all_that_is_known_beside_the_events_and_others_are_as_they_were() {
    let database = TestDatabase::create().await;
    database
        .execute(
            "create schema app; create table app.names (subject text, name text); insert into app.names values ('customer/42', 'MARKER7f3e');
             create function app.forget_customer(subject text) returns void language sql as $$ delete from app.names n where n.subject = $1 $$",
        )
        .await;
    person(database.pool(), 42, MARKER, 1).await;
    person(database.pool(), 43, "bob", 1).await;
    let refuses = Recorder::answering(|_, _| Verdict::permanent(Reason::Refused, format!("not to {MARKER}")));
    let running = relay(&database).configured_handler("mail", refuses.handler(), quick_handler).start().expect("it starts");
    eventually("all are dead letters", || async { (database.count("deliveries where state = 'dead'").await == 6).then_some(()) })
        .await;
    running.stop().await.expect("it stops");
    let binary = Binary::with_config("[erasure]\nledger = \"forgotten.jsonl\"\nfunctions = [\"app.forget_customer\"]\n");
    let url = database.url();
    let traces = |report: &Value| ["stream_states", "attempts.detail", "deliveries.detail"].map(|place| rows(report, place));

    let (dry, report) = outboxd(&binary, url, &[&FORGET[..5], &["--dry-run"]].concat()).await;
    assert_eq!((dry.code, &report["events"], traces(&report)), (Some(0), &json!(3), [1, 3, 3]), "{dry:?}");
    let unasked = outboxd(&binary, url, &FORGET[..5]).await.0;
    assert!(unasked.code == Some(64) && unasked.stderr.contains("--yes"), "{unasked:?}");
    let (unknown, _) = outboxd(&binary, url, &["forget", "--subject", "customer/4", "--because", "x", "--yes"]).await;
    assert!(unknown.code == Some(1) && unknown.stderr.contains("there is no subject customer/4"), "{unknown:?}");
    let (living, verified) = outboxd(&binary, url, &["forget", "--subject", "customer/42", "--verify"]).await;
    assert_eq!((living.code, verified["left"][0].as_str().is_some_and(|left| left.contains("the key lives"))), (Some(1), true));
    assert_eq!(database.count("subject_keys where wrapped is not null").await, 2);

    let (done, report) = outboxd(&binary, url, &FORGET).await;
    assert_eq!((done.code, &report["was_forgotten"], &report["is_complete"]), (Some(0), &json!(false), &json!(true)), "{done:?}");
    assert_eq!((&report["states"], &report["functions"]), (&json!(1), &json!(["app.forget_customer"])));
    assert!(!format!("{done:?}").contains(MARKER));
    let (verified, report) = outboxd(&binary, url, &["forget", "--subject", "customer/42", "--verify"]).await;
    assert_eq!((verified.code, &report["left"], traces(&report)), (Some(0), &json!([]), [0, 0, 0]), "{verified:?}");
    assert!(report["unreached"].as_array().is_some_and(|places| places.len() >= 4));
    assert_eq!(database.count("app.names").await, 0);
    assert_eq!(database.count("audit where action = 'forget_subject' and reason = 'OPS-1' and affected = 1").await, 1);
    let ledger = std::fs::read_to_string(binary.directory().join("forgotten.jsonl")).expect("it was written");
    assert!(ledger.lines().count() == 1 && ledger.contains("customer/42"), "{ledger}");

    let ann = load(database.pool(), "42").await.expect("it is loaded");
    let is_forgotten =
        |value: &Option<outboxd::uow::shredding::Shredded<String>>| value.as_ref().is_some_and(|value| value.is_forgotten());
    assert!(is_forgotten(&ann.state().email) && is_forgotten(&ann.state().city), "{:?}", ann.state());
    assert_eq!((ann.state().shown.as_str(), ann.state().events), ("a former customer", 2));
    let bob = load(database.pool(), "43").await.expect("it is loaded");
    assert_eq!(bob.state().email.as_ref().and_then(|email| email.read().ok()).map(String::as_str), Some("bob email"));
    assert_eq!(database.count("deliveries where detail is not null").await, 3, "those of the other person have their texts");

    // The stream goes on: a state with forgotten values is kept and read; a new value of the person is refused.
    let save = async |id: i64| {
        let mut work = begin(database.pool()).await;
        let mut root = Root::<Person>::load("42", &mut work).await?;
        root.record(moved(id, "Rome"));
        root.record(moved(id, "Oslo"));
        root.save(&mut work).await?;
        work.commit().await.map(drop)
    };
    let refused = save(42).await.expect_err("the person was forgotten");
    assert!(matches!(refused, Error::Shredding(ShredError::SubjectForgotten { .. })), "{refused}");
    save(43).await.expect("values of others are taken");
    let ann = load(database.pool(), "42").await.expect("it is loaded");
    assert!(is_forgotten(&ann.state().email) && ann.ignored_state().is_none() && ann.state().events == 4, "{ann:?}");
    assert_eq!(database.count("stream_states where state::text like '%\"forgotten\":true%'").await, 1);

    let (again, report) = outboxd(&binary, url, &FORGET).await;
    assert_eq!((again.code, &report["was_forgotten"]), (Some(0), &json!(true)), "{again:?}");
    assert!(again.stderr.contains("was forgotten already"), "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_killed_completes_when_it_is_run_again() {
    let database = TestDatabase::create().await;
    let binary = Binary::with_config("[erasure]\nledger = \"forgotten.jsonl\"\n");
    for (id, point) in FORGET_NAMES.iter().enumerate() {
        let (id, subject) = (i64::try_from(id).expect("a small number"), format!("customer/{id}"));
        person(database.pool(), id, MARKER, 1).await;
        let forget = ["forget", "--subject", &subject, "--because", "OPS-1", "--yes"];
        let killed = outboxd(&binary.clone().env(VARIABLE, &format!("{point}=kill")), database.url(), &forget).await.0;
        assert_eq!(killed.code, None, "{point}: {killed:?}");
        let verify = ["forget", "--subject", &subject, "--verify"];
        assert_eq!(outboxd(&binary, database.url(), &verify).await.0.code, Some(1), "{point}: it is not at its end");
        let (done, _) = outboxd(&binary, database.url(), &forget).await;
        assert_eq!(done.code, Some(0), "{point}: {done:?}");
        let (verified, _) = outboxd(&binary, database.url(), &verify).await;
        assert_eq!(verified.code, Some(0), "{point}: {verified:?}");
    }
    assert_eq!(database.count(&format!("stream_states where state::text like '%{MARKER}%'")).await, 0);
    assert_eq!(database.count("audit where action = 'forget_subject'").await, 3, "once for each");
    let ledger = std::fs::read_to_string(binary.directory().join("forgotten.jsonl")).expect("it was written");
    assert_eq!(ledger.lines().count(), 3, "{ledger}");
}

/// Else a value could be committed under a key that is gone, and its writer would not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_destroyed_behind_the_transactions_that_encrypt_under_it() {
    let database = TestDatabase::create().await;
    person(database.pool(), 42, "ann", 0).await;
    let mut work = begin(database.pool()).await;
    let mut root = Root::<Person>::load("42", &mut work).await.expect("it is loaded");
    root.record(moved(42, MARKER));
    root.save(&mut work).await.expect("it is saved"); // with a state that holds clear text
    let url = database.url().to_owned();
    let forgetting = tokio::spawn(async move { outboxd(&Binary::with_config(""), &url, &FORGET).await });
    eventually("the command waits for the transaction", || async {
        (database.count("pg_stat_activity where application_name = 'outboxd cli' and wait_event_type = 'Lock'").await > 0)
            .then_some(())
    })
    .await;
    work.commit().await.expect("it is committed");
    let (done, report) = forgetting.await.expect("the command ends");
    assert_eq!((done.code, &report["events"]), (Some(0), &json!(3)), "{done:?}");
    assert_eq!(database.count("stream_states").await, 0);
    assert!(load(database.pool(), "42").await.expect("it is loaded").state().city.as_ref().is_some_and(|city| city.is_forgotten()));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_wrapped_by_a_new_master_key_and_values_are_not_encrypted_again() {
    let database = TestDatabase::create().await;
    for id in [42, 43] {
        person(database.pool(), id, "ann", 0).await;
    }
    let payloads = async || {
        let sql = "select string_agg(payload::text, '' order by seq) from events";
        sqlx::query_scalar::<_, String>(sql).fetch_one(database.pool()).await.expect("they can be read")
    };
    let before = payloads().await;
    let binary = Binary::with_config("");
    let made = binary.run(&["subjects", "key"]).await;
    let (new, old) = (made.stdout.trim().to_owned(), "outboxd_master_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let file = binary.directory().join("master-keys");
    let rewrap = ["subjects", "rewrap", "--master-keys-file", file.to_str().expect("a plain name"), "--because", "yearly"];

    std::fs::write(&file, &new).expect("the directory is ours");
    let (refused, _) = outboxd(&binary, database.url(), &rewrap).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("is wrapped by the master key"), "{refused:?}");
    std::fs::write(&file, format!("# the new one first\n{new}\n{old}\n")).expect("the directory is ours");
    let (done, report) = outboxd(&binary, database.url(), &rewrap).await;
    assert_eq!((done.code, &report["rewrapped"]), (Some(0), &json!(2)), "{done:?}");
    let (_, report) = outboxd(&binary, database.url(), &rewrap).await;
    assert_eq!(report["rewrapped"], 0);
    let (_, listed) = outboxd(&binary, database.url(), &["subjects", "list"]).await;
    assert_eq!((listed["masters"].as_array().map(Vec::len), &listed["masters"][0]["keys"]), (Some(1), &json!(2)));
    assert_eq!(payloads().await, before);

    let registry = Arc::new(Registry::new());
    let options = Options::new().master_keys(MasterKeys::parse(&new).expect("a key"));
    let mut work = UnitOfWork::begin_with(database.pool(), &registry, &options).await.expect("it begins");
    let ann = Root::<Person>::load("42", &mut work).await.expect("the new key alone opens it");
    assert_eq!(ann.state().shown, "ann name");
    assert!(load(database.pool(), "42").await.is_err(), "{:?}", master());
    let wrong = outboxd(&binary.env("OUTBOXD_MASTER_KEYS", "whsec_none"), database.url(), &["subjects", "rewrap"]).await.0;
    assert!(wrong.code == Some(64) && wrong.stderr.contains("master key 1 is not"), "{wrong:?}");
}
