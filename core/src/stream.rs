//! One connected socket, plain or TLS: bytes in, bytes out, never waiting.
//!
//! Thread: whoever holds the reactor.

use crate::signals::without_sigpipe;
use crate::tls::Tls;
use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg, shutdown, sockopt};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

pub struct Stream {
    socket: Socket,
    /// Boxed: few need it, and it is large.
    tls: Option<Box<Tls>>,
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes; none, if it was only TLS's own business.
    Bytes(usize),
    /// The peer sends nothing more.
    End,
    /// Something that isn't TLS on a socket that speaks TLS; from now on it is a plain one, to answer that.
    NotTls,
}

impl Stream {
    pub fn new(descriptor: OwnedFd) -> Stream {
        Stream { socket: Socket { descriptor, resets: false, taken: 0 }, tls: None }
    }

    pub fn with_tls(descriptor: OwnedFd, tls: Box<Tls>) -> Stream {
        Stream { tls: Some(tls), ..Stream::new(descriptor) }
    }

    /// Small messages leave at once: Nagle's algorithm costs httpuv 44 ms a response.
    pub fn set_nodelay(&self) {
        let _ = sockopt::set_tcp_nodelay(&self.socket.descriptor, true);
    }

    /// `scratch` is for what has yet to be decrypted.
    pub fn receive(&mut self, buffer: &mut [u8], scratch: &mut Vec<u8>) -> io::Result<Received> {
        let received = match &mut self.tls {
            Some(tls) => tls.receive(&mut self.socket, buffer, scratch)?,
            None => match self.socket.receive(buffer)? {
                0 => Received::End,
                count => Received::Bytes(count),
            },
        };
        if received == Received::NotTls {
            self.tls = None;
        }
        Ok(received)
    }

    /// After `WouldBlock` the same bytes have to be offered again: the first [`Stream::promised`] are encrypted already.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.send(&mut self.socket, &[IoSlice::new(bytes)]),
            None => self.socket.send(bytes),
        }
    }

    /// As `send`. `is_more`: something follows at once, so the system may wait for it before it sends half a packet.
    pub fn send_slices(&mut self, slices: &[IoSlice<'_>], is_more: bool) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.send(&mut self.socket, slices),
            None => self.socket.send_slices(slices, is_more),
        }
    }

    /// Whether the kernel can send files by itself; what is encrypted here it can't.
    pub fn has_sendfile(&self) -> bool {
        self.tls.is_none()
    }

    pub fn send_file(&mut self, file: BorrowedFd<'_>, mut start: u64, size: usize) -> io::Result<usize> {
        let count = without_sigpipe(|| sendfile(&self.socket.descriptor, file, Some(&mut start), size))?;
        self.socket.taken += count as u64;
        Ok(count)
    }

    /// How many of the bytes that are offered next can't be taken back.
    pub fn promised(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.promised())
    }

    /// Send what TLS has to say of its own, and what is encrypted already. False: the system takes no more.
    pub fn push(&mut self) -> io::Result<bool> {
        match &mut self.tls {
            Some(tls) => tls.push(&mut self.socket),
            None => Ok(true),
        }
    }

    /// Something of TLS's own has not left.
    pub fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_unsent())
    }

    /// A handshake failed: what comes now is only thrown away.
    pub fn end_tls(&mut self) {
        self.tls = None;
    }

    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Nothing can be said before the peer has done its part.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// The peer has said that nothing more comes, and that will be received next, without new bytes.
    pub fn has_end(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_end())
    }

    /// The certificate of the peer, verified, as DER; empty if it showed none, `None` without TLS.
    pub fn peer_certificate(&self) -> Option<Arc<[u8]>> {
        Some(self.tls.as_ref()?.peer_certificate())
    }

    /// Why the socket failed, as connecting does, if it did; asking forgets it.
    pub fn take_error(&self) -> Option<Errno> {
        sockopt::socket_error(&self.socket.descriptor).unwrap_or_else(Err).err()
    }

    /// Bytes that the system took, for ever; with TLS, encrypted ones.
    pub fn taken(&self) -> u64 {
        self.socket.taken
    }

    /// Bytes that the system took and the peer has not acknowledged (of a unix socket: not read).
    pub fn unacknowledged(&self) -> usize {
        let mut count: libc::c_int = 0;
        // SAFETY: SIOCOUTQ, which is TIOCOUTQ, writes one int to where its argument points, and `count` is one.
        let result = unsafe { libc::ioctl(self.socket.descriptor.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
        if result == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
    }

    /// Let the end of this connection be seen as a failure, and not as the end of what was sent.
    pub fn reset_on_close(&mut self) {
        let _ = sockopt::set_socket_linger(&self.socket.descriptor, Some(Duration::ZERO));
        self.socket.resets = true;
    }

    /// Tell the peer that nothing more comes. False: that has to wait until the socket can be written to.
    pub fn finish(&mut self) -> bool {
        if let Some(tls) = &mut self.tls
            && !tls.say_end(&mut self.socket)
        {
            return false;
        }
        let _ = shutdown(&self.socket.descriptor, Shutdown::Write);
        true
    }

    /// What has not left by now need not leave any more.
    pub fn give_up_sending(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.give_up_sending();
        }
    }

    /// End both directions, also for copies of the descriptor that a forked child may hold.
    pub fn cut(&self) {
        if !self.socket.resets {
            let _ = shutdown(&self.socket.descriptor, Shutdown::Both);
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.descriptor.as_fd()
    }
}

/// The socket below.
pub struct Socket {
    descriptor: OwnedFd,
    /// Its end is a failure, and is to be seen as one.
    resets: bool,
    taken: u64,
}

impl Socket {
    /// `Ok(0)` is the end of the stream.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, count) = recv(&self.descriptor, buffer, RecvFlags::empty())?;
        Ok(count)
    }

    // NOSIGNAL: a write to a closed connection must be an error of that connection, not a SIGPIPE for the process.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = send(&self.descriptor, bytes, SendFlags::NOSIGNAL)?;
        self.taken += count as u64;
        Ok(count)
    }

    fn send_slices(&mut self, slices: &[IoSlice<'_>], is_more: bool) -> io::Result<usize> {
        let mut flags = SendFlags::NOSIGNAL;
        flags.set(SendFlags::MORE, is_more);
        let count = sendmsg(&self.descriptor, slices, &mut SendAncillaryBuffer::default(), flags)?;
        self.taken += count as u64;
        Ok(count)
    }
}

/// For what takes what it writes to from outside.
impl io::Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_slices(slices, false)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
