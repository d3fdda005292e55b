//! One connected socket: bytes in, bytes out, never waiting.
//!
//! Thread: whoever holds the reactor.

use rustix::fs::sendfile;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg, shutdown, sockopt};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub struct Stream {
    descriptor: OwnedFd,
    /// Its end is a failure, and is to be seen as one.
    resets: Cell<bool>,
}

impl Stream {
    pub fn new(descriptor: OwnedFd) -> Stream {
        Stream { descriptor, resets: Cell::new(false) }
    }

    /// Small messages leave at once: Nagle's algorithm costs httpuv 44 ms a response.
    pub fn set_nodelay(&self) {
        let _ = sockopt::set_tcp_nodelay(&self.descriptor, true);
    }

    /// `Ok(0)` is the end of the stream.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, count) = recv(&self.descriptor, buffer, RecvFlags::empty())?;
        Ok(count)
    }

    // NOSIGNAL: a write to a closed connection must be an error of that connection, not a SIGPIPE for the process.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.descriptor, bytes, SendFlags::NOSIGNAL)?)
    }

    /// `is_more`: something follows at once, so the system may wait for it before it sends half a packet.
    pub fn send_slices(&self, slices: &[IoSlice<'_>], is_more: bool) -> io::Result<usize> {
        let mut flags = SendFlags::NOSIGNAL;
        flags.set(SendFlags::MORE, is_more);
        Ok(sendmsg(&self.descriptor, slices, &mut SendAncillaryBuffer::default(), flags)?)
    }

    pub fn send_file(&self, file: BorrowedFd<'_>, mut start: u64, size: usize) -> io::Result<usize> {
        Ok(sendfile(&self.descriptor, file, Some(&mut start), size)?)
    }

    /// Bytes that the system took and the peer has not acknowledged (of a unix socket: not read).
    pub fn unacknowledged(&self) -> usize {
        let mut count: libc::c_int = 0;
        // SAFETY: SIOCOUTQ, which is TIOCOUTQ, writes one int to where its argument points, and `count` is one.
        let result = unsafe { libc::ioctl(self.descriptor.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
        if result == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
    }

    /// Let the end of this connection be seen as a failure, and not as the end of what was sent.
    pub fn reset_on_close(&self) {
        let _ = sockopt::set_socket_linger(&self.descriptor, Some(Duration::ZERO));
        self.resets.set(true);
    }

    /// Tell the peer that nothing more comes.
    pub fn finish(&self) {
        let _ = shutdown(&self.descriptor, Shutdown::Write);
    }

    /// End both directions, also for copies of the descriptor that a forked child may hold.
    pub fn cut(&self) {
        if !self.resets.get() {
            let _ = shutdown(&self.descriptor, Shutdown::Both);
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
