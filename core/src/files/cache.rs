//! What was found a moment ago, so that a popular file costs no look at the disk.
//!
//! Thread: whoever holds the reactor.

use super::entry::Entry;
use crate::timers::Millis;
use std::collections::HashMap;
use wire::file_path::RelativePath;

/// How long an entry is believed: changes show within a second.
const BELIEVED: Millis = 500;
/// When this is full it is emptied: popular files are back at once, and no bookkeeping is needed for the others.
const MAX_ENTRIES: usize = 1024;
const MAX_BYTES: usize = 32 << 20;
/// Of large files, which are kept open.
const MAX_OPEN: usize = 128;

#[derive(Default)]
pub struct FileCache {
    entries: HashMap<Key, (Entry, Millis)>,
    bytes: usize,
    open: usize,
}

type Key = (u64, RelativePath);

/// What the cache says.
pub enum Cached {
    Fresh(Entry),
    /// It was that; look again.
    Stale(Entry),
    Unknown,
}

impl FileCache {
    pub fn get(&self, mount: u64, path: &RelativePath, now: Millis) -> Cached {
        // The key has to be owned, which costs less than the hash of it.
        match self.entries.get(&(mount, path.clone())) {
            Some((entry, seen)) if now < seen + BELIEVED => Cached::Fresh(entry.clone()),
            Some((entry, _)) => Cached::Stale(entry.clone()),
            None => Cached::Unknown,
        }
    }

    /// Only files are kept: names that do not exist are endless.
    pub fn put(&mut self, mount: u64, path: &RelativePath, entry: &Entry, now: Millis) {
        let key = (mount, path.clone());
        self.remove(&key);
        let (bytes, open) = cost(entry);
        if bytes + open == 0 {
            return;
        }
        let is_full =
            self.entries.len() >= MAX_ENTRIES || self.bytes + bytes > MAX_BYTES || self.open + open > MAX_OPEN;
        if is_full {
            *self = FileCache::default();
        }
        self.bytes += bytes;
        self.open += open;
        self.entries.insert(key, (entry.clone(), now));
    }

    fn remove(&mut self, key: &Key) {
        if let Some((entry, _)) = self.entries.remove(key) {
            let (bytes, open) = cost(&entry);
            self.bytes -= bytes;
            self.open -= open;
        }
    }
}

/// Bytes of memory and open descriptors.
fn cost(entry: &Entry) -> (usize, usize) {
    let Entry::File(file) = entry else { return (0, 0) };
    let files = std::iter::once(file).chain(file.siblings.iter().map(|(_, sibling)| sibling));
    files.fold((0, 0), |(bytes, open), file| match file.memory() {
        Some(memory) => (bytes + memory.len() + 512, open),
        None => (bytes + 512, open + 1),
    })
}
