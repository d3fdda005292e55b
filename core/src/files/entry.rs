//! What a path of a static mount turns out to be: a file with everything its answers say of it, or why there is none.
//!
//! Thread: any. `How::Blocking` only where waiting is no harm.

use super::mount::Mount;
use super::root::{Found, How, Meta, OpenError};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2, retry_on_intr};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use wire::file_path::RelativePath;
use wire::http_coding::Coding;

/// Files up to this size are kept in memory for as long as they are known to be what they were.
const KEEP_BELOW_BYTES: u64 = 64 * 1024;
/// The same on every architecture that has it.
const SYS_CACHESTAT: libc::c_long = 451;
/// The smallest there is; where pages are larger, fewer are counted than wanted, and files are read instead.
const PAGE_BYTES: u64 = 4096;
const INDEX: &[u8] = b"index.html";

/// What was found.
#[derive(Clone)]
pub enum Entry {
    File(Arc<File>),
    /// A page of names, made for this request.
    Listing(Arc<[u8]>),
    /// A directory that can be listed, asked for without the `/` at the end that its relative links need.
    NeedsSlash,
    NotFound,
    /// The file's permissions.
    Forbidden,
    /// The disk's fault.
    Failed,
}

/// A file, open or in memory.
pub struct File {
    pub meta: Meta,
    /// Strong: what has the same one has the same bytes.
    pub etag: String,
    pub last_modified: u64,
    pub last_modified_text: String,
    pub content_type: String,
    /// It stands for its directory.
    pub is_index: bool,
    /// The same content, compressed, in files beside it.
    pub siblings: Vec<(Coding, Arc<File>)>,
    content: Content,
}

enum Content {
    Memory(Arc<[u8]>),
    Descriptor(OwnedFd),
}

/// Why bytes of a file are not here.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadError {
    /// They are not in memory: ask where waiting is no harm.
    WouldBlock,
    Failed(Errno),
}

/// The kernel's cache does not have it: ask with `How::Blocking`.
#[derive(Debug)]
pub struct WouldBlock;

impl File {
    /// One that somebody else has opened and vouches for. `modified`: in seconds since 1970 and nanoseconds.
    pub fn nameless(descriptor: OwnedFd, length: u64, modified: (i64, u32)) -> File {
        let meta = Meta { is_directory: false, length, modified, device: 0, inode: 0 };
        File::new(meta, String::new(), "", Vec::new(), Content::Descriptor(descriptor))
    }

    /// `tag` tells the forms of one content apart.
    fn new(meta: Meta, content_type: String, tag: &str, siblings: Vec<(Coding, Arc<File>)>, content: Content) -> File {
        let (seconds, nanos) = meta.modified;
        let dash = if tag.is_empty() { "" } else { "-" };
        let etag = format!("\"{:x}-{seconds:x}.{nanos:x}{dash}{tag}\"", meta.length);
        // What is older than the clock of HTTP is as old as it. Later than now is said as it is: §8.8.2.1 wants now, but
        // then the validator would change with every answer.
        let last_modified = (seconds.max(0) as u64).min(LATEST);
        let last_modified_text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(last_modified));
        File { meta, etag, last_modified, last_modified_text, content_type, is_index: false, siblings, content }
    }

    /// All of it, if it is small.
    pub fn memory(&self) -> Option<&Arc<[u8]>> {
        match &self.content {
            Content::Memory(bytes) => Some(bytes),
            Content::Descriptor(_) => None,
        }
    }

    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.content {
            Content::Memory(_) => None,
            Content::Descriptor(descriptor) => Some(descriptor.as_fd()),
        }
    }

    /// Whether all of a part is in the page cache. False also where the kernel can't say (before Linux 6.5).
    pub fn is_cached(&self, start: u64, size: usize) -> bool {
        let Content::Descriptor(descriptor) = &self.content else { return true };
        let range = [start, size as u64];
        let mut counts = [0u64; 5]; // cached, dirty, in writeback, evicted, recently evicted
        // SAFETY: cachestat reads a range of two and writes five 64-bit numbers where its arguments point, and nothing else.
        let result =
            unsafe { libc::syscall(SYS_CACHESTAT, descriptor.as_raw_fd(), range.as_ptr(), counts.as_mut_ptr(), 0) };
        let pages = (start + size as u64).div_ceil(PAGE_BYTES) - start / PAGE_BYTES;
        result == 0 && counts[0] >= pages
    }

    /// `Ok(0)`: there is nothing (any more) at `offset`.
    pub fn read_at(&self, offset: u64, out: &mut [u8], how: How) -> Result<usize, ReadError> {
        match &self.content {
            Content::Memory(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
                let count = rest.len().min(out.len());
                out[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            Content::Descriptor(descriptor) => read_at(descriptor, offset, out, how),
        }
    }
}

fn read_at(descriptor: &OwnedFd, offset: u64, out: &mut [u8], how: How) -> Result<usize, ReadError> {
    let read = retry_on_intr(|| match how {
        How::Blocking => pread(descriptor, &mut *out, offset),
        How::CachedOnly => preadv2(descriptor, &mut [IoSliceMut::new(out)], offset, ReadWriteFlags::NOWAIT),
    });
    match read {
        Ok(count) => Ok(count),
        // Not in the page cache; or a file system that cannot promise not to wait (tmpfs).
        Err(Errno::AGAIN | Errno::OPNOTSUPP) if how == How::CachedOnly => Err(ReadError::WouldBlock),
        Err(errno) => Err(ReadError::Failed(errno)),
    }
}

/// Find what `path` is below `mount`. `known`: what it was a while ago, which may well be what it still is.
pub fn look_up(mount: &Mount, path: &RelativePath, how: How, known: Option<&Entry>) -> Result<Entry, WouldBlock> {
    let known = match known {
        Some(Entry::File(file)) => Some(file),
        _ => None,
    };
    let Some(root) = &mount.root else { return Ok(Entry::NotFound) };
    let found = match root.find(path.as_bytes(), how) {
        Ok(found) => found,
        Err(error) => return not_opened(error),
    };
    if !found.meta.is_directory {
        // `/file.txt/` names something in a directory that is none; but one file may be the whole site.
        return if path.is_directory_like() && !(path.as_bytes().is_empty() && mount.is_whole_site()) {
            Ok(Entry::NotFound)
        } else {
            file(mount, path.as_bytes(), false, found, how, known)
        };
    }
    if mount.options.indexhtml {
        let index = join(path.as_bytes(), INDEX);
        match root.find(&index, how) {
            Ok(found) if !found.meta.is_directory => return file(mount, &index, true, found, how, known),
            Ok(_) | Err(OpenError::NotFound) => {}
            Err(error) => return not_opened(error),
        }
    }
    match how {
        _ if !mount.options.listing => Ok(Entry::NotFound),
        _ if !path.is_directory_like() => Ok(Entry::NeedsSlash),
        How::CachedOnly => Err(WouldBlock),
        How::Blocking => Ok(super::listing::page(mount, path, &found.descriptor).map_or(Entry::Failed, Entry::Listing)),
    }
}

fn not_opened(error: OpenError) -> Result<Entry, WouldBlock> {
    match error {
        OpenError::NotFound => Ok(Entry::NotFound),
        OpenError::Forbidden => Ok(Entry::Forbidden),
        OpenError::WouldBlock => Err(WouldBlock),
        OpenError::Other(_) => Ok(Entry::Failed),
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

fn file(
    mount: &Mount,
    path: &[u8],
    is_index: bool,
    found: Found,
    how: How,
    known: Option<&Arc<File>>,
) -> Result<Entry, WouldBlock> {
    let mut siblings = Vec::new();
    if mount.options.precompressed {
        for coding in Coding::ALL {
            let known = known.and_then(|known| known.siblings.iter().find(|(other, _)| *other == coding));
            match sibling(mount, path, coding, &found.meta, how, known.map(|(_, file)| file)) {
                Ok(Some(file)) => siblings.push((coding, file)),
                Ok(None) => {}
                Err(WouldBlock) => return Err(WouldBlock),
            }
        }
    }
    if let Some(known) = known.filter(|known| known.meta == found.meta && same(&known.siblings, &siblings)) {
        return Ok(Entry::File(Arc::clone(known)));
    }
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let name = if path.is_empty() { mount.file_name() } else { name };
    let content_type = mount.options.content_type(name);
    let made = make(found, content_type, "", siblings, how)?;
    Ok(made.map_or(Entry::Failed, |file| Entry::File(Arc::new(File { is_index, ..file }))))
}

fn same(one: &[(Coding, Arc<File>)], other: &[(Coding, Arc<File>)]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(&one.1, &other.1))
}

/// The compressed form of a file. One that is older than the file is left over from an earlier version of it.
fn sibling(
    mount: &Mount,
    path: &[u8],
    coding: Coding,
    of: &Meta,
    how: How,
    known: Option<&Arc<File>>,
) -> Result<Option<Arc<File>>, WouldBlock> {
    let Some(root) = &mount.root else { return Ok(None) };
    let found = match root.find_beside(path, coding.suffix().as_bytes(), how) {
        Ok(found) if !found.meta.is_directory && found.meta.modified >= of.modified => found,
        Err(OpenError::WouldBlock) => return Err(WouldBlock),
        _ => return Ok(None),
    };
    if let Some(known) = known.filter(|known| known.meta == found.meta) {
        return Ok(Some(Arc::clone(known)));
    }
    Ok(make(found, String::new(), coding.name(), Vec::new(), how)?.map(Arc::new))
}

/// `None`: it can't be read.
fn make(
    found: Found,
    content_type: String,
    tag: &str,
    siblings: Vec<(Coding, Arc<File>)>,
    how: How,
) -> Result<Option<File>, WouldBlock> {
    let mut meta = found.meta;
    let content = if meta.length <= KEEP_BELOW_BYTES {
        match read_all(&found.descriptor, meta.length as usize, how) {
            Ok(bytes) => Content::Memory(bytes.into()),
            Err(ReadError::WouldBlock) => return Err(WouldBlock),
            Err(ReadError::Failed(_)) => return Ok(None),
        }
    } else {
        Content::Descriptor(found.descriptor)
    };
    if let Content::Memory(bytes) = &content {
        meta.length = bytes.len() as u64; // it may have changed while it was read; then it is looked at again soon
    }
    Ok(Some(File::new(meta, content_type, tag, siblings, content)))
}

/// The end of the year 9999, after which a date has no HTTP form.
const LATEST: u64 = 253_402_300_799;

fn read_all(descriptor: &OwnedFd, length: usize, how: How) -> Result<Vec<u8>, ReadError> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match read_at(descriptor, filled as u64, &mut bytes[filled..], how)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
