//! The socket below a connection, held a second time. The client library drives its connection from a thread of its own, which
//! stays for as long as a silent peer keeps the socket open. A shutdown from here ends that thread.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

/// Shuts the socket down when it is dropped.
#[derive(Debug)]
pub struct Socket(TcpStream);

impl Socket {
    pub fn of(stream: &impl AsFd) -> io::Result<Self> {
        Ok(Self(TcpStream::from(stream.as_fd().try_clone_to_owned()?)))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both); // it may be gone already
    }
}
