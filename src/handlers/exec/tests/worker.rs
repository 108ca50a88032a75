//! Workers, good and bad ones: which event they have, what comes of it when they fail, and that none outlives its handler.

use super::*;
use crate::domain::Outcome::*;
use crate::domain::{Outcome, Reason};

/// A worker in a shell: `answer` is what it does with each event, whose id is in `$id`.
fn worker(place: &Place, before: &str, answer: &str, settings: &str) -> Exec {
    let script = format!(
        r#"echo $$ >> pids; {before}
        while read -r line; do id=${{line#*:\"}}; id=${{id%%\"*}}; echo $$ >> asked; {answer}
        done
        echo bye >> ends"#
    );
    place.handler(&script, &format!("mode = \"worker\"\n{settings}"))
}

const DELIVERED: &str = r#"echo "{\"id\":\"$id\",\"status\":\"delivered\"}""#;

fn good(place: &Place) -> Exec {
    worker(place, "", DELIVERED, "")
}

fn said(verdict: &Verdict) -> (Outcome, Reason, bool) {
    (verdict.outcome, verdict.reason, verdict.ambiguous)
}

fn workers_of(place: &Place) -> usize {
    place.text("pids").lines().count()
}

#[tokio::test]
async fn one_process_has_one_event_after_the_other() {
    let place = Place::new();
    let handler = good(&place);
    for number in 0..20 {
        let verdict = deliver(&handler, number).await;
        assert!(verdict.is_delivered(), "{verdict:?}");
    }
    assert_eq!((workers_of(&place), place.text("asked").lines().count()), (1, 20));
}

#[tokio::test]
async fn a_worker_is_replaced_after_as_many_events_as_it_may_have() {
    let place = Place::new();
    let handler = worker(&place, "", DELIVERED, "recycle_after = 3");
    for number in 0..7 {
        let verdict = deliver(&handler, number).await;
        assert!(verdict.is_delivered(), "{verdict:?}");
    }
    assert_eq!((workers_of(&place), place.text("asked").lines().count()), (3, 7));
    // Each by itself, at the end of its input.
    eventually("two have said goodbye", || (place.text("ends").lines().count() == 2).then_some(())).await;
}

#[tokio::test]
async fn there_are_as_many_as_deliveries_at_once_and_no_answer_is_mixed_up() {
    let place = Place::new();
    // Even ones are refused.
    let answer = r#"case $line in *[02468]\}\}) status=permanent;; *) status=delivered;; esac; sleep 0.1; echo "{\"id\":\"$id\",\"status\":\"$status\"}""#;
    let handler = worker(&place, "", answer, "");
    for _ in 0..3 {
        let verdicts = futures_util::future::join_all((0..4).map(|number| deliver(&handler, number))).await;
        let outcomes: Vec<Outcome> = verdicts.iter().map(|verdict| verdict.outcome).collect();
        assert_eq!(outcomes, [Permanent, Delivered, Permanent, Delivered]);
    }
    assert_eq!(workers_of(&place), 4);
}

#[tokio::test]
async fn a_worker_says_in_our_words_what_came_of_it() {
    let place = Place::new();
    let answer = r#"echo "{\"id\":\"$id\",\"status\":\"retry\",\"reason\":\"connection_refused\",\"detail\":\"the shop of $TOKEN is closed\",\"retry_after\":30}""#;
    let verdict = deliver(&worker(&place, "", answer, "environment = { TOKEN = \"hunter2\" }"), 1).await;
    assert_eq!(said(&verdict), (Retry, Reason::ConnectionRefused, false));
    assert_eq!((verdict.detail.as_str(), verdict.retry_after), ("the shop of *** is closed", Some(Duration::from_secs(30))));
}

#[tokio::test]
async fn a_crash_leaves_one_event_open_and_another_worker_goes_on() {
    let place = Place::new();
    let answer = format!("case $line in *:13}}*) echo out of luck >&2; kill -9 $$;; esac; {DELIVERED}");
    let handler = worker(&place, "", &answer, "");
    assert!(deliver(&handler, 1).await.is_delivered());
    let verdict = deliver(&handler, 13).await;
    assert_eq!(said(&verdict), (Retry, Reason::Failed, true));
    assert_eq!(verdict.detail, "killed by signal 9: out of luck");
    assert!(deliver(&handler, 2).await.is_delivered());
    assert_eq!(workers_of(&place), 2);
}

#[tokio::test]
async fn a_worker_that_cannot_work_for_any_event_says_so_by_its_code() {
    let place = Place::new();
    let verdict = deliver(&worker(&place, "echo no key in the settings >&2; exit 78", "", ""), 1).await;
    assert_eq!(said(&verdict), (HandlerFault, Reason::Misconfigured, true));
    assert_eq!(verdict.detail, "the worker ended without an answer, exit code 78: no key in the settings");
    let verdict = deliver(&worker(&place, "exit 0", "", ""), 1).await;
    assert_eq!(said(&verdict), (Retry, Reason::InvalidAnswer, true), "ending is not delivering: {verdict:?}");
}

#[tokio::test]
async fn garbage_is_no_answer_and_costs_the_worker_its_place() {
    let place = Place::new();
    let answer = format!("case $line in *:13}}*) echo debugging; sleep 1000;; esac; {DELIVERED}");
    let handler = worker(&place, "", &answer, "");
    let verdict = deliver(&handler, 13).await;
    assert_eq!(said(&verdict), (Retry, Reason::InvalidAnswer, true));
    assert!(verdict.detail.starts_with("the worker wrote no answer") && verdict.detail.ends_with(": debugging"), "{verdict:?}");
    assert!(!lives(place.text("pids").trim()), "it does not go on with the event");
    assert!(deliver(&handler, 2).await.is_delivered());
    assert_eq!(workers_of(&place), 2);
}

#[tokio::test]
async fn one_that_writes_without_end_is_garbage_and_no_flood() {
    for script in ["exec yes", "exec cat /dev/zero"] {
        let place = Place::new();
        let large = Notification { payload: format!("{{\"x\":\"{}\"}}", "x".repeat(900_000)), ..event(1) };
        let handler = place.handler(script, "mode = \"worker\"");
        let verdict = tokio::time::timeout(DEADLINE, handler.deliver(&large)).await.expect("it is bounded");
        assert_eq!(said(&verdict), (Retry, Reason::InvalidAnswer, true), "{verdict:?}");
    }
}

#[tokio::test]
async fn an_answer_about_another_event_is_ignored() {
    let place = Place::new();
    let answer = format!(r#"echo '{{"id":"x","status":"permanent"}}'; {DELIVERED}"#);
    let handler = worker(&place, "", &answer, "");
    for number in 0..3 {
        assert!(deliver(&handler, number).await.is_delivered());
    }
    assert_eq!(workers_of(&place), 1);
}

#[tokio::test]
async fn a_silent_worker_is_ended_and_nobody_of_its_group_stays() {
    let place = Place::new();
    let handler = worker(&place, "sleep 1000 & echo $! >> pids", "sleep 1000", "exec_timeout = \"300ms\"");
    let verdict = deliver(&handler, 1).await;
    assert_eq!(said(&verdict), (Retry, Reason::Timeout, true));
    assert_eq!(verdict.detail, "no answer within 300ms, the worker was ended");
    place.wait_until_gone("pids").await;
}

#[tokio::test]
async fn one_that_closes_its_output_and_stays_is_ended() {
    let place = Place::new();
    let verdict = deliver(&worker(&place, "exec >&-; sleep 1000", "", ""), 1).await;
    assert_eq!(said(&verdict), (Retry, Reason::InvalidAnswer, true));
    place.wait_until_gone("pids").await;
}

#[tokio::test]
async fn one_that_ends_while_it_has_nothing_to_do_has_lost_nothing() {
    let place = Place::new();
    let handler = good(&place);
    assert!(deliver(&handler, 1).await.is_delivered());
    let pid = place.text("pids").trim().parse().expect("a number");
    // SAFETY: takes two numbers; the process is a child of ours that the handler has not waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    eventually("it has ended", || (!lives(&pid.to_string())).then_some(())).await;
    assert!(deliver(&handler, 2).await.is_delivered());
}

#[tokio::test]
async fn a_worker_may_log_as_much_as_it_likes() {
    let place = Place::new();
    let handler = worker(&place, "", &format!("{DELIVERED}; head -c 1000000 /dev/zero >&2; echo idle >> logged"), "");
    assert!(deliver(&handler, 1).await.is_delivered());
    place.wait_for("logged").await;
    assert!(deliver(&handler, 2).await.is_delivered());
}

#[tokio::test]
async fn a_dropped_handler_leaves_no_worker_and_lets_it_say_goodbye() {
    let place = Place::new();
    let handler = good(&place);
    futures_util::future::join_all((0..3).map(|number| deliver(&handler, number))).await;
    drop(handler);
    crate::handlers::all_ended().await;
    assert_eq!(place.text("ends").lines().count(), workers_of(&place), "each has read the end of its input");
    place.wait_until_gone("pids").await;
}

#[tokio::test]
async fn who_does_not_want_to_go_is_killed() {
    let place = Place::new();
    let answer = format!("{DELIVERED}; while :; do sleep 0.05; done");
    let handler = worker(&place, "trap '' TERM", &answer, "kill_after = \"200ms\"");
    assert!(deliver(&handler, 1).await.is_delivered());
    drop(handler);
    place.wait_until_gone("pids").await;
}

#[tokio::test]
async fn a_delivery_that_is_dropped_ends_its_worker_and_no_other() {
    let place = Place::new();
    let handler = worker(&place, "", &format!("case $line in *:13}}*) sleep 1000;; esac; {DELIVERED}"), "");
    assert!(deliver(&handler, 1).await.is_delivered());
    let sample = event(13);
    tokio::select! {
        verdict = handler.deliver(&sample) => panic!("{verdict:?}"),
        () = eventually("it was asked", || (place.text("asked").lines().count() == 2).then_some(())) => {}
    }
    place.wait_until_gone("pids").await;
    assert!(deliver(&handler, 2).await.is_delivered());
    assert_eq!(workers_of(&place), 2);
}

#[tokio::test]
async fn workers_that_fail_one_after_the_other_are_started_ever_more_slowly() {
    let place = Place::new();
    let handler = worker(&place, "exit 1", "", "");
    let began = std::time::Instant::now();
    for number in 0..4 {
        assert_eq!(said(&deliver(&handler, number).await), (Retry, Reason::Refused, true));
    }
    // 50, 100 and 200 milliseconds between four of them.
    assert!(began.elapsed() >= Duration::from_millis(350));
}

/// The parent-death signal comes when the thread ends that started a program: one of a pool would take healthy workers with it.
#[cfg(target_os = "linux")]
#[test]
fn a_worker_outlives_the_thread_that_asked_for_it() {
    let place = Place::new();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).thread_keep_alive(Duration::from_millis(1)).enable_all().build().expect("a runtime");
    let handler = std::sync::Arc::new(good(&place));
    runtime.block_on(async {
        let asking = std::sync::Arc::clone(&handler);
        let asked = tokio::task::spawn_blocking(move || {
            assert!(tokio::runtime::Handle::current().block_on(deliver(&asking, 1)).is_delivered());
            std::fs::read_link("/proc/thread-self").expect("a thread has a place there")
        });
        let thread = Path::new("/proc").join(asked.await.expect("it does not panic"));
        eventually("the thread has ended", || (!thread.exists()).then_some(())).await;
        assert!(deliver(&handler, 2).await.is_delivered());
    });
    assert_eq!(workers_of(&place), 1);
}
