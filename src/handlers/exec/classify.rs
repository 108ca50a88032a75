//! Classification: from the end of a program to a verdict. Pure: one table for exit codes, one for programs that cannot be
//! started.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::domain::{Reason, Verdict};

// The codes of <sysexits.h> that say something about trying again.
const EX_USAGE: i32 = 64;
const EX_DATAERR: i32 = 65;
const EX_UNAVAILABLE: i32 = 69;
const EX_TEMPFAIL: i32 = 75;
const EX_NOPERM: i32 = 77;
const EX_CONFIG: i32 = 78;

/// The verdict for the one event of a process that ended. `said`: its last output.
pub fn ended(status: ExitStatus, said: &str) -> Verdict {
    let Some(code) = status.code() else { return killed(status, said) };
    let detail = with_words(&format!("exit code {code}"), said);
    let verdict = match code {
        0 => return Verdict::delivered(),
        EX_USAGE | EX_DATAERR => Verdict::permanent(Reason::Refused, detail),
        EX_TEMPFAIL => Verdict::retry(Reason::Refused, detail),
        _ => about_the_handler(code, &detail).unwrap_or_else(|| Verdict::retry(Reason::Refused, detail)),
    };
    with_code(verdict, code)
}

/// The verdict when a worker ended without an answer to its event: the event may have been processed, or may be the cause.
pub fn worker_ended(status: ExitStatus, said: &str) -> Verdict {
    let Some(code) = status.code() else { return killed(status, said) };
    let detail = with_words(&format!("the worker ended without an answer, exit code {code}"), said);
    let reason = if code == 0 { Reason::InvalidAnswer } else { Reason::Refused };
    with_code(about_the_handler(code, &detail).unwrap_or_else(|| Verdict::retry(reason, detail)).ambiguous(), code)
}

/// The verdict when a worker closed its output and did not end.
pub fn fell_silent(said: &str) -> Verdict {
    Verdict::retry(Reason::InvalidAnswer, with_words("the worker closed its output without an answer", said)).ambiguous()
}

/// The codes that say nothing of an event.
fn about_the_handler(code: i32, detail: &str) -> Option<Verdict> {
    match code {
        EX_UNAVAILABLE => Some(Verdict::back_pressure(Reason::Throttled, None, detail)),
        EX_NOPERM => Some(Verdict::handler_fault(Reason::Unauthorized, detail)),
        EX_CONFIG => Some(Verdict::handler_fault(Reason::Misconfigured, detail)),
        _ => None,
    }
}

fn killed(status: ExitStatus, said: &str) -> Verdict {
    let end = status.signal().map_or_else(|| status.to_string(), |signal| format!("killed by signal {signal}"));
    Verdict::retry(Reason::Failed, with_words(&end, said)).ambiguous()
}

/// The verdict when a program cannot be started. `detail` says which and why.
pub fn not_started(error: &io::Error, detail: String) -> Verdict {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => Verdict::handler_fault(Reason::NotFound, detail),
        Some(libc::EACCES | libc::EPERM | libc::ENOEXEC | libc::E2BIG | libc::ELOOP) => {
            Verdict::handler_fault(Reason::Misconfigured, detail)
        }
        // The machine, or what we may have of it, is full; fewer at once is what helps.
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => Verdict::back_pressure(Reason::Full, None, detail),
        // Among them the program that is being written just now.
        _ => Verdict::retry(Reason::Failed, detail),
    }
}

/// The verdict when a program took longer than its time.
pub fn too_late(what: &str, said: &str) -> Verdict {
    Verdict::retry(Reason::Timeout, with_words(what, said)).ambiguous()
}

fn with_words(what: &str, said: &str) -> String {
    if said.is_empty() { what.to_owned() } else { format!("{what}: {said}") }
}

fn with_code(verdict: Verdict, code: i32) -> Verdict {
    u16::try_from(code).map_or(verdict.clone(), |code| verdict.with_status(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Outcome::*;

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn every_exit_code_has_one_meaning() {
        for code in 0..256 {
            let want = match code {
                0 => (Delivered, Reason::Ok),
                64 | 65 => (Permanent, Reason::Refused),
                69 => (BackPressure, Reason::Throttled),
                77 => (HandlerFault, Reason::Unauthorized),
                78 => (HandlerFault, Reason::Misconfigured),
                _ => (Retry, Reason::Refused),
            };
            let verdict = ended(exit(code), "");
            assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (want.0, want.1, false), "{code}");
        }
        let verdict = ended(exit(3), "no stock");
        assert_eq!((verdict.status, verdict.detail.as_str()), (Some(3), "exit code 3: no stock"));
    }

    #[test]
    fn a_worker_that_ends_has_delivered_nothing_and_buries_nothing() {
        for code in 0..256 {
            let verdict = worker_ended(exit(code), "");
            let want = match code {
                69 => BackPressure,
                77 | 78 => HandlerFault,
                _ => Retry,
            };
            assert_eq!((verdict.outcome, verdict.ambiguous), (want, true), "{code}");
        }
    }

    #[test]
    fn a_signal_leaves_it_open() {
        for verdict in [ended(ExitStatus::from_raw(9), "bye"), worker_ended(ExitStatus::from_raw(9), "bye")] {
            assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (Retry, Reason::Failed, true));
            assert_eq!(verdict.detail, "killed by signal 9: bye");
        }
    }

    #[test]
    fn no_program_that_does_not_start_costs_an_event() {
        for (error, outcome, reason) in [
            (libc::ENOENT, HandlerFault, Reason::NotFound),
            (libc::EACCES, HandlerFault, Reason::Misconfigured),
            (libc::ENOEXEC, HandlerFault, Reason::Misconfigured),
            (libc::E2BIG, HandlerFault, Reason::Misconfigured),
            (libc::EAGAIN, BackPressure, Reason::Full),
            (libc::EMFILE, BackPressure, Reason::Full),
            (libc::ETXTBSY, Retry, Reason::Failed),
            (libc::EIO, Retry, Reason::Failed),
        ] {
            let verdict = not_started(&io::Error::from_raw_os_error(error), String::new());
            assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (outcome, reason, false), "{error}");
        }
    }
}
