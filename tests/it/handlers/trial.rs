//! `handlers test`: one made-up event through the real path, and nothing of it stays.

use serde_json::Value;

use super::migrated;
use crate::support::{Answer, Binary, Receiver};

#[tokio::test]
async fn a_webhook_is_tried_with_an_event_that_says_it_is_a_test() {
    let (database, receiver) = (migrated().await, Receiver::start().await);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let binary = Binary::relay(
        database.url(),
        &format!(
            "[[handlers]]\nname = \"billing\"\nkind = \"webhook\"\nevents = [\"order.*\"]\nurl = \"{}\"\negress = \"any\"\nsecrets = [\"{secret}\"]",
            receiver.url()
        ),
    );
    let finished = binary.run(&["handlers", "test", "billing", "--payload", "{\"n\": 7}", "--json"]).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let told: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!(
        (received.request.header("webhook-test"), received.request.header("webhook-event-type")),
        (Some("true"), Some("order.test"))
    );
    assert_eq!(told["event"]["id"], received.id.as_str());
    assert_eq!((&told["outcome"], &told["status"], &told["rolled_back"]), (&"delivered".into(), &200.into(), &false.into()));
    let signature = received.request.header("webhook-signature").expect("it is signed as any other");
    assert!(signature.starts_with("v1,"), "{signature}");

    receiver.answer_with(|_| Answer::status(503));
    let failed = binary.run(&["handlers", "test", "billing", "--type", "order.placed"]).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stdout.contains("503") && failed.stdout.contains("order.placed"), "{}", failed.stdout);
    let received = receiver.wait_for(2).await;
    assert_ne!(received[0].id, received[1].id, "every test has an id of its own");
    assert_eq!(database.count("events").await + database.count("deliveries").await + database.count("subscriptions").await, 0);

    let unknown = binary.run(&["handlers", "test", "biling"]).await;
    assert_eq!(unknown.code, Some(64), "{unknown:?}");
    assert!(unknown.stderr.contains("it has billing"), "{}", unknown.stderr);
}

#[tokio::test]
async fn a_function_is_tried_and_what_it_did_is_rolled_back() {
    let database = migrated().await;
    database
        .execute(
            "create schema app;
             create table app.parent (id int primary key);
             create table app.seen (n int, parent int references app.parent (id) deferrable initially deferred);
             create function app.project(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language plpgsql as $$
             begin
                 insert into app.seen values ((payload ->> 'n')::int, (payload ->> 'parent')::int);
                 if payload ? 'refuse' then raise exception 'not today'; end if;
             end $$",
        )
        .await;
    let binary = Binary::relay(database.url(), "[[handlers]]\nname = \"stock\"\nkind = \"sql\"\nfunction = \"app.project\"");

    let done = binary.run(&["handlers", "test", "stock", "--payload", "{\"n\": 1}"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("rolled back"), "{}", done.stdout);
    let refused = binary.run(&["handlers", "test", "stock", "--payload", "{\"n\": 1, \"refuse\": true}"]).await;
    assert!(refused.code == Some(1) && refused.stdout.contains("not today"), "{refused:?}");
    let deferred = binary.run(&["handlers", "test", "stock", "--payload", "{\"n\": 1, \"parent\": 9}"]).await;
    assert!(deferred.code == Some(1) && deferred.stdout.contains("foreign key"), "{deferred:?}");
    assert_eq!(database.count("app.seen").await + database.count("events").await, 0);
}
