//! Upcasts: functions that turn events of earlier versions into those of today. One step for each version; chains are made of
//! them once.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use crate::uow::Failure;

type Step = Box<dyn Fn(Value) -> Result<Value, Failure> + Send + Sync>;

/// Steps from each version of an event type to the next.
///
/// ```
/// use outboxd::uow::sourcing::Upcasts;
/// use serde_json::json;
///
/// let upcasts = Upcasts::new()
///     .renamed("bonus.earned", "points.earned") // an earlier name of the type
///     .step("points.earned", 1, |mut payload| {
///         // Version 2 knows why: those of version 1 were all for orders.
///         payload["reason"] = json!("order");
///         Ok(payload)
///     });
/// ```
#[derive(Default)]
pub struct Upcasts {
    pub(super) steps: HashMap<(&'static str, u32), Step>,
    pub(super) names: HashMap<&'static str, &'static str>,
}

impl Upcasts {
    /// Events are read as they were recorded.
    pub fn new() -> Self {
        Self::default()
    }

    /// Payloads of this type become those of the next version. `from` is the version they have; the payload is an object. A second step from the
    /// same version takes the place of the first.
    #[must_use]
    pub fn step(
        mut self,
        event_type: &'static str,
        from: u32,
        step: impl Fn(Value) -> Result<Value, Failure> + Send + Sync + 'static,
    ) -> Self {
        self.steps.insert((event_type, from), Box::new(step));
        self
    }

    /// Events with a former type name are read as events of the type that it has now, before any step.
    #[must_use]
    pub fn renamed(mut self, former: &'static str, now: &'static str) -> Self {
        self.names.insert(former, now);
        self
    }
}

impl fmt::Debug for Upcasts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps: Vec<_> = self.steps.keys().collect();
        steps.sort_unstable();
        f.debug_struct("Upcasts").field("steps", &steps).field("names", &self.names).finish()
    }
}
