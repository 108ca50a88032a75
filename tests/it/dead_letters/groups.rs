//! Dead letters by what failed: groups with their notes, exports, and what is hidden in them.

use serde_json::Value;

use super::Outbox;

/// Three groups: two details of one kind, another status, another handler.
async fn grouped() -> Outbox {
    let outbox = Outbox::create().await;
    outbox.add_handler("mail").await;
    for _ in 0..6 {
        outbox.add("dead", Some("a")).await;
    }
    outbox
        .database
        .execute(
            "update outbox.deliveries set fingerprint = 7, error = 'order <n> is closed', detail = 'order ' || seq || ' is closed';
             update outbox.deliveries set fingerprint = 8, error = 'gone', status = 410 where seq = 5;
             update outbox.deliveries set subscription = 2 where seq = 6",
        )
        .await;
    outbox
}

#[tokio::test]
async fn dead_letters_that_failed_alike_are_one_group() {
    let outbox = grouped().await;

    let found = outbox.run_json(&["dead-letters", "groups"]).await;

    let groups = found["groups"].as_array().expect("a list");
    let told: Vec<(&str, &str, u64, i64)> = groups
        .iter()
        .map(|group| {
            let text = |name: &str| group[name].as_str().expect("a text");
            (text("handler"), text("group"), group["count"].as_u64().expect("a count"), group["status"].as_i64().expect("a status"))
        })
        .collect();
    assert_eq!(told[0], ("billing", "0000000000000007", 4, 500));
    assert_eq!(told.len(), 3);
    assert!(told.contains(&("billing", "0000000000000008", 1, 410)) && told.contains(&("mail", "0000000000000007", 1, 500)));
    assert_eq!(groups[0]["error"], "order <n> is closed");
    assert_eq!(groups[0]["sample_detail"], "order 4 is closed", "the newest");
    assert!(groups[0]["first"].as_str() < groups[0]["last"].as_str());
    let text = outbox.run(&["dead-letters", "groups", "--limit", "1"]).await.stdout;
    assert!(text.contains("order <n> is closed") && text.contains("the largest 1 group; --limit shows more"), "{text}");
    assert!(text.contains("outboxd replay --handler billing --group 0000000000000007 --dry-run"), "{text}");
    assert_eq!(outbox.run_json(&["dead-letters", "groups", "--handler", "mail"]).await["groups"][0]["count"], 1);
}

#[tokio::test]
async fn a_note_on_a_group_is_shown_and_audited() {
    let outbox = grouped().await;
    let noted = outbox.run_json(&["dead-letters", "note", "0000000000000007", "fix on Monday", "--handler", "billing"]).await;
    assert_eq!(noted["handlers"].as_u64(), Some(1));
    outbox.run_json(&["dead-letters", "note", "0000000000000007", "it was\x1b[2J Tuesday"]).await;

    let groups = outbox.run_json(&["dead-letters", "groups"]).await;

    let notes = groups["groups"][0]["notes"].as_array().expect("a list");
    assert_eq!((notes[0]["text"].as_str(), notes[0]["actor"].as_str()), (Some("fix on Monday"), Some("ada")));
    assert_eq!(notes.len(), 2);
    let text = outbox.run(&["dead-letters", "groups"]).await.stdout;
    assert!(text.contains("ada: fix on Monday") && text.contains("it was\u{fffd}[2J Tuesday"), "{text}");
    assert_eq!(outbox.database.count("audit where action = 'note' and reason = 'fix on Monday' and handler = 'billing'").await, 1);
    let unknown = outbox.run(&["dead-letters", "note", "00000000000000ff", "x"]).await;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    for arguments in [&["note", "7", "x"][..], &["note", "0000000000000007", " "]] {
        assert_eq!(outbox.run(&[&["dead-letters"], arguments].concat()).await.code, Some(64));
    }
}

#[tokio::test]
async fn an_export_has_everything_in_lines_and_hides_what_it_is_told_to() {
    let outbox = grouped().await;
    outbox
        .database
        .execute(
            "update outbox.events set payload = '{\"n\":12345678901234567890.10,\"customer\":{\"card\":\"card 4111 1111\"}}', headers = '{\"token\":\"s3cret\"}';
             insert into outbox.attempts (seq, subscription, attempt, duration_ms, outcome, reason, detail)
             select seq, subscription, n, 7, 'retry', 'server_error', 'try ' || n from outbox.deliveries, generate_series(1, 2) n",
        )
        .await;

    let exported = outbox.run(&["dead-letters", "export", "--handler", "billing", "--redact", "customer.card", "token"]).await;

    assert_eq!(exported.code, Some(0), "{exported:?}");
    assert_eq!(exported.stdout.lines().count(), 5);
    assert!(!exported.stdout.contains("card 4111") && !exported.stdout.contains("s3cret"), "{}", exported.stdout);
    let first = exported.stdout.lines().next().expect("five lines");
    assert!(first.contains("{\"n\":12345678901234567890.10,\"customer\":{\"card\":\"[redacted]\"}}"), "{first}");
    let first: Value = serde_json::from_str(first).expect("it is JSON");
    assert_eq!((first["seq"].as_i64(), first["attempts_made"].as_array().map(Vec::len)), (Some(1), Some(2)));
    assert_eq!(first["group"], "0000000000000007");
    let id = first["id"].as_str().expect("an id");
    let shown = outbox.run(&["dead-letters", "show", id, "--redact", "customer", "--json"]).await.stdout;
    assert!(shown.contains("\"customer\":\"[redacted]\"") && !shown.contains("card 4111"), "{shown}");
}
