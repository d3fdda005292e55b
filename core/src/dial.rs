//! Sockets that we connect: begun here, finished when the poller says that they can be written to.
//!
//! Thread: any.

use crate::stream::Stream;
use crate::tls::Tls;
use rustix::io::Errno;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Where somebody listens.
pub enum Destination {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Begin to connect; never waits.
pub fn dial(destination: &Destination, tls: Option<(Arc<ClientConfig>, ServerName<'static>)>) -> io::Result<Stream> {
    let (domain, address) = match destination {
        Destination::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        Destination::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
    };
    let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)?;
    match socket.connect(&address) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => {
            let socket = OwnedFd::from(socket);
            let stream = match tls {
                Some((config, name)) => Stream::with_tls(socket, Tls::client(&config, name).map_err(io::Error::other)?),
                None => Stream::new(socket),
            };
            if matches!(destination, Destination::Tcp(_)) {
                stream.set_nodelay();
            }
            Ok(stream)
        }
    }
}
