//! The context: where the notifications of one unit of work come from. Set once, written to the headers of each.

use serde_json::{Map, Value};

/// The origin of a unit of work. All parts are optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    headers: Vec<(String, String)>,
}

/// Header names; `tracestate` belongs to `traceparent`.
const CORRELATION: &str = "correlation";
const CAUSATION: &str = "causation";

impl Context {
    /// Says nothing.
    pub const fn new() -> Self {
        Self { headers: Vec::new() }
    }

    /// The correlation id, shared by all notifications that follow from one request. The default is the id of the first notification.
    #[must_use]
    pub fn correlation(self, id: impl ToString) -> Self {
        self.header(CORRELATION, id)
    }

    /// The causation id: the cause of this unit of work, for example the id of the event that a receiver is handling.
    #[must_use]
    pub fn causation(self, id: impl ToString) -> Self {
        self.header(CAUSATION, id)
    }

    /// The W3C trace context, as it came in.
    #[must_use]
    pub fn traceparent(self, traceparent: impl ToString) -> Self {
        self.header("traceparent", traceparent)
    }

    /// What belongs to the `traceparent`.
    #[must_use]
    pub fn tracestate(self, tracestate: impl ToString) -> Self {
        self.header("tracestate", tracestate)
    }

    /// The tenant whose data the unit of work changes.
    #[must_use]
    pub fn tenant(self, tenant: impl ToString) -> Self {
        self.header("tenant", tenant)
    }

    /// On whose behalf.
    #[must_use]
    pub fn actor(self, actor: impl ToString) -> Self {
        self.header("actor", actor)
    }

    /// Any other header. A later value of the same name takes the place of an earlier one.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        let name = name.into();
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_string()));
        self
    }

    /// Adds to the headers of a notification what it does not say itself. `causation` is the notification that caused it, if one did;
    /// `first` the first of the unit of work.
    pub(super) fn fill(&self, headers: &mut Map<String, Value>, causation: Option<&str>, first: &str) {
        let mut add = |name: &str, value: &str| {
            if !headers.contains_key(name) {
                headers.insert(name.to_owned(), value.into());
            }
        };
        if let Some(causation) = causation {
            add(CAUSATION, causation);
        }
        for (name, value) in &self.headers {
            add(name, value);
        }
        add(CORRELATION, first);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(context: &Context, own: Value, causation: Option<&str>) -> Value {
        let Value::Object(mut headers) = own else { panic!("headers are an object") };
        context.fill(&mut headers, causation, "first");
        Value::Object(headers)
    }

    #[test]
    fn a_notification_says_where_it_came_from() {
        let context = Context::new().correlation("request").causation("command").tenant("acme").actor("ann");
        assert_eq!(
            filled(&context, json!({}), None),
            json!({ "correlation": "request", "causation": "command", "tenant": "acme", "actor": "ann" })
        );
        assert_eq!(filled(&context, json!({ "tenant": "own" }), Some("cause"))["causation"], "cause");
        assert_eq!(filled(&context, json!({ "tenant": "own" }), Some("cause"))["tenant"], "own");
        assert_eq!(filled(&Context::new(), json!({}), None), json!({ "correlation": "first" }));
    }
}
