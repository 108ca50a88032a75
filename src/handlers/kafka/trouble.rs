//! Trouble with the brokers, as librdkafka reports it while it connects and reconnects by itself, and its meaning for an event
//! that never left. The text of a report decides where the code does not: librdkafka has one code for every failure of a
//! connection.

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::domain::{Reason, Verdict};

/// The last that was heard of a broker that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    code: Code,
    text: String,
}

/// Errors of OpenSSL when one side does not trust the other.
const DISTRUST: &[&str] = &[
    "certificate verify failed",
    "did not provide a certificate",
    "verify broker certificate",
    "alert unknown ca",
    "alert bad certificate",
    "alert unsupported certificate",
    "alert certificate",
    "certificate required",
    "alert access denied",
    // The answer of a broker whose CA was made anew under the same name.
    "alert decrypt error",
];
const NOBODY_THERE: &[&str] = &["Connection refused", "No route to host", "unreachable", "Host is down"];

impl Trouble {
    pub fn new(code: Code, text: &str) -> Self {
        Self { code, text: plain(text) }
    }

    /// The verdict for an event that was not sent because of it.
    pub fn verdict(&self) -> Verdict {
        let says = |texts: &[&str]| texts.iter().any(|text| self.text.contains(text));
        let detail = self.text.clone();
        if says(DISTRUST) {
            return Verdict::handler_fault(Reason::Untrusted, detail);
        }
        match self.code {
            // The connection broke while it logged in; that says nothing about the password.
            Code::Authentication if says(&["Local: Broker transport failure", "Local: Timed out"]) => {
                Verdict::retry(Reason::ConnectionReset, detail)
            }
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::IllegalSASLState => {
                Verdict::handler_fault(Reason::Unauthorized, detail)
            }
            Code::Resolve => Verdict::retry(Reason::Dns, detail),
            Code::SSL => Verdict::retry(Reason::Tls, detail),
            _ if says(&["SSL handshake failed"]) => Verdict::retry(Reason::Tls, detail),
            _ if says(NOBODY_THERE) => Verdict::retry(Reason::ConnectionRefused, detail),
            _ if says(&["timed out"]) => Verdict::retry(Reason::ConnectTimeout, detail),
            Code::BadMessage | Code::Underflow => Verdict::retry(Reason::InvalidAnswer, detail),
            _ => Verdict::retry(Reason::ConnectionReset, detail),
        }
    }
}

/// Without the thread before it and the times after it, which differ from one time to the next and say nothing, and with our settings
/// where it advises to change its own.
fn plain(text: &str) -> String {
    let text = text.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(text, |(_, rest)| rest);
    let text = text.rfind(" (after ").map_or(text, |place| &text[..place]);
    let text = text.split(", verify that ssl.ca.location").next().unwrap_or(text);
    text.trim().replace("security.protocol", "tls and sasl_mechanism")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Outcome::{HandlerFault, Retry};

    #[test]
    fn every_trouble_has_its_reason() {
        for (code, text, outcome, reason) in [
            (
                Code::BrokerTransportFailure,
                "b:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
                Retry,
                Reason::ConnectionRefused,
            ),
            (
                Code::BrokerTransportFailure,
                "b:1/bootstrap: Connect to ipv4#10.0.0.1:1 failed: No route to host (after 0ms in state CONNECT)",
                Retry,
                Reason::ConnectionRefused,
            ),
            (
                Code::BrokerTransportFailure,
                "b:1/1: Connection setup timed out in state CONNECT (after 5001ms in state CONNECT)",
                Retry,
                Reason::ConnectTimeout,
            ),
            (Code::BrokerTransportFailure, "b:1/1: Disconnected (after 9ms in state UP)", Retry, Reason::ConnectionReset),
            (Code::Resolve, "b:1/bootstrap: Failed to resolve 'b:1': Name or service not known", Retry, Reason::Dns),
            (Code::SSL, "ssl://b:1/1: SSL handshake failed: error:0A00010B:SSL routines::wrong version number", Retry, Reason::Tls),
            (
                Code::BrokerTransportFailure,
                "ssl://b:1/1: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?",
                Retry,
                Reason::Tls,
            ),
            (
                Code::SSL,
                "ssl://b:1/1: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified",
                HandlerFault,
                Reason::Untrusted,
            ),
            (
                Code::BrokerTransportFailure,
                "ssl://b:1/1: Disconnected: error:0A00045C:SSL routines::tlsv13 alert certificate required",
                HandlerFault,
                Reason::Untrusted,
            ),
            (
                Code::Authentication,
                "sasl_ssl://b:1/1: SASL authentication error: Authentication failed (after 3ms in state AUTH_REQ)",
                HandlerFault,
                Reason::Unauthorized,
            ),
            (
                Code::Authentication,
                "b:1/1: SASL PLAIN mechanism handshake failed: Local: Broker transport failure: broker's supported mechanisms: (n/a)",
                Retry,
                Reason::ConnectionReset,
            ),
            (Code::BadMessage, "b:1/1: Receive failed: Invalid response size 842018866", Retry, Reason::InvalidAnswer),
        ] {
            let verdict = Trouble::new(code, text).verdict();
            assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (outcome, reason, false), "{text}");
        }
    }

    #[test]
    fn a_text_is_the_same_every_time() {
        let trouble = Trouble::new(
            Code::BrokerTransportFailure,
            "[thrd:b:1/1]: b:1/1: Disconnected (after 9ms in state UP, 1 identical error(s) suppressed)",
        );
        assert_eq!(trouble.verdict().detail, "b:1/1: Disconnected");
        let advice = Trouble::new(Code::SSL, "b:1/1: certificate could not be verified, verify that ssl.ca.location is right");
        assert_eq!(advice.verdict().detail, "b:1/1: certificate could not be verified");
    }
}
