//! `exec`: hands each event to a program of the operator: to a process of its own, or to workers that live on and answer line by line.
//! Reading order: `settings` and `program` (what is started), `start`, `group` (what is left of it is ended), `once` and `worker` (the
//! two ways), `answer` and `classify` (what it means), `output` (what the program said).
//! Never uses a shell, never passes its own environment on, never leaves a process behind that it can still reach.

mod answer;
mod classify;
mod group;
mod once;
mod output;
mod program;
mod settings;
mod start;
#[cfg(test)]
mod tests;
mod variables;
mod worker;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use self::once::Once;
use self::program::Program;
use self::settings::{Mode, Settings};
use self::worker::Workers;
use super::envelope::refuse_larger;
use super::{Built, Handler, Kind};
use crate::domain::{Notification, Verdict};

pub use self::group::all_ended;

pub const KIND: Kind = Kind {
    name: "exec",
    summary: "start a program for each event, or hand events to programs that live on",
    fields: settings::FIELDS,
    example: include_str!("../../../config/examples/exec.toml"),
    build: |section| Some(Built::Handler(Arc::new(Exec::new(settings::read(section)?)))),
};

/// A program, and how it gets its events. Nothing is started before the first of them.
struct Exec {
    program: Arc<Program>,
    way: Way,
    max_payload: u64,
}

enum Way {
    Once(Once),
    Workers(Workers),
}

impl Exec {
    fn new(settings: Settings) -> Self {
        let Settings { program, mode, limits, redaction, max_payload } = settings;
        let program = Arc::new(program);
        let way = match mode {
            Mode::Once(input) => Way::Once(Once::new(Arc::clone(&program), input, limits, redaction)),
            Mode::Worker { recycle_after } => Way::Workers(Workers::new(Arc::clone(&program), recycle_after, limits, redaction)),
        };
        Self { program, way, max_payload }
    }

    async fn hand_over(&self, notification: &Notification) -> Verdict {
        if let Err(refusal) = refuse_larger(notification, self.max_payload) {
            return refusal;
        }
        match &self.way {
            Way::Once(once) => once.run(notification).await,
            Way::Workers(workers) => workers.ask(notification).await,
        }
    }
}

impl Handler for Exec {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Verdict> {
        Box::pin(self.hand_over(notification))
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, String>> {
        let found = self.program.check().map(|()| format!("{} is there and may be started", self.program.path().display()));
        Box::pin(std::future::ready(found))
    }
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").field("program", &self.program).finish_non_exhaustive()
    }
}
