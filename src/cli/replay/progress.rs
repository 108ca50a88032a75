//! The progress of a replay: a bar until the replay has its outcome, then the outcome. Only watches; Ctrl-C ends the watching.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use super::super::session::Session;
use super::super::{CliError, EXIT_FAILED, EXIT_OK};
use crate::operations::replays::{self, describe_outcome};
use crate::store::Replay;

/// Often enough for a bar, seldom enough to cost nothing.
const LOOK: Duration = Duration::from_millis(500);

/// Shows the progress until the replay has its outcome or Ctrl-C is pressed, and prints the result.
pub(super) async fn follow(session: &Session, id: Uuid) -> Result<Replay, CliError> {
    let mut interrupts = signal(SignalKind::interrupt()).map_err(CliError::failed)?;
    let mut replay = replays::show(&session.pool, id).await?;
    if !replay.is_over() {
        eprintln!("waiting for the outcome; Ctrl-C leaves the replay running");
    }
    // Draws on standard error, and only on a terminal.
    let bar = ProgressBar::new(replay.asked);
    bar.set_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta}").expect("the template is one that indicatif knows"),
    );
    while !replay.is_over() {
        bar.set_position(replay.asked - replay.held - replay.released);
        bar.set_message(describe_bar(&replay));
        tokio::select! {
            _ = interrupts.recv() => {
                bar.finish_and_clear();
                eprintln!("{}", describe_outcome(&replay));
                eprintln!("the replay continues without this command:\n  outboxd replays show {id} --follow\n  outboxd replays cancel {id}");
                return Ok(replay);
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        replay = replays::show(&session.pool, id).await?;
    }
    bar.finish_and_clear();
    eprintln!("{}", describe_outcome(&replay));
    Ok(replay)
}

fn describe_bar(replay: &Replay) -> String {
    let failed = if replay.failed > 0 { format!("{} failed again ", replay.failed) } else { String::new() };
    let stopped = if replay.stopped.is_empty() { String::new() } else { format!("({} stopped)", replay.stopped.join(", ")) };
    format!("{failed}{stopped}")
}

pub(super) fn exit_code(replay: &Replay) -> ExitCode {
    ExitCode::from(if replay.failed > 0 { EXIT_FAILED } else { EXIT_OK })
}
