//! Bytes on their way to one socket, in order, with no copy of what many connections share.
//!
//! Thread: whoever holds the reactor.

use crate::files::{File, How, ReadError};
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
/// A piece's place in the queue, and what its allocation needs at least.
const PIECE_COST_BYTES: usize = size_of::<Piece>() + 32;

struct Piece {
    content: Content,
    /// A whole message of its own, which a client that reads too slowly may be spared.
    is_droppable: bool,
}

pub enum Content {
    Own(Vec<u8>),
    Shared(Arc<[u8]>),
    File(FileSlice),
}

/// A part of a file that is read when its turn comes.
#[derive(Clone)]
pub struct FileSlice {
    pub file: Arc<File>,
    pub start: u64,
    pub length: usize,
}

/// What is read of a file at once, and about what is sent of files before others have their turn.
pub const FILE_BYTES_PER_TURN: usize = 256 * 1024;
/// From here on sendfile is the cheaper way (404 against 240 files of 10 MiB a second), where the kernel can say that it
/// would not wait for the disk.
const SENDFILE_FROM_BYTES: usize = 64 * 1024;
const SENDFILE_BYTES: usize = 512 * 1024;
/// What is encrypted for one connection before others have their turn; it takes a tenth of a millisecond.
const ENCRYPTED_BYTES_PER_TURN: usize = 256 * 1024;

impl Content {
    /// Nothing of a file is here yet.
    fn bytes(&self) -> &[u8] {
        match self {
            Content::Own(bytes) => bytes,
            Content::Shared(bytes) => bytes,
            Content::File(_) => &[],
        }
    }

    fn len(&self) -> usize {
        match self {
            Content::File(slice) => slice.length,
            memory => memory.bytes().len(),
        }
    }
}

/// What is left after a flush.
pub enum Flushed {
    All,
    Blocked,
    /// What comes next has to be read where waiting is no harm; `file_read` brings it.
    NeedsDisk(FileSlice),
    /// That is under way.
    WaitsForDisk,
    /// Nothing can be sent before the peer has done its part of a handshake.
    WaitsForPeer,
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
    /// How many pieces are droppable.
    droppable: usize,
    /// How many pieces are of files.
    files: usize,
    waits_for_disk: bool,
    /// How much behind `sent` is encrypted already and can't be taken out.
    promised: usize,
    /// Bytes that have left, for ever.
    taken: u64,
}

impl Outbox {
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// What the bound is about: a droppable message has a place of its own, which costs more than a short one's bytes.
    pub fn cost(&self) -> usize {
        self.len + self.droppable * PIECE_COST_BYTES
    }
    /// What comes next is being read from a disk.
    pub fn waits_for_disk(&self) -> bool {
        self.waits_for_disk
    }

    /// Bytes that have left, for ever.
    pub fn taken(&self) -> u64 {
        self.taken
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
        } else {
            self.push(Content::Shared(Arc::clone(bytes)), false);
        }
    }

    /// Append a large payload without a copy.
    pub fn append_owned(&mut self, bytes: Vec<u8>) {
        if bytes.len() < COPY_BELOW_BYTES {
            self.append(|tail| tail.extend_from_slice(&bytes));
        } else {
            self.push(Content::Own(bytes), false);
        }
    }

    /// Append a whole message that [`Outbox::drop_oldest`] may take out again.
    pub fn append_droppable(&mut self, content: Content) {
        self.push(content, true);
    }

    /// Append a part of a file.
    pub fn append_file(&mut self, slice: FileSlice) {
        if slice.length > 0 {
            self.files += 1;
            self.push(Content::File(slice), false);
        }
    }

    fn push(&mut self, content: Content, is_droppable: bool) {
        if !self.tail.is_empty() {
            let tail = Content::Own(std::mem::take(&mut self.tail));
            self.pieces.push_back(Piece { content: tail, is_droppable: false });
        }
        self.len += content.len();
        self.droppable += usize::from(is_droppable);
        self.pieces.push_back(Piece { content, is_droppable });
    }

    /// Take out messages of which no byte has left, the oldest first, until `room` bytes are free below `max`; returns how
    /// many. What else is queued (pongs, a close) stays in its place.
    pub fn drop_oldest(&mut self, room: usize, max: usize) -> u64 {
        let mut dropped = 0;
        let mut index = self.begun();
        while self.cost() + room > max && index < self.pieces.len() {
            if self.pieces[index].is_droppable
                && let Some(piece) = self.pieces.remove(index)
            {
                self.len -= piece.content.len();
                self.droppable -= 1;
                dropped += 1;
            } else {
                index += 1;
            }
        }
        dropped
    }

    /// How many pieces have begun to leave.
    fn begun(&self) -> usize {
        let begun = self.sent + self.promised;
        let starts = self.pieces.iter().scan(0, |end, piece| {
            let start = *end;
            *end += piece.content.len();
            Some(start)
        });
        starts.take_while(|start| *start < begun).count()
    }

    /// Give memory back that only the next message would need.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.clear();
        }
    }

    /// Write until all has left or the socket takes no more. `scratch` is for what is read of files.
    pub fn flush(&mut self, stream: &mut Stream, scratch: &mut Vec<u8>) -> io::Result<Flushed> {
        if !stream.push()? {
            return Ok(Flushed::Blocked);
        }
        if stream.is_handshaking() {
            return Ok(Flushed::WaitsForPeer);
        }
        let mut of_files = 0;
        let mut encrypted = 0;
        while self.len > 0 {
            if encrypted >= ENCRYPTED_BYTES_PER_TURN {
                return Ok(Flushed::Blocked); // it can be written to, so its next turn comes at once
            }
            let written = if self.pieces.is_empty() {
                stream.send(&self.tail[self.sent..])
            } else if self.files == 0 {
                self.send_with(stream, self.pieces.len(), &self.tail, &[])
            } else if self.waits_for_disk {
                return Ok(Flushed::WaitsForDisk);
            } else if of_files >= FILE_BYTES_PER_TURN {
                return Ok(Flushed::Blocked); // it can be written to, so its next turn comes at once
            } else if let Some(sent) = self.send_file(stream) {
                of_files += SENDFILE_BYTES;
                sent
            } else {
                match self.read_file(scratch)? {
                    Some((before, count)) => {
                        of_files += count;
                        self.send_with(stream, before, &scratch[..count], &[])
                    }
                    None => return Ok(self.ask_disk()),
                }
            };
            match written {
                Ok(count) => {
                    encrypted += count * usize::from(stream.is_tls());
                    self.advance(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.promised = stream.promised();
                    return Ok(Flushed::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Flushed::All)
    }

    /// Let the kernel send what comes next, if that is much of a file and all of it is in memory.
    fn send_file(&self, stream: &mut Stream) -> Option<io::Result<usize>> {
        let Some(Piece { content: Content::File(slice), .. }) = self.pieces.front() else { return None };
        let (start, left) = (slice.start + self.sent as u64, slice.length - self.sent);
        let size = left.min(SENDFILE_BYTES);
        if !stream.has_sendfile() || slice.length < SENDFILE_FROM_BYTES || !slice.file.is_cached(start, size) {
            return None;
        }
        match stream.send_file(slice.file.descriptor()?, start, size) {
            // Its length has been promised: what is missing must not look like the end.
            Ok(0) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => None, // a file system without it
            sent => Some(sent),
        }
    }

    fn is_for_sendfile(slice: &FileSlice) -> bool {
        slice.length >= SENDFILE_FROM_BYTES && slice.file.is_cached(slice.start, slice.length.min(SENDFILE_BYTES))
    }

    /// The next bytes of the first file, and how many pieces are before it. `None`: they are not in memory.
    fn read_file(&self, scratch: &mut Vec<u8>) -> io::Result<Option<(usize, usize)>> {
        let is_file = |piece: &Piece| matches!(piece.content, Content::File(_));
        let before = self.pieces.iter().position(is_file).unwrap_or(self.pieces.len());
        let Some(Piece { content: Content::File(slice), .. }) = self.pieces.get(before) else { return Ok(None) };
        if before + 1 >= SLICES_PER_WRITE || before > 0 && Outbox::is_for_sendfile(slice) {
            return Ok(Some((before, 0)));
        }
        let skip = if before == 0 { self.sent } else { 0 };
        let size = (slice.length - skip).min(FILE_BYTES_PER_TURN);
        scratch.resize(scratch.len().max(size), 0);
        match slice.file.read_at(slice.start + skip as u64, &mut scratch[..size], How::CachedOnly) {
            // Its length has been promised: what is missing must not look like the end.
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => Ok(Some((before, count))),
            Err(ReadError::WouldBlock) if before > 0 => Ok(Some((before, 0))),
            Err(ReadError::WouldBlock) => Ok(None),
            Err(ReadError::Failed(errno)) => Err(errno.into()),
        }
    }

    fn ask_disk(&mut self) -> Flushed {
        let Some(Piece { content: Content::File(slice), .. }) = self.pieces.front() else { return Flushed::All };
        self.waits_for_disk = true;
        let length = (slice.length - self.sent).min(FILE_BYTES_PER_TURN);
        Flushed::NeedsDisk(FileSlice { file: Arc::clone(&slice.file), start: slice.start + self.sent as u64, length })
    }

    /// What `NeedsDisk` asked for. Nothing: the file is shorter than it was.
    pub fn file_read(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.waits_for_disk = false;
        let Some(Piece { content: Content::File(slice), .. }) = self.pieces.front_mut() else { return Ok(()) };
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let gone = self.sent + bytes.len();
        self.sent = 0;
        slice.start += gone as u64;
        slice.length -= gone;
        if slice.length == 0 {
            self.files -= 1;
            self.pieces.pop_front();
        }
        self.pieces.push_front(Piece { content: Content::Own(bytes), is_droppable: false });
        Ok(())
    }

    /// Write everything and `payload` behind it; only what the socket does not take of `payload` is copied.
    pub fn flush_with(&mut self, stream: &mut Stream, payload: &[u8], scratch: &mut Vec<u8>) -> io::Result<Flushed> {
        let mut rest = payload;
        while !rest.is_empty() && self.files == 0 && self.pieces.len() + 2 <= SLICES_PER_WRITE {
            match self.send_with(stream, self.pieces.len(), &self.tail, rest) {
                Ok(count) => {
                    let own = count.min(self.len);
                    self.advance(own);
                    self.taken += (count - own) as u64;
                    rest = &rest[count - own..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.append_owned(rest.to_vec());
        self.flush(stream, scratch)
    }

    /// Send the first `count` pieces and what follows them.
    fn send_with(&self, stream: &mut Stream, count: usize, next: &[u8], last: &[u8]) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
        let pieces = self.pieces.iter().take(count).map(|piece| piece.content.bytes());
        let skip = self.sent * usize::from(count > 0 || self.files == 0); // a file is read from where it goes on
        let all = pieces.chain([next, last]);
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(all) {
            let skip = if count == 0 { skip } else { 0 };
            *slice = IoSlice::new(&bytes[skip..]);
            count += 1;
        }
        stream.send_slices(&slices[..count], next.is_empty() && last.is_empty() && self.files > 0)
    }

    fn advance(&mut self, count: usize) {
        self.len -= count;
        self.sent += count;
        self.promised = 0;
        self.taken += count as u64;
        while let Some(front) = self.pieces.front() {
            let size = front.content.len();
            if self.sent < size {
                return;
            }
            self.sent -= size;
            self.files -= usize::from(matches!(front.content, Content::File(_)));
            self.droppable -= usize::from(front.is_droppable);
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
        *self = Outbox { taken: self.taken, ..Outbox::default() };
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
        let (mut stream, mut peer) = pair();
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
            outbox.flush(&mut stream, &mut Vec::new()).unwrap();
            let count = peer.read(&mut buffer).unwrap();
            received.extend_from_slice(&buffer[..count]);
        }
        assert!(received == expected);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_peer_that_is_always_behind_does_not_make_it_grow() {
        let (mut stream, mut peer) = pair();
        let mut outbox = Outbox::default();
        let mut buffer = vec![0; 50_000];
        outbox.append(|tail| tail.resize(4 << 20, 7)); // more than a socket takes
        assert!(matches!(outbox.flush(&mut stream, &mut Vec::new()).unwrap(), Flushed::Blocked));
        for _ in 0..1000 {
            let count = peer.read(&mut buffer).unwrap();
            outbox.append(|tail| tail.extend_from_slice(&vec![7; count]));
            outbox.flush(&mut stream, &mut Vec::new()).unwrap();
            assert!(!outbox.is_empty());
        }
        assert!(outbox.tail.len() <= 2 * outbox.len() + 2 * buffer.len());
    }

    #[test]
    fn a_borrowed_payload_leaves_behind_what_waits() {
        let (mut stream, mut peer) = pair();
        let mut outbox = Outbox::default();
        let payload: Vec<u8> = (0..4 << 20).map(|at: u32| (at % 251) as u8).collect(); // more than a socket takes
        outbox.append_owned(vec![1; COPY_BELOW_BYTES]);
        outbox.append(|tail| tail.extend_from_slice(b"head"));
        assert!(matches!(outbox.flush_with(&mut stream, &payload, &mut Vec::new()).unwrap(), Flushed::Blocked));
        let mut expected = vec![1; COPY_BELOW_BYTES];
        expected.extend_from_slice(b"head");
        expected.extend_from_slice(&payload);
        let mut received = Vec::new();
        let mut buffer = vec![0; 100_000];
        while received.len() < expected.len() {
            let count = peer.read(&mut buffer).unwrap();
            received.extend_from_slice(&buffer[..count]);
            outbox.flush(&mut stream, &mut Vec::new()).unwrap();
        }
        assert!(received == expected);
        assert!(outbox.is_empty());
    }

    #[test]
    fn the_oldest_messages_are_dropped_and_nothing_else() {
        let (mut stream, mut peer) = pair();
        let mut outbox = Outbox::default();
        outbox.append_droppable(Content::Own(vec![0; 4 << 20])); // begun, so it stays
        assert!(matches!(outbox.flush(&mut stream, &mut Vec::new()).unwrap(), Flushed::Blocked));
        let begun = outbox.len();
        outbox.append(|tail| tail.extend_from_slice(b"pong"));
        for index in 1..=3u8 {
            outbox.append_droppable(Content::Shared(Arc::from([index; 100])));
        }
        let max = outbox.cost();
        assert_eq!(outbox.drop_oldest(100, max), 1);
        assert_eq!(outbox.len(), begun + 4 + 200);
        assert!(outbox.cost() > begun + 4 + 200);
        outbox.append_droppable(Content::Own(vec![4; 100]));
        assert_eq!(outbox.drop_oldest(1 << 20, begun), 3); // all it can
        assert_eq!(outbox.len(), begun + 4);
        let mut received = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        while received.len() < (4 << 20) + 4 {
            let count = peer.read(&mut buffer).unwrap();
            received.extend_from_slice(&buffer[..count]);
            outbox.flush(&mut stream, &mut Vec::new()).unwrap();
        }
        assert!(received.ends_with(b"\0pong"));
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_blocked_socket_keeps_the_rest() {
        let (mut stream, _peer) = pair();
        let mut outbox = Outbox::default();
        outbox.append_owned(vec![0; 64 << 20]);
        assert!(matches!(outbox.flush(&mut stream, &mut Vec::new()).unwrap(), Flushed::Blocked));
        assert!(!outbox.is_empty());
    }
}
