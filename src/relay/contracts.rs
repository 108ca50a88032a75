//! Contracts at the attempt: `prepare` turns an event into the version that the receiver reads, just before the event is sent.
//!
//! `with_contracts` wraps each handler that is sent a contract, so every kind, every group, every replay and `handlers test` pass
//! through this one function. The relay calls the kind `sql` itself, prepares its events by the same function, and binds the
//! result in place of the recorded payload.
//!
//! The stored event never changes. A corrected cast therefore holds for retries, dead letters and replays.
//!
//! An event without a valid form in that version is never sent. That is a permanent failure and no fault of the receiver.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::config::HandlerConfig;
use crate::contracts::Pins;
use crate::domain::{Notification, Reason, Verdict};
use crate::handlers::{Built, Handler};
use crate::telemetry::chain;

/// The handler, which is sent the versions of its configuration. One that is sent no contract is left as it is and costs nothing. The kind
/// `sql` is called by the relay, which prepares its events itself.
pub fn with_contracts(built: Built, config: &HandlerConfig) -> Built {
    match (built, &config.contracts) {
        (Built::Handler(inner), Some(pins)) => Built::Handler(Arc::new(Contracted { inner, pins: Arc::clone(pins) })),
        (built, _) => built,
    }
}

/// The event as the receiver reads it; borrowed if its type has no contract. The verdict says why it has no valid form.
pub fn prepare<'n>(pins: &Pins, notification: &'n Notification) -> Result<Cow<'n, Notification>, Verdict> {
    pins.prepare(notification).map_err(|error| Verdict::permanent(Reason::Contract, chain(&error)))
}

/// A handler behind its contracts.
struct Contracted {
    inner: Arc<dyn Handler>,
    pins: Arc<Pins>,
}

impl Handler for Contracted {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            match prepare(&self.pins, notification) {
                Ok(prepared) => self.inner.deliver(&prepared).await,
                Err(verdict) => verdict,
            }
        })
    }

    fn largest_group(&self) -> usize {
        self.inner.largest_group()
    }

    fn gather_for(&self) -> Duration {
        self.inner.gather_for()
    }

    fn deliver_all<'a>(&'a self, notifications: Vec<&'a Notification>) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(async move {
            let prepared: Vec<_> = notifications.into_iter().map(|notification| prepare(&self.pins, notification)).collect();
            let group: Vec<&Notification> = prepared.iter().filter_map(|prepared| prepared.as_deref().ok()).collect();
            let count = group.len();
            let sent = if group.is_empty() { Vec::new() } else { self.inner.deliver_all(group).await };
            if sent.len() != count {
                // Not one verdict for each event: the worker reports it.
                return Vec::new();
            }
            let mut sent = sent.into_iter();
            let verdict = |prepared: &Result<_, Verdict>| match prepared {
                Ok(_) => sent.next().expect("there is one for each event that was sent"),
                Err(verdict) => verdict.clone(),
            };
            prepared.iter().map(verdict).collect()
        })
    }

    fn is_immediate(&self) -> bool {
        self.inner.is_immediate()
    }

    fn destination(&self, notification: &Notification) -> Option<String> {
        let prepared = prepare(&self.pins, notification).ok()?;
        self.inner.destination(&prepared)
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
        self.inner.probe()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;
    use crate::contracts::{Cast, Contract, Naming, Operation, Path, Registry, Schema, State, Version};
    use crate::domain::Outcome;

    /// Version 1 has `id`, version 2 `key`; the casts between them rename.
    fn pins(wanted: u32) -> Arc<Pins> {
        let rename = |from: &str, to: &str| {
            let path = Path::parse(from).expect("a path");
            Some(Cast::new(vec![Operation::rename(path, to).expect("valid")], vec![]))
        };
        let version = |number: u32, name: &str| Version {
            number,
            state: State::Active,
            schema: Arc::new(
                Schema::parse(&format!("{{\"required\":[\"{name}\"],\"properties\":{{\"{name}\":{{\"type\":\"integer\"}}}}}}"))
                    .expect("valid"),
            ),
            examples: vec![],
            deprecation: None,
            from_previous: if number == 2 { rename("id", "key") } else { None },
            from_next: if number == 1 { rename("key", "id") } else { None },
            allows: BTreeMap::new(),
            brownouts: vec![],
        };
        let versions = BTreeMap::from([(1, version(1, "id")), (2, version(2, "key"))]);
        let registry = Registry::new(vec![Contract { event_type: "t".to_owned(), owner: None, versions }]).expect("no fault");
        let naming =
            Naming { cloudevents_type: "{type}.v{version}".to_owned(), dataschema: Some("urn:{type}:{version}".to_owned()) };
        Arc::new(Pins::new(Arc::new(registry), vec![("t".to_owned(), wanted)], &naming))
    }

    fn event(payload: &str, headers: &str) -> Notification {
        Notification { headers: headers.to_owned(), ..Notification::sample("t", payload) }
    }

    #[test]
    fn an_event_is_cast_and_says_so_and_an_equal_version_stays_as_recorded() {
        for (wanted, payload, headers, want) in [
            (2, r#"{"id": 9007199254740993}"#, "{}", (r#"{"key":9007199254740993}"#, r#"{"version":2}"#)),
            (1, r#"{ "key": 7 }"#, r#"{"a": 1, "version": 2}"#, (r#"{"id":7}"#, r#"{"a":1,"version":1}"#)),
            (1, r#"{ "id": "not valid" }"#, "{}", (r#"{ "id": "not valid" }"#, "{}")),
            (2, r#"{"id":1}"#, r#"{"version":"1"}"#, (r#"{"key":1}"#, r#"{"version":2}"#)),
        ] {
            let (pins, event) = (pins(wanted), event(payload, headers));
            let prepared = prepare(&pins, &event).expect("it has a form");
            assert_eq!((prepared.payload.as_str(), prepared.headers.as_str()), want);
            assert_eq!(prepared.version(), Some(wanted));
            assert_eq!(prepared.contract.as_ref().map(|public| public.cloudevents_type.as_str()), Some(&*format!("t.v{wanted}")));
        }
        let other = Notification::sample("u", "{ }");
        assert!(matches!(prepare(&pins(1), &other), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn what_has_no_valid_form_is_permanent_and_says_nothing_of_the_receiver() {
        for (payload, headers, want) in [
            (r#"{"id":"secret"}"#, "{}", "t@1, cast to version 2, is not valid there: /key: "),
            (
                r#"{"id":1,"key":2}"#,
                "{}",
                "t@1 could not be cast to version 2: rename \"id\": the value has a member \"key\" already",
            ),
            (r#"{"id":1}"#, r#"{"version":3}"#, "the contract t has no version 3; it has 1 and 2"),
            (r#"{"id":1}"#, r#"{"version":"one"}"#, "the header \"version\" is not a whole number from 1 on"),
        ] {
            let verdict = prepare(&pins(2), &event(payload, headers)).expect_err(payload);
            assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::Contract));
            assert!(verdict.detail.starts_with(want) && !verdict.detail.contains("secret"), "{}", verdict.detail);
            assert!(!verdict.speaks_for_handler() && !verdict.may_be_of_the_event());
        }
    }

    /// Notes what it is given.
    #[derive(Default)]
    struct Noting(Mutex<Vec<String>>);

    impl Handler for Noting {
        fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
            self.0.lock().expect("nobody panics").push(notification.payload.clone());
            Box::pin(async { Verdict::delivered() })
        }

        fn largest_group(&self) -> usize {
            4
        }

        fn destination(&self, notification: &Notification) -> Option<String> {
            Some(format!("v{}", notification.version()?))
        }
    }

    #[tokio::test]
    async fn of_a_group_only_what_has_a_form_is_sent() {
        let inner = Arc::new(Noting::default());
        let handler = Contracted { inner: Arc::<Noting>::clone(&inner), pins: pins(2) };
        let (good, bad, other) = (event(r#"{"id":1}"#, "{}"), event(r#"{"id":null}"#, "{}"), Notification::sample("u", "{}"));
        let verdicts = handler.deliver_all(vec![&good, &bad, &other]).await;
        assert_eq!(
            verdicts.iter().map(|verdict| verdict.outcome).collect::<Vec<_>>(),
            [Outcome::Delivered, Outcome::Permanent, Outcome::Delivered]
        );
        assert_eq!(*inner.0.lock().expect("nobody panics"), [r#"{"key":1}"#, "{}"]);
        assert_eq!(handler.deliver_all(vec![&bad]).await.len(), 1);
        assert_eq!((handler.destination(&good), handler.destination(&bad)), (Some("v2".to_owned()), None));
    }
}
