//! Validation on record: a notification is compared with the schema of its contract before it is recorded, so that a producer
//! notices an event that no reader could take. Part of the feature `daemon`, because the validator is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::options::{InvalidNotification, Validation};
use crate::contracts::Schema;
use crate::domain::NewEvent;

/// Checks what is about to be recorded, as the options say. An error: it is not to be recorded.
pub(super) fn check(validation: &Validation, events: &[NewEvent]) -> Result<(), InvalidNotification> {
    match validation {
        Validation::Never => Ok(()),
        Validation::InDebugBuilds if !cfg!(debug_assertions) => Ok(()),
        Validation::InDebugBuilds | Validation::Always => events.iter().try_for_each(check_one),
        Validation::Sampled { one_in, tell } => {
            static COUNTED: AtomicU32 = AtomicU32::new(0);
            // The first of a process is one of them: a mistake in a new release shows at once.
            let is_due = || COUNTED.fetch_add(1, Ordering::Relaxed).is_multiple_of(one_in.get());
            let sample = events.iter().filter(|event| event.contract.is_some_and(|contract| contract.schema.is_some()) && is_due());
            sample.filter_map(|event| check_one(event).err()).for_each(|invalid| tell(&invalid));
            Ok(())
        }
    }
}

fn check_one(event: &NewEvent) -> Result<(), InvalidNotification> {
    let Some(contract) = event.contract else { return Ok(()) };
    let Some(text) = contract.schema else { return Ok(()) };
    let invalid = |problems| InvalidNotification { event_type: event.event_type.clone(), version: contract.version, problems };
    let schema = compiled(text).map_err(|problem| invalid(vec![problem]))?;
    schema.validate(&event.payload.to_string()).map_err(|found| invalid(found.0))
}

/// The schema of this text, compiled once in the life of the process.
fn compiled(text: &'static str) -> Result<Arc<Schema>, String> {
    type Compiled = HashMap<(usize, usize), Result<Arc<Schema>, String>>;
    static COMPILED: Mutex<Option<Compiled>> = Mutex::new(None);
    let mut known = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    // By where the text is: a constant does not move, and a schema can be long.
    let place = (text.as_ptr().addr(), text.len());
    let known = known.get_or_insert_default().entry(place).or_insert_with(|| {
        Schema::parse(text).map(Arc::new).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            format!("the schema of the contract cannot be used: it {}", problems.join("; it "))
        })
    });
    known.clone()
}
