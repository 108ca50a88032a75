//! Failures of a connection: the cause, whether the event may have left, one sentence about it, and the verdict. Reads the chain
//! of causes, whichever library made it. Prints the innermost error only, because it is the one that happened.

use std::error::Error;
use std::io;

use rustls::AlertDescription;

use crate::domain::{Reason, Verdict};

/// Why a name led to no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("the egress rules forbid every address of the host")]
    Blocked,
    #[error("could not resolve the host name")]
    Lookup(#[source] io::Error),
}

/// Why there is no complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    Dns,
    EgressBlocked,
    Refused,
    Unreachable,
    ConnectTimeout,
    /// The whole exchange took too long.
    Timeout,
    /// Broken after the connection stood; `sent`: the request may have arrived.
    Reset {
        sent: bool,
    },
    /// The handshake failed for another reason than trust.
    Tls {
        sent: bool,
    },
    Untrusted,
    /// The answer is not the protocol.
    Garbage,
    Unknown {
        sent: bool,
    },
}

/// The verdict for a failure. `detail` describes it, for display.
pub fn failed(failure: Failure, detail: String) -> Verdict {
    let (reason, sent) = match failure {
        Failure::EgressBlocked => return Verdict::handler_fault(Reason::EgressBlocked, detail),
        Failure::Untrusted => return Verdict::handler_fault(Reason::Untrusted, detail),
        Failure::Dns => (Reason::Dns, false),
        Failure::Refused | Failure::Unreachable => (Reason::ConnectionRefused, false),
        Failure::ConnectTimeout => (Reason::ConnectTimeout, false),
        Failure::Timeout => (Reason::Timeout, true),
        Failure::Reset { sent } => (Reason::ConnectionReset, sent),
        Failure::Tls { sent } => (Reason::Tls, sent),
        Failure::Garbage => (Reason::InvalidAnswer, true),
        Failure::Unknown { sent } => (Reason::Failed, sent),
    };
    let verdict = Verdict::retry(reason, detail);
    if sent { verdict.ambiguous() } else { verdict }
}

/// The kind of an error. `sent`: the connection stood, so the request may have left.
pub fn failure_of(error: &(dyn Error + 'static), sent: bool) -> Failure {
    let chain = std::iter::once(error).chain(causes(error));
    chain.filter_map(|cause| of_cause(cause, sent)).next().unwrap_or(Failure::Unknown { sent })
}

/// The innermost cause, which is what happened; the outer ones only say what it prevented.
pub fn root_text(error: &(dyn Error + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

/// The causes of an error, without itself. An I/O error hides the error it was made of from `source`, so it is unpacked here.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(cause_of(error), |cause| cause_of(*cause))
}

fn cause_of<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn of_cause(cause: &(dyn Error + 'static), sent: bool) -> Option<Failure> {
    if let Some(resolve) = cause.downcast_ref::<ResolveError>() {
        return Some(match resolve {
            ResolveError::Blocked => Failure::EgressBlocked,
            ResolveError::Lookup(_) => Failure::Dns,
        });
    }
    if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
        return Some(if is_about_trust(tls) { Failure::Untrusted } else { Failure::Tls { sent } });
    }
    if let Some(http) = cause.downcast_ref::<hyper::Error>() {
        return of_http(http);
    }
    cause.downcast_ref::<io::Error>().and_then(|io| of_io(io, sent))
}

// `None`: the cause below says more.
fn of_http(error: &hyper::Error) -> Option<Failure> {
    if error.is_parse() {
        Some(Failure::Garbage)
    } else if error.is_canceled() || error.is_closed() {
        // The connection was gone before the request was written to it.
        Some(Failure::Reset { sent: false })
    } else if error.is_incomplete_message() || error.is_body_write_aborted() {
        Some(Failure::Reset { sent: true })
    } else {
        None
    }
}

fn of_io(error: &io::Error, sent: bool) -> Option<Failure> {
    use io::ErrorKind::*;
    // The look-up of the platform has no kind of its own.
    if error.get_ref().is_some_and(|inner| inner.to_string().starts_with("failed to lookup address")) {
        return Some(Failure::Dns);
    }
    // Its source says more than its kind.
    if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>() || inner.is::<ResolveError>()) {
        return None;
    }
    match error.kind() {
        ConnectionRefused => Some(Failure::Refused),
        HostUnreachable | NetworkUnreachable | AddrNotAvailable | NetworkDown => Some(Failure::Unreachable),
        TimedOut if !sent => Some(Failure::ConnectTimeout),
        TimedOut => Some(Failure::Reset { sent }),
        // While connecting only the handshake reads: an end there is the receiver hanging up on it.
        UnexpectedEof if !sent => Some(Failure::Tls { sent }),
        ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected | UnexpectedEof => Some(Failure::Reset { sent }),
        // A body whose framing is broken.
        InvalidData | InvalidInput if sent => Some(Failure::Garbage),
        _ => None,
    }
}

/// Whether trying again is of no use until an operator changes a certificate.
fn is_about_trust(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => true,
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::CertificateRequired
                | AlertDescription::NoCertificate
                // The answer of a receiver whose CA was made anew under the same name.
                | AlertDescription::DecryptError
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Outcome;

    #[derive(Debug, thiserror::Error)]
    #[error("outer, with the url")]
    struct Outer(#[source] io::Error);

    #[test]
    fn causes_are_found_inside_io_errors() {
        let alert = |alert| rustls::Error::AlertReceived(alert);
        let tls = |error: rustls::Error| io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        let cases: [(io::Error, bool, Failure); 13] = [
            (io::Error::from(io::ErrorKind::ConnectionRefused), false, Failure::Refused),
            (io::Error::from(io::ErrorKind::NetworkUnreachable), false, Failure::Unreachable),
            (io::Error::from(io::ErrorKind::TimedOut), false, Failure::ConnectTimeout),
            (io::Error::from(io::ErrorKind::ConnectionReset), true, Failure::Reset { sent: true }),
            (io::Error::from(io::ErrorKind::BrokenPipe), false, Failure::Reset { sent: false }),
            (io::Error::from(io::ErrorKind::UnexpectedEof), false, Failure::Tls { sent: false }),
            (io::Error::from(io::ErrorKind::InvalidData), true, Failure::Garbage),
            (io::Error::other(ResolveError::Blocked), false, Failure::EgressBlocked),
            (io::Error::other(ResolveError::Lookup(io::ErrorKind::NotFound.into())), false, Failure::Dns),
            (tls(rustls::CertificateError::UnknownIssuer.into()), false, Failure::Untrusted),
            (tls(alert(AlertDescription::CertificateRequired)), true, Failure::Untrusted),
            (tls(alert(AlertDescription::HandshakeFailure)), false, Failure::Tls { sent: false }),
            (io::Error::other("something new"), true, Failure::Unknown { sent: true }),
        ];
        for (cause, sent, want) in cases {
            let text = format!("{cause:?}");
            assert_eq!(failure_of(&Outer(cause), sent), want, "{text}");
        }
    }

    #[test]
    fn every_failure_says_whether_the_event_may_have_arrived() {
        let cases: [(Failure, Outcome, Reason, bool); 14] = [
            (Failure::Dns, Outcome::Retry, Reason::Dns, false),
            (Failure::EgressBlocked, Outcome::HandlerFault, Reason::EgressBlocked, false),
            (Failure::Refused, Outcome::Retry, Reason::ConnectionRefused, false),
            (Failure::Unreachable, Outcome::Retry, Reason::ConnectionRefused, false),
            (Failure::ConnectTimeout, Outcome::Retry, Reason::ConnectTimeout, false),
            (Failure::Timeout, Outcome::Retry, Reason::Timeout, true),
            (Failure::Reset { sent: false }, Outcome::Retry, Reason::ConnectionReset, false),
            (Failure::Reset { sent: true }, Outcome::Retry, Reason::ConnectionReset, true),
            (Failure::Tls { sent: false }, Outcome::Retry, Reason::Tls, false),
            (Failure::Tls { sent: true }, Outcome::Retry, Reason::Tls, true),
            (Failure::Untrusted, Outcome::HandlerFault, Reason::Untrusted, false),
            (Failure::Garbage, Outcome::Retry, Reason::InvalidAnswer, true),
            (Failure::Unknown { sent: false }, Outcome::Retry, Reason::Failed, false),
            (Failure::Unknown { sent: true }, Outcome::Retry, Reason::Failed, true),
        ];
        for (failure, outcome, reason, ambiguous) in cases {
            let verdict = failed(failure, String::new());
            assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (outcome, reason, ambiguous), "{failure:?}");
        }
    }

    #[test]
    fn the_text_is_that_of_the_innermost_cause() {
        assert_eq!(root_text(&Outer(io::Error::other(io::Error::other("no luck")))), "no luck");
    }
}
