//! What cannot be had from a real server at will: thresholds, and the words of the fixes.

use super::*;
use crate::store::facts::{ClockReading, ServerSettings, UnmatchedPattern};

fn facts(change: impl FnOnce(&mut Facts)) -> Facts {
    let server = ServerSettings {
        major: 16,
        role: "relay".to_owned(),
        database: "shop".to_owned(),
        current_schema: "outbox".to_owned(),
        has_schema: true,
        encoding: "UTF8".into(),
        is_standby: false,
        fsync: true,
        full_page_writes: true,
        synchronous_commit: "on".to_owned(),
        autovacuum: true,
        track_counts: true,
        queue_usage: 0.0,
        sees_all_sessions: true,
        has_outbox: true,
    };
    let mut facts = Facts { schema: "outbox".to_owned(), server: Some(server), catalogue: Some(expected()), ..Facts::default() };
    change(&mut facts);
    facts
}

fn found(facts: &Facts) -> Vec<(&'static str, Level)> {
    let standards =
        Standards { config: None, functions: &[], older_than: Duration::from_secs(300), unencrypted: None, cautions: &[] };
    judge(facts, &standards).findings.iter().map(|finding| (finding.check, finding.level)).collect()
}

fn server(facts: &mut Facts, change: impl FnOnce(&mut ServerSettings)) {
    change(facts.server.as_mut().expect("the facts of these tests have a server"));
}

#[test]
fn what_is_as_it_should_be_is_not_told() {
    assert_eq!(found(&facts(|_| ())), []);
}

#[test]
fn a_queue_is_told_long_before_it_is_full() {
    for (usage, want) in [(0.009, vec![]), (0.01, vec![Level::Warning]), (0.25, vec![Level::Critical])] {
        let facts = facts(|facts| server(facts, |server| server.queue_usage = usage));
        assert_eq!(found(&facts), want.into_iter().map(|level| ("notification_queue", level)).collect::<Vec<_>>(), "{usage}");
    }
}

#[test]
fn clocks_may_differ_by_what_asking_takes() {
    let reading = |ahead, uncertain| Some(ClockReading { ahead_micros: ahead, uncertain: Duration::from_micros(uncertain) });
    for (ahead, uncertain, want) in [
        (1_900_000, 0, vec![]),
        (2_500_000, 600_000, vec![]),
        (2_500_000, 400_000, vec![Level::Warning]),
        (-2_500_000, 0, vec![Level::Warning]),
        (-400_000_000, 0, vec![Level::Critical]),
    ] {
        let facts = facts(|facts| facts.clock = reading(ahead, uncertain));
        assert_eq!(found(&facts), want.into_iter().map(|level| ("clock", level)).collect::<Vec<_>>(), "{ahead}");
    }
}

#[test]
fn a_type_that_was_misspelt_is_suggested() {
    let unmatched = |pattern: &str| UnmatchedPattern {
        handler: "billing".to_owned(),
        pattern: pattern.to_owned(),
        recorded: vec!["order.placed".to_owned(), "refund_made".to_owned()],
    };
    for (pattern, fix) in [
        ("order.plcaed", Fix::Config("[[handlers]]\nname = \"billing\"\nevents = [\"order.placed\"]".to_owned())),
        ("refund\\_mode", Fix::Config("[[handlers]]\nname = \"billing\"\nevents = [\"refund_made\"]".to_owned())),
        ("warehouse.%", Fix::Shell("outboxd events list".to_owned())),
    ] {
        let facts = facts(|facts| facts.unmatched = Some(vec![unmatched(pattern)]));
        let standards =
            Standards { config: None, functions: &[], older_than: Duration::from_secs(300), unencrypted: None, cautions: &[] };
        assert_eq!(judge(&facts, &standards).findings[0].fixes, [fix], "{pattern}");
    }
}

#[test]
fn names_are_quoted_where_they_must_be() {
    assert_eq!((identifier("app"), identifier("App-1"), literal("it's")), ("app".into(), "\"App-1\"".into(), "'it''s'".into()));
}

#[test]
fn what_could_not_be_looked_at_is_a_finding() {
    let facts = facts(|facts| {
        server(facts, |server| server.sees_all_sessions = false);
        facts.unread.push(Unread { check: "tables", reason: "permission denied".to_owned() });
    });
    let standards =
        Standards { config: None, functions: &[], older_than: Duration::from_secs(300), unencrypted: None, cautions: &[] };
    let report = judge(&facts, &standards);
    let left_out: Vec<&str> = report.left_out.iter().map(|left_out| left_out.check).collect();
    assert_eq!((report.level, left_out), (Level::Warning, vec!["configuration", "transactions"]));
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].what, "tables could not be checked: permission denied");
}
