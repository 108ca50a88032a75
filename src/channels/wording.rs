//! Alerts in words: the condition, the subject, the beginning, the count, one example, and the command to run. The same on every
//! channel.

use crate::domain::alerts::{Alert, AlertKind, Change, Notice, Notices};
use crate::settings::describe_duration;

/// What is wrong, without saying where: `3 dead letters`.
pub fn summary(alert: &Alert) -> String {
    let detail = alert.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let waiting = match alert.count {
        0 => String::new(),
        1 => "; 1 event waits".to_owned(),
        many => format!("; {many} events wait"),
    };
    match alert.kind {
        AlertKind::DeadLetters => count(alert.count, "dead letter"),
        AlertKind::BacklogAge => {
            let age = describe_duration(std::time::Duration::from_secs(alert.age_seconds.unwrap_or(0)));
            format!("the oldest unfinished event is {age} old{waiting}")
        }
        AlertKind::CircuitOpen => format!("the circuit is open{detail}{waiting}"),
        AlertKind::HandlerPaused => format!("the handler is paused{detail}{waiting}"),
        AlertKind::RelayNotPolling => format!("no relay reads for the handler{detail}{waiting}"),
        AlertKind::HandlerStuck => format!("the handler cannot go on{detail}{waiting}"),
        AlertKind::Database => format!("the database cannot be used{detail}"),
        AlertKind::ChannelFailed => format!("the alert channel failed {} in a row{detail}", times(alert.count)),
        AlertKind::AdoptionBroken => alert.detail.clone().unwrap_or_else(|| "the adopted table is broken".to_owned()),
        AlertKind::CursorLag => {
            let age = describe_duration(std::time::Duration::from_secs(alert.age_seconds.unwrap_or(0)));
            format!("the oldest event that the client has not read is {age} old{waiting}")
        }
        AlertKind::ConfigReloadFailed => format!("a new configuration was refused, the old one is in force{detail}"),
    }
}

/// One line: `orders/billing: 3 dead letters`.
pub fn headline(relay: &str, alert: &Alert) -> String {
    let place = if alert.subject.is_empty() { String::new() } else { format!("/{}", alert.subject) };
    format!("{relay}{place}: {}", summary(alert))
}

/// The line above several: `orders: 2 firing, 1 resolved`; the headline itself, if there is only one.
pub fn title(notices: &Notices) -> String {
    if let [one] = notices.notices.as_slice() {
        return headline(&notices.relay, &one.alert);
    }
    let resolved = notices.notices.iter().filter(|notice| notice.change == Change::Resolved).count();
    let firing = notices.notices.len() - resolved;
    let parts = [(firing, "firing"), (resolved, "resolved")].into_iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, what)| format!("{count} {what}")).collect();
    format!("{}: {}", notices.relay, parts.join(", "))
}

/// `FIRING:critical`, `RESOLVED`.
pub fn label(notices: &Notices) -> String {
    if notices.is_resolved() { "RESOLVED".to_owned() } else { format!("FIRING:{}", notices.severity()) }
}

/// What happened, for display: `fired`, `still firing`.
pub fn describe_change(change: Change) -> &'static str {
    match change {
        Change::Fired => "firing",
        Change::Raised => "firing, and worse than before",
        Change::Repeated | Change::Refreshed => "still firing",
        Change::Acknowledged => "acknowledged",
        Change::Resolved => "resolved",
    }
}

/// Everything about one alert as names and values, in the order in which operators ask.
pub fn facts(notice: &Notice) -> Vec<(&'static str, String)> {
    let alert = &notice.alert;
    let mut facts = vec![
        ("state", format!("{} ({})", describe_change(notice.change), alert.severity)),
        ("since", to_the_second(&alert.started_at.to_string())),
    ];
    if notice.change == Change::Resolved {
        facts.push(("until", to_the_second(&alert.changed_at.to_string())));
    }
    if alert.count > 0 && alert.handler().is_some() {
        facts.push(("count", alert.count.to_string()));
    }
    if let Some(sample) = &alert.sample {
        facts.push(("sample", format!("{} {}", sample.event, sample.event_type)));
        facts.extend(sample.error.as_ref().map(|error| ("last error", error.clone())));
        facts.extend(sample.payload.as_ref().map(|payload| ("payload", payload.clone())));
    }
    facts.extend(alert.acknowledged_by.as_ref().map(|who| ("acknowledged by", who.clone())));
    if notice.change != Change::Resolved {
        facts.push(("run", alert.command()));
    }
    facts.push(("alert", alert.key()));
    facts
}

/// The first `characters` of a text.
pub fn cut(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    text.chars().take(characters.saturating_sub(3)).chain("...".chars()).collect()
}

fn to_the_second(moment: &str) -> String {
    moment.split_once('.').map_or_else(|| moment.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

fn count(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn alert(kind: AlertKind, count: u64, detail: Option<&str>) -> Alert {
        let detail = detail.map(str::to_owned);
        Alert { kind, count, detail, age_seconds: Some(721), ..Alert::example(Timestamp::from_micros(1_700_000_000_000_000)) }
    }

    #[test]
    fn every_kind_says_what_is_wrong() {
        use AlertKind as K;
        let table = [
            (alert(K::DeadLetters, 1, None), "1 dead letter"),
            (alert(K::DeadLetters, 3, None), "3 dead letters"),
            (alert(K::BacklogAge, 40, None), "the oldest unfinished event is 12m 1s old; 40 events wait"),
            (alert(K::CircuitOpen, 1, Some("unauthorized")), "the circuit is open: unauthorized; 1 event waits"),
            (alert(K::HandlerPaused, 0, Some("by ann: moving")), "the handler is paused: by ann: moving"),
            (alert(K::RelayNotPolling, 0, None), "no relay reads for the handler"),
            (
                alert(K::HandlerStuck, 2, Some("at the flush: disk full")),
                "the handler cannot go on: at the flush: disk full; 2 events wait",
            ),
            (alert(K::Database, 0, Some("connection refused")), "the database cannot be used: connection refused"),
            (alert(K::ChannelFailed, 3, Some("HTTP 500")), "the alert channel failed 3 times in a row: HTTP 500"),
            (
                alert(K::ConfigReloadFailed, 1, Some("relay: unknown key")),
                "a new configuration was refused, the old one is in force: relay: unknown key",
            ),
            (alert(K::CursorLag, 40, None), "the oldest event that the client has not read is 12m 1s old; 40 events wait"),
            (alert(K::AdoptionBroken, 1, Some("its rows are no events")), "its rows are no events"),
        ];
        assert_eq!(table.len(), AlertKind::ALL.len() + 1);
        for (alert, want) in table {
            assert_eq!(summary(&alert), want);
        }
    }

    #[test]
    fn the_facts_say_since_when_how_many_an_example_and_what_to_run() {
        let notice = |change| Notice { change, alert: alert(AlertKind::DeadLetters, 3, None), thread: None };
        let told = |change| facts(&notice(change)).iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>();
        assert_eq!(
            told(Change::Fired),
            [
                "state: firing (critical)",
                "since: 2023-11-14T22:13:20Z",
                "count: 3",
                "sample: 018f0000-0000-7000-8000-000000000001 order.placed",
                "last error: server_error (500): the receiver is on fire",
                "run: outboxd dead-letters list --handler billing",
                "alert: dead_letters/billing",
            ]
        );
        assert!(told(Change::Resolved).contains(&"until: 2023-11-14T22:13:20Z".to_owned()));
        assert!(!told(Change::Resolved).iter().any(|line| line.starts_with("run: ")));
    }

    #[test]
    fn several_are_counted_above_and_one_speaks_for_itself() {
        let notice = |change| Notice { change, alert: alert(AlertKind::DeadLetters, 3, None), thread: None };
        let told = |notices| Notices {
            id: "a".to_owned(),
            relay: "orders".to_owned(),
            external_url: None,
            at: Timestamp::from_micros(0),
            notices,
        };
        let one = told(vec![notice(Change::Fired)]);
        assert_eq!((title(&one).as_str(), label(&one).as_str()), ("orders/billing: 3 dead letters", "FIRING:critical"));
        let several = told(vec![notice(Change::Fired), notice(Change::Repeated), notice(Change::Resolved)]);
        assert_eq!(title(&several), "orders: 2 firing, 1 resolved");
        assert_eq!(label(&told(vec![notice(Change::Resolved)])), "RESOLVED");
    }
}
