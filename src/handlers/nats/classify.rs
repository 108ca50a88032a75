//! Classification: from an answer, or from the lack of one, to a verdict. Pure: one table for each kind of error of the client
//! library.

use std::error::Error;
use std::io;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{ConnectError, ConnectErrorKind, ServerError};

use super::super::failure::{Failure, failed, failure_of, root_text};
use super::notices::Refused;
use super::settings::Server;
use crate::domain::{Reason, Verdict};

/// The stream has the event.
pub fn acknowledged(ack: &PublishAck) -> Verdict {
    if ack.duplicate { Verdict::duplicate() } else { Verdict::delivered() }
}

/// No stream took the event, or none said so.
pub fn unacknowledged(error: &PublishError, subject: &str) -> Verdict {
    if let Some(refusal) = error.source().and_then(<dyn Error>::downcast_ref::<jetstream::Error>) {
        return refused(refusal);
    }
    match error.kind() {
        PublishErrorKind::StreamNotFound => unroutable(subject),
        PublishErrorKind::MaxPayloadExceeded => too_large(error),
        PublishErrorKind::TimedOut => Verdict::retry(Reason::Timeout, "no acknowledgement in time").ambiguous(),
        PublishErrorKind::BrokenPipe => broken(),
        _ => Verdict::retry(Reason::InvalidAnswer, format!("got no acknowledgement but {}", root_text(error))).ambiguous(),
    }
}

/// The publish did not leave the client.
pub fn unsent(error: &PublishError) -> Verdict {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => too_large(error),
        _ => Verdict::retry(Reason::ConnectionReset, "the connection was lost before the event was sent"),
    }
}

/// The connection was lost while the answer was awaited.
pub fn broken() -> Verdict {
    Verdict::retry(Reason::ConnectionReset, "the connection broke before the acknowledgement").ambiguous()
}

/// This subject has no responder.
pub fn unroutable(subject: &str) -> Verdict {
    Verdict::handler_fault(Reason::Unroutable, format!("no stream takes the subject {subject}")).with_status(503).of_destination()
}

/// The server let the publish, or everything that could answer it, fall.
pub fn forbidden(refused: Refused) -> Verdict {
    match refused {
        Refused::Publish(subject) => {
            Verdict::handler_fault(Reason::Unauthorized, format!("the user must not publish to {subject}")).of_destination()
        }
        // The event may be stored; the user has to be changed all the same before anybody can know.
        Refused::Inbox(text) => Verdict::handler_fault(
            Reason::Unauthorized,
            format!("no acknowledgement can arrive, inbox_prefix must be one that the user may subscribe to: {text}"),
        )
        .ambiguous(),
    }
}

/// The verdict for a stream that did not store the event. The status is the error code of JetStream.
fn refused(error: &jetstream::Error) -> Verdict {
    use ErrorCode as Code;
    let text = error.to_string();
    let code = error.error_code();
    let verdict = match code {
        Code::STREAM_NOT_MATCH => Verdict::handler_fault(
            Reason::Misconfigured,
            format!("the subject belongs to another stream than the configured: {text}"),
        )
        .of_destination(),
        Code::STREAM_NOT_FOUND => Verdict::handler_fault(Reason::NotFound, text).of_destination(),
        Code::NO_ACCOUNT | Code::JETSTREAM_NOT_ENABLED | Code::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
            Verdict::handler_fault(Reason::NotFound, text)
        }
        Code::STREAM_SEALED | Code::MESSAGE_INCR_MISSING => Verdict::handler_fault(Reason::Misconfigured, text).of_destination(),
        Code::STREAM_STORE_FAILED => Verdict::back_pressure(Reason::Full, None, text).of_destination(),
        Code::INSUFFICIENT_RESOURCES
        | Code::ACCOUNT_RESOURCES_EXCEEDED
        | Code::MEMORY_RESOURCES_EXCEEDED
        | Code::STORAGE_RESOURCES_EXCEEDED
        | Code::TEMP_STORAGE_FAILED => Verdict::back_pressure(Reason::Full, None, text),
        Code::STREAM_TOO_MANY_REQUESTS => Verdict::back_pressure(Reason::Throttled, None, text),
        Code::STREAM_MESSAGE_EXCEEDS_MAXIMUM | Code::STREAM_HEADER_EXCEEDS_MAXIMUM => Verdict::permanent(Reason::TooLarge, text),
        // An earlier attempt at the same event is still on its way through the cluster.
        Code::STREAM_DUPLICATE_MESSAGE_CONFLICT => Verdict::retry(Reason::Nacked, text),
        _ if error.code() >= 500 => Verdict::retry(Reason::ServerError, text),
        _ => Verdict::retry(Reason::ClientError, text),
    };
    match u16::try_from(code.0) {
        Ok(status) if status > 0 => verdict.with_status(status),
        _ => verdict,
    }
}

fn too_large(error: &PublishError) -> Verdict {
    Verdict::permanent(Reason::TooLarge, format!("the server's max_payload, which counts headers: {}", root_text(error)))
}

/// Why there is no connection to this server.
pub fn unconnected(error: &ConnectError, server: &Server) -> Verdict {
    let mut verdict = match refused_by(error) {
        Some(refusal) => refused_connection(refusal),
        None => not_connected(error),
    };
    verdict.detail = format!("{}: {}", server.name, verdict.detail);
    if !server.is_encrypted && matches!(verdict.reason, Reason::Untrusted | Reason::Tls) {
        verdict.detail.push_str(", the server wants TLS: write tls:// in servers");
    }
    if server.is_encrypted && verdict.detail.contains("received corrupt message") {
        verdict.detail.push_str(", the server does not speak TLS: write nats:// in servers");
    }
    verdict
}

fn not_connected(error: &ConnectError) -> Verdict {
    let text = root_text(error);
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => Verdict::handler_fault(Reason::Unauthorized, "authorization violation"),
        ConnectErrorKind::Authentication => Verdict::handler_fault(Reason::Unauthorized, text),
        ConnectErrorKind::Dns => Verdict::retry(Reason::Dns, text),
        ConnectErrorKind::TimedOut => Verdict::retry(Reason::ConnectTimeout, "no connection in time"),
        ConnectErrorKind::Tls | ConnectErrorKind::ServerParse => Verdict::handler_fault(Reason::Misconfigured, text),
        ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => match failure_of(error, false) {
            // As good as no server: a balancer without servers behind it does just this.
            Failure::Reset { .. } => hung_up(),
            Failure::Unknown { .. } if is_foreign(error, &text) => {
                Verdict::handler_fault(Reason::InvalidAnswer, format!("no NATS server: {text}"))
            }
            Failure::Unknown { .. } => hung_up(),
            failure => failed(failure, text),
        },
    }
}

fn hung_up() -> Verdict {
    Verdict::retry(Reason::ConnectionRefused, "the connection was closed before it was established")
}

/// Something answered, in another language.
fn is_foreign(error: &ConnectError, text: &str) -> bool {
    let io = error.source().and_then(<dyn Error>::downcast_ref::<io::Error>);
    let is_unreadable = io.is_some_and(|io| matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData));
    is_unreadable || (text.starts_with("expected INFO") && text != "expected INFO, got nothing")
}

fn refused_by(error: &ConnectError) -> Option<&str> {
    match error.source()?.downcast_ref::<ServerError>()? {
        ServerError::Other(text) => Some(text),
        ServerError::AuthorizationViolation => Some("authorization violation"),
        _ => None, // about reading, which we do not
    }
}

/// A server that answers and refuses the connection says why in a few words.
fn refused_connection(text: &str) -> Verdict {
    let lower = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["authorization", "authentication", "user jwt", "revoked", "expired"]) {
        Verdict::handler_fault(Reason::Unauthorized, text)
    } else if says(&["maximum", "connections exceeded"]) {
        Verdict::back_pressure(Reason::Throttled, None, text)
    } else {
        Verdict::handler_fault(Reason::Misconfigured, format!("the server refused the connection: {text}"))
    }
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;
    use crate::domain::Outcome::{self, *};

    fn said(code: usize, err_code: u64) -> jetstream::Error {
        let json = serde_json::json!({ "code": code, "err_code": err_code, "description": "said" });
        serde_json::from_value(json).expect("an error of JetStream")
    }

    fn facts(verdict: &Verdict) -> (Outcome, Reason, bool) {
        (verdict.outcome, verdict.reason, verdict.ambiguous)
    }

    #[test]
    fn every_answer_of_a_stream_has_one_meaning() {
        for (code, err_code, outcome, reason) in [
            (400, 10060, HandlerFault, Reason::Misconfigured),
            (404, 10059, HandlerFault, Reason::NotFound),
            (503, 10039, HandlerFault, Reason::NotFound),
            (503, 10076, HandlerFault, Reason::NotFound),
            (400, 10109, HandlerFault, Reason::Misconfigured),
            (503, 10077, BackPressure, Reason::Full),
            (503, 10023, BackPressure, Reason::Full),
            (400, 10002, BackPressure, Reason::Full),
            (500, 10028, BackPressure, Reason::Full),
            (500, 10047, BackPressure, Reason::Full),
            (429, 10167, BackPressure, Reason::Throttled),
            (400, 10054, Permanent, Reason::TooLarge),
            (400, 10097, Permanent, Reason::TooLarge),
            (409, 10158, Retry, Reason::Nacked),
            (503, 10008, Retry, Reason::ServerError),
            (400, 10003, Retry, Reason::ClientError),
            (400, 0, Retry, Reason::ClientError),
        ] {
            let error = PublishError::with_source(PublishErrorKind::Other, said(code, err_code));
            let verdict = unacknowledged(&error, "orders");
            assert_eq!(facts(&verdict), (outcome, reason, false), "{err_code}");
            assert_eq!(verdict.status.map(u64::from), Some(err_code).filter(|code| *code > 0));
            assert!(verdict.detail.contains("said"), "{}", verdict.detail);
        }
    }

    #[test]
    fn silence_is_in_doubt_and_nobody_there_is_not() {
        for (kind, want) in [
            (PublishErrorKind::StreamNotFound, (HandlerFault, Reason::Unroutable, false)),
            (PublishErrorKind::MaxPayloadExceeded, (Permanent, Reason::TooLarge, false)),
            (PublishErrorKind::TimedOut, (Retry, Reason::Timeout, true)),
            (PublishErrorKind::BrokenPipe, (Retry, Reason::ConnectionReset, true)),
            (PublishErrorKind::Other, (Retry, Reason::InvalidAnswer, true)),
        ] {
            assert_eq!(facts(&unacknowledged(&PublishError::new(kind), "orders")), want, "{kind:?}");
        }
        assert_eq!(facts(&unsent(&PublishError::new(PublishErrorKind::Other))), (Retry, Reason::ConnectionReset, false));
        assert_eq!(facts(&unsent(&PublishError::new(PublishErrorKind::MaxPayloadExceeded))), (Permanent, Reason::TooLarge, false));
    }

    #[test]
    fn a_publish_without_permission_is_a_fault_and_in_doubt_only_without_an_inbox() {
        assert_eq!(facts(&forbidden(Refused::Publish("\"x\"".into()))), (HandlerFault, Reason::Unauthorized, false));
        assert_eq!(facts(&forbidden(Refused::Inbox("x".into()))), (HandlerFault, Reason::Unauthorized, true));
    }

    #[test]
    fn acknowledgements_know_duplicates() {
        let ack = |duplicate| PublishAck { duplicate, ..PublishAck::default() };
        assert_eq!((acknowledged(&ack(false)).outcome, acknowledged(&ack(true)).outcome), (Delivered, Duplicate));
    }

    #[test]
    fn an_outage_is_unreachable_and_a_refusal_says_whose_fault_it_is() {
        let server = |is_encrypted| Server { address: "nats://a".parse().expect("valid"), name: "a:4222".to_owned(), is_encrypted };
        let io = |error: io::Error| ConnectError::with_source(ConnectErrorKind::Io, error);
        let tls = |error: rustls::Error| io(io::Error::new(io::ErrorKind::InvalidData, error));
        let says = |text: &str| ConnectError::with_source(ConnectErrorKind::Io, ServerError::Other(text.to_owned()));
        let cases: Vec<(ConnectError, (Outcome, Reason, bool))> = vec![
            (io(io::ErrorKind::ConnectionRefused.into()), (Retry, Reason::ConnectionRefused, false)),
            (io(io::ErrorKind::ConnectionReset.into()), (Retry, Reason::ConnectionRefused, false)),
            (
                io(io::Error::new(io::ErrorKind::InvalidInput, "invalid server operation: '220'")),
                (HandlerFault, Reason::InvalidAnswer, false),
            ),
            (
                ConnectError::with_source(ConnectErrorKind::Io, "expected INFO, got nothing"),
                (Retry, Reason::ConnectionRefused, false),
            ),
            (
                ConnectError::with_source(ConnectErrorKind::Io, "expected INFO, got Ping"),
                (HandlerFault, Reason::InvalidAnswer, false),
            ),
            (ConnectError::with_source(ConnectErrorKind::Io, "broken pipe"), (Retry, Reason::ConnectionRefused, false)),
            (ConnectError::new(ConnectErrorKind::TimedOut), (Retry, Reason::ConnectTimeout, false)),
            (ConnectError::new(ConnectErrorKind::Dns), (Retry, Reason::Dns, false)),
            (ConnectError::new(ConnectErrorKind::AuthorizationViolation), (HandlerFault, Reason::Unauthorized, false)),
            (ConnectError::new(ConnectErrorKind::Authentication), (HandlerFault, Reason::Unauthorized, false)),
            (says("Authentication Timeout"), (HandlerFault, Reason::Unauthorized, false)),
            (says("maximum connections exceeded"), (BackPressure, Reason::Throttled, false)),
            (says("Secure Connection - TLS Required"), (HandlerFault, Reason::Misconfigured, false)),
            (tls(rustls::CertificateError::UnknownIssuer.into()), (HandlerFault, Reason::Untrusted, false)),
            (tls(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)), (HandlerFault, Reason::Untrusted, false)),
            (tls(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)), (Retry, Reason::Tls, false)),
        ];
        for (error, want) in cases {
            let verdict = unconnected(&error, &server(true));
            assert_eq!(facts(&verdict), want, "{error:?}");
            assert!(verdict.detail.starts_with("a:4222: ") && !verdict.detail.contains("tls://"), "{}", verdict.detail);
        }
        let unexpected = unconnected(&tls(rustls::CertificateError::UnknownIssuer.into()), &server(false));
        assert!(unexpected.detail.ends_with("write tls:// in servers"), "{}", unexpected.detail);
        let plain = tls(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType));
        let unexpected = unconnected(&plain, &server(true));
        assert_eq!(facts(&unexpected), (Retry, Reason::Tls, false));
        assert!(unexpected.detail.ends_with("write nats:// in servers"), "{}", unexpected.detail);
    }
}
