//! Classification: from the answers of a broker to verdicts. Pure: one table for each packet type. The numbers are those of MQTT
//! 5, section 2.4; the client library has a type for each packet's own selection of them.

use rumqttc::mqttbytes::Error as PacketError;
use rumqttc::{ConnectReturnCode, ConnectionError, PublishResult, StateError};

use super::super::failure::{Failure, failed, failure_of, root_text};
use crate::domain::{Reason, Verdict};

const NO_MATCH: u8 = 0x10;
const NOT_AUTHORIZED: u8 = 0x87;
const TOPIC_INVALID: u8 = 0x90;
const TOO_LARGE: u8 = 0x95;
const QUOTA_EXCEEDED: u8 = 0x97;

/// The settings that change the table.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// A missing subscriber is a fault.
    pub must_be_routed: bool,
    /// A topic that the broker refuses is the configuration's, not the event's.
    pub has_constant_topic: bool,
}

/// How a connection ended.
#[derive(Debug, Clone)]
pub struct End {
    /// For an event that was not sent; for one that was, it is ambiguous.
    pub verdict: Verdict,
    /// The broker ended it because of one event, for this reason.
    pub refusal: Option<u8>,
}

/// The verdict for the acknowledgement of a message.
pub fn answered(result: PublishResult, rules: Rules) -> Verdict {
    let (code, said) = match result {
        PublishResult::Qos1(ack) => (ack.reason as u8, ack.properties.and_then(|properties| properties.reason_string)),
        PublishResult::Qos2PubRecRejected(rec) => {
            (rec.reason as u8, rec.properties.and_then(|properties| properties.reason_string))
        }
        PublishResult::Qos2Completed(comp) => (comp.reason as u8, comp.properties.and_then(|properties| properties.reason_string)),
        PublishResult::Qos0Flushed => return Verdict::retry(Reason::InvalidAnswer, "nothing was acknowledged").ambiguous(),
    };
    about_event(code, said.as_deref(), rules)
}

/// The verdict for a reason code about one event.
pub fn about_event(code: u8, said: Option<&str>, rules: Rules) -> Verdict {
    let text = told(code, said);
    let verdict = match code {
        0x00 => return Verdict::delivered(),
        NO_MATCH if rules.must_be_routed => Verdict::handler_fault(Reason::Unroutable, text).of_destination(),
        NO_MATCH => Verdict { detail: text, ..Verdict::delivered() },
        NOT_AUTHORIZED => Verdict::handler_fault(Reason::Unauthorized, text).of_destination(),
        QUOTA_EXCEEDED => Verdict::back_pressure(Reason::Full, None, text).of_destination(),
        TOPIC_INVALID if rules.has_constant_topic => Verdict::handler_fault(Reason::Misconfigured, text),
        TOPIC_INVALID => Verdict::permanent(Reason::Unaddressable, text),
        // The second half of an exchange whose first half the broker has forgotten.
        0x92 => Verdict::retry(Reason::Nacked, text).ambiguous(),
        TOO_LARGE => Verdict::permanent(Reason::TooLarge, text),
        0x99 => Verdict::permanent(Reason::Nacked, text),
        _ => wants_less(code, &text).unwrap_or_else(|| Verdict::retry(Reason::Nacked, text)),
    };
    verdict.with_status(code.into())
}

/// Whether a reason code speaks of the topic rather than of the event.
pub fn is_about_topic(code: u16) -> bool {
    [NO_MATCH, NOT_AUTHORIZED, TOPIC_INVALID].contains(&u8::try_from(code).unwrap_or_default())
}

/// Why there is no connection.
pub fn not_connected(error: &ConnectionError) -> Verdict {
    match error {
        ConnectionError::ConnectionRefused(code) => refused(*code),
        ConnectionError::Timeout(_) => failed(Failure::ConnectTimeout, "no answer to the connect packet in time".to_owned()),
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            failed(Failure::Reset { sent: false }, "the broker hung up instead of answering; does it want TLS?".to_owned())
        }
        // Nothing of an event had been sent.
        _ => Verdict { ambiguous: false, ..broken(error) },
    }
}

fn refused(code: ConnectReturnCode) -> Verdict {
    use ConnectReturnCode::*;
    let fault = |reason, text: &str| Verdict::handler_fault(reason, format!("the broker refuses the connection: {text}"));
    let less = |reason, text: &str| Verdict::back_pressure(reason, None, format!("the broker refuses the connection: {text}"));
    match code {
        BadUserNamePassword => fault(Reason::Unauthorized, "bad user name or password; check username and password"),
        NotAuthorized => fault(Reason::Unauthorized, "not authorized; check username and password"),
        Banned => fault(Reason::Unauthorized, "banned"),
        BadAuthenticationMethod => fault(Reason::Unauthorized, "bad authentication method"),
        BadClientId | ClientIdentifierNotValid => fault(Reason::Misconfigured, "it does not take the client_id"),
        RefusedProtocolVersion | UnsupportedProtocolVersion => fault(Reason::Misconfigured, "it does not speak MQTT 5"),
        UseAnotherServer | ServerMoved => fault(Reason::Redirected, "it says to use another server; change the url"),
        ServiceUnavailable | ServerUnavailable => less(Reason::Throttled, "unavailable"),
        ServerBusy => less(Reason::Throttled, "busy"),
        ConnectionRateExceeded => less(Reason::Throttled, "connection rate exceeded"),
        QuotaExceeded => less(Reason::Full, "quota exceeded"),
        UnspecifiedError | ImplementationSpecificError => {
            Verdict::retry(Reason::ServerError, "the broker refuses the connection with an error of its own")
        }
        other => fault(Reason::Misconfigured, &format!("{other:?}")),
    }
}

/// The verdict for the end of an established connection.
pub fn ended(error: &ConnectionError) -> End {
    match error {
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            disconnected(*reason_code as u8, reason_string.as_deref())
        }
        // An acknowledgement with a code that MQTT does not have for it. Mosquitto does so with an event above its message_size_limit.
        ConnectionError::MqttState(StateError::Deserialization(PacketError::InvalidConnectReturnCode(code))) => {
            because_of_one(*code, None)
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            End::of(Verdict::retry(Reason::Timeout, "the broker gave no sign of life when asked for one"))
        }
        _ => End::of(Verdict { ambiguous: false, ..broken(error) }),
    }
}

/// The broker says why it ends the connection.
fn disconnected(code: u8, said: Option<&str>) -> End {
    let text = format!("the broker ended the connection: {}", told(code, said));
    let verdict = match code {
        NOT_AUTHORIZED => Verdict::handler_fault(Reason::Unauthorized, text),
        0x8E => Verdict::handler_fault(
            Reason::Misconfigured,
            "another client has connected with the same client_id; every relay and handler needs one of its own",
        ),
        0x9A | 0x9B => Verdict::handler_fault(Reason::Misconfigured, text),
        0x9C | 0x9D => Verdict::handler_fault(Reason::Redirected, text),
        0x81 | 0x82 | TOPIC_INVALID | TOO_LARGE | 0x99 => return because_of_one(code, said),
        _ => wants_less(code, &text).unwrap_or_else(|| Verdict::retry(Reason::ConnectionReset, text)),
    };
    End::of(verdict.with_status(code.into()))
}

fn because_of_one(code: u8, said: Option<&str>) -> End {
    let text = format!("the broker ended the connection over this event or another one: {}", told(code, said));
    End { verdict: Verdict::retry(Reason::ConnectionReset, text).with_status(code.into()), refusal: Some(code) }
}

/// Codes by which a broker asks for less.
fn wants_less(code: u8, text: &str) -> Option<Verdict> {
    let reason = match code {
        0x88 | 0x89 | 0x93 | 0x96 | 0x9F => Reason::Throttled,
        QUOTA_EXCEEDED => Reason::Full,
        _ => return None,
    };
    Some(Verdict::back_pressure(reason, None, text))
}

fn broken(error: &ConnectionError) -> Verdict {
    match error {
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            failed(Failure::Reset { sent: true }, "the broker hung up".to_owned())
        }
        // The crate does not pass this one on as a cause.
        ConnectionError::MqttState(StateError::Deserialization(PacketError::Io(cause))) => {
            failed(failure_of(cause, true), root_text(cause))
        }
        _ => match failure_of(error, true) {
            Failure::Unknown { .. } => failed(Failure::Garbage, format!("the answer is not MQTT 5: {}", root_text(error))),
            failure => failed(failure, root_text(error)),
        },
    }
}

impl End {
    pub fn of(verdict: Verdict) -> Self {
        Self { verdict, refusal: None }
    }
}

/// A reason code and what the broker says about it, for display.
fn told(code: u8, said: Option<&str>) -> String {
    let name = match code {
        0x10 => "the topic has no subscriber",
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x87 => "not authorized",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8B => "server shutting down",
        0x8D => "keep alive timeout",
        0x90 => "topic name invalid",
        0x91 => "packet identifier in use",
        0x92 => "packet identifier not found",
        0x93 => "receive maximum exceeded",
        0x94 => "topic alias invalid",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9A => "retain not supported",
        0x9B => "quality of service not supported",
        0x9C => "use another server",
        0x9D => "server moved",
        0x9F => "connection rate exceeded",
        0xA0 => "maximum connect time",
        _ => "reason",
    };
    match said.filter(|said| !said.is_empty()) {
        Some(said) => format!("{name} ({code:#04x}), {said}"),
        None => format!("{name} ({code:#04x})"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rumqttc::{DisconnectReasonCode, PubAck, PubComp, PubCompReason, PubRec, PubRecReason};
    use rustls::AlertDescription;

    use super::*;
    use crate::domain::Outcome::{self, *};

    const STRICT: Rules = Rules { must_be_routed: true, has_constant_topic: true };

    #[test]
    fn every_code_about_an_event_has_one_meaning() {
        for code in 0..=u8::MAX {
            let (want, strict) = match code {
                0x00 => ((Delivered, Reason::Ok), None),
                0x10 => ((Delivered, Reason::Ok), Some((HandlerFault, Reason::Unroutable))),
                0x87 => ((HandlerFault, Reason::Unauthorized), None),
                0x88 | 0x89 | 0x93 | 0x96 | 0x9F => ((BackPressure, Reason::Throttled), None),
                0x90 => ((Permanent, Reason::Unaddressable), Some((HandlerFault, Reason::Misconfigured))),
                0x95 => ((Permanent, Reason::TooLarge), None),
                0x97 => ((BackPressure, Reason::Full), None),
                0x99 => ((Permanent, Reason::Nacked), None),
                _ => ((Retry, Reason::Nacked), None),
            };
            let verdict = about_event(code, None, Rules::default());
            assert_eq!((verdict.outcome, verdict.reason), want, "{code:#x}");
            assert_eq!(verdict.ambiguous, code == 0x92, "{code:#x}");
            let verdict = about_event(code, None, STRICT);
            assert_eq!((verdict.outcome, verdict.reason), strict.unwrap_or(want), "{code:#x}");
        }
    }

    #[test]
    fn the_codes_are_read_out_of_every_acknowledgement() {
        let rec = PubRec { pkid: 1, reason: PubRecReason::NotAuthorized, properties: None };
        let comp = PubComp { pkid: 1, reason: PubCompReason::PacketIdentifierNotFound, properties: None };
        let status = |result| answered(result, STRICT).status;
        assert_eq!(status(PublishResult::Qos2PubRecRejected(rec)), Some(0x87));
        assert_eq!(status(PublishResult::Qos2Completed(comp)), Some(0x92));
        assert_eq!(answered(PublishResult::Qos1(PubAck::new(1, None)), STRICT), Verdict::delivered());
        assert!(!answered(PublishResult::Qos0Flushed, STRICT).is_delivered(), "nobody acknowledged it");
    }

    #[test]
    fn what_the_broker_says_is_passed_on() {
        let verdict = about_event(0x97, Some("try tomorrow"), Rules::default());
        assert_eq!((verdict.detail.as_str(), verdict.status), ("quota exceeded (0x97), try tomorrow", Some(0x97)));
        assert_eq!(about_event(0xF0, None, Rules::default()).detail, "reason (0xf0)");
    }

    #[test]
    fn a_refused_connection_never_speaks_of_the_event() {
        use ConnectReturnCode::*;
        let cases: [(ConnectReturnCode, Outcome, Reason); 12] = [
            (ConnectReturnCode::BadUserNamePassword, HandlerFault, Reason::Unauthorized),
            (NotAuthorized, HandlerFault, Reason::Unauthorized),
            (Banned, HandlerFault, Reason::Unauthorized),
            (ClientIdentifierNotValid, HandlerFault, Reason::Misconfigured),
            (UnsupportedProtocolVersion, HandlerFault, Reason::Misconfigured),
            (ServerMoved, HandlerFault, Reason::Redirected),
            (ServerUnavailable, BackPressure, Reason::Throttled),
            (ServerBusy, BackPressure, Reason::Throttled),
            (ConnectionRateExceeded, BackPressure, Reason::Throttled),
            (QuotaExceeded, BackPressure, Reason::Full),
            (UnspecifiedError, Retry, Reason::ServerError),
            (PacketTooLarge, HandlerFault, Reason::Misconfigured),
        ];
        for (code, outcome, reason) in cases {
            let verdict = not_connected(&ConnectionError::ConnectionRefused(code));
            assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (outcome, reason, false), "{code:?}");
        }
    }

    fn lost(error: StateError) -> ConnectionError {
        ConnectionError::MqttState(error)
    }

    #[test]
    fn a_connection_that_never_stood_is_never_ambiguous() {
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let cases = [
            (lost(StateError::ConnectionAborted), Reason::ConnectionReset),
            (lost(StateError::Deserialization(PacketError::Io(reset()))), Reason::ConnectionReset),
            (ConnectionError::Io(reset()), Reason::ConnectionReset),
            (lost(StateError::Deserialization(PacketError::MalformedPacket)), Reason::InvalidAnswer),
            (
                lost(StateError::Deserialization(PacketError::Io(io::Error::new(io::ErrorKind::InvalidData, alert)))),
                Reason::Untrusted,
            ),
        ];
        for (error, reason) in cases {
            let verdict = not_connected(&error);
            assert_eq!((verdict.reason, verdict.ambiguous), (reason, false), "{error:?}");
            assert!(!verdict.detail.is_empty());
        }
    }

    #[test]
    fn the_end_of_a_connection_blames_no_event_in_flight() {
        use DisconnectReasonCode::*;
        let cases: [(DisconnectReasonCode, Outcome, Reason, bool); 9] = [
            (ServerShuttingDown, Retry, Reason::ConnectionReset, false),
            (DisconnectReasonCode::NotAuthorized, HandlerFault, Reason::Unauthorized, false),
            (SessionTakenOver, HandlerFault, Reason::Misconfigured, false),
            (ServerMoved, HandlerFault, Reason::Redirected, false),
            (QoSNotSupported, HandlerFault, Reason::Misconfigured, false),
            (MessageRateTooHigh, BackPressure, Reason::Throttled, false),
            (QuotaExceeded, BackPressure, Reason::Full, false),
            (PacketTooLarge, Retry, Reason::ConnectionReset, true),
            (ProtocolError, Retry, Reason::ConnectionReset, true),
        ];
        for (reason_code, outcome, reason, is_refusal) in cases {
            let end = ended(&lost(StateError::ServerDisconnect { reason_code, reason_string: None }));
            let got = (end.verdict.outcome, end.verdict.reason, end.refusal);
            assert_eq!(got, (outcome, reason, is_refusal.then_some(reason_code as u8)), "{reason_code:?}");
        }
        let end = ended(&lost(StateError::Deserialization(PacketError::InvalidConnectReturnCode(TOO_LARGE))));
        assert_eq!((end.verdict.outcome, end.refusal), (Retry, Some(TOO_LARGE)));
        assert_eq!(ended(&lost(StateError::AwaitPingResp)).verdict.reason, Reason::Timeout);
    }
}
