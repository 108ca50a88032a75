//! Whether a request is meant for us: the name in `Host`. A page of another site whose name leads to this machine (DNS rebinding) is refused
//! here, because its browser sends the name of that site.

use std::net::IpAddr;

use axum::http::header::HOST;
use axum::http::request::Parts;

/// The host with its port, as the client wrote it; `None`: there is none, or more than one.
pub fn authority(parts: &Parts) -> Option<&str> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    if hosts.next().is_some() {
        return None;
    }
    // A client may also put the host into the target; two that differ are a trick.
    let is_same = parts.uri.authority().is_none_or(|target| target.as_str().eq_ignore_ascii_case(host));
    is_same.then_some(host)
}

/// Whether requests for this host are answered: localhost, an IP address, or one of `hosts` (in lower case).
pub fn is_ours(authority: &str, hosts: &[String]) -> bool {
    let Some(name) = name(authority) else { return false };
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    name == "localhost" || name.parse::<IpAddr>().is_ok() || hosts.iter().any(|host| host == name)
}

/// Without the port, and without the brackets of an IPv6 address.
fn name(authority: &str) -> Option<&str> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']')?;
            name.parse::<std::net::Ipv6Addr>().ok()?;
            (name, port.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (authority, None),
        },
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    (is_port && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_answered() {
        let hosts = ["outboxd.internal".to_owned()];
        for host in [
            "localhost",
            "localhost:9189",
            "LocalHost",
            "127.0.0.1:9189",
            "10.1.2.3",
            "[::1]:9189",
            "[::1]",
            "outboxd.internal",
            "Outboxd.Internal:443",
            "outboxd.internal.",
        ] {
            assert!(is_ours(host, &hosts), "{host}");
        }
        for host in [
            "",
            ":9189",
            "evil.example",
            "localhost.evil.example",
            "evil.example:9189",
            "127.0.0.1.evil.example",
            "127.1",
            "0x7f000001",
            "user@localhost",
            "localhost:x",
            "localhost:80:80",
            "[localhost]",
            "[::1",
            "a.outboxd.internal",
            "outboxd.internal..",
        ] {
            assert!(!is_ours(host, &hosts), "{host}");
        }
    }
}
