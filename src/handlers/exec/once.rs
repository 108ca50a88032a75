//! A process for each event: its exit code is the verdict. Waits for the program to end; does not wait until its pipes are closed
//! or its input is read.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Fuse, FusedFuture};
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::line::json_line;
use super::super::redaction::Redaction;
use super::classify;
use super::output::Tail;
use super::program::Program;
use super::settings::{Input, Limits};
use super::start::{Started, start};
use super::variables::variables;
use crate::domain::{Notification, Reason, Verdict};

/// The output of a program is in its pipes when it ends; this is longer than it takes to read them.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// A program that is started anew for each event.
pub struct Once {
    program: Arc<Program>,
    input: Input,
    limits: Limits,
    redaction: Redaction,
}

impl Once {
    pub fn new(program: Arc<Program>, input: Input, limits: Limits, redaction: Redaction) -> Self {
        Self { program, input, limits, redaction }
    }

    /// One attempt at one event. Dropping it ends the process and everything that it has started.
    pub async fn run(&self, notification: &Notification) -> Verdict {
        let mut command = self.program.command();
        match variables(notification) {
            Ok(variables) => command.envs(variables),
            Err(refusal) => return refusal,
        };
        let input = self.input_of(notification);
        let deadline = Instant::now() + self.limits.exec_timeout;
        match timeout_at(deadline, start(command, self.limits.kill_after)).await {
            Ok(Ok(started)) => self.see_through(started, &input, deadline).await,
            Ok(Err(error)) => self.program.not_started(&error),
            // It may be started all the same before it is ended, by a file system that takes its time.
            Err(_) => classify::too_late(&format!("not started within {:?}", self.limits.exec_timeout), ""),
        }
    }

    fn input_of(&self, notification: &Notification) -> String {
        match self.input {
            Input::Event => json_line(notification),
            Input::Payload => notification.payload.clone(),
        }
    }

    async fn see_through(&self, started: Started, input: &str, deadline: Instant) -> Verdict {
        let Started { mut group, stdin, stdout, stderr } = started;
        let (out, err) = (Tail::default(), Tail::default());
        let talk = async { _ = tokio::join!(feed(stdin, input.as_bytes()), out.follow(stdout), err.follow(stderr)) };
        let mut talk = pin!(talk.fuse());
        let ended = timeout_at(deadline, beside(group.wait(), talk.as_mut())).await;
        let said = || {
            let said = err.last_lines(&self.redaction);
            if said.is_empty() { out.last_lines(&self.redaction) } else { said }
        };
        match ended {
            Ok(Ok(status)) => {
                hear_out(talk).await;
                classify::ended(status, &said())
            }
            // Other code in this process has waited for it.
            Ok(Err(error)) => Verdict::retry(Reason::Failed, format!("its end was not seen: {error}")).ambiguous(),
            Err(_) => {
                beside(group.end(), talk).await;
                classify::too_late(&format!("no end within {:?}, it was ended", self.limits.exec_timeout), &said())
            }
        }
    }
}

/// Writes everything, as far as the program wants it: one that knows enough from its variables reads nothing.
async fn feed(mut stdin: ChildStdin, input: &[u8]) {
    let _ = stdin.write_all(input).await;
}

/// Reads what is left to read, but does not wait for a process that the program left behind and that holds its pipes.
async fn hear_out(talk: Pin<&mut Fuse<impl Future<Output = ()>>>) {
    // One that is over is never ready again.
    if !talk.is_terminated() {
        let _ = timeout(LAST_WORDS, talk).await;
    }
}

/// Waits for one thing and does another meanwhile.
async fn beside<T>(awaited: impl Future<Output = T>, meanwhile: Pin<&mut Fuse<impl Future<Output = ()>>>) -> T {
    let mut awaited = pin!(awaited);
    tokio::select! {
        done = &mut awaited => done,
        () = meanwhile => awaited.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each event took a quarter of a second more once everything had been read before the program ended.
    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_who_has_said_everything() {
        let mut talk = pin!(async {}.fuse());
        beside(tokio::time::sleep(Duration::from_secs(1)), talk.as_mut()).await;
        let before = Instant::now();
        hear_out(talk).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_who_holds_the_pipes_is_waited_for_a_moment() {
        let before = Instant::now();
        hear_out(pin!(std::future::pending().fuse())).await;
        assert!((LAST_WORDS..LAST_WORDS * 2).contains(&before.elapsed()));
    }
}
