//! The kernel's search and ours, side by side; and races with somebody who renames.

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
        Way::Walk => root.open_walking(&root.directory.read(), path)?,
        Way::Kernel => loop {
            match root.openat2(&root.directory.read(), path, ResolveFlags::empty()) {
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
    for (name, text) in [("a.txt", "a"), ("dir/b.txt", "b"), ("dir/deep/c.txt", "c"), ("..odd", "odd"), (" ", "space")]
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
        assert_eq!(root.openat2(&root.directory.read(), b"a.txt", ResolveFlags::empty()).unwrap_err(), Errno::PERM);
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
fn a_root_that_was_deleted_is_the_one_made_in_its_place() {
    let top = tree();
    let path = top.path().join("root");
    let (root, file) = (Root::open(&path, false).unwrap(), Root::open(&path.join("a.txt"), false).unwrap());
    let roots = [(&root, &b"a.txt"[..]), (&file, b"")];
    fs::remove_dir_all(&path).unwrap();
    for (root, name) in roots {
        assert_eq!(seen(root.find(name, How::CachedOnly)), Seen::Nothing(OpenError::WouldBlock));
        assert_eq!(seen(root.find(name, How::Blocking)), Seen::Nothing(OpenError::NotFound));
    }
    create_dir_all(&path).unwrap();
    write(path.join("a.txt"), "new").unwrap();
    for (root, name) in roots {
        assert_eq!(seen(root.find(name, How::Blocking)), Seen::File("new".to_owned()));
        for way in [Way::Kernel, Way::Walk] {
            assert_eq!(seen(find(root, way, name)), Seen::File("new".to_owned()));
        }
    }
    // Also where nobody asks for more than the directory.
    fs::remove_dir_all(&path).unwrap();
    create_dir_all(path.join("made")).unwrap();
    let found = root.find(b"", How::Blocking).unwrap();
    assert_eq!(found.meta.inode, fs::metadata(&path).unwrap().ino());
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
