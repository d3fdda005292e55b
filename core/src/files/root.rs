//! What a static path serves: an opened directory, or one file in it, and how files below are found.
//!
//! The kernel keeps the search below the directory (openat2); where there is no openat2, `walk` does.
//!
//! Thread: any. `How::Blocking` may wait for a disk or a network, so the reactor only asks for `How::CachedOnly`.

use super::walk::walk;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, fstat, makedev, openat, statx};
use rustix::fs::{CWD, openat2};
use rustix::io::{Errno, retry_on_intr};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// NONBLOCK: a FIFO that nobody writes to must not hold us. NOCTTY: no terminal becomes ours.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// The kernel's, with the NUL at the end; `walk` would go further.
const PATH_MAX: usize = 4096;

/// How often openat2 is asked again because somebody renames meanwhile.
const TRIES: u32 = 8;

/// What a lookup may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Blocking,
    /// Nothing that waits: what is not in the kernel's cache is `OpenError::WouldBlock`.
    CachedOnly,
}

/// A directory, or one file in it. It stays the same directory when its path becomes another one.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
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
        let place = OFlags::PATH | OFlags::CLOEXEC;
        let opened = retry_on_intr(|| openat(CWD, path, place, Mode::empty()))?;
        match file_type(opened.as_fd())? {
            FileType::Directory => Ok(Root { directory: opened, file: None, allows_symlinks }),
            FileType::RegularFile => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(Errno::ISDIR.into());
                };
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                let directory = retry_on_intr(|| openat(CWD, parent, place | OFlags::DIRECTORY, Mode::empty()))?;
                let root = Root { directory, file: Some(name.as_bytes().to_vec()), allows_symlinks };
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
        let descriptor = match how {
            How::Blocking => self.open_at_leisure(path)?,
            How::CachedOnly => self.open_in_cache(path)?,
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

    fn open_in_cache(&self, path: &[u8]) -> Result<OwnedFd, OpenError> {
        self.openat2(path, ResolveFlags::CACHED).map_err(|errno| match errno {
            // Not there before Linux 5.12 (INVAL), 5.6 (NOSYS), or forbidden by a sandbox that does not know it (PERM).
            Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::PERM => OpenError::WouldBlock,
            errno => errno.into(),
        })
    }

    fn open_at_leisure(&self, path: &[u8]) -> Result<OwnedFd, OpenError> {
        for _ in 0..TRIES {
            match self.openat2(path, ResolveFlags::empty()) {
                // A rename anywhere while a link's `..` was followed: the kernel cannot tell whether it stayed below.
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS | Errno::PERM) => break,
                result => return Ok(result?),
            }
        }
        self.open_walking(path)
    }

    fn openat2(&self, path: &[u8], more: ResolveFlags) -> Result<OwnedFd, Errno> {
        let beneath = if self.allows_symlinks { ResolveFlags::empty() } else { ResolveFlags::BENEATH };
        let resolve = beneath | ResolveFlags::NO_MAGICLINKS | more;
        retry_on_intr(|| openat2(&self.directory, path, READ, Mode::empty(), resolve))
    }

    fn open_walking(&self, path: &[u8]) -> Result<OwnedFd, OpenError> {
        Ok(walk(self.directory.as_fd(), path, READ, self.allows_symlinks)?)
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
mod tests {
    use super::*;
    use rustix::fs::{FileType, RenameFlags, mknodat, renameat_with};
    use std::fs::{self, File, create_dir_all, write};
    use std::io::Read;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::{panic, thread};
    use tempfile::TempDir;

    /// The kernel's way and ours: the same answers, always.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Way {
        Kernel,
        Walk,
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Seen {
        File(String),
        Directory,
        Nothing(OpenError),
    }

    fn find(root: &Root, way: Way, relative: &[u8]) -> Result<Found, OpenError> {
        let path = root.path_of(relative).ok_or(OpenError::NotFound)?;
        let descriptor = match way {
            Way::Walk => root.open_walking(path)?,
            Way::Kernel => loop {
                match root.openat2(path, ResolveFlags::empty()) {
                    Err(Errno::AGAIN) => {} // another test renames
                    opened => break opened?,
                }
            },
        };
        root.examine(descriptor, How::Blocking)
    }

    fn seen(found: Result<Found, OpenError>) -> Seen {
        match found {
            Ok(found) if found.meta.is_directory => Seen::Directory,
            Ok(found) => Seen::File(content(found)),
            Err(error) => Seen::Nothing(error),
        }
    }

    fn content(found: Found) -> String {
        let mut text = String::new();
        File::from(found.descriptor).read_to_string(&mut text).unwrap();
        text
    }

    /// `root` with files and symlinks of every kind, and `outside` beside it.
    fn tree() -> TempDir {
        let top = TempDir::new().unwrap();
        let root = top.path().join("root");
        let outside = top.path().join("outside");
        create_dir_all(root.join("dir/deep")).unwrap();
        create_dir_all(&outside).unwrap();
        for (name, text) in
            [("a.txt", "a"), ("dir/b.txt", "b"), ("dir/deep/c.txt", "c"), ("..odd", "odd"), (" ", "space")]
        {
            write(root.join(name), text).unwrap();
        }
        write(root.join(std::ffi::OsStr::from_bytes(b"\xFF\xFE")), "bytes").unwrap();
        write(outside.join("secret.txt"), "secret").unwrap();
        let absolute = |below: &str| top.path().join(below).to_str().unwrap().to_owned();
        let links = [
            ("to_file", "a.txt".to_owned()),
            ("to_dir", "dir".to_owned()),
            ("to_dir_slash", "dir/".to_owned()),
            ("to_dir_dot", "./dir/./".to_owned()),
            ("to_file_slash", "a.txt/".to_owned()),
            ("to_file_dot", "a.txt/.".to_owned()),
            ("to_deep", "dir//deep".to_owned()),
            ("to_self", ".".to_owned()),
            ("to_root", "dir/..".to_owned()),
            ("dir/up", "../a.txt".to_owned()),
            ("dir/deep/up_up", "../../a.txt".to_owned()),
            ("there_and_back", "dir/deep/../../a.txt".to_owned()),
            ("through_file", "a.txt/../a.txt".to_owned()),
            ("through_nothing", "missing/../a.txt".to_owned()),
            ("dangling", "missing".to_owned()),
            ("above", "..".to_owned()),
            ("out_and_in", "../root/a.txt".to_owned()),
            ("out", "../outside/secret.txt".to_owned()),
            ("out_dir", "../outside".to_owned()),
            ("far_out", format!("{}{}", "../".repeat(40), &absolute("outside/secret.txt")[1..])),
            ("out_absolute", absolute("outside/secret.txt")),
            ("in_absolute", absolute("root/a.txt")),
            ("top", "/".to_owned()),
            ("device", "/dev/null".to_owned()),
            ("loop", "loop".to_owned()),
            ("ping", "pong".to_owned()),
            ("pong", "ping".to_owned()),
            ("chain0", "a.txt".to_owned()),
            ("dir/in_then_out", "up_and_out".to_owned()),
            ("dir/up_and_out", "../out".to_owned()),
        ];
        for (name, target) in &links {
            symlink(target, root.join(name)).unwrap();
        }
        for index in 1..=40 {
            symlink(format!("chain{}", index - 1), root.join(format!("chain{index}"))).unwrap();
        }
        mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        drop(UnixListener::bind(root.join("socket")).unwrap());
        top
    }

    #[test]
    fn the_kernel_and_the_walk_find_the_same() {
        let top = tree();
        let (a, b, c, secret) = (Some("a"), Some("b"), Some("c"), Some("secret"));
        let directory = Some("/");
        // What is found without and with symlinks that may lead anywhere; "/" is a directory, None is NotFound.
        let table: Vec<(Vec<u8>, Option<&str>, Option<&str>)> = [
            ("", directory, directory),
            ("a.txt", a, a),
            ("dir", directory, directory),
            ("dir/b.txt", b, b),
            ("dir/deep/c.txt", c, c),
            ("..odd", Some("odd"), Some("odd")),
            (" ", Some("space"), Some("space")),
            ("missing", None, None),
            ("missing/a.txt", None, None),
            ("A.TXT", None, None),
            ("a.txt/a.txt", None, None),
            // Symlinks that stay inside.
            ("to_file", a, a),
            ("to_dir", directory, directory),
            ("to_dir/b.txt", b, b),
            ("to_dir_slash/b.txt", b, b),
            ("to_dir_slash", directory, directory),
            ("to_dir_dot", directory, directory),
            ("to_dir_dot/deep/up_up", a, a),
            ("to_file_slash", None, None),
            ("to_file_dot", None, None),
            ("to_file/a.txt", None, None),
            ("to_deep/c.txt", c, c),
            ("to_deep/up_up", a, a),
            ("to_self", directory, directory),
            ("to_self/to_self/to_self/a.txt", a, a),
            ("to_root", directory, directory),
            ("to_root/dir/../a.txt", None, None),
            ("to_root/dir/b.txt", b, b),
            ("dir/up", a, a),
            ("to_dir/up", a, a),
            ("dir/deep/up_up", a, a),
            ("there_and_back", a, a),
            ("through_file", None, None),
            ("through_nothing", None, None),
            ("dangling", None, None),
            // Symlinks that leave, if only for a moment.
            ("above", None, directory),
            ("above/outside/secret.txt", None, secret),
            ("out_and_in", None, a),
            ("out", None, secret),
            ("out_dir", None, directory),
            ("out_dir/secret.txt", None, secret),
            ("far_out", None, secret),
            ("out_absolute", None, secret),
            ("in_absolute", None, a),
            ("top", None, directory),
            ("dir/in_then_out", None, secret),
            // Loops and chains: 40 links and no more.
            ("loop", None, None),
            ("loop/a.txt", None, None),
            ("ping", None, None),
            ("chain39", a, a),
            ("chain40", None, None),
            // Neither file nor directory.
            ("fifo", None, None),
            ("fifo/a.txt", None, None),
            ("socket", None, None),
            ("device", None, None),
            // What relative_path never makes.
            (".", None, None),
            ("..", None, None),
            ("../outside/secret.txt", None, None),
            ("dir/../a.txt", None, None),
            ("dir/..", None, None),
            ("./a.txt", None, None),
            ("dir//b.txt", None, None),
            ("dir/", None, None),
            ("a.txt/", None, None),
            ("/", None, None),
            ("/etc/passwd", None, None),
            ("a.txt\0", None, None),
        ]
        .into_iter()
        .map(|(path, kept, free)| (path.as_bytes().to_vec(), kept, free))
        .chain([
            (b"\xFF\xFE".to_vec(), Some("bytes"), Some("bytes")),
            (b"\xFF".to_vec(), None, None),
            (vec![b'x'; 255], None, None),
            (vec![b'x'; 256], None, None),
            ([b"to_self/".repeat(41), b"a.txt".to_vec()].concat(), None, None),
            ([b"dir/".repeat(1100), b"a.txt".to_vec()].concat(), None, None),
        ])
        .collect();
        for allows_symlinks in [false, true] {
            let root = Root::open(&top.path().join("root"), allows_symlinks).unwrap();
            for (path, kept, free) in &table {
                let expected = match if allows_symlinks { free } else { kept } {
                    None => Seen::Nothing(OpenError::NotFound),
                    Some("/") => Seen::Directory,
                    Some(text) => Seen::File((*text).to_owned()),
                };
                for way in [Way::Kernel, Way::Walk] {
                    let shown = path.escape_ascii();
                    assert_eq!(seen(find(&root, way, path)), expected, "{shown} by {way:?}, free: {allows_symlinks}");
                }
                assert_eq!(seen(root.find(path, How::Blocking)), expected);
                let cached = seen(root.find(path, How::CachedOnly));
                assert!(cached == expected || cached == Seen::Nothing(OpenError::WouldBlock), "{cached:?}");
            }
        }
    }

    #[test]
    fn what_is_in_the_cache_needs_no_waiting() {
        let top = tree();
        let root = Root::open(&top.path().join("root"), false).unwrap();
        let first = root.find(b"dir/b.txt", How::Blocking).unwrap();
        match root.find(b"dir/b.txt", How::CachedOnly) {
            Ok(again) => assert_eq!(first.meta, again.meta),
            Err(error) => assert_eq!(error, OpenError::WouldBlock), // Linux before 5.12, or a sandbox
        }
    }

    #[test]
    fn meta_is_what_the_file_system_says() {
        let top = tree();
        let path = top.path().join("root/a.txt");
        let before_1970 = std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500);
        File::options().write(true).open(&path).unwrap().set_modified(before_1970).unwrap();
        let root = Root::open(&top.path().join("root"), false).unwrap();
        for (name, is_directory) in [("a.txt", false), ("dir", true)] {
            let found = root.find(name.as_bytes(), How::Blocking).unwrap();
            let expected = fs::metadata(top.path().join("root").join(name)).unwrap();
            let meta = Meta {
                is_directory,
                length: expected.len(),
                modified: (expected.mtime(), expected.mtime_nsec() as u32),
                device: expected.dev(),
                inode: expected.ino(),
            };
            assert_eq!(found.meta, meta);
            assert_eq!(meta_by_fstat(found.descriptor.as_fd()), Ok(Some(meta)));
        }
        assert_eq!(root.find(b"a.txt", How::Blocking).unwrap().meta.modified, (-2, 500_000_000));
    }

    #[test]
    fn no_permission_is_forbidden() {
        let top = tree();
        let path = top.path().join("root/a.txt");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let root = Root::open(&top.path().join("root"), false).unwrap();
        // The superuser may read everything.
        let expected =
            if File::open(&path).is_ok() { Seen::File("a".to_owned()) } else { Seen::Nothing(OpenError::Forbidden) };
        for way in [Way::Kernel, Way::Walk] {
            assert_eq!(seen(find(&root, way, b"a.txt")), expected);
        }
        assert_eq!(OpenError::from(Errno::ACCESS), OpenError::Forbidden);
        assert_eq!(OpenError::from(Errno::MFILE), OpenError::Other(Errno::MFILE));
    }

    #[test]
    fn one_file_is_a_root_too() {
        let top = tree();
        let path = top.path().join("root/a.txt");
        let root = Root::open(&path, false).unwrap();
        assert!(root.is_file());
        assert_eq!(seen(root.find(b"", How::Blocking)), Seen::File("a".to_owned()));
        for path in ["a.txt", "dir/b.txt", "x"] {
            assert_eq!(seen(root.find(path.as_bytes(), How::Blocking)), Seen::Nothing(OpenError::NotFound));
        }
        // Replaced, as an editor does it.
        write(top.path().join("root/new"), "new").unwrap();
        fs::rename(top.path().join("root/new"), &path).unwrap();
        for way in [Way::Kernel, Way::Walk] {
            assert_eq!(seen(find(&root, way, b"")), Seen::File("new".to_owned()));
        }
        // Replaced by what is not served.
        fs::remove_file(&path).unwrap();
        assert_eq!(seen(root.find(b"", How::Blocking)), Seen::Nothing(OpenError::NotFound));
        symlink("../outside/secret.txt", &path).unwrap();
        assert_eq!(seen(root.find(b"", How::Blocking)), Seen::Nothing(OpenError::NotFound));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(seen(root.find(b"", How::Blocking)), Seen::Nothing(OpenError::NotFound));
    }

    #[test]
    fn what_can_be_a_root() {
        let top = tree();
        let open = |below: &str, allows_symlinks| Root::open(&top.path().join(below), allows_symlinks);
        let seen_at = |root: Root| seen(root.find(b"", How::Blocking));
        assert_eq!(seen_at(open("root", false).unwrap()), Seen::Directory);
        assert_eq!(seen_at(open("root/", false).unwrap()), Seen::Directory);
        assert_eq!(seen_at(open("root/../root/.", false).unwrap()), Seen::Directory);
        // A directory may be named by a symlink, and a file by one that stays beside it.
        assert_eq!(seen_at(open("root/out_dir", false).unwrap()), Seen::Directory);
        assert_eq!(seen_at(open("root/out_dir/secret.txt", false).unwrap()), Seen::File("secret".to_owned()));
        assert_eq!(seen_at(open("root/to_file", false).unwrap()), Seen::File("a".to_owned()));
        assert_eq!(open("root/out", false).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(seen_at(open("root/out", true).unwrap()), Seen::File("secret".to_owned()));
        assert_eq!(open("missing", false).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(open("root/a.txt/", false).unwrap_err().kind(), ErrorKind::NotADirectory);
        assert_eq!(open("root/fifo", false).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(Root::open(Path::new("/dev/null"), true).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(Root::open(Path::new("Cargo.toml"), false).unwrap().is_file()); // beside us: no parent in the path
    }

    #[test]
    fn a_root_stays_the_directory_it_was() {
        let top = tree();
        let root = Root::open(&top.path().join("root"), false).unwrap();
        fs::rename(top.path().join("root"), top.path().join("moved")).unwrap();
        symlink("outside", top.path().join("root")).unwrap();
        for way in [Way::Kernel, Way::Walk] {
            assert_eq!(seen(find(&root, way, b"a.txt")), Seen::File("a".to_owned()));
            assert_eq!(seen(find(&root, way, b"secret.txt")), Seen::Nothing(OpenError::NotFound));
        }
    }

    /// Containers of old runtimes, whose filter answers EPERM to every system call that it does not know.
    #[test]
    fn a_sandbox_without_openat2_walks() {
        let top = tree();
        let root = Root::open(&top.path().join("root"), false).unwrap();
        let in_sandbox = || {
            if !forbid_openat2() {
                return; // we are in a sandbox that forbids sandboxes
            }
            assert_eq!(root.openat2(b"a.txt", ResolveFlags::empty()).unwrap_err(), Errno::PERM);
            assert_eq!(seen(root.find(b"a.txt", How::CachedOnly)), Seen::Nothing(OpenError::WouldBlock));
            assert_eq!(seen(root.find(b"to_dir/up", How::Blocking)), Seen::File("a".to_owned()));
            assert_eq!(seen(root.find(b"out", How::Blocking)), Seen::Nothing(OpenError::NotFound));
        };
        thread::scope(|scope| scope.spawn(in_sandbox).join().unwrap());
    }

    /// For the calling thread, until it ends.
    fn forbid_openat2() -> bool {
        let rule = |code: u32, unequal, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: unequal, k };
        let mut rules = [
            rule(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // the system call's number
            rule(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, libc::SYS_openat2 as u32),
            rule(libc::BPF_RET, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
            rule(libc::BPF_RET, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let filter = libc::sock_fprog { len: 4, filter: rules.as_mut_ptr() };
        // SAFETY: both calls only read their arguments, and `filter` points to four rules that outlive them.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
        }
    }

    /// Call `swap` 10,000 times while other threads open `paths` in every way: never a file from outside.
    fn race(root: &Root, paths: &[&str], swap: impl Fn(usize)) {
        let is_over = AtomicBool::new(false);
        let look = |find: &dyn Fn(&[u8]) -> Result<Found, OpenError>| {
            let mut found = 0;
            while !is_over.load(Ordering::Relaxed) {
                for path in paths {
                    match seen(find(path.as_bytes())) {
                        Seen::File(text) => {
                            assert_eq!(text, "inside", "{path}");
                            found += 1;
                        }
                        Seen::Directory => {}
                        Seen::Nothing(error) => {
                            assert!(matches!(error, OpenError::NotFound | OpenError::WouldBlock), "{path}: {error:?}");
                        }
                    }
                }
            }
            found
        };
        thread::scope(|scope| {
            let lookers = [
                scope.spawn(|| look(&|path| root.find(path, How::Blocking))),
                scope.spawn(|| look(&|path| find(root, Way::Walk, path))),
                scope.spawn(|| look(&|path| root.find(path, How::CachedOnly))),
            ];
            let swapped = panic::catch_unwind(panic::AssertUnwindSafe(|| (0..10_000).for_each(swap)));
            is_over.store(true, Ordering::Relaxed); // whatever happened, or the lookers would look for ever
            let [waiting, walking, _cached] = lookers.map(|looker| looker.join().unwrap());
            assert!(waiting > 0 && walking > 0, "nothing was ever found");
            swapped.unwrap();
        });
    }

    #[test]
    fn a_directory_swapped_for_a_symlink_leads_nowhere() {
        let top = TempDir::new().unwrap();
        let path = |below: &str| top.path().join(below);
        create_dir_all(path("root/real/deep")).unwrap();
        create_dir_all(path("outside/deep")).unwrap();
        for name in ["f", "deep/f"] {
            write(path("root/real").join(name), "inside").unwrap();
            write(path("outside").join(name), "secret").unwrap();
        }
        symlink("../outside", path("root/link")).unwrap();
        let root = Root::open(&path("root"), false).unwrap();
        race(&root, &["real/f", "real/deep/f", "link/f", "link/deep/f"], |_| {
            renameat_with(CWD, path("root/real"), CWD, path("root/link"), RenameFlags::EXCHANGE).unwrap();
        });
    }

    #[test]
    fn a_file_swapped_for_a_symlink_leads_nowhere() {
        let top = TempDir::new().unwrap();
        let path = |below: &str| top.path().join(below);
        create_dir_all(path("root")).unwrap();
        write(path("root/real"), "inside").unwrap();
        write(path("secret"), "secret").unwrap();
        symlink("../secret", path("root/link")).unwrap();
        let root = Root::open(&path("root"), false).unwrap();
        race(&root, &["real", "link"], |_| {
            renameat_with(CWD, path("root/real"), CWD, path("root/link"), RenameFlags::EXCHANGE).unwrap();
        });
        let file = Root::open(&path("root/real"), false).unwrap();
        race(&file, &[""], |_| {
            renameat_with(CWD, path("root/real"), CWD, path("root/link"), RenameFlags::EXCHANGE).unwrap();
        });
    }

    /// Whoever looks in the middle of a deployment sees the old or the new, never nothing.
    #[test]
    fn what_is_there_before_and_after_is_there_meanwhile() {
        let top = TempDir::new().unwrap();
        let path = |below: &str| top.path().join(below);
        create_dir_all(path("old")).unwrap();
        create_dir_all(path("new")).unwrap();
        for name in ["old/f", "new/f", "file"] {
            write(path(name), "inside").unwrap();
        }
        symlink("old", path("current")).unwrap();
        symlink("old/f", path("link")).unwrap();
        let root = Root::open(top.path(), false).unwrap();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    renameat_with(CWD, path("new"), CWD, path("current"), RenameFlags::EXCHANGE).unwrap();
                    renameat_with(CWD, path("file"), CWD, path("link"), RenameFlags::EXCHANGE).unwrap();
                }
                is_over.store(true, Ordering::Relaxed);
            });
            while !is_over.load(Ordering::Relaxed) {
                for name in ["new/f", "current/f", "file", "link"] {
                    for way in [Way::Kernel, Way::Walk] {
                        assert_eq!(seen(find(&root, way, name.as_bytes())), Seen::File("inside".to_owned()), "{name}");
                    }
                }
            }
        });
    }

    /// The escape that checking each name does not stop: `..` of a directory that has been moved out of the root.
    #[test]
    fn a_directory_moved_out_takes_nobody_along() {
        let top = TempDir::new().unwrap();
        let path = |below: &str| top.path().join(below);
        create_dir_all(path("root/a/b/c")).unwrap();
        create_dir_all(path("x/y")).unwrap();
        write(path("root/f"), "inside").unwrap();
        write(path("f"), "secret").unwrap();
        write(path("x/f"), "secret").unwrap();
        symlink("../../../f", path("root/a/b/c/link")).unwrap(); // from x/y/b/c it is x/f
        symlink("../../f", path("root/a/b/link")).unwrap();
        let root = Root::open(&path("root"), false).unwrap();
        race(&root, &["a/b/c/link", "a/b/link"], |turn| {
            let (here, there) = (path("root/a/b"), path("x/y/b"));
            let (from, to) = if turn % 2 == 0 { (here, there) } else { (there, here) };
            fs::rename(from, to).unwrap();
        });
    }
}
