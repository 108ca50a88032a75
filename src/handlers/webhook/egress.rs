//! Egress: which addresses a webhook may connect to. A name is checked after it was resolved, and only checked addresses are
//! connected to, so that no second look-up can answer otherwise. An address in the URL never passes a resolver; the handler
//! checks it with [`Egress::allows`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::super::failure::ResolveError;

/// Which addresses are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// Everything but link-local addresses and the other ones where clouds keep the credentials of the machine.
    Internal,
    /// Only what the public internet routes.
    Public,
    Any,
}

/// The rule, as the configuration spells it.
pub const CHOICES: &[&str] = &["internal", "public", "any"];

impl Egress {
    /// `text` is one of [`CHOICES`]; what is not is read as the default.
    pub fn from_choice(text: &str) -> Self {
        match text {
            "any" => Self::Any,
            "public" => Self::Public,
            _ => Self::Internal,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Public => "public",
            Self::Any => "any",
        }
    }

    /// Whether a connection to this address may be opened.
    pub fn allows(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Any, _) => true,
            (Self::Internal, IpAddr::V4(v4)) => !is_metadata_v4(v4),
            (Self::Internal, IpAddr::V6(v6)) => !is_metadata_v6(v6) && !embedded_v4(v6).any(is_metadata_v4),
            (Self::Public, IpAddr::V4(v4)) => is_public_v4(v4) && Self::Internal.allows(address),
            (Self::Public, IpAddr::V6(v6)) => is_public_v6(v6) && Self::Internal.allows(address),
        }
    }
}

/// Turns a host name into addresses; the port is 0.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// A resolver that answers only with allowed addresses.
#[derive(Clone)]
pub struct FilteringResolver {
    egress: Egress,
    lookup: Lookup,
}

impl FilteringResolver {
    /// Asks the system.
    pub fn system(egress: Egress) -> Self {
        Self::with_lookup(egress, Arc::new(|host| Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) })))
    }

    pub fn with_lookup(egress: Egress, lookup: Lookup) -> Self {
        Self { egress, lookup }
    }

    /// The allowed addresses of a host; never an empty list.
    pub async fn addresses(&self, host: &str) -> Result<Vec<SocketAddr>, ResolveError> {
        let found = (self.lookup)(host.to_owned()).await.map_err(ResolveError::Lookup)?;
        if found.is_empty() {
            return Err(ResolveError::Lookup(io::Error::other("the host has no address")));
        }
        let allowed: Vec<_> = found.into_iter().filter(|address| self.egress.allows(address.ip())).collect();
        if allowed.is_empty() { Err(ResolveError::Blocked) } else { Ok(allowed) }
    }
}

/// Link-local (EC2, ECS, GCP, Azure, OpenStack, DigitalOcean, Hetzner, Tencent and others), and what does not lie there: Alibaba Cloud, the
/// WireServer of Azure, Oracle Cloud.
fn is_metadata_v4(v4: Ipv4Addr) -> bool {
    v4.is_link_local() || matches!(v4.octets(), [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192])
}

/// Link-local, or the metadata service of EC2 and the credentials of its pods, or the metadata service of GCP.
fn is_metadata_v6(v6: Ipv6Addr) -> bool {
    v6.is_unicast_link_local()
        || matches!(v6.segments(), [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254 | 0x23] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254])
}

/// The IPv4 addresses that a gateway or the kernel could make of an IPv6 address: mapped, translated, compatible, NAT64 (of the well-known
/// prefix, and of the local one as /96 and /48), 6to4, Teredo and ISATAP.
fn embedded_v4(v6: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bits = v6.to_bits();
    let tail = Some(bits as u32);
    let [first, second] = match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff | 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => [tail, None],
        // Of a /48 the address lies around the octet that is always zero.
        [0x64, 0xff9b, 1, high, low, third, ..] => {
            [tail, Some(u32::from(high) << 16 | u32::from(low & 0xff) << 8 | u32::from(third >> 8))]
        }
        [0x2002, ..] => [Some((bits >> 80) as u32), None],
        // The client is at the end, inverted; the server stands at its beginning.
        [0x2001, 0, ..] => [Some(!(bits as u32)), Some((bits >> 64) as u32)],
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => [tail, None],
        _ => [None, None],
    };
    [first, second].into_iter().flatten().map(Ipv4Addr::from_bits)
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let is_special = matches!(
        v4.octets(),
        [0 | 10 | 127, ..]
            | [224..=255, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    );
    !is_special
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => embedded_v4(v6).all(is_public_v4),
        // ::/8 holds the unspecified and the loopback address, the mapped and the compatible ones, and 64:ff9b:1::/48.
        [0x0000..=0x00ff, ..] => false,
        [0xfc00..=0xffff, ..] => false,
        [0x0100, 0, 0, 0, ..] | [0x2002, ..] | [0x5f00, ..] => false,
        [0x3fff, 0x0000..=0x0fff, ..] | [0x2001, 0x0db8, ..] => false,
        [0x2001, 0x0000..=0x01ff, ..] => is_public_protocol_assignment(v6),
        _ => true,
    }
}

// The globally reachable parts of 2001::/23, by the registry of IANA.
fn is_public_protocol_assignment(v6: Ipv6Addr) -> bool {
    matches!(
        v6.segments(),
        [0x2001, 1, 0, 0, 0, 0, 0, 1..=3]
            | [0x2001, 3, ..]
            | [0x2001, 4, 0x112, ..]
            | [0x2001, 0x20..=0x2f, ..]
            | [0x2001, 0x30..=0x3f, ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(egress: Egress, addresses: &[&str]) -> Vec<String> {
        let parsed = addresses.iter().map(|text| text.parse::<IpAddr>().expect("an address"));
        parsed.filter(|address| egress.allows(*address)).map(|address| address.to_string()).collect()
    }

    #[test]
    fn internal_forbids_link_local_in_every_spelling() {
        let forbidden = [
            "169.254.169.254",
            "169.254.0.1",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::ffff:100.100.100.200",
            "::ffff:0:168.63.129.16",
            "64:ff9b::6464:64c8",
            "64:ff9b:1::a83f:8110",
            "64:ff9b:1:a9fe:a9:fe00::",
            "2002:6464:64c8::1",
            "2001:0:1:2:3:4:5601:5601",
            "2001:db8::5efe:a9fe:a9fe",
            "2001:db8::200:5efe:169.254.169.254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ];
        assert_eq!(allowed(Egress::Internal, &forbidden), [""; 0]);
        assert_eq!(allowed(Egress::Any, &forbidden).len(), forbidden.len());
        let fine = [
            "127.0.0.1",
            "10.1.2.3",
            "::1",
            "fd00:ec2::255",
            "fd20:ce::253",
            "100.100.100.201",
            "168.63.129.17",
            "fd12::1",
            "8.8.8.8",
            "2002:808:808::1",
            "::ffff:10.0.0.1",
        ];
        assert_eq!(allowed(Egress::Internal, &fine), fine);
    }

    #[test]
    fn public_forbids_everything_that_the_internet_does_not_route() {
        let forbidden = [
            "0.0.0.0",
            "168.63.129.16",
            "100.100.100.200",
            "64:ff9b::a83f:8110",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::8.8.8.8",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:1::4",
            "2002:808:808::1",
            "5f00::1",
        ];
        assert_eq!(allowed(Egress::Public, &forbidden), [""; 0]);
        let fine = [
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "64:ff9b::808:808",
            "2001:1::1",
            "2001:4:112::1",
            "2001:20::1",
            "3fff:1000::1",
        ];
        assert_eq!(allowed(Egress::Public, &fine), fine);
    }

    #[tokio::test]
    async fn a_name_keeps_only_its_allowed_addresses() {
        let answers = |texts: &'static [&'static str]| -> Lookup {
            Arc::new(move |_| {
                Box::pin(async move { Ok(texts.iter().map(|text| SocketAddr::new(text.parse().expect("valid"), 0)).collect()) })
            })
        };
        let mixed = FilteringResolver::with_lookup(Egress::Internal, answers(&["169.254.169.254", "127.0.0.1"]));
        assert_eq!(mixed.addresses("x").await.expect("one is allowed"), ["127.0.0.1:0".parse().expect("valid")]);
        let blocked = FilteringResolver::with_lookup(Egress::Internal, answers(&["169.254.169.254"]));
        assert!(matches!(blocked.addresses("x").await, Err(ResolveError::Blocked)));
        let nothing = FilteringResolver::with_lookup(Egress::Internal, answers(&[]));
        assert!(matches!(nothing.addresses("x").await, Err(ResolveError::Lookup(_))));
    }
}
