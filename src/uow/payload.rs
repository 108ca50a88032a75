//! Reading a notification as the contract that it was recorded with: for handlers of a program that embeds the relay. Such a
//! handler gets every event as it was recorded, and so in every version that is in the log.

use serde::Deserialize;

use super::Contract;
use crate::domain::{Notification, Reason, Verdict};

/// Why a payload could not be read as a contract. Never repeats a value of the payload, except in its source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The event is another one.
    #[error("the event is of the type {found}, and not {wanted}")]
    OtherType {
        /// The type of the contract.
        wanted: &'static str,
        /// The type of the event.
        found: String,
    },
    /// The payload is in another version.
    #[error("the payload of {event_type} is in version {}, and {} can be read", describe(*.found), list(.wanted))]
    OtherVersion {
        /// The type of the event.
        event_type: String,
        /// The versions that can be read.
        wanted: Vec<u32>,
        /// The version of the payload; `None`: its header is no version.
        found: Option<u32>,
    },
    /// The payload is not what the contract says.
    #[error("the payload is not as {event_type}@{version} says, at line {} column {}", .cause.line(), .cause.column())]
    Shape {
        /// The type of the contract.
        event_type: &'static str,
        /// The version of the contract.
        version: u32,
        /// The mistake; the text may repeat a value of the payload.
        #[source]
        cause: serde_json::Error,
    },
}

/// An event of one type, on its way to the version that it is in; see [`Notification::versions`].
#[derive(Debug)]
pub struct Versions<'n, T> {
    notification: &'n Notification,
    known: Vec<u32>,
    read: Option<Result<T, PayloadError>>,
}

impl Notification {
    /// The payload as this contract. It has to be of its type and in its version; the contract may borrow from the notification.
    pub fn payload_as<'n, C: Contract + Deserialize<'n>>(&'n self) -> Result<C, PayloadError> {
        if self.event_type != C::TYPE {
            return Err(PayloadError::OtherType { wanted: C::TYPE, found: self.event_type.clone() });
        }
        if self.version() != Some(C::VERSION) {
            let event_type = self.event_type.clone();
            return Err(PayloadError::OtherVersion { event_type, wanted: vec![C::VERSION], found: self.version() });
        }
        let read = serde_json::from_str(&self.payload);
        read.map_err(|cause| PayloadError::Shape { event_type: C::TYPE, version: C::VERSION, cause })
    }

    /// Reads the payload in whichever of several versions it is.
    ///
    /// ```
    /// use outboxd::{Notification, Verdict, uow::{Contract, PayloadError}};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct OrderPlacedV1 { total_cents: i64 }
    /// impl Contract for OrderPlacedV1 {
    ///     const TYPE: &'static str = "order.placed";
    ///     const VERSION: u32 = 1;
    /// }
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct OrderPlacedV2 { total: Total }
    /// #[derive(Serialize, Deserialize)]
    /// struct Total { cents: i64, currency: String }
    /// impl Contract for OrderPlacedV2 {
    ///     const TYPE: &'static str = "order.placed";
    ///     const VERSION: u32 = 2;
    /// }
    ///
    /// fn cents(notification: &Notification) -> Result<i64, PayloadError> {
    ///     notification.versions().on(|one: OrderPlacedV1| one.total_cents).on(|two: OrderPlacedV2| two.total.cents).read()
    /// }
    ///
    /// let notification = Notification::sample("order.placed", r#"{ "total_cents": 1500 }"#);
    /// assert_eq!(cents(&notification).ok(), Some(1500));
    /// ```
    pub fn versions<T>(&self) -> Versions<'_, T> {
        Versions { notification: self, known: Vec::new(), read: None }
    }
}

impl<'n, T> Versions<'n, T> {
    /// Adds a reader for payloads in the version of this contract. The first one for a version counts.
    #[must_use]
    pub fn on<C: Contract + Deserialize<'n>>(mut self, make: impl FnOnce(C) -> T) -> Self {
        let is_it = self.notification.event_type == C::TYPE && self.notification.version() == Some(C::VERSION);
        let is_other_type = self.notification.event_type != C::TYPE;
        if self.read.is_none() && (is_it || is_other_type) {
            self.read = Some(self.notification.payload_as().map(make));
        }
        self.known.push(C::VERSION);
        self
    }

    /// The result.
    pub fn read(self) -> Result<T, PayloadError> {
        let Self { notification, known, read } = self;
        read.unwrap_or_else(|| {
            let event_type = notification.event_type.clone();
            Err(PayloadError::OtherVersion { event_type, wanted: known, found: notification.version() })
        })
    }
}

impl From<PayloadError> for Verdict {
    /// Permanent, with the reason `contract`: another attempt would read the same. The detail has no value of the payload.
    fn from(error: PayloadError) -> Self {
        Self::permanent(Reason::Contract, error.to_string())
    }
}

fn describe(version: Option<u32>) -> String {
    version.map_or_else(|| "no number".to_owned(), |version| version.to_string())
}

fn list(versions: &[u32]) -> String {
    match versions {
        [] => "none".to_owned(),
        versions => versions.iter().map(u32::to_string).collect::<Vec<_>>().join(" or "),
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::domain::Outcome;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct One<'a> {
        name: &'a str,
    }

    impl Contract for One<'_> {
        const TYPE: &'static str = "t";
        const VERSION: u32 = 1;
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Two {
        first_name: String,
    }

    impl Contract for Two {
        const TYPE: &'static str = "t";
        const VERSION: u32 = 2;
    }

    fn event(event_type: &str, payload: &str, headers: &str) -> Notification {
        Notification { headers: headers.to_owned(), ..Notification::sample(event_type, payload) }
    }

    #[test]
    fn a_payload_is_read_in_the_version_that_it_is_in() {
        let (one, two) = (event("t", r#"{"name":"ann"}"#, "{}"), event("t", r#"{"first_name":"bob"}"#, r#"{"version":2}"#));
        assert_eq!(one.payload_as::<One<'_>>().ok(), Some(One { name: "ann" }));
        assert_eq!(two.payload_as::<Two>().ok(), Some(Two { first_name: "bob".to_owned() }));
        let name =
            |event: &Notification| event.versions().on(|one: One<'_>| one.name.to_owned()).on(|two: Two| two.first_name).read();
        assert_eq!((name(&one).ok().as_deref(), name(&two).ok().as_deref()), (Some("ann"), Some("bob")));
    }

    #[test]
    fn what_cannot_be_read_says_why_and_nothing_of_the_payload() {
        for (event_type, payload, headers, want) in [
            ("u", r#"{"name":"secret"}"#, "{}", "the event is of the type u, and not t"),
            ("t", r#"{"name":"secret"}"#, r#"{"version":3}"#, "the payload of t is in version 3, and 1 or 2 can be read"),
            ("t", r#"{"name":"secret"}"#, r#"{"version":"x"}"#, "the payload of t is in version no number, and 1 or 2 can be read"),
            ("t", r#"{"first_name":["secret"]}"#, r#"{"version":2}"#, "the payload is not as t@2 says, at line 1 column "),
        ] {
            let event = event(event_type, payload, headers);
            let read = event.versions().on(|_: One<'_>| ()).on(|_: Two| ()).read();
            let error = read.expect_err(want);
            let verdict = Verdict::from(error);
            assert_eq!((verdict.outcome, verdict.reason), (Outcome::Permanent, Reason::Contract));
            assert!(verdict.detail.starts_with(want) && !verdict.detail.contains("secret"), "{}", verdict.detail);
        }
        let two = event("t", "{}", r#"{"version":2}"#);
        let error = two.payload_as::<One<'_>>().expect_err("it is version 2");
        assert_eq!(error.to_string(), "the payload of t is in version 2, and 1 can be read");
    }
}
