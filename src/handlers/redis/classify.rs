//! Classification: from the server's answers and the failures of its connection to verdicts. Pure: one table for the code words
//! of answers, and one for the texts of the general `ERR`, which has no code word. An outage is never the event's fault.

use std::error::Error;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use super::super::failure::{Failure, failed, failure_of, root_text};
use super::super::redaction::Redaction;
use super::barrier::Halt;
use crate::domain::{Outcome, Reason, Verdict};

/// A command came to nothing.
#[derive(Debug)]
pub struct Setback {
    pub verdict: Verdict,
    /// The connection is of no use any more, or another one may do better.
    pub is_connection_over: bool,
}

/// Longest excerpt of a server's text.
const LONGEST: usize = 512;

const CLUSTER: &str = "the server is part of a Redis Cluster, which this kind does not support";
const DISK: &str = "durability = \"disk\" needs Redis 7.2 and an append-only file";

type Meaning = (Outcome, Reason);

const CODES: &[(&str, Meaning)] = &[
    ("NOAUTH", (Outcome::HandlerFault, Reason::Unauthorized)),
    ("WRONGPASS", (Outcome::HandlerFault, Reason::Unauthorized)),
    ("NOPERM", (Outcome::HandlerFault, Reason::Unauthorized)),
    ("DENIED", (Outcome::HandlerFault, Reason::Unauthorized)),
    ("WRONGTYPE", (Outcome::HandlerFault, Reason::NotFound)),
    ("MOVED", (Outcome::HandlerFault, Reason::Misconfigured)),
    ("ASK", (Outcome::HandlerFault, Reason::Misconfigured)),
    ("OOM", (Outcome::BackPressure, Reason::Full)),
    ("MISCONF", (Outcome::BackPressure, Reason::Full)),
    ("NOREPLICAS", (Outcome::BackPressure, Reason::Nacked)),
    ("LOADING", (Outcome::BackPressure, Reason::ServerError)),
    ("MASTERDOWN", (Outcome::BackPressure, Reason::ServerError)),
    ("BUSY", (Outcome::BackPressure, Reason::ServerError)),
    ("TRYAGAIN", (Outcome::BackPressure, Reason::ServerError)),
    ("CLUSTERDOWN", (Outcome::BackPressure, Reason::ServerError)),
    ("READONLY", (Outcome::Retry, Reason::ServerError)),
    ("UNBLOCKED", (Outcome::Retry, Reason::ServerError)),
];

/// How texts after `ERR` begin.
const TEXTS: &[(&str, Meaning)] = &[
    ("AUTH <password> called without", (Outcome::HandlerFault, Reason::Unauthorized)),
    ("Client sent AUTH, but no password is set", (Outcome::HandlerFault, Reason::Unauthorized)),
    ("invalid password", (Outcome::HandlerFault, Reason::Unauthorized)),
    ("DB index is out of range", (Outcome::HandlerFault, Reason::NotFound)),
    ("invalid DB index", (Outcome::HandlerFault, Reason::NotFound)),
    ("SELECT is not allowed", (Outcome::HandlerFault, Reason::Misconfigured)),
    ("unknown command", (Outcome::HandlerFault, Reason::Misconfigured)),
    ("WAITAOF cannot be used when", (Outcome::HandlerFault, Reason::Misconfigured)),
    ("max number of clients", (Outcome::BackPressure, Reason::Throttled)),
    ("The stream has exhausted the last possible ID", (Outcome::BackPressure, Reason::Full)),
    ("Elements are too large", (Outcome::Permanent, Reason::TooLarge)),
    ("Protocol error: invalid bulk length", (Outcome::Permanent, Reason::TooLarge)),
];

/// The verdict for a failed command.
pub fn setback(error: &RedisError, target: &str, redaction: &Redaction) -> Setback {
    match error.code() {
        Some(code) => answered(code, error.detail().unwrap_or_default(), target, redaction),
        None => Setback { verdict: broken(error, target), is_connection_over: true },
    }
}

/// The verdict when an entry was added and did not pass the barrier: it is there, and the attempt failed nevertheless. The next attempt
/// begins with a new connection, which finds out whether there are replicas at all before it adds another entry.
pub fn halted(halt: &Halt, target: &str, redaction: &Redaction) -> Setback {
    let setback = match halt {
        Halt::Short(text) => {
            let verdict = Verdict::retry(Reason::Nacked, format!("{target}: the entry was added, but {text}"));
            Setback { verdict, is_connection_over: true }
        }
        Halt::Failed(error) => setback(error, target, redaction),
    };
    Setback { verdict: setback.verdict.ambiguous(), ..setback }
}

/// The verdict when no entry could pass the barrier; none was added.
pub fn barred(halt: &Halt, target: &str, redaction: &Redaction) -> Verdict {
    match halt {
        Halt::Short(text) => Verdict::back_pressure(Reason::Nacked, None, format!("{target}: {text}, so no entry was added")),
        Halt::Failed(error) => setback(error, target, redaction).verdict,
    }
}

/// The verdict when there is no stream and none shall be created.
pub fn no_stream(stream: &str) -> Setback {
    let detail = format!("there is no stream {stream:?}, and create_stream is false");
    Setback { verdict: Verdict::handler_fault(Reason::NotFound, detail).of_destination(), is_connection_over: false }
}

/// The verdict for an answer that is no id of an entry.
pub fn no_entry_id(target: &str) -> Setback {
    let verdict = failed(Failure::Garbage, format!("{target} answered with something that is no id of an entry"));
    Setback { verdict, is_connection_over: true }
}

/// Whether this is what a server says that does not know `IDMP`: it takes it for the id of the entry.
pub fn is_about_repeats(error: &RedisError) -> bool {
    error.code() == Some("ERR")
        && error.detail().is_some_and(|text| {
            ["Invalid stream ID", "syntax error", "wrong number of arguments"].iter().any(|start| text.starts_with(start))
        })
}

fn answered(code: &str, text: &str, target: &str, redaction: &Redaction) -> Setback {
    let (outcome, reason) = meaning(code, text);
    let detail = format!("{target}: {}", shown(code, text, redaction));
    let verdict = match outcome {
        Outcome::HandlerFault => Verdict::handler_fault(reason, detail),
        Outcome::BackPressure => Verdict::back_pressure(reason, None, detail),
        Outcome::Permanent => Verdict::permanent(reason, detail),
        _ => Verdict::retry(reason, detail),
    };
    let verdict = if is_about_stream(code, text) { verdict.of_destination() } else { verdict };
    // A replica will not become a primary for our sake, but the address may lead to another server by now. Rights and passwords are
    // looked at when a connection is opened. After an error of the protocol the server hangs up.
    let is_connection_over =
        matches!(code, "READONLY" | "UNBLOCKED") || reason == Reason::Unauthorized || text.starts_with("Protocol error");
    Setback { verdict, is_connection_over }
}

/// Whether the answer is about the key of the stream, which the event may have a part in.
fn is_about_stream(code: &str, text: &str) -> bool {
    matches!(code, "WRONGTYPE" | "NOPERM") || text.starts_with("The stream has exhausted")
}

fn meaning(code: &str, text: &str) -> Meaning {
    let found = match code {
        "ERR" => TEXTS.iter().find(|(start, _)| text.starts_with(start)),
        _ => CODES.iter().find(|(known, _)| *known == code),
    };
    found.map_or((Outcome::Retry, Reason::ServerError), |(_, meaning)| *meaning)
}

/// What the server said. An unknown command comes back with the beginning of its arguments, which are none of the reader's business.
fn shown(code: &str, text: &str, redaction: &Redaction) -> String {
    let text = text.split(", with args beginning with").next().unwrap_or_default();
    let whole = match code {
        "MOVED" | "ASK" => format!("{CLUSTER}: {code} {text}"),
        "ERR" if text.contains("WAITAOF") => format!("{DISK}: {code} {text}"),
        _ => format!("{code} {text}"),
    };
    let bytes = whole.as_bytes();
    redaction.excerpt(&bytes[..bytes.len().min(LONGEST)], bytes.len() > LONGEST)
}

fn broken(error: &RedisError, target: &str) -> Verdict {
    match error.kind() {
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            failed(Failure::Garbage, format!("{target} answered with something that is not the protocol"))
        }
        _ => {
            let cause = cause(error);
            failed(failure_of(cause, true), format!("{target}: {}", root_text(cause)))
        }
    }
}

/// The error that the library wraps, twice.
fn cause(error: &RedisError) -> &(dyn Error + 'static) {
    let source = error.source().unwrap_or(error);
    match source.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        Some(shared) => &**shared,
        None => source,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::settings::Secret;

    fn told(line: &str) -> Setback {
        let error = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("RESP").extract_error().expect_err(line);
        setback(&error, "redis:6379", &Redaction::new(&[Secret::new("hunter22")]))
    }

    #[test]
    fn every_answer_has_one_meaning() {
        use Outcome::*;
        for (line, outcome, reason, is_over) in [
            ("NOAUTH Authentication required.", HandlerFault, Reason::Unauthorized, true),
            ("WRONGPASS invalid username-password pair or user is disabled.", HandlerFault, Reason::Unauthorized, true),
            ("NOPERM this user has no permissions to run the 'xadd' command", HandlerFault, Reason::Unauthorized, true),
            ("DENIED Redis is running in protected mode", HandlerFault, Reason::Unauthorized, true),
            (
                "ERR AUTH <password> called without any password configured for the default user.",
                HandlerFault,
                Reason::Unauthorized,
                true,
            ),
            ("ERR invalid password", HandlerFault, Reason::Unauthorized, true),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", HandlerFault, Reason::NotFound, false),
            ("ERR DB index is out of range", HandlerFault, Reason::NotFound, false),
            ("ERR SELECT is not allowed in cluster mode", HandlerFault, Reason::Misconfigured, false),
            ("ERR unknown command 'WAITAOF', with args beginning with: '1' ", HandlerFault, Reason::Misconfigured, false),
            (
                "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
                HandlerFault,
                Reason::Misconfigured,
                false,
            ),
            ("MOVED 3999 127.0.0.1:6381", HandlerFault, Reason::Misconfigured, false),
            ("ASK 3999 127.0.0.1:6381", HandlerFault, Reason::Misconfigured, false),
            ("OOM command not allowed when used memory > 'maxmemory'.", BackPressure, Reason::Full, false),
            ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable", BackPressure, Reason::Full, false),
            ("ERR The stream has exhausted the last possible ID, unable to add more items", BackPressure, Reason::Full, false),
            ("NOREPLICAS Not enough good replicas to write.", BackPressure, Reason::Nacked, false),
            ("ERR max number of clients reached", BackPressure, Reason::Throttled, false),
            ("LOADING Redis is loading the dataset in memory", BackPressure, Reason::ServerError, false),
            ("MASTERDOWN Link with MASTER is down", BackPressure, Reason::ServerError, false),
            ("BUSY Redis is busy running a script.", BackPressure, Reason::ServerError, false),
            ("TRYAGAIN Multiple keys request during rehashing of slot", BackPressure, Reason::ServerError, false),
            ("CLUSTERDOWN Hash slot not served", BackPressure, Reason::ServerError, false),
            ("READONLY You can't write against a read only replica.", Retry, Reason::ServerError, true),
            ("UNBLOCKED force unblock from blocking operation, instance state changed", Retry, Reason::ServerError, true),
            ("ERR Elements are too large to be stored", Permanent, Reason::TooLarge, false),
            ("ERR Protocol error: invalid bulk length", Permanent, Reason::TooLarge, true),
            ("ERR Protocol error: expected '$', got ' '", Retry, Reason::ServerError, true),
            ("ERR something that nobody foresaw", Retry, Reason::ServerError, false),
            ("NEWWORD something that nobody foresaw", Retry, Reason::ServerError, false),
        ] {
            let Setback { verdict, is_connection_over } = told(line);
            assert_eq!((verdict.outcome, verdict.reason, is_connection_over), (outcome, reason, is_over), "{line}");
            assert!(!verdict.ambiguous, "an answer leaves no doubt: {line}");
        }
    }

    #[test]
    fn a_person_reads_what_the_server_said_and_nothing_secret() {
        assert_eq!(told("OOM command not allowed").verdict.detail, "redis:6379: OOM command not allowed");
        assert_eq!(told("MOVED 3999 10.0.0.1:6381").verdict.detail, format!("redis:6379: {CLUSTER}: MOVED 3999 10.0.0.1:6381"));
        let waiting = told("ERR unknown command 'WAITAOF', with args beginning with: '1' '0' ");
        assert_eq!(waiting.verdict.detail, format!("redis:6379: {DISK}: ERR unknown command 'WAITAOF'"));
        let unknown = told("ERR unknown command 'XADD', with args beginning with: 'orders' '*' 'payload' '{\"card\":42}' ");
        assert_eq!(unknown.verdict.detail, "redis:6379: ERR unknown command 'XADD'");
        assert!(!told("ERR weird hunter22").verdict.detail.contains("hunter22"));
        assert!(told(&format!("ERR {}", "x".repeat(10_000))).verdict.detail.len() < 600);
    }

    #[test]
    fn a_broken_connection_leaves_doubt_and_is_over() {
        let trust = || io::Error::new(io::ErrorKind::InvalidData, rustls::Error::from(rustls::CertificateError::UnknownIssuer));
        let cases: [(RedisError, Outcome, Reason, bool); 5] = [
            (io::Error::from(io::ErrorKind::BrokenPipe).into(), Outcome::Retry, Reason::ConnectionReset, true),
            (io::Error::from(io::ErrorKind::ConnectionReset).into(), Outcome::Retry, Reason::ConnectionReset, true),
            (io::Error::from(io::ErrorKind::UnexpectedEof).into(), Outcome::Retry, Reason::ConnectionReset, true),
            (trust().into(), Outcome::HandlerFault, Reason::Untrusted, false),
            (redis::parse_redis_value(b"220 mail\r\n").expect_err("no RESP"), Outcome::Retry, Reason::InvalidAnswer, true),
        ];
        for (error, outcome, reason, ambiguous) in cases {
            let text = format!("{error:?}");
            let Setback { verdict, is_connection_over } = setback(&error, "redis:6379", &Redaction::default());
            assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (outcome, reason, ambiguous), "{text}");
            assert!(is_connection_over, "{text}");
        }
    }

    #[test]
    fn an_entry_that_is_there_leaves_doubt_whatever_stopped_it() {
        let refused =
            redis::parse_redis_value(b"-UNBLOCKED force unblock\r\n").expect("RESP").extract_error().expect_err("refused");
        for (halt, reason) in
            [(Halt::Short("0 of 1 replicas have it".to_owned()), Reason::Nacked), (Halt::Failed(refused), Reason::ServerError)]
        {
            let Setback { verdict, .. } = halted(&halt, "redis:6379", &Redaction::default());
            assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (Outcome::Retry, reason, true), "{halt:?}");
        }
    }
}
