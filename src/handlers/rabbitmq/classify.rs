//! Classification: from the broker's answers and the errors of the client library to verdicts. Pure: one table for reply codes.

use lapin::{Confirmation, Error, ErrorKind};

use super::super::failure::{self, Failure};
use super::settings::Unroutable;
use crate::domain::{Reason, Verdict};

/// How far an attempt had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// There was no connection yet.
    Connecting,
    /// Nothing of the event had left.
    Unsent,
    /// The broker may have the event. What closed the channel was its own: it was the only one there.
    Sent,
}

/// What a confirmation of an event for this exchange and key means.
pub fn confirmed(confirmation: &Confirmation, unroutable: Unroutable, (exchange, key): (&str, &str)) -> Verdict {
    match (confirmation, unroutable) {
        (Confirmation::Ack(None), _) | (Confirmation::Ack(Some(_)), Unroutable::Accept) => Verdict::delivered(),
        (Confirmation::Ack(Some(returned)), Unroutable::Fault) => {
            let nowhere = match exchange {
                "" => format!("there is no queue \"{key}\""),
                _ => format!("no queue is bound to the exchange \"{exchange}\" for the key \"{key}\""),
            };
            let detail = format!("{nowhere} ({} {})", returned.reply_code, returned.reply_text);
            Verdict::handler_fault(Reason::Unroutable, detail).with_status(returned.reply_code).of_destination()
        }
        (Confirmation::Nack(_), _) => {
            let detail =
                format!("the broker did not take an event for the key \"{key}\": a queue is full or has failed (basic.nack)");
            Verdict::back_pressure(Reason::Nacked, None, detail).of_destination()
        }
        // It would mean that the channel is not in confirm mode, and then the outcome is unknown.
        (Confirmation::NotRequested, _) => Verdict::retry(Reason::InvalidAnswer, "the broker confirms nothing").ambiguous(),
    }
}

/// The broker accepts nothing from any client.
pub fn blocked(stage: Stage, target: &str) -> Verdict {
    let detail = format!("{target} blocks publishers: it is short of memory or disk (connection.blocked)");
    mark(Verdict::back_pressure(Reason::Full, None, detail), stage)
}

/// The verdict for an error. `detail` describes it, for display.
pub fn failed(error: &Error, stage: Stage, detail: String) -> Verdict {
    match error.kind() {
        ErrorKind::ProtocolError(answer) => answered(answer.get_id(), answer.get_message().as_str(), stage, detail),
        ErrorKind::IOError(_) | ErrorKind::RuntimeShutdownError(_) => failure::failed(failure_of(error, stage), detail),
        ErrorKind::ChannelsLimitReached => Verdict::back_pressure(Reason::Throttled, None, detail),
        ErrorKind::AuthProviderError(_) => mark(Verdict::handler_fault(Reason::Unauthorized, detail), stage),
        ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_) => {
            mark(Verdict::retry(Reason::InvalidAnswer, detail), stage)
        }
        ErrorKind::MissingHeartbeatError
        | ErrorKind::InvalidChannel(_)
        | ErrorKind::InvalidChannelState(..)
        | ErrorKind::InvalidConnectionState(_) => mark(Verdict::retry(Reason::ConnectionReset, detail), stage),
        _ => mark(Verdict::retry(Reason::Failed, detail), stage),
    }
}

/// The channel was closed, over one of those that were on it; the connection goes on.
pub fn is_about_channel(error: &Error) -> bool {
    error.is_amqp_soft_error() || matches!(error.kind(), ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidChannel(_))
}

/// The peer closed the connection without a word.
pub fn is_hang_up(error: &Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let ErrorKind::IOError(io) = error.kind() else { return false };
    matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Something else than TLS came in answer to TLS.
pub fn is_not_tls(error: &Error) -> bool {
    let ErrorKind::IOError(io) = error.kind() else { return false };
    let tls = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidMessage(_)))
}

// A balancer without a broker behind it takes a connection and drops it: no broker was reached, as if it had been refused.
fn failure_of(error: &Error, stage: Stage) -> Failure {
    match failure::failure_of(error, stage == Stage::Sent) {
        Failure::Reset { .. } if stage == Stage::Connecting => Failure::Refused,
        failure => failure,
    }
}

/// A reply code of AMQP 0-9-1, with which the broker closes a channel or the connection.
fn answered(code: u16, text: &str, stage: Stage, detail: String) -> Verdict {
    // The broker closes the channel of one event over these; it is clear which, and that it has not taken it.
    let own = match code {
        311 => Some(Verdict::permanent(Reason::TooLarge, &*detail)),
        406 if stage == Stage::Sent && text.contains("size") => Some(Verdict::permanent(Reason::TooLarge, &*detail)),
        403 => Some(Verdict::handler_fault(Reason::Unauthorized, &*detail)),
        404 => Some(Verdict::handler_fault(Reason::NotFound, &*detail)),
        _ => None,
    };
    let verdict = own.unwrap_or_else(|| mark(refused(code, text, stage, detail), stage));
    verdict.with_status(code)
}

fn refused(code: u16, text: &str, stage: Stage, detail: String) -> Verdict {
    match code {
        320 => Verdict::retry(Reason::ConnectionReset, detail),
        406 if stage != Stage::Sent => Verdict::handler_fault(Reason::Misconfigured, detail),
        402 | 540 => Verdict::handler_fault(Reason::Misconfigured, detail),
        501..=505 => Verdict::retry(Reason::InvalidAnswer, detail),
        506 => Verdict::back_pressure(Reason::Full, None, detail),
        530 if text.contains("limit") => Verdict::back_pressure(Reason::Throttled, None, detail),
        530 if text.contains("not found") => Verdict::handler_fault(Reason::NotFound, detail),
        530 => Verdict::handler_fault(Reason::Unauthorized, detail),
        _ => Verdict::retry(Reason::ServerError, detail),
    }
}

fn mark(verdict: Verdict, stage: Stage) -> Verdict {
    if stage == Stage::Sent { verdict.ambiguous() } else { verdict }
}

#[cfg(test)]
mod tests {
    use std::io;

    use lapin::protocol::{AMQPError, AMQPHardError};

    use super::*;
    use crate::domain::Outcome::{self, BackPressure, HandlerFault, Permanent, Retry};

    const ALL: [Stage; 3] = [Stage::Connecting, Stage::Unsent, Stage::Sent];

    fn protocol(code: u16, text: &str) -> Error {
        ErrorKind::ProtocolError(AMQPError::from_id(code, text.into()).expect("a known code")).into()
    }

    fn said(error: &Error, stage: Stage) -> (Outcome, Reason, bool) {
        let verdict = failed(error, stage, String::new());
        (verdict.outcome, verdict.reason, verdict.ambiguous)
    }

    #[test]
    fn every_reply_code_means_one_thing() {
        for (code, text, want) in [
            (311, "CONTENT_TOO_LARGE", (Permanent, Reason::TooLarge, false)),
            (
                320,
                "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
                (Retry, Reason::ConnectionReset, true),
            ),
            (402, "INVALID_PATH", (HandlerFault, Reason::Misconfigured, true)),
            (403, "ACCESS_REFUSED - write access to exchange 'x' refused", (HandlerFault, Reason::Unauthorized, false)),
            (404, "NOT_FOUND - no exchange 'x' in vhost '/'", (HandlerFault, Reason::NotFound, false)),
            (405, "RESOURCE_LOCKED", (Retry, Reason::ServerError, true)),
            (
                406,
                "PRECONDITION_FAILED - message size 9 is larger than configured max size 8",
                (Permanent, Reason::TooLarge, false),
            ),
            (406, "PRECONDITION_FAILED - something else", (Retry, Reason::ServerError, true)),
            (501, "FRAME_ERROR", (Retry, Reason::InvalidAnswer, true)),
            (505, "UNEXPECTED_FRAME", (Retry, Reason::InvalidAnswer, true)),
            (506, "RESOURCE_ERROR", (BackPressure, Reason::Full, true)),
            (530, "NOT_ALLOWED - vhost x not found", (HandlerFault, Reason::NotFound, true)),
            (540, "NOT_IMPLEMENTED", (HandlerFault, Reason::Misconfigured, true)),
            (541, "INTERNAL_ERROR", (Retry, Reason::ServerError, true)),
        ] {
            assert_eq!(said(&protocol(code, text), Stage::Sent), want, "{code} {text}");
            assert_eq!(failed(&protocol(code, text), Stage::Sent, String::new()).status, Some(code));
        }
    }

    #[test]
    fn a_refused_log_in_says_why() {
        for (code, text, want) in [
            (403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN", (HandlerFault, Reason::Unauthorized)),
            (406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x'", (HandlerFault, Reason::Misconfigured)),
            (530, "NOT_ALLOWED - vhost nope not found", (HandlerFault, Reason::NotFound)),
            (530, "NOT_ALLOWED - access to vhost '/' refused for user 'x'", (HandlerFault, Reason::Unauthorized)),
            (
                530,
                "NOT_ALLOWED - access to vhost '/' refused for user 'x': connection limit (1) is reached",
                (BackPressure, Reason::Throttled),
            ),
            (541, "INTERNAL_ERROR - access to vhost '/' refused for user 'x': vhost is down", (Retry, Reason::ServerError)),
        ] {
            let (outcome, reason) = want;
            assert_eq!(said(&protocol(code, text), Stage::Connecting), (outcome, reason, false), "{text}");
        }
    }

    #[test]
    fn a_lost_connection_is_ambiguous_only_when_something_was_sent() {
        let reset = || Error::from(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(said(&reset(), Stage::Connecting), (Retry, Reason::ConnectionRefused, false));
        assert_eq!(said(&reset(), Stage::Unsent), (Retry, Reason::ConnectionReset, false));
        assert_eq!(said(&reset(), Stage::Sent), (Retry, Reason::ConnectionReset, true));
        for stage in ALL {
            let is_sent = stage == Stage::Sent;
            let silent = Error::from(ErrorKind::MissingHeartbeatError);
            assert_eq!(said(&silent, stage), (Retry, Reason::ConnectionReset, is_sent));
            assert_eq!(said(&ErrorKind::FutureCompleted.into(), stage), (Retry, Reason::Failed, is_sent));
            assert_eq!(said(&ErrorKind::ChannelsLimitReached.into(), stage), (BackPressure, Reason::Throttled, false));
            assert_eq!(blocked(stage, "rabbit:5672").ambiguous, is_sent);
        }
    }

    #[test]
    fn an_outage_never_buries_an_event() {
        for code in (0..1000).filter(|code| !matches!(code, 311 | 406)) {
            for stage in ALL {
                let error = AMQPError::from_id(code, "some text".into());
                let kind = error.map_or(
                    ErrorKind::ProtocolError(AMQPError::new(AMQPHardError::INTERNALERROR.into(), "x".into())),
                    ErrorKind::ProtocolError,
                );
                assert_ne!(failed(&kind.into(), stage, String::new()).outcome, Permanent, "{code} {stage:?}");
            }
        }
    }

    #[test]
    fn a_confirmation_counts_only_if_a_queue_has_the_event() {
        let said = |confirmation: Confirmation| {
            let verdict = confirmed(&confirmation, Unroutable::Fault, ("x", "y"));
            (verdict.outcome, verdict.reason, verdict.ambiguous)
        };
        assert_eq!(said(Confirmation::Ack(None)), (Outcome::Delivered, Reason::Ok, false));
        assert_eq!(said(Confirmation::Nack(None)), (BackPressure, Reason::Nacked, false));
        assert_eq!(said(Confirmation::NotRequested), (Retry, Reason::InvalidAnswer, true));
    }
}
