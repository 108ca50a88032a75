//! How often each peer has shown a wrong token lately. A peer that fails too often is not looked at for a while, so that nobody finds a token by
//! trying. Remembers a bounded number of peers.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::Peer;

/// Failures of one peer within [`WINDOW`].
const MOST: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// Peers that are remembered.
const MOST_PEERS: usize = 10_000;

#[derive(Debug, Default)]
pub struct Failures(HashMap<Peer, VecDeque<Instant>>);

impl Failures {
    /// How long this peer has to wait; `None`: it may try.
    pub fn wait(&self, peer: Peer, now: Instant) -> Option<Duration> {
        let times = self.0.get(&group(peer))?;
        let recent = times.iter().filter(|at| now.duration_since(**at) < WINDOW).count();
        let first = times.iter().find(|at| now.duration_since(**at) < WINDOW)?;
        (recent >= MOST).then(|| WINDOW.saturating_sub(now.duration_since(*first)))
    }

    /// Notes that this peer has failed.
    pub fn note(&mut self, peer: Peer, now: Instant) {
        let peer = group(peer);
        if self.0.len() >= MOST_PEERS && !self.0.contains_key(&peer) {
            self.0.retain(|_, times| times.back().is_some_and(|at| now.duration_since(*at) < WINDOW));
            if self.0.len() >= MOST_PEERS {
                // So many at once are one attacker with many addresses; whom it forgets is of no weight.
                let any = self.0.keys().next().copied();
                any.map(|any| self.0.remove(&any));
            }
        }
        let times = self.0.entry(peer).or_default();
        times.push_back(now);
        if times.len() > MOST {
            times.pop_front();
        }
    }
}

/// Whoever has one address of IPv6 has all of its network.
fn group(peer: Peer) -> Peer {
    match peer {
        Peer::Address(address) => match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Peer::Address(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            address => Peer::Address(address),
        },
        Peer::Socket => Peer::Socket,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::Address(text.parse().expect("an address"))
    }

    #[test]
    fn after_five_failures_a_peer_waits_until_the_first_is_a_minute_old() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for second in 0..5 {
            assert_eq!(failures.wait(peer("10.0.0.1"), at(second)), None);
            failures.note(peer("10.0.0.1"), at(second));
        }
        assert_eq!(failures.wait(peer("10.0.0.1"), at(5)), Some(Duration::from_secs(55)));
        assert_eq!(failures.wait(peer("10.0.0.2"), at(5)), None, "another peer may");
        assert_eq!(failures.wait(peer("10.0.0.1"), at(60)), None, "the first is a minute old");
        failures.note(peer("10.0.0.1"), at(60));
        assert_eq!(failures.wait(peer("10.0.0.1"), at(60)), Some(Duration::from_secs(1)), "four more are still younger");
    }

    #[test]
    fn addresses_of_one_network_are_one_peer_and_memory_is_bounded() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for host in 0..5 {
            failures.note(peer(&format!("2001:db8::{host}")), now);
        }
        assert!(failures.wait(peer("2001:db8::ffff"), now).is_some() && failures.wait(peer("2001:db8:1::1"), now).is_none());
        for network in 0..u32::from(u16::MAX) {
            failures.note(Peer::Address(std::net::Ipv4Addr::from(network).into()), now);
        }
        assert!(failures.0.len() <= MOST_PEERS, "{}", failures.0.len());
    }
}
