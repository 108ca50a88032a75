//! Advice: the command to run next, where several parts of the product name the same one.

use super::Reason;

/// The command that finds out why a circuit is open. A receiver that answers is asked with an event, because a connection alone says
/// nothing about its answers; for one that cannot be reached it connects.
pub fn circuit_command(handler: &str, reason: Option<&str>) -> String {
    let reason = Reason::ALL.iter().find(|known| Some(known.as_str()) == reason);
    match reason {
        Some(reason) if !is_unreached(*reason) => format!("outboxd handlers test {handler}"),
        _ => "outboxd check --connect".to_owned(),
    }
}

/// Nothing was answered: the receiver could not be reached, or is not the one that is meant.
fn is_unreached(reason: Reason) -> bool {
    use Reason as R;
    matches!(
        reason,
        R::Dns | R::ConnectionRefused | R::ConnectTimeout | R::Tls | R::Untrusted | R::EgressBlocked | R::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_answers_is_asked_with_an_event() {
        for (reason, want) in [
            (Some("unauthorized"), "outboxd handlers test billing"),
            (Some("not_found"), "outboxd handlers test billing"),
            (Some("server_error"), "outboxd handlers test billing"),
            (Some("timeout"), "outboxd handlers test billing"),
            (Some("connection_refused"), "outboxd check --connect"),
            (Some("untrusted"), "outboxd check --connect"),
            (None, "outboxd check --connect"),
        ] {
            assert_eq!(circuit_command("billing", reason), want, "{reason:?}");
        }
    }
}
