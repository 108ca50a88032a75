//! Edit and replay by the pages: the payload in a field, what would change, and the new event.

use super::*;

/// Takes an order only if its total is a number.
async fn strict() -> Receiver {
    Receiver::answering(|request| {
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap_or_default();
        if body["total"].is_number() { Answer::ok() } else { Answer::status(422).body("total is no number") }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_edited_by_the_pages_arrives_once_as_it_was_shown() {
    let database = TestDatabase::create().await;
    let receiver = strict().await;
    let console = Served::relay(&database, &(tokens() + &webhook(&receiver))).await;
    let hostile = "</textarea><img src=x onerror=alert(1)>\u{202e}\"";
    let order = NewRow::new("order.placed").of("order", 1).payload(json!({ "total": "9.50", "note": hostile }));
    let id = database.insert_events([order]).await[0];
    eventually("it is a dead letter", || async { (database.count("deliveries where state = 'dead'").await == 1).then_some(()) })
        .await;
    let admin = console.bearer(ADMIN);
    let path = format!("/e/{id}/billing/edit");
    let letter = admin.get(&format!("/e/{id}/billing")).await;
    assert!(letter.body.contains("Edit…"), "{}", letter.body);
    assert!(
        !console.bearer(OPERATOR).get(&format!("/e/{id}/billing")).await.body.contains("Edit…"),
        "payloads are a right of their own"
    );
    let form = admin.get(&path).await;
    assert!(
        form.status == 200 && form.body.matches("</textarea>").count() == 1 && !form.body.contains('\u{202e}'),
        "{}",
        form.body
    );
    assert!(form.body.contains("\\u202e") && !form.body.contains("<img"), "{}", form.body);
    eventually("the log says who looked", || async {
        console.running.stderr().contains("a payload was shown in the console").then_some(())
    })
    .await;

    for (payload, want) in
        [("{\"total\": 9.50", "is no JSON"), (&json!({ "note": hostile, "total": "9.50" }).to_string(), "says what it said before")]
    {
        let refused = admin.post(&path, &[("payload", payload)]).await;
        assert!(
            refused.status == 200 && refused.body.contains(want) && refused.body.contains("<textarea"),
            "{want}: {}",
            refused.body
        );
    }
    let typed = "{\r\n  \"total\": 12345678901234567890.50,\r\n  \"note\": \"</textarea>\\u202e\"\r\n}";
    let preview = admin.post(&path, &[("payload", typed)]).await;
    assert!(
        preview.body.contains("12345678901234567890.50") && preview.body.contains("Record it and discard the letter"),
        "{}",
        preview.body
    );
    eventually("the log says that the changes were shown", || async {
        (console.running.stderr().matches("a payload was shown in the console").count() == 2).then_some(())
    })
    .await;
    assert_eq!(database.count("events").await, 1, "nothing was changed");
    let payload = preview.hidden("payload").replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
    let correction = preview.hidden("correction");
    let record = format!("{path}/record");
    let without = admin.post(&record, &[("payload", &payload), ("correction", &correction)]).await;
    assert!(without.status == 422 && without.body.contains("say what was wrong"), "{without:?}");
    let fields = [("payload", payload.as_str()), ("correction", &correction), ("because", "a text in place of a number")];
    let done = admin.post(&record, &fields).await;
    let location = format!("../../../../e/{correction}/billing?done=edited");
    assert_eq!((done.status, done.header("location")), (303, Some(location.as_str())), "{done:?}");
    let twice = admin.post(&record, &fields).await;
    assert!(twice.status == 303 && twice.header("location").is_some_and(|to| to.ends_with("done=edited-before")), "{twice:?}");
    eventually("it arrives", || async { (database.count("deliveries where state = 'delivered'").await == 1).then_some(()) }).await;
    let received = receiver.received();
    let last = received.last().expect("it was sent");
    assert_eq!(last.body(), b"{\"total\":12345678901234567890.50,\"note\":\"</textarea>\\u202e\"}");
    assert_eq!((database.count("events").await, received.len()), (2, 2));
    let shown = admin.get(&format!("/e/{correction}/billing?done=edited")).await;
    assert!(shown.body.contains("A correction of") && shown.body.contains(&id.to_string()), "{}", shown.body);
    let other = admin.post(&path, &[("payload", "{\"total\": 1}")]).await;
    assert!(other.status == 409 && other.body.contains("is discarded at billing"), "{other:?}");
    console.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_redacted_is_neither_shown_nor_overwritten_by_an_edit() {
    let database = TestDatabase::create().await;
    let receiver = on_fire().await;
    let console = Served::relay(&database, &format!("redact = [\"customer.email\"]\n{}{}", tokens(), webhook(&receiver))).await;
    let id = dead_letters(&database, 1).await[0];
    let admin = console.bearer(ADMIN);
    let path = format!("/e/{id}/billing/edit");
    let form = admin.get(&path).await;
    assert!(form.body.contains("redacted for everybody here") && form.body.contains("outboxd dead-letters edit"), "{}", form.body);
    assert!(!form.body.contains("ann@example.org") && !form.body.contains("<textarea"), "{}", form.body);
    let preview = admin.post(&path, &[("payload", "{\"n\": 1}")]).await;
    assert!(preview.body.contains("is redacted here") && !preview.body.contains("ann@example.org"), "{}", preview.body);
    assert_eq!(database.count("events").await, 1);
    console.stop().await;
}
