//! Where a value or a key could come out beside the log: what a relay and the commands write while everything is traced and much goes wrong.

use super::{MARKER, person};
use crate::support::{Answer, Binary, Receiver, TestDatabase, eventually, get};

/// The secret part of the master key of these tests.
const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

const REFUSE: &str = "create schema app;
    create function app.refuse(id uuid, type text, key text, payload jsonb, headers jsonb) returns void language plpgsql as $$
    begin raise exception 'not %', payload; end $$";

#[tokio::test(flavor = "multi_thread")]
async fn no_request_log_metric_or_letter_of_a_relay_in_trouble_holds_a_value_and_no_command_shows_a_key() {
    let database = TestDatabase::create().await;
    database.execute(REFUSE).await;
    // It gives back what it was sent, as careless receivers do.
    let receiver = Receiver::answering(|request| Answer::status(422).body(request.body())).await;
    let handlers = "[[handlers]]\nname = \"refuse\"\nkind = \"sql\"\nfunction = \"app.refuse\"\n\
         [handlers.retry]\nmax_attempts = 1\n[log]\nfilter = \"trace\"\n";
    let mail = format!("[[handlers]]\nname = \"mail\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\n", receiver.url());
    let binary = Binary::relay_with_http(database.url(), &(mail + handlers));
    let (running, address) = binary.serve().await;
    person(database.pool(), 42, MARKER, 0).await;
    eventually("both events are dead letters of both handlers", || async {
        (database.count("deliveries where state = 'dead' and detail like '%$shredded%'").await == 4).then_some(())
    })
    .await;
    let metrics = get(&address, "/metrics").await.expect("it answers").1;
    running.terminate();
    let finished = running.finish().await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let sent: String = receiver.received().iter().map(|request| String::from_utf8_lossy(request.body()).into_owned()).collect();
    assert!(sent.contains("$shredded") && finished.stderr.contains("DEBUG"), "{sent} {finished:?}");
    for written in [&sent, &finished.stdout, &finished.stderr, &metrics] {
        assert!(!written.contains(MARKER), "{written}");
    }
    for table in ["deliveries d where d::text", "attempts a where a::text", "events e where e::text", "alerts a where a::text"] {
        assert_eq!(database.count(&format!("{table} like '%{MARKER}%'")).await, 0, "{table}");
    }

    let binary = binary.env("OUTBOXD_MASTER_KEYS", &format!("outboxd_master_{SECRET}="));
    for command in [
        &["subjects", "rewrap", "--because", "yearly"][..],
        &["subjects", "list"],
        &["check", "--connect"],
        &["forget", "--subject", "customer/42", "--because", "OPS-1", "--yes"],
    ] {
        let done = binary.run(command).await;
        assert!(!done.stderr.contains(SECRET) && !done.stdout.contains(SECRET), "{done:?}");
        assert_eq!(done.code, Some(0), "{done:?}");
    }
}
