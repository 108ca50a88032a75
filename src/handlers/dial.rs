//! Dialling: a TCP connection to a host that may have several addresses. A silent address does not delay the next one. The caller
//! bounds the time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

/// Before another address of the same host is tried beside one that does not answer (RFC 8305 recommends it).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// A connection to a host by its name or address, without the delay that waits for more to send.
#[cfg_attr(not(feature = "brokers"), allow(dead_code))]
pub async fn connect_host(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = connect_any(tokio::net::lookup_host((host, port)).await?.collect()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The first of the addresses that takes a connection. One that is silent holds up the next for a moment only.
pub async fn connect_any(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut untried = addresses.into_iter();
    let mut trying = FuturesUnordered::new();
    let mut failure = None;
    loop {
        let next = untried.next();
        let has_more = next.is_some();
        trying.extend(next.map(TcpStream::connect));
        tokio::select! {
            connected = trying.next() => match connected {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = Some(error),
                None => return Err(failure.unwrap_or_else(|| io::Error::other("the host has no address"))),
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if has_more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_address_does_not_hide_one_that_works() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let alive = listener.local_addr().expect("a bound socket has an address");
        // Documentation addresses are routed nowhere: silent on most networks, unreachable on others.
        let dead: SocketAddr = "192.0.2.1:9".parse().expect("an address");
        let stream = connect_any(vec![dead, alive]).await.expect("one of them works");
        assert_eq!(stream.peer_addr().expect("it is connected"), alive);
    }

    #[tokio::test]
    async fn a_host_without_an_address_is_an_error() {
        assert_eq!(connect_any(vec![]).await.expect_err("nobody is there").to_string(), "the host has no address");
    }
}
