//! What a static path serves: an opened directory, or one file in it, and how files below are found.
//!
//! The kernel keeps the search below the directory (openat2); where there is no openat2, `walk` does.
//!
//! Thread: any. `How::Blocking` may wait for a disk or a network, so the reactor only asks for `How::CachedOnly`.

use super::walk::walk;
use parking_lot::RwLock;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, fstat, makedev, openat, statx};
use rustix::fs::{CWD, openat2};
use rustix::io::{Errno, retry_on_intr};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// NONBLOCK: a FIFO that nobody writes to must not hold us. NOCTTY: no terminal becomes ours.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// The kernel's, with the NUL at the end; `walk` would go further.
const PATH_MAX: usize = 4096;

/// What others are found from.
const PLACE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// How often openat2 is asked again because somebody renames meanwhile.
const TRIES: u32 = 8;

/// What a lookup may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Blocking,
    /// Nothing that waits: what is not in the kernel's cache is `OpenError::WouldBlock`.
    CachedOnly,
}

/// A directory, or one file in it. It stays the same directory when its path becomes another one, unless it is deleted:
/// who builds a site anew deletes it and makes it again.
#[derive(Debug)]
pub struct Root {
    directory: RwLock<Arc<OwnedFd>>,
    path: PathBuf,
    /// The one file that is served, by its name: editors and deployments replace files, an open one would be stale.
    file: Option<Vec<u8>>,
    allows_symlinks: bool,
}

/// A regular file or a directory, open for reading.
#[derive(Debug)]
pub struct Found {
    pub descriptor: OwnedFd,
    pub meta: Meta,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub is_directory: bool,
    pub length: u64,
    /// Seconds since 1970 and nanoseconds.
    pub modified: (i64, u32),
    pub device: u64,
    pub inode: u64,
}

/// Why nothing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Also what leads out of the root, and what is neither a file nor a directory.
    NotFound,
    /// The file's permissions.
    Forbidden,
    /// Not in the cache: ask again with `How::Blocking`, where waiting is no harm.
    WouldBlock,
    Other(Errno),
}

impl Root {
    /// `path`: a directory or a file; symlinks in it are followed, for whoever configures it chose them. Only that a
    /// file is a symlink out of its directory counts as one below a root.
    pub fn open(path: &Path, allows_symlinks: bool) -> io::Result<Root> {
        let opened = retry_on_intr(|| openat(CWD, path, PLACE, Mode::empty()))?;
        match file_type(opened.as_fd())? {
            FileType::Directory => Ok(Root::new(opened, path, None, allows_symlinks)),
            FileType::RegularFile => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(Errno::ISDIR.into());
                };
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let directory = open_directory(parent)?;
                let root = Root::new(directory, parent, Some(name.as_bytes().to_vec()), allows_symlinks);
                match root.find(b"", How::Blocking) {
                    Ok(_) => Ok(root),
                    Err(OpenError::Other(errno)) => Err(errno.into()),
                    Err(OpenError::Forbidden) => Err(Errno::ACCESS.into()),
                    // It was there a moment ago.
                    Err(_) => Err(io::Error::new(
                        ErrorKind::PermissionDenied,
                        "the file is a symlink out of its directory, which is not allowed",
                    )),
                }
            }
            _ => Err(io::Error::new(ErrorKind::InvalidInput, "neither a directory nor a regular file")),
        }
    }

    fn new(directory: OwnedFd, path: &Path, file: Option<Vec<u8>>, allows_symlinks: bool) -> Root {
        Root { directory: RwLock::new(Arc::new(directory)), path: path.to_owned(), file, allows_symlinks }
    }

    /// Whether this is one file, whose relative path is empty.
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// The name of the one file.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.file.as_deref()
    }

    /// `relative` as `wire::file_path` makes it; empty for the root itself.
    pub fn find(&self, relative: &[u8], how: How) -> Result<Found, OpenError> {
        self.find_beside(relative, b"", how)
    }

    /// What has the name of `relative` with `suffix` behind it.
    pub fn find_beside(&self, relative: &[u8], suffix: &[u8], how: How) -> Result<Found, OpenError> {
        let path = self.path_of(relative).ok_or(OpenError::NotFound)?;
        let suffixed = if suffix.is_empty() { Vec::new() } else { [path, suffix].concat() };
        let path = if suffix.is_empty() { path } else { &suffixed };
        let directory = Arc::clone(&self.directory.read());
        let found = self.find_in(&directory, path, how);
        if !is_of_deleted(&directory, &found) {
            return found;
        }
        match how {
            How::CachedOnly => Err(OpenError::WouldBlock),
            How::Blocking => {
                let again = Arc::new(open_directory(&self.path)?);
                *self.directory.write() = Arc::clone(&again);
                self.find_in(&again, path, how)
            }
        }
    }

    fn find_in(&self, directory: &OwnedFd, path: &[u8], how: How) -> Result<Found, OpenError> {
        let descriptor = match how {
            How::Blocking => self.open_at_leisure(directory, path)?,
            How::CachedOnly => self.open_in_cache(directory, path)?,
        };
        self.examine(descriptor, how)
    }

    /// What to look for in the directory. Checked here too, because where symlinks are allowed the kernel is not told
    /// to stay below: a path that climbs, or begins at `/`, must not get past this line.
    fn path_of<'a>(&'a self, relative: &'a [u8]) -> Option<&'a [u8]> {
        match (&self.file, relative) {
            (Some(name), b"") => Some(name),
            (None, b"") => Some(b"."),
            (Some(_), _) => None,
            (None, _) => {
                let mut segments = relative.split(|&byte| byte == b'/');
                let is_plain = relative.len() < PATH_MAX
                    && !relative.contains(&0)
                    && segments.all(|segment| !matches!(segment, b"" | b"." | b".."));
                is_plain.then_some(relative)
            }
        }
    }

    fn open_in_cache(&self, directory: &OwnedFd, path: &[u8]) -> Result<OwnedFd, OpenError> {
        self.openat2(directory, path, ResolveFlags::CACHED).map_err(|errno| match errno {
            // Not there before Linux 5.12 (INVAL), 5.6 (NOSYS), or forbidden by a sandbox that does not know it (PERM).
            Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::PERM => OpenError::WouldBlock,
            errno => errno.into(),
        })
    }

    fn open_at_leisure(&self, directory: &OwnedFd, path: &[u8]) -> Result<OwnedFd, OpenError> {
        for _ in 0..TRIES {
            match self.openat2(directory, path, ResolveFlags::empty()) {
                // A rename anywhere while a link's `..` was followed: the kernel cannot tell whether it stayed below.
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS | Errno::PERM) => break,
                result => return Ok(result?),
            }
        }
        self.open_walking(directory, path)
    }

    fn openat2(&self, directory: &OwnedFd, path: &[u8], more: ResolveFlags) -> Result<OwnedFd, Errno> {
        let beneath = if self.allows_symlinks { ResolveFlags::empty() } else { ResolveFlags::BENEATH };
        let resolve = beneath | ResolveFlags::NO_MAGICLINKS | more;
        retry_on_intr(|| openat2(directory, path, READ, Mode::empty(), resolve))
    }

    fn open_walking(&self, directory: &OwnedFd, path: &[u8]) -> Result<OwnedFd, OpenError> {
        Ok(walk(directory.as_fd(), path, READ, self.allows_symlinks)?)
    }

    fn examine(&self, descriptor: OwnedFd, how: How) -> Result<Found, OpenError> {
        match meta_of(descriptor.as_fd(), how)? {
            Some(meta) if !(meta.is_directory && self.is_file()) => Ok(Found { descriptor, meta }),
            _ => Err(OpenError::NotFound),
        }
    }
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> OpenError {
        match errno {
            Errno::ACCESS | Errno::PERM => OpenError::Forbidden,
            // LOOP: too many symlinks, or a magic one. XDEV: out of the root.
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::LOOP | Errno::XDEV => OpenError::NotFound,
            // A socket, and a device without a driver.
            Errno::NXIO | Errno::NODEV => OpenError::NotFound,
            // A name that this file system cannot have; a client must not be able to cause a 500.
            Errno::INVAL | Errno::ILSEQ => OpenError::NotFound,
            errno => OpenError::Other(errno),
        }
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| openat(CWD, path, PLACE | OFlags::DIRECTORY, Mode::empty()))
}

/// Whether nothing was found because the directory is not there any more. It is asked only then, or for itself.
fn is_of_deleted(directory: &OwnedFd, found: &Result<Found, OpenError>) -> bool {
    match found {
        Err(OpenError::Other(Errno::STALE)) => true, // deleted by another machine
        Err(OpenError::NotFound) => is_deleted(directory),
        Ok(found) if found.meta.is_directory => is_deleted(&found.descriptor) && is_deleted(directory),
        _ => false,
    }
}

fn is_deleted(directory: &OwnedFd) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    retry_on_intr(|| statx(directory, c"", flags, StatxFlags::NLINK)).is_ok_and(|stat| stat.stx_nlink == 0)
}

/// None for what is neither a file nor a directory.
fn meta_of(descriptor: BorrowedFd<'_>, how: How) -> Result<Option<Meta>, Errno> {
    let mask = StatxFlags::TYPE | StatxFlags::SIZE | StatxFlags::MTIME | StatxFlags::INO;
    let sync = if how == How::CachedOnly { AtFlags::STATX_DONT_SYNC } else { AtFlags::empty() };
    match retry_on_intr(|| statx(descriptor, c"", AtFlags::EMPTY_PATH | sync, mask)) {
        Ok(stat) => Ok(meta_from_statx(&stat)),
        Err(Errno::NOSYS) => meta_by_fstat(descriptor), // as old as what has no openat2
        Err(errno) => Err(errno),
    }
}

fn meta_from_statx(stat: &Statx) -> Option<Meta> {
    Some(Meta {
        is_directory: is_directory(FileType::from_raw_mode(stat.stx_mode.into()))?,
        length: stat.stx_size,
        modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        device: makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
    })
}

fn meta_by_fstat(descriptor: BorrowedFd<'_>) -> Result<Option<Meta>, Errno> {
    let stat = fstat(descriptor)?;
    Ok(is_directory(FileType::from_raw_mode(stat.st_mode)).map(|is_directory| Meta {
        is_directory,
        length: stat.st_size as u64,
        modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
    }))
}

fn is_directory(kind: FileType) -> Option<bool> {
    match kind {
        FileType::Directory => Some(true),
        FileType::RegularFile => Some(false),
        _ => None,
    }
}

fn file_type(descriptor: BorrowedFd<'_>) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(fstat(descriptor)?.st_mode))
}

#[cfg(test)]
mod tests;
