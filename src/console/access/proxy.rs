//! What a proxy in front tells: who its user is, and whether the way to the browser is encrypted. Believed of configured peers only, and only
//! where it is said once: what is there twice, the client may have added.

use axum::http::HeaderMap;
use axum::http::header::HeaderName;

use super::Peer;
use crate::config::{ConsoleProxy, TrustedPeer};
use crate::domain::Role;
use crate::operations::{Caller, Via};

const LONGEST_NAME: usize = 128;
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What is known of the user.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing, or not by somebody who is believed.
    Nothing,
    User(Caller),
    /// A user without any right, or one whose name cannot be read.
    Refused(&'static str),
}

pub fn is_trusted(proxy: &ConsoleProxy, peer: Peer) -> bool {
    proxy.trusted.iter().any(|trusted| match peer {
        Peer::Socket => *trusted == TrustedPeer::Unix,
        Peer::Address(address) => trusted.includes(address),
    })
}

/// The user of a request.
pub fn user(proxy: &ConsoleProxy, peer: Peer, headers: &HeaderMap) -> Told {
    let Some(header) = proxy.user_header.as_deref().filter(|_| is_trusted(proxy, peer)) else { return Told::Nothing };
    let name = match one(headers, header) {
        Ok(None) => return Told::Nothing,
        Ok(Some(name)) => name,
        Err(why) => return Told::Refused(why),
    };
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Told::Refused("the proxy tells a user name that is empty, too long or not a text");
    }
    let groups = match one(headers, &proxy.groups_header) {
        Ok(groups) => groups.unwrap_or_default(),
        Err(why) => return Told::Refused(why),
    };
    let groups: Vec<&str> = groups.split(',').map(str::trim).collect();
    let role = proxy.groups.iter().filter(|(group, _)| groups.contains(&group.as_str())).map(|(_, role)| *role).max();
    match role {
        None => Told::Refused("the user is in no group that console.proxy.groups gives a role"),
        Some(role) => Told::User(caller(name, role, proxy.payload_groups.iter().any(|group| groups.contains(&group.as_str())))),
    }
}

fn caller(name: &str, role: Role, sees_payloads: bool) -> Caller {
    Caller { name: name.to_owned(), role, sees_payloads, via: Via::Console }
}

/// Whether the proxy says that the browser speaks HTTPS with it.
pub fn is_encrypted(proxy: &ConsoleProxy, peer: Peer, headers: &HeaderMap) -> bool {
    is_trusted(proxy, peer) && one(headers, X_FORWARDED_PROTO.as_str()) == Ok(Some("https"))
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, &'static str> {
    if name.is_empty() {
        return Ok(None);
    }
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            std::str::from_utf8(value.as_bytes()).map(|text| Some(text.trim())).map_err(|_| "a header of the proxy is no text")
        }
        (Some(_), Some(_)) => Err("a header of the proxy is there twice; it must remove what clients send"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: Peer = Peer::Address(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7)));

    fn proxy() -> ConsoleProxy {
        ConsoleProxy {
            trusted: vec![TrustedPeer::Network("10.0.0.7".parse().expect("an address"), 32)],
            user_header: Some("x-user".to_owned()),
            groups_header: "x-groups".to_owned(),
            groups: [("dev".to_owned(), Role::Read), ("oncall".to_owned(), Role::Operate)].into(),
            payload_groups: vec!["support".to_owned()],
        }
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(HeaderName::from_static(name), value.parse().expect("a header"));
        }
        map
    }

    #[test]
    fn a_user_has_the_highest_role_of_its_groups() {
        let told = user(&proxy(), PROXY, &headers(&[("x-user", "ann"), ("x-groups", "dev, oncall ,x")]));
        assert_eq!(told, Told::User(caller("ann", Role::Operate, false)));
        let told = user(&proxy(), PROXY, &headers(&[("x-user", "ann"), ("x-groups", "dev,support")]));
        assert_eq!(told, Told::User(caller("ann", Role::Read, true)));
    }

    #[test]
    fn nobody_else_is_believed_and_nothing_that_is_said_twice() {
        let said = headers(&[("x-user", "ann"), ("x-groups", "oncall"), ("x-forwarded-proto", "https")]);
        for peer in
            [Peer::Socket, Peer::Address("10.0.0.8".parse().expect("an address")), Peer::Address("::1".parse().expect("one"))]
        {
            assert_eq!(user(&proxy(), peer, &said), Told::Nothing);
            assert!(!is_encrypted(&proxy(), peer, &said));
        }
        assert!(is_encrypted(&proxy(), PROXY, &said));
        assert_eq!(user(&proxy(), PROXY, &headers(&[("x-groups", "oncall")])), Told::Nothing);
        let long = "a".repeat(LONGEST_NAME + 1);
        for list in [
            vec![("x-user", "ann"), ("x-user", "root"), ("x-groups", "oncall")],
            vec![("x-user", "ann"), ("x-groups", "dev"), ("x-groups", "oncall")],
            vec![("x-user", "ann")],
            vec![("x-user", "ann"), ("x-groups", "on-call,oncalls")],
            vec![("x-user", ""), ("x-groups", "oncall")],
            vec![("x-user", long.as_str()), ("x-groups", "oncall")],
        ] {
            assert!(matches!(user(&proxy(), PROXY, &headers(&list)), Told::Refused(_)), "{list:?}");
        }
    }
}
