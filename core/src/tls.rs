//! TLS between a socket and what is above it (RFC 8446, RFC 5246): rustls, fed with what was received and emptied into the
//! socket. It never waits, and never has plaintext left that nobody was told of.
//!
//! Thread: whoever holds the reactor.

use crate::stream::{Received, Socket};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

/// A record with its header and the most that encryption may add (RFC 5246 §6.2.3), rounded up: so much may come out of a
/// buffer beyond what went into it now.
const MAX_RECORD_BYTES: usize = 20 * 1024;
/// Encrypted at once, and not to be taken back; a few records, so that they leave in one piece.
const ENCRYPT_BYTES: usize = 64 * 1024;

pub struct Tls {
    session: Connection,
    /// So many of the bytes that are offered next are encrypted already.
    promised: usize,
    /// Nothing has come yet.
    is_fresh: bool,
    /// The peer's close_notify has come.
    has_end: bool,
    has_said_end: bool,
    sends_nothing: bool,
}

impl Tls {
    pub fn server(config: &Arc<ServerConfig>) -> Result<Box<Tls>, rustls::Error> {
        Ok(Tls::new(ServerConnection::new(Arc::clone(config))?.into()))
    }

    /// The first [`Tls::push`] begins the handshake.
    pub fn client(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Box<Tls>, rustls::Error> {
        Ok(Tls::new(ClientConnection::new(Arc::clone(config), name)?.into()))
    }

    fn new(mut session: Connection) -> Box<Tls> {
        session.set_buffer_limit(Some(ENCRYPT_BYTES));
        let is_fresh = matches!(session, Connection::Server(_));
        Box::new(Tls { session, promised: 0, is_fresh, has_end: false, has_said_end: false, sends_nothing: false })
    }

    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }
    pub fn has_unsent(&self) -> bool {
        self.session.wants_write() && !self.sends_nothing
    }
    pub fn has_end(&self) -> bool {
        self.has_end
    }
    pub fn promised(&self) -> usize {
        self.promised
    }

    pub fn peer_certificate(&self) -> Arc<[u8]> {
        let first = self.session.peer_certificates().and_then(|chain| chain.first());
        first.map_or_else(|| Arc::from([]), |certificate| Arc::from(&certificate[..]))
    }

    /// Receive as much as `buffer` surely has room for once it is decrypted, so that nothing waits inside.
    pub fn receive(&mut self, socket: &mut Socket, buffer: &mut [u8], scratch: &mut Vec<u8>) -> io::Result<Received> {
        if self.has_end {
            return Ok(Received::End);
        }
        let size = buffer.len() - MAX_RECORD_BYTES;
        scratch.resize(scratch.len().max(size), 0);
        let count = socket.receive(&mut scratch[..size])?;
        if count == 0 {
            // Without close_notify somebody else may have cut the connection (RFC 8446 §6.1). What we take for whole says
            // by itself where it ends, so it does no harm here.
            return Ok(Received::End);
        }
        if std::mem::take(&mut self.is_fresh) && scratch[0].is_ascii_uppercase() {
            return Ok(Received::NotTls); // "GET /"; a handshake begins with 22
        }
        let filled = self.decrypt(&scratch[..count], buffer);
        if filled.is_err() {
            let _ = self.push(socket); // the alert that says why
        }
        match filled? {
            0 if self.has_end => Ok(Received::End),
            filled => Ok(Received::Bytes(filled)),
        }
    }

    fn decrypt(&mut self, mut encrypted: &[u8], buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while !encrypted.is_empty() && !self.has_end {
            self.session.read_tls(&mut encrypted)?;
            let state =
                self.session.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            self.has_end = state.peer_has_closed();
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let count = self.session.reader().read(&mut buffer[filled..])?;
                if count == 0 {
                    return Err(ErrorKind::InvalidData.into()); // no room: more came out than can have gone in
                }
                filled += count;
                left -= count;
            }
        }
        Ok(filled)
    }

    /// Encrypt, and give it to the socket. Bytes count as sent when all that they became has left.
    pub fn send(&mut self, socket: &mut Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_handshaking() || !self.push(socket)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.promised == 0 {
            self.promised = self.session.writer().write_vectored(slices)?;
            if !self.push(socket)? {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        Ok(std::mem::take(&mut self.promised))
    }

    /// False: the system takes no more.
    pub fn push(&mut self, socket: &mut Socket) -> io::Result<bool> {
        while self.has_unsent() {
            match self.session.write_tls(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Say close_notify, without which the peer must take what it got for cut off (RFC 8446 §6.1). False: not yet.
    pub fn say_end(&mut self, socket: &mut Socket) -> bool {
        if !std::mem::replace(&mut self.has_said_end, true) {
            self.session.send_close_notify();
        }
        self.push(socket).unwrap_or(true) // broken: nobody hears it
    }

    pub fn give_up_sending(&mut self) {
        self.sends_nothing = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate;
    use crate::outbox::{Flushed, Outbox};
    use crate::stream::Stream;
    use crate::tls_config::{IdentityPem, TlsSpec};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::time::Duration;

    fn spec(requires_peer: bool) -> TlsSpec {
        let (chain, key) = certificate::write(&["localhost".to_owned()], Duration::from_secs(600)).unwrap();
        TlsSpec {
            trusted: chain.clone().into_bytes(),
            identities: vec![IdentityPem { chain: chain.into_bytes(), key: key.into_bytes() }],
            password: None,
            revoked: Vec::new(),
            requires_peer,
            is_13_only: false,
        }
    }

    /// A client and a server that have not shaken hands.
    fn pair(spec: &TlsSpec) -> (Stream, Stream) {
        pair_of(spec, spec)
    }

    fn pair_of(of_client: &TlsSpec, of_server: &TlsSpec) -> (Stream, Stream) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let client = Tls::client(&of_client.client().unwrap(), name).unwrap();
        let server = Tls::server(&of_server.server().unwrap()).unwrap();
        (Stream::with_tls(near, client), Stream::with_tls(far, server))
    }

    fn receive(stream: &mut Stream) -> io::Result<(Received, Vec<u8>)> {
        let mut buffer = vec![0; 64 * 1024];
        let received = stream.receive(&mut buffer, &mut Vec::new())?;
        let count = if let Received::Bytes(count) = received { count } else { 0 };
        buffer.truncate(count);
        Ok((received, buffer))
    }

    fn shake_hands(one: &mut Stream, other: &mut Stream) -> io::Result<()> {
        while one.is_handshaking() || other.is_handshaking() {
            for stream in [&mut *one, &mut *other] {
                assert!(stream.push()?);
                match receive(stream) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    received => assert_eq!(received?.0, Received::Bytes(0)),
                }
            }
        }
        assert!(one.push()? && other.push()?);
        Ok(())
    }

    #[test]
    fn both_roles_of_one_configuration_talk() {
        let spec = spec(true);
        let (mut client, mut server) = pair(&spec);
        shake_hands(&mut client, &mut server).unwrap();
        let shown = server.peer_certificate().unwrap();
        assert_eq!(certificate::read(&shown).unwrap().common_name.as_deref(), Some("localhost"));
        assert_eq!(client.send(b"hello").unwrap(), 5);
        assert_eq!(receive(&mut server).unwrap(), (Received::Bytes(5), b"hello".to_vec()));
        assert!(server.finish());
        assert_eq!(receive(&mut client).unwrap().0, Received::End); // the tickets before it are nobody's business
        assert!(client.has_end());
    }

    #[test]
    fn a_client_that_trusts_another_is_told_so() {
        let (trusting, serving) = (spec(true), spec(true));
        let (mut client, mut server) = pair_of(&trusting, &serving);
        assert_eq!(shake_hands(&mut client, &mut server).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn what_a_blocked_socket_has_not_taken_is_offered_again() {
        let (mut client, mut server) = pair(&spec(false));
        shake_hands(&mut client, &mut server).unwrap();
        let data: Vec<u8> = (0..3_000_000u32).map(|at| (at / 7) as u8).collect();
        let mut outbox = Outbox::default();
        outbox.append_owned(data.clone());
        let mut received = Vec::new();
        let mut was_promised = false;
        while received.len() < data.len() {
            let flushed = outbox.flush(&mut server, &mut Vec::new()).unwrap();
            assert_eq!(matches!(flushed, Flushed::All), outbox.is_empty());
            was_promised |= server.promised() > 0;
            while let Ok((Received::Bytes(_), bytes)) = receive(&mut client) {
                received.extend_from_slice(&bytes);
            }
        }
        assert!(was_promised, "the socket took everything at once");
        assert!(received == data);
        assert!(!server.has_unsent());
    }

    #[test]
    fn nothing_is_said_before_the_handshake() {
        let (mut client, mut server) = pair(&spec(false));
        let mut outbox = Outbox::default();
        outbox.append(|out| out.extend_from_slice(b"early"));
        assert!(matches!(outbox.flush(&mut server, &mut Vec::new()).unwrap(), Flushed::WaitsForPeer));
        shake_hands(&mut client, &mut server).unwrap();
        assert!(matches!(outbox.flush(&mut server, &mut Vec::new()).unwrap(), Flushed::All));
        assert_eq!(receive(&mut client).unwrap().1, b"early");
    }
}
