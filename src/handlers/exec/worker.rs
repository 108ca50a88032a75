//! Workers: processes that live on, read one line per event and answer with one line. A worker has one event at a time, so its
//! author needs no concurrency, a crash leaves one event open, and the time of an event is its own.
//!
//! There are as many workers as deliveries were in flight at once. A worker in doubt is ended and never used again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::super::line::json_line;
use super::super::link;
use super::super::redaction::Redaction;
use super::answer::{self, Answer};
use super::classify;
use super::group::Group;
use super::output::Tail;
use super::program::Program;
use super::settings::Limits;
use super::start::{Started, start};
use crate::domain::{Notification, Reason, Verdict};

/// Longest line that is read as an answer.
const LONGEST_ANSWER: u64 = 64 * 1024;
/// How long a worker that has nothing to do may take to end by itself when its input does.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a worker that has closed its output may take to end, and its last words to arrive.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// The workers of a handler.
pub struct Workers {
    program: Arc<Program>,
    /// Events after which a worker is not asked again.
    recycle_after: Option<u64>,
    limits: Limits,
    redaction: Redaction,
    /// The one that worked last on top.
    idle: Mutex<Vec<Worker>>,
    failures: Mutex<Failures>,
}

/// Workers that failed since one last answered.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
    last: Option<Instant>,
}

impl Workers {
    pub fn new(program: Arc<Program>, recycle_after: Option<u64>, limits: Limits, redaction: Redaction) -> Self {
        Self { program, recycle_after, limits, redaction, idle: Mutex::default(), failures: Mutex::default() }
    }

    /// One attempt at one event. Dropping it ends the worker that has the event.
    pub async fn ask(&self, notification: &Notification) -> Verdict {
        let deadline = Instant::now() + self.limits.exec_timeout;
        let mut worker = match timeout_at(deadline, self.worker()).await {
            Ok(Ok(worker)) => worker,
            Ok(Err(verdict)) => return verdict,
            Err(_) => return Verdict::retry(Reason::Timeout, format!("no worker within {:?}", self.limits.exec_timeout)),
        };
        let (line, id) = (json_line(notification), notification.id.to_string());
        match timeout_at(deadline, worker.ask(&line, &id, self)).await.unwrap_or(Err(Doubt::Late)) {
            Ok(verdict) => {
                self.failures().in_a_row = 0;
                self.give_back(worker);
                verdict
            }
            Err(doubt) => {
                self.note_failure();
                worker.explain(doubt, self).await
            }
        }
    }

    /// A worker that has nothing to do: one that is there, or a new one.
    async fn worker(&self) -> Result<Worker, Verdict> {
        if let Some(worker) = self.take() {
            return Ok(worker);
        }
        if let Some(pause) = self.pause_until() {
            sleep_until(pause).await;
            if let Some(worker) = self.take() {
                return Ok(worker);
            }
        }
        let started = start(self.program.command(), self.limits.kill_after).await;
        started.map(Worker::new).map_err(|error| {
            self.note_failure();
            self.program.not_started(&error)
        })
    }

    fn take(&self) -> Option<Worker> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // A worker that ended while idle has lost nothing.
        idle.retain_mut(|worker| !worker.group.has_ended());
        let mut worker = idle.pop()?;
        worker.group.be_patient(Duration::ZERO);
        worker.errors.forget();
        Some(worker)
    }

    fn give_back(&self, mut worker: Worker) {
        if worker.has_read_all {
            worker.group.be_patient(PATIENCE);
            worker.answered += 1;
            // It has nothing open: the end of its input ends it, as at a stop.
            if self.recycle_after.is_some_and(|events| worker.answered >= events) {
                return;
            }
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        }
    }

    /// Until when no worker is started, because those before it failed. No attempt is spent on waiting.
    fn pause_until(&self) -> Option<Instant> {
        let failures = self.failures();
        failures.last.filter(|_| failures.in_a_row > 0).map(|last| last + link::pause(failures.in_a_row))
    }

    fn note_failure(&self) {
        let mut failures = self.failures();
        *failures = Failures { in_a_row: failures.in_a_row.saturating_add(1), last: Some(Instant::now()) };
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker. Its input is closed before its group is dropped, so that it can end by itself.
struct Worker {
    stdin: ChildStdin,
    answers: BufReader<ChildStdout>,
    errors: Arc<Tail>,
    /// It has taken the whole of every line so far.
    has_read_all: bool,
    /// Events that it has had.
    answered: u64,
    group: Group,
}

/// Why a worker is not asked again.
enum Doubt {
    Garbage(String),
    /// Its output has ended, and so has it, or will.
    Silence,
    Late,
}

impl Worker {
    fn new(started: Started) -> Self {
        let Started { mut group, stdin, stdout, stderr } = started;
        let errors = Arc::new(Tail::default());
        let heard = Arc::clone(&errors);
        // A worker that logs while it has nothing to do would block on a pipe that is not read.
        group.listen(AbortOnDropHandle::new(tokio::spawn(async move { heard.follow(stderr).await })));
        Self { stdin, answers: BufReader::new(stdout), errors, has_read_all: true, answered: 0, group }
    }

    /// Hands over an event and waits for the answer about it.
    async fn ask(&mut self, line: &str, id: &str, workers: &Workers) -> Result<Verdict, Doubt> {
        let Self { stdin, answers, has_read_all, .. } = self;
        *has_read_all = false;
        let answer = read_answer(answers, id, workers);
        let mut answer = std::pin::pin!(answer);
        // Both at once: one that answers before it has read everything must not wait for us while we wait for it.
        tokio::select! {
            answer = &mut answer => answer,
            written = stdin.write_all(line.as_bytes()) => {
                *has_read_all = written.is_ok();
                answer.await
            }
        }
    }

    /// The verdict for an event whose worker is in doubt. Ends the worker before that, because it may still be at work on it.
    async fn explain(mut self, doubt: Doubt, workers: &Workers) -> Verdict {
        let verdict = match doubt {
            Doubt::Garbage(why) => Verdict::retry(Reason::InvalidAnswer, why).ambiguous(),
            Doubt::Silence => self.last_words(&workers.redaction).await,
            Doubt::Late => {
                let what = format!("no answer within {:?}, the worker was ended", workers.limits.exec_timeout);
                classify::too_late(&what, &self.errors.last_lines(&workers.redaction))
            }
        };
        self.group.end().await;
        verdict
    }

    async fn last_words(&mut self, redaction: &Redaction) -> Verdict {
        let ended = timeout(LAST_WORDS, self.group.wait()).await;
        self.group.hear_out(LAST_WORDS).await;
        let said = self.errors.last_lines(redaction);
        match ended {
            Ok(Ok(status)) => classify::worker_ended(status, &said),
            _ => classify::fell_silent(&said),
        }
    }
}

async fn read_answer(answers: &mut BufReader<ChildStdout>, id: &str, workers: &Workers) -> Result<Verdict, Doubt> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes = (&mut *answers).take(LONGEST_ANSWER).read_until(b'\n', &mut line).await.unwrap_or(0);
        if bytes == 0 {
            return Err(Doubt::Silence);
        }
        if line.last() != Some(&b'\n') && bytes as u64 == LONGEST_ANSWER {
            return Err(Doubt::Garbage(format!("the worker wrote a line of more than {LONGEST_ANSWER} bytes")));
        }
        match answer::read(&line, id, &workers.redaction) {
            Answer::About(verdict) => return Ok(verdict),
            Answer::Garbage(why) => return Err(Doubt::Garbage(why)),
            Answer::Stray(other) => {
                let program = workers.program.path().display();
                warn!(%program, answered = other, expected = id, "an answer about an event that the worker does not have was ignored");
            }
        }
    }
}
