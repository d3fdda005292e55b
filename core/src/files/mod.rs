//! Files that are served without Python: where they are mounted, how a path is opened so that none leads out of its root,
//! what is known of what was found. How they are answered is in `static_files`.
//!
//! Thread: see each file.

mod cache;
mod entry;
mod listing;
mod mount;
mod root;
mod walk;

pub use cache::{Cached, FileCache};
pub use entry::{Entry, File, ReadError, look_up};
pub use mount::{Mount, MountOptions, Mounts, Reach};
pub use root::{How, Root};
