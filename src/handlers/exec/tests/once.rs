//! A process for each event: its code is the verdict, whatever else it does.

use super::*;
use crate::domain::Outcome::*;
use crate::domain::{Outcome, Reason};

fn said(verdict: &Verdict) -> (Outcome, Reason, bool) {
    (verdict.outcome, verdict.reason, verdict.ambiguous)
}

#[tokio::test]
async fn a_process_reads_the_line_of_its_event_and_its_code_is_the_verdict() {
    let place = Place::new();
    let handler = place.handler("cat > got", "");
    assert!(deliver(&handler, 7).await.is_delivered());
    assert_eq!(place.text("got"), crate::handlers::line::json_line(&event(7)));
    for (code, outcome, reason) in [
        (75, Retry, Reason::Refused),
        (65, Permanent, Reason::Refused),
        (69, BackPressure, Reason::Throttled),
        (77, HandlerFault, Reason::Unauthorized),
        (1, Retry, Reason::Refused),
    ] {
        let verdict = deliver(&place.handler(&format!("echo no >&2; exit {code}"), ""), 1).await;
        assert_eq!((said(&verdict), verdict.status), ((outcome, reason, false), Some(code)), "{verdict:?}");
        assert_eq!(verdict.detail, format!("exit code {code}: no"));
    }
}

#[tokio::test]
async fn a_process_may_ask_for_the_payload_alone() {
    let place = Place::new();
    let handler = place.handler("cat > got", "input = \"payload\"");
    assert!(deliver(&handler, 7).await.is_delivered());
    assert_eq!(place.text("got"), "{\"n\":7}");
}

#[tokio::test]
async fn the_environment_is_clean_but_for_what_it_says() {
    let place = Place::new();
    let handler = place.handler("env | cut -d= -f1 | sort > got", "environment = { LANG = \"C\", SHOP_TOKEN = \"hunter2\" }");
    assert!(deliver(&handler, 1).await.is_delivered());
    let names = place.text("got");
    let unexpected: Vec<&str> = names
        .lines()
        .filter(|name| !name.starts_with("OUTBOXD_") && !["HOME", "LANG", "PATH", "PWD", "SHOP_TOKEN", "_"].contains(name))
        .collect();
    assert_eq!(unexpected, [""; 0]);
    assert!(names.contains("OUTBOXD_EVENT_ID\n") && names.contains("SHOP_TOKEN\n"), "{names}");
}

#[tokio::test]
async fn what_a_program_says_is_told_without_secrets_and_in_bounds() {
    let place = Place::new();
    let settings = "environment = { TOKEN = \"hunter2\", KEY = \"line-one\\nline-two\" }";
    let verdict =
        deliver(&place.handler("echo first >&2; echo \"$TOKEN refused\" >&2; echo \"$KEY\" | tail -n 1 >&2; exit 1", settings), 1)
            .await;
    assert_eq!(verdict.detail, "exit code 1: first *** refused ***");
    let verdict = deliver(&place.handler("echo only on stdout; exit 1", ""), 1).await;
    assert_eq!(verdict.detail, "exit code 1: only on stdout");
    assert!(!format!("{:?}", place.handler("echo", settings)).contains("hunter2"));
}

#[tokio::test]
async fn a_program_that_reads_nothing_has_its_event_all_the_same() {
    let large = Notification { payload: format!("{{\"x\":\"{}\"}}", "x".repeat(900_000)), ..event(1) };
    for script in ["exit 0", "exec <&-; exit 0"] {
        assert!(Place::new().handler(script, "").deliver(&large).await.is_delivered(), "{script}");
    }
}

#[tokio::test]
async fn a_program_that_writes_without_end_takes_no_memory() {
    let place = Place::new();
    let script = "head -c 200000000 /dev/zero | tee /dev/stderr; echo at last >&2; exit 75";
    let verdict = deliver(&place.handler(script, ""), 1).await;
    assert_eq!(said(&verdict), (Retry, Reason::Refused, false));
    assert!(verdict.detail.ends_with("at last") && verdict.detail.len() < 1_100, "{}", verdict.detail);
}

#[tokio::test]
async fn one_that_leaves_somebody_behind_is_done_when_it_ends_and_nobody_stays() {
    let place = Place::new();
    // The one that is left holds all three pipes.
    let handler = place.handler("sleep 1000 & echo $! > pids; exit 0", "");
    assert!(deliver(&handler, 1).await.is_delivered());
    place.wait_until_gone("pids").await;
}

#[tokio::test]
async fn too_late_is_ambiguous_and_ends_the_whole_group() {
    let place = Place::new();
    let handler = place.handler("sleep 1000 & echo $$ $! > pids; echo working >&2; wait", "exec_timeout = \"300ms\"");
    let verdict = deliver(&handler, 1).await;
    assert_eq!(said(&verdict), (Retry, Reason::Timeout, true));
    assert_eq!(verdict.detail, "no end within 300ms, it was ended: working");
    for pid in place.text("pids").split_whitespace() {
        assert!(!lives(pid), "nobody works on it any more when the verdict is there");
    }
}

#[tokio::test]
async fn who_does_not_listen_is_killed() {
    let place = Place::new();
    let script =
        "trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & echo $$ $! > pids; while :; do sleep 0.05; done";
    let handler = place.handler(script, "exec_timeout = \"300ms\"\nkill_after = \"200ms\"");
    assert_eq!(said(&deliver(&handler, 1).await), (Retry, Reason::Timeout, true));
    place.wait_until_gone("pids").await;
}

#[tokio::test]
async fn a_signal_leaves_it_open_whether_the_event_arrived() {
    let verdict = deliver(&Place::new().handler("kill -9 $$", ""), 1).await;
    assert_eq!((said(&verdict), verdict.detail.as_str()), ((Retry, Reason::Failed, true), "killed by signal 9"));
}

#[tokio::test]
async fn a_delivery_that_is_dropped_leaves_nobody() {
    let place = Place::new();
    let handler = place.handler("sleep 1000 & echo $$ $! > pids; wait", "");
    let sample = event(1);
    tokio::select! {
        verdict = handler.deliver(&sample) => panic!("{verdict:?}"),
        _ = place.wait_for("pids") => {}
    }
    place.wait_until_gone("pids").await;
}

#[tokio::test]
async fn a_delivery_that_is_dropped_at_once_leaves_nobody() {
    let place = Place::new();
    let handler = place.handler("echo $$ >> pids; sleep 1000", "");
    for micros in 0..40 {
        let _ = tokio::time::timeout(Duration::from_micros(micros * 100), handler.deliver(&event(1))).await;
    }
    crate::handlers::all_ended().await;
    for pid in place.text("pids").split_whitespace() {
        eventually(&format!("process {pid} is gone"), || (!lives(pid)).then_some(())).await;
    }
}

#[test]
fn a_runtime_that_ends_leaves_nobody() {
    let place = Place::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let handler = place.handler("trap '' TERM; echo $$ > pids; while :; do sleep 0.05; done", "");
        let sample = event(1);
        tokio::select! {
            verdict = handler.deliver(&sample) => panic!("{verdict:?}"),
            _ = place.wait_for("pids") => {}
        }
    });
    drop(runtime);
    let pid = place.text("pids");
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    waiting.block_on(eventually("it was killed", || (!lives(pid.trim())).then_some(())));
}

#[tokio::test]
async fn a_program_that_has_gone_holds_the_events() {
    let place = Place::new();
    let copy = |to: &Path| {
        let copied = std::process::Command::new("cp").arg("/bin/cat").arg(to).status().expect("cp is there");
        assert!(copied.success());
    };
    let path = place.path("program");
    copy(&path);
    let handler = read(&format!("command = [\"{}\"]", path.display())).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    assert!(deliver(&handler, 1).await.is_delivered());
    assert_eq!(handler.probe().await, Ok(format!("{} is there and may be started", path.display())));

    std::fs::remove_file(&path).expect("it was there");
    let verdict = deliver(&handler, 1).await;
    assert_eq!(said(&verdict), (HandlerFault, Reason::NotFound, false));
    assert_eq!(verdict.detail, format!("the program {} does not exist", path.display()));
    assert_eq!(handler.probe().await, Err(verdict.detail));

    copy(&path);
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("it is ours");
    assert_eq!(said(&deliver(&handler, 1).await), (HandlerFault, Reason::Misconfigured, false));
}

#[tokio::test]
async fn what_no_variable_can_hold_is_the_fault_of_the_event() {
    let odd = Notification { aggregate_id: Some("a\0b".to_owned()), ..event(1) };
    let verdict = Place::new().handler("exit 0", "").deliver(&odd).await;
    assert_eq!(said(&verdict), (Permanent, Reason::Unaddressable, false));
}
