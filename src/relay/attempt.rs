//! An attempt, from its beginning to its end: the part that goes to a worker, and the part that comes back.

use std::time::Duration;

use crate::domain::{Admission, Queued, Verdict};

/// An attempt that begins.
#[derive(Debug)]
pub struct Begun {
    pub queued: Queued,
    /// The admission of the circuit.
    pub admission: Admission,
}

impl Begun {
    pub fn ended(self, verdict: Verdict, took: Duration) -> Finished {
        Finished { queued: self.queued, admission: self.admission, verdict, took }
    }
}

/// An attempt that came to an end.
#[derive(Debug)]
pub struct Finished {
    pub queued: Queued,
    /// The admission of the circuit when it began.
    pub admission: Admission,
    pub verdict: Verdict,
    pub took: Duration,
}
