//! Registration: what a configuration changes for the handlers that the database knows: which begin, which are left behind with
//! which events, which filter drops events, and what a relay would refuse. Reads within a bound; changes nothing.

use sqlx::PgPool;

use crate::config::{HandlerConfig, Start};
use crate::relay::check_registration;
use crate::store::projections;
use crate::store::subscriptions::{self, Subscription, Wanted};
use crate::store::{Selection, StoreError, Unfinished, read_unfinished};

/// Rows that are looked at per subscription; beyond that a count is a lower bound.
const MOST_LOOKED_AT: i64 = 10_000;

/// Types that are named; the others are counted.
const MOST_TYPES: usize = 5;

/// What the configuration does to one handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consequence {
    pub handler: String,
    pub text: String,
    /// A relay does not start with this configuration, and a reload keeps the old one.
    pub is_refused: bool,
}

/// Everything that a relay with these handlers would change about what is pending.
pub async fn foresee(pool: &PgPool, handlers: &[&HandlerConfig]) -> Result<Vec<Consequence>, StoreError> {
    let known = subscriptions::list(pool).await?;
    let mut consequences = Vec::new();
    let left: Vec<&Subscription> =
        known.iter().filter(|s| s.partition == 0 && !handlers.iter().any(|config| config.name == s.handler)).collect();
    for subscription in &left {
        let name = &subscription.handler;
        let unfinished = read_unfinished(pool, name, None, MOST_LOOKED_AT).await?;
        let text = match subscription.kind.as_str() {
            projections::KIND => describe_left_version(&unfinished),
            _ => describe_left(name, &unfinished),
        };
        consequences.push(Consequence { handler: name.clone(), text, is_refused: false });
    }
    for config in handlers {
        let of_handler = |text, is_refused| Consequence { handler: config.name.clone(), text, is_refused };
        let Some(stored) = known.iter().find(|known| known.handler == config.name) else {
            consequences.push(of_handler(describe_new(config, known.is_empty(), &left), false));
            continue;
        };
        if let Err(refusal) = check_registration(std::iter::once(*config), &known) {
            consequences.push(of_handler(refusal.to_string(), true));
            continue;
        }
        let wants = Wanted::of(&Selection::new(&config.filter, &config.ordering, config.partitions, 0));
        if !wants.selects_as(&stored.wants) {
            let unfinished = read_unfinished(pool, &config.name, Some(&wants), MOST_LOOKED_AT).await?;
            consequences.push(of_handler(describe_filter(&config.name, &unfinished), false));
        }
        if !wants.orders_as(&stored.wants) {
            let unfinished = read_unfinished(pool, &config.name, None, MOST_LOOKED_AT).await?;
            let text = describe_key(&config.name, (&stored.wants, &wants), &unfinished);
            consequences.push(of_handler(text, false));
        }
    }
    Ok(consequences)
}

/// What a handler has not finished: `9 pending events (7 order.placed, 2 order.cancelled), 1 retrying delivery and 2 dead letters`.
pub fn describe_unfinished(unfinished: &Unfinished) -> String {
    let mut parts = vec![describe_pending(unfinished)];
    for (count, one, many) in [
        (unfinished.retrying, "retrying delivery", "retrying deliveries"),
        (unfinished.waiting, "waiting delivery", "waiting deliveries"),
        (unfinished.dead, "dead letter", "dead letters"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {}", if count == 1 { one } else { many }));
        }
    }
    match parts.pop() {
        Some(last) if parts.is_empty() => last,
        Some(last) => format!("{} and {last}", parts.join(", ")),
        None => String::new(),
    }
}

fn describe_pending(unfinished: &Unfinished) -> String {
    let Unfinished { pending, pending_is_exact, types, .. } = unfinished;
    if *pending == 0 {
        return if *pending_is_exact { "no pending event".to_owned() } else { "no pending event among those looked at".to_owned() };
    }
    let at_least = if *pending_is_exact { "" } else { "at least " };
    let mut named: Vec<String> = types.iter().take(MOST_TYPES).map(|of| format!("{} {}", of.pending, of.event_type)).collect();
    if types.len() > MOST_TYPES {
        named.push(format!(
            "{} of {} more types",
            types[MOST_TYPES..].iter().map(|of| of.pending).sum::<u64>(),
            types.len() - MOST_TYPES
        ));
    }
    format!("{at_least}{} ({})", events(*pending, "pending event"), named.join(", "))
}

fn describe_left(name: &str, unfinished: &Unfinished) -> String {
    let what = describe_unfinished(unfinished);
    let rename = format!("if the handler has another name now, run `outboxd handlers rename {name} NEW` before NEW is served");
    if unfinished.owed() == 0 && unfinished.pending_is_exact {
        return format!(
            "is in the database and not in the configuration; it leaves {what}; {rename}, and if it is gone for good, run `outboxd handlers forget {name}`"
        );
    }
    format!(
        "is in the database and not in the configuration; it leaves {what}, which nothing delivers; {rename}; if they shall not be \
         delivered, run `outboxd handlers forget {name}`"
    )
}

fn describe_left_version(unfinished: &Unfinished) -> String {
    format!(
        "is a version of a projection in the database and not in the configuration; it stands still with {}, and retention keeps its \
         events; if it is gone for good, run `outboxd projections drop`",
        describe_unfinished(unfinished)
    )
}

fn describe_new(config: &HandlerConfig, is_first_run: bool, left: &[&Subscription]) -> String {
    let from_beginning = config.start == Start::Beginning || (config.start == Start::Auto && is_first_run);
    let begins = if from_beginning {
        "is new and begins at the first event of the log".to_owned()
    } else {
        "is new and begins at now: it gets no event that was recorded before (start = \"beginning\" would begin at the first)"
            .to_owned()
    };
    let old: Vec<&str> = left
        .iter()
        .filter(|left| left.kind == config.kind && left.kind != projections::KIND)
        .map(|left| left.handler.as_str())
        .collect();
    match old.as_slice() {
        [] => begins,
        [old] => format!(
            "{begins}; if it is {old} under another name, run `outboxd handlers rename {old} {}` before a relay serves it: it then goes \
             on where {old} is",
            config.name
        ),
        several => format!(
            "{begins}; if it is one of {} under another name, run `outboxd handlers rename OLD {}` before a relay serves it",
            several.join(", "),
            config.name
        ),
    }
}

fn describe_filter(name: &str, unfinished: &Unfinished) -> String {
    let unwanted = unfinished.unwanted();
    let widened = format!(
        "events that {name} passed under the old filter stay passed; `outboxd handlers rewind {name} --to TIME --force` delivers from a time on"
    );
    if unwanted == 0 {
        let looked =
            if unfinished.pending_is_exact { "no pending event" } else { "none of the pending events that were looked at" };
        return format!("has another filter; {looked} is dropped by it; {widened}");
    }
    let at_least = if unfinished.pending_is_exact { "" } else { "at least " };
    let dropped: Vec<String> = unfinished
        .types
        .iter()
        .filter(|of| of.unwanted > 0)
        .take(MOST_TYPES)
        .map(|of| format!("{} {}", of.unwanted, of.event_type))
        .collect();
    format!(
        "has another filter, which drops {at_least}{unwanted} of its {} ({}): they would never be delivered. Wait until they are \
         delivered (PENDING in `outboxd status`) before this filter is applied; {widened}",
        events(unfinished.pending, "pending event"),
        dropped.join(", ")
    )
}

fn describe_key(name: &str, (old, new): (&Wanted, &Wanted), unfinished: &Unfinished) -> String {
    let parked = unfinished.retrying + unfinished.waiting;
    let kept = match parked {
        0 => "nothing is retrying or waiting under the old one".to_owned(),
        count => format!("{} that retry or wait keep the old one and are in no order with the others", deliveries(count)),
    };
    format!("orders by {} instead of {}; {kept}; pending events of {name} take the new key", new.describe_key(), old.describe_key())
}

fn events(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

fn deliveries(count: u64) -> String {
    if count == 1 { "1 delivery".to_owned() } else { format!("{count} deliveries") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PendingType;

    fn unfinished(types: &[(&str, u64, u64)]) -> Unfinished {
        let types: Vec<PendingType> = types
            .iter()
            .map(|(name, pending, unwanted)| PendingType { event_type: (*name).to_owned(), pending: *pending, unwanted: *unwanted })
            .collect();
        Unfinished {
            pending: types.iter().map(|of| of.pending).sum(),
            pending_is_exact: true,
            types,
            oldest_pending: None,
            retrying: 0,
            waiting: 0,
            dead: 0,
        }
    }

    #[test]
    fn what_is_left_is_named_by_type_and_state() {
        let left = Unfinished { retrying: 1, dead: 2, ..unfinished(&[("order.placed", 7, 0), ("order.cancelled", 2, 0)]) };
        assert_eq!(
            describe_unfinished(&left),
            "9 pending events (7 order.placed, 2 order.cancelled), 1 retrying delivery and 2 dead letters"
        );
        assert_eq!(describe_unfinished(&unfinished(&[])), "no pending event");
        let many: Vec<(String, u64, u64)> = (0..7).map(|number| (format!("t{number}"), 1, 0)).collect();
        let many: Vec<(&str, u64, u64)> =
            many.iter().map(|(name, pending, unwanted)| (name.as_str(), *pending, *unwanted)).collect();
        assert!(describe_unfinished(&unfinished(&many)).ends_with("1 t4, 2 of 2 more types)"));
        assert!(describe_unfinished(&Unfinished { pending_is_exact: false, ..left }).starts_with("at least 9"));
    }

    #[test]
    fn a_filter_that_drops_something_says_how_much() {
        let text = describe_filter("billing", &unfinished(&[("a", 3, 3), ("b", 4, 0)]));
        assert!(text.contains("drops 3 of its 7 pending events (3 a)"), "{text}");
        assert!(describe_filter("billing", &unfinished(&[("b", 4, 0)])).contains("no pending event is dropped"));
    }
}
