//! Bytes on their way to one socket, in order, with no copy of what many connections share.
//!
//! Thread: whoever holds the reactor.

use crate::stream::Stream;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// Payloads up to this size are copied behind each other, so that many small messages leave as one piece.
pub const COPY_BELOW_BYTES: usize = 16 * 1024;
/// More slices than this in one call gain nothing (Linux takes 1,024).
const SLICES_PER_WRITE: usize = 32;
/// An empty buffer larger than this is given back to the allocator.
const KEEP_BYTES: usize = 16 * 1024;

enum Piece {
    Own(Vec<u8>),
    Shared(Arc<[u8]>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            Piece::Shared(bytes) => bytes,
        }
    }
}

/// What is left after a flush.
#[derive(Debug, PartialEq, Eq)]
pub enum Flushed {
    All,
    Blocked,
}

#[derive(Default)]
pub struct Outbox {
    /// Whole pieces in front of `tail`; empty for all but large and shared payloads.
    pieces: VecDeque<Piece>,
    /// What small messages are written into.
    tail: Vec<u8>,
    /// How much of the front has left.
    sent: usize,
    len: usize,
}

impl Outbox {
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Append with `write`, which must only append.
    pub fn append<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let before = self.tail.len();
        let result = write(&mut self.tail);
        self.len += self.tail.len() - before;
        result
    }

    /// Append a payload that others send too.
    pub fn append_shared(&mut self, bytes: &Arc<[u8]>) {
        if bytes.len() < COPY_BELOW_BYTES {
            self.append(|tail| tail.extend_from_slice(bytes));
            return;
        }
        self.seal();
        self.len += bytes.len();
        self.pieces.push_back(Piece::Shared(Arc::clone(bytes)));
    }

    /// Append a large payload without a copy.
    pub fn append_owned(&mut self, bytes: Vec<u8>) {
        if bytes.len() < COPY_BELOW_BYTES {
            self.append(|tail| tail.extend_from_slice(&bytes));
            return;
        }
        self.seal();
        self.len += bytes.len();
        self.pieces.push_back(Piece::Own(bytes));
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(Piece::Own(std::mem::take(&mut self.tail)));
        }
    }

    /// Write until all has left or the socket takes no more.
    pub fn flush(&mut self, stream: &Stream) -> io::Result<Flushed> {
        while self.len > 0 {
            let written =
                if self.pieces.is_empty() { stream.send(&self.tail[self.sent..]) } else { self.send_pieces(stream) };
            match written {
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flushed::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Flushed::All)
    }

    fn send_pieces(&self, stream: &Stream) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
        let all = self.pieces.iter().map(Piece::bytes).chain([&self.tail[..]]);
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(all) {
            let skip = if count == 0 { self.sent } else { 0 };
            *slice = IoSlice::new(&bytes[skip..]);
            count += 1;
        }
        stream.send_slices(&slices[..count])
    }

    fn advance(&mut self, count: usize) {
        self.len -= count;
        self.sent += count;
        while let Some(front) = self.pieces.front() {
            let size = front.bytes().len();
            if self.sent < size {
                return;
            }
            self.sent -= size;
            self.pieces.pop_front();
        }
        if self.len == 0 {
            self.sent = 0;
            self.tail.clear();
            if self.tail.capacity() > KEEP_BYTES {
                self.tail = Vec::new();
            }
        } else if self.pieces.is_empty() && self.sent >= KEEP_BYTES && self.sent >= self.tail.len() / 2 {
            // A peer that is always a little behind never empties it; what has left must not pile up.
            self.tail.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Forget everything unsent.
    pub fn clear(&mut self) {
        *self = Outbox::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    fn pair() -> (Stream, UnixStream) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
                .unwrap();
        (Stream::new(ours), UnixStream::from(theirs))
    }

    #[test]
    fn pieces_leave_in_order_however_the_socket_takes_them() {
        let (stream, mut peer) = pair();
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for index in 0..200u32 {
            let small = vec![index as u8; 10];
            let large: Vec<u8> = (0..COPY_BELOW_BYTES + index as usize).map(|at| at as u8).collect();
            expected.extend_from_slice(&small);
            expected.extend_from_slice(&large);
            outbox.append(|tail| tail.extend_from_slice(&small));
            if index % 2 == 0 {
                outbox.append_owned(large);
            } else {
                outbox.append_shared(&Arc::from(large));
            }
        }
        assert_eq!(outbox.len(), expected.len());
        let mut received = Vec::new();
        let mut buffer = vec![0; 100_000];
        while received.len() < expected.len() {
            outbox.flush(&stream).unwrap();
            let count = peer.read(&mut buffer).unwrap();
            received.extend_from_slice(&buffer[..count]);
        }
        assert!(received == expected);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_peer_that_is_always_behind_does_not_make_it_grow() {
        let (stream, mut peer) = pair();
        let mut outbox = Outbox::default();
        let mut buffer = vec![0; 50_000];
        outbox.append(|tail| tail.resize(4 << 20, 7)); // more than a socket takes
        assert_eq!(outbox.flush(&stream).unwrap(), Flushed::Blocked);
        for _ in 0..1000 {
            let count = peer.read(&mut buffer).unwrap();
            outbox.append(|tail| tail.extend_from_slice(&vec![7; count]));
            outbox.flush(&stream).unwrap();
            assert!(!outbox.is_empty());
        }
        assert!(outbox.tail.len() <= 2 * outbox.len() + 2 * buffer.len());
    }

    #[test]
    fn a_blocked_socket_keeps_the_rest() {
        let (stream, _peer) = pair();
        let mut outbox = Outbox::default();
        outbox.append_owned(vec![0; 64 << 20]);
        assert_eq!(outbox.flush(&stream).unwrap(), Flushed::Blocked);
        assert!(!outbox.is_empty());
    }
}
