//! Opens a file below a directory one name at a time: what openat2 does, for kernels and sandboxes without it.
//!
//! No name is looked up together with another, so the kernel never follows a symlink for us; we read where it leads
//! and walk there. The directories on the way stay open and `..` goes back to the last one, so nothing that is
//! renamed meanwhile leads out.
//!
//! Thread: any that may wait for a disk.

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the kernel follows in one path.
const MAX_LINKS: u32 = 40;

/// A name in a directory, or where a symlink leads; not opened, only held.
const HOLD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Open `relative` with `flags`. With `allows_symlinks` they may lead anywhere; otherwise what is absolute, or climbs
/// above `root` on its way, is XDEV as with RESOLVE_BENEATH. A file that is no directory and not regular is NXIO.
pub fn walk(root: BorrowedFd<'_>, relative: &[u8], flags: OFlags, allows_symlinks: bool) -> Result<OwnedFd, Errno> {
    let mut walker = Walker { root, below: Vec::new(), ahead: Vec::new(), links: 0, allows_symlinks };
    walker.put_ahead(relative);
    while let Some(name) = walker.ahead.pop() {
        match name.as_slice() {
            b"" | b"." => {} // whatever came before it is a directory, or we were not here
            b".." => walker.climb()?,
            _ => {
                if let Some(opened) = walker.step(name, flags)? {
                    return Ok(opened);
                }
            }
        }
    }
    open(walker.here(), b".", flags)
}

struct Walker<'a> {
    root: BorrowedFd<'a>,
    /// The directories from below the root to where we are; only the last where symlinks may lead anywhere.
    below: Vec<OwnedFd>,
    /// The names still to walk, the next one last.
    ahead: Vec<Vec<u8>>,
    links: u32,
    allows_symlinks: bool,
}

impl Walker<'_> {
    fn here(&self) -> BorrowedFd<'_> {
        self.below.last().map_or(self.root, |directory| directory.as_fd())
    }

    fn put_ahead(&mut self, path: &[u8]) {
        self.ahead.extend(path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
    }

    fn enter(&mut self, directory: OwnedFd) {
        if self.allows_symlinks {
            self.below.clear(); // `..` asks the kernel
        }
        self.below.push(directory);
    }

    fn climb(&mut self) -> Result<(), Errno> {
        if self.allows_symlinks {
            let parent = open(self.here(), b"..", HOLD)?;
            self.enter(parent);
            return Ok(());
        }
        self.below.pop().map(drop).ok_or(Errno::XDEV)
    }

    /// One name further. Some: it was the last one, and here it is.
    fn step(&mut self, name: Vec<u8>, flags: OFlags) -> Result<Option<OwnedFd>, Errno> {
        // Held first, so that what we look at, read and enter is one thing, whatever the name means by then.
        let held = open(self.here(), &name, HOLD)?;
        match FileType::from_raw_mode(fstat(&held)?.st_mode) {
            FileType::Symlink => self.follow(&held)?,
            FileType::Directory if !self.ahead.is_empty() => self.enter(held),
            FileType::Directory | FileType::RegularFile if self.ahead.is_empty() => {
                match open(self.here(), &name, flags | OFlags::NOFOLLOW) {
                    // It has become a symlink since: look again.
                    Err(Errno::LOOP) => {
                        self.count_link()?;
                        self.ahead.push(name);
                    }
                    opened => return opened.map(Some),
                }
            }
            FileType::RegularFile => return Err(Errno::NOTDIR),
            _ => return Err(Errno::NXIO), // opening a device may already do something
        }
        Ok(None)
    }

    fn follow(&mut self, link: &OwnedFd) -> Result<(), Errno> {
        self.count_link()?;
        let target = readlinkat(link, c"", Vec::new())?;
        if target.as_bytes().first() == Some(&b'/') {
            if !self.allows_symlinks {
                return Err(Errno::XDEV);
            }
            let top = retry_on_intr(|| openat(CWD, c"/", HOLD, Mode::empty()))?;
            self.enter(top);
        }
        self.put_ahead(target.as_bytes());
        Ok(())
    }

    fn count_link(&mut self) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_LINKS { Err(Errno::LOOP) } else { Ok(()) }
    }
}

fn open(directory: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| openat(directory, name, flags, Mode::empty()))
}
