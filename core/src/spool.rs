//! A request's body on its way into a file without a name, which is gone when nobody has it open any more, however that
//! comes about. The disk threads make it and write it; here is what waits for them.
//!
//! Thread: whoever holds the reactor; `Piece::write` runs on a disk thread.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::{Errno, pwrite, retry_on_intr};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use wire::error::HttpRefusal;

/// So much is written at once.
const PIECE_BYTES: usize = 256 * 1024;
/// While so much waits for the disk, its connection is not read.
const AHEAD_BYTES: usize = 512 * 1024;
/// Where the file system knows no files without a name: how many names are tried.
const NAMES: usize = 8;
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

#[derive(Default)]
pub struct Spool {
    file: Option<Arc<OwnedFd>>,
    /// In the file, or with the disk threads.
    given: u64,
    /// Waits for them.
    pending: Vec<u8>,
    is_writing: bool,
}

/// All of a body. Whoever drops it last frees the disk.
pub struct Spooled {
    pub file: Arc<OwnedFd>,
    pub length: u64,
}

/// What a disk thread writes.
pub struct Piece {
    target: Target,
    offset: u64,
    bytes: Vec<u8>,
}

enum Target {
    New(PathBuf),
    /// Weak: once the connection is gone nobody needs it, and a fork must not keep it open.
    Old(Weak<OwnedFd>),
}

/// What has been written.
pub struct Written {
    file: Arc<OwnedFd>,
    /// Empty, with room for more.
    bytes: Vec<u8>,
}

impl Spool {
    /// `begun`: what was kept in memory so far.
    pub fn new(begun: Vec<u8>) -> Spool {
        Spool { pending: begun, ..Spool::default() }
    }

    /// Where the next bytes are appended.
    pub fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    pub fn len(&self) -> u64 {
        self.given + self.pending.len() as u64
    }

    /// The disk has to catch up first.
    pub fn is_full(&self) -> bool {
        self.is_writing && self.pending.len() >= AHEAD_BYTES
    }

    /// What can be written now: one piece at a time, and no small one but the last.
    pub fn next_piece(&mut self, directory: &Path, is_last: bool) -> Option<Piece> {
        if self.is_writing || self.pending.is_empty() || self.pending.len() < PIECE_BYTES && !is_last {
            return None;
        }
        self.is_writing = true;
        let target = match &self.file {
            Some(file) => Target::Old(Arc::downgrade(file)),
            None => Target::New(directory.to_owned()),
        };
        let piece = Piece { target, offset: self.given, bytes: std::mem::take(&mut self.pending) };
        self.given += piece.bytes.len() as u64;
        Some(piece)
    }

    pub fn written(&mut self, written: Written) {
        self.is_writing = false;
        self.file = Some(written.file);
        if self.pending.is_empty() && written.bytes.capacity() <= 2 * AHEAD_BYTES {
            self.pending = written.bytes;
        }
    }

    /// All of it, if that is what is in the file.
    pub fn take(&mut self) -> Option<Spooled> {
        if self.is_writing || !self.pending.is_empty() {
            return None;
        }
        Some(Spooled { file: self.file.take()?, length: self.given })
    }
}

impl Piece {
    /// `Ok(None)`: nobody waits for it any more.
    pub fn write(mut self) -> Result<Option<Written>, Errno> {
        let file = match &self.target {
            Target::New(directory) => Arc::new(create(directory)?),
            Target::Old(file) => match file.upgrade() {
                Some(file) => file,
                None => return Ok(None),
            },
        };
        write_all(&file, self.offset, &self.bytes)?;
        self.bytes.clear();
        Ok(Some(Written { file, bytes: self.bytes }))
    }
}

/// What the client is told.
pub fn refusal_for(errno: Errno) -> HttpRefusal {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => {
            HttpRefusal { status: 507, reason: "there is no room on this server's disk for the request body" }
        }
        _ => HttpRefusal { status: 500, reason: "this server could not keep the request body" },
    }
}

fn create(directory: &Path) -> Result<OwnedFd, Errno> {
    match openat(CWD, directory, OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE, MODE) {
        // What old kernels, and file systems without such files (NFS, some overlays), say.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        made => return made,
    }
    create_named(directory)
}

/// With a name for a moment.
fn create_named(directory: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    for _ in 0..NAMES {
        // Hard to guess, though O_EXCL is what keeps others from laying a trap.
        let path = directory.join(format!("portico-{:016x}", RandomState::new().hash_one(0)));
        match openat(CWD, &path, flags, MODE) {
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
            Ok(file) => return unlinkat(CWD, &path, AtFlags::empty()).map(|()| file),
        }
    }
    Err(Errno::EXIST)
}

fn write_all(file: &OwnedFd, mut offset: u64, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = retry_on_intr(|| pwrite(file, bytes, offset))?;
        if count == 0 {
            return Err(Errno::NOSPC);
        }
        offset += count as u64;
        bytes = &bytes[count..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::pread;

    fn directory() -> tempfile::TempDir {
        tempfile::TempDir::new().unwrap()
    }

    #[test]
    fn pieces_come_one_at_a_time_and_make_the_whole() {
        let directory = directory();
        let mut spool = Spool::new(vec![1; PIECE_BYTES]);
        let first = spool.next_piece(directory.path(), false).unwrap();
        spool.pending().extend(vec![2; AHEAD_BYTES]);
        assert!(spool.is_full());
        assert!(spool.next_piece(directory.path(), true).is_none());
        spool.written(first.write().unwrap().unwrap());
        assert!(!spool.is_full());
        assert!(spool.take().is_none());
        let second = spool.next_piece(directory.path(), false).unwrap();
        spool.pending().push(3);
        spool.written(second.write().unwrap().unwrap());
        assert!(spool.next_piece(directory.path(), false).is_none());
        let last = spool.next_piece(directory.path(), true).unwrap();
        spool.written(last.write().unwrap().unwrap());
        let whole = spool.take().unwrap();
        assert_eq!(whole.length, (PIECE_BYTES + AHEAD_BYTES + 1) as u64);
        let mut ends = [0; 2];
        pread(&whole.file, &mut ends, (PIECE_BYTES - 1) as u64).unwrap();
        assert_eq!(ends, [1, 2]);
        assert_eq!(pread(&whole.file, &mut ends, whole.length - 1), Ok(1));
        assert_eq!(ends[0], 3);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_nobody_waits_for_is_not_written() {
        let directory = directory();
        let mut spool = Spool::new(vec![1; PIECE_BYTES]);
        let first = spool.next_piece(directory.path(), false).unwrap();
        spool.written(first.write().unwrap().unwrap());
        spool.pending().push(2);
        let second = spool.next_piece(directory.path(), true).unwrap();
        drop(spool);
        assert!(second.write().unwrap().is_none());
    }

    #[test]
    fn a_file_that_needs_a_name_loses_it_at_once() {
        let directory = directory();
        let file = create_named(directory.path()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        write_all(&file, 0, b"here").unwrap();
        let mut read = [0; 4];
        assert_eq!(pread(&file, &mut read, 0), Ok(4));
        assert_eq!(&read, b"here");
    }

    #[test]
    fn a_full_disk_is_507_and_a_missing_one_500() {
        let full = Arc::new(openat(CWD, "/dev/full", OFlags::RDWR, Mode::empty()).unwrap());
        let piece = Piece { target: Target::Old(Arc::downgrade(&full)), offset: 0, bytes: vec![1] };
        assert_eq!(refusal_for(piece.write().err().unwrap()).status, 507);
        let piece = Spool::new(vec![1]).next_piece(Path::new("/nowhere/at/all"), true).unwrap();
        assert_eq!(refusal_for(piece.write().err().unwrap()).status, 500);
    }
}
