//! Where static files are in the path of a request, and how they are served.
//!
//! Thread: any (pure).

use super::root::Root;
use percent_encoding::percent_decode_str;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// httpuv's options of a static path, nothing left to inherit.
#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    pub indexhtml: bool,
    /// What would be an error goes to the app.
    pub fallthrough: bool,
    /// Of HTML; empty for none.
    pub html_charset: String,
    pub fields: Vec<(String, String)>,
    /// A field that requests must carry, and its value.
    pub validation: Option<(String, Vec<u8>)>,
    pub allows_dotfiles: bool,
    pub listing: bool,
    pub precompressed: bool,
    pub reach: Reach,
}

/// Which requests at and below its path are its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// All, whatever it has there.
    #[default]
    Below,
    /// Of one file: only the path itself.
    Exact,
    /// Of one file: all, and each is answered with the file.
    All,
}

impl MountOptions {
    /// By the extension of a file's name.
    pub fn content_type(&self, name: &[u8]) -> String {
        let name = String::from_utf8_lossy(name);
        match mime_guess::from_path(&*name).first_raw() {
            Some("text/html") if !self.html_charset.is_empty() => format!("text/html; charset={}", self.html_charset),
            Some(kind) => kind.to_owned(),
            None => "application/octet-stream".to_owned(),
        }
    }
}

#[derive(Debug)]
pub struct Mount {
    /// Tells its files in the cache from those of others; never used again.
    pub id: u64,
    /// Begins with `/`; without a trailing one unless that is all.
    path: String,
    /// `None`: a hole in what is mounted above it.
    pub root: Option<Root>,
    pub options: MountOptions,
}

impl Mount {
    pub fn new(path: &str, root: Option<Root>, options: MountOptions) -> Mount {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Mount { id: NEXT.fetch_add(1, Ordering::Relaxed), path: path.to_owned(), root, options }
    }

    /// For the longest path to win.
    pub fn rank(&self) -> usize {
        self.path.len()
    }

    pub fn is_whole_site(&self) -> bool {
        self.path == "/"
    }

    /// The name of the one file that is served, if it is one.
    pub fn file_name(&self) -> &[u8] {
        self.root.as_ref().and_then(Root::file_name).unwrap_or_default()
    }

    /// What follows the mount in a request's path, still encoded; `None`: that path is not below it.
    fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let itself = if self.is_whole_site() { "/" } else { "" };
        let rest = self.rest_below(path)?;
        match self.options.reach {
            Reach::Below => Some(rest),
            Reach::Exact => (rest == itself).then_some(rest),
            Reach::All => Some(itself),
        }
    }

    fn rest_below<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.is_whole_site() {
            return Some(path);
        }
        // Whole segments only: `/static` must not serve `/static-secret`.
        let rest = if path.contains('%') { self.rest_encoded(path) } else { path.strip_prefix(self.path.as_str()) };
        rest.filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Segment by segment: an encoded `/` is part of a name.
    fn rest_encoded<'a>(&self, path: &'a str) -> Option<&'a str> {
        let mut rest = path;
        for segment in self.path[1..].split('/') {
            rest = rest.strip_prefix('/')?;
            let end = rest.find('/').unwrap_or(rest.len());
            if !percent_decode_str(&rest[..end]).eq(segment.bytes()) {
                return None;
            }
            rest = &rest[end..];
        }
        Some(rest)
    }
}

/// All mounts of a server.
#[derive(Debug, Default)]
pub struct Mounts {
    mounts: Vec<Arc<Mount>>,
}

impl Mounts {
    pub fn new(mounts: Vec<Mount>) -> Mounts {
        Mounts { mounts: mounts.into_iter().map(Arc::new).collect() }
    }

    /// The longest mount that `path` is below, and what follows it.
    pub fn find<'a>(&self, path: &'a str) -> Option<(&Arc<Mount>, &'a str)> {
        let below = self.mounts.iter().filter_map(|mount| Some((mount, mount.rest(path)?)));
        below.max_by_key(|(mount, _)| mount.rank())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(paths: &[&str], path: &'a str) -> Option<(usize, &'a str)> {
        let mounts = paths.iter().map(|path| Mount::new(path, None, MountOptions::default())).collect();
        Mounts::new(mounts).find(path).map(|(mount, rest)| (mount.rank(), rest))
    }

    #[test]
    fn the_longest_mount_on_whole_segments_wins() {
        let mounts = ["/", "/a", "/a/b", "/a b"];
        assert_eq!(find(&mounts, "/"), Some((1, "/")));
        assert_eq!(find(&mounts, "/x/y"), Some((1, "/x/y")));
        assert_eq!(find(&mounts, "/a"), Some((2, "")));
        assert_eq!(find(&mounts, "/a/"), Some((2, "/")));
        assert_eq!(find(&mounts, "/ab"), Some((1, "/ab")));
        assert_eq!(find(&mounts, "/a/b/c"), Some((4, "/c")));
        assert_eq!(find(&mounts, "/a/bc"), Some((2, "/bc")));
        assert_eq!(find(&["/a"], "/b"), None);
        assert_eq!(find(&["/a"], "*"), None);
    }

    #[test]
    fn one_file_is_itself_only_or_all_below_or_what_is_there() {
        let find = |reach, path, asked| {
            let options = MountOptions { reach, ..MountOptions::default() };
            let mounts = Mounts::new(vec![Mount::new(path, None, options)]);
            mounts.find(asked).map(|(_, rest)| rest.to_owned())
        };
        let (itself, below, whole) = (Some(String::new()), Some("/x".to_owned()), Some("/".to_owned()));
        assert_eq!(find(Reach::Below, "/a", "/a/x"), below);
        assert_eq!([find(Reach::Exact, "/a", "/a"), find(Reach::Exact, "/a", "/a/x")], [itself.clone(), None]);
        assert_eq!([find(Reach::Exact, "/", "/"), find(Reach::Exact, "/", "/x")], [whole.clone(), None]);
        assert_eq!([find(Reach::All, "/a", "/a"), find(Reach::All, "/a", "/a/x")], [itself.clone(), itself]);
        assert_eq!([find(Reach::All, "/", "/"), find(Reach::All, "/", "/x/../y")], [whole.clone(), whole]);
    }

    #[test]
    fn segments_are_compared_decoded() {
        assert_eq!(find(&["/a b"], "/a%20b/c%20d"), Some((4, "/c%20d")));
        assert_eq!(find(&["/a"], "/%61/x"), Some((2, "/x")));
        assert_eq!(find(&["/a/b"], "/a%2Fb"), None);
        assert_eq!(find(&["/a"], "/%2561"), None);
    }

    #[test]
    fn html_has_a_charset_and_the_unknown_is_bytes() {
        let options = MountOptions { html_charset: "utf-8".to_owned(), ..MountOptions::default() };
        assert_eq!(options.content_type(b"a.html"), "text/html; charset=utf-8");
        assert_eq!(options.content_type(b"a.css"), "text/css");
        assert_eq!(options.content_type(b"a.unheard-of"), "application/octet-stream");
        assert_eq!(options.content_type(b"README"), "application/octet-stream");
        assert_eq!(MountOptions::default().content_type(b"a.html"), "text/html");
    }
}
