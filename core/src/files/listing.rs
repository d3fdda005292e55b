//! A page of what is in a directory, for mounts that want one.
//!
//! Thread: a disk thread.

use super::mount::Mount;
use super::root::How;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rustix::fs::{Dir, Mode, OFlags, openat};
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use wire::file_path::{RelativePath, relative_path};

/// A directory with more names is cut: the page would be of no use to anybody.
const MAX_NAMES: usize = 10_000;

/// `None`: the directory can't be read. Only what would be served is listed.
pub fn page(mount: &Mount, path: &RelativePath, directory: &OwnedFd) -> Option<Arc<[u8]>> {
    // Opened anew: the position in a directory belongs to the descriptor.
    let own = openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut names: Vec<(bool, String)> = Vec::new();
    for entry in Dir::new(own).ok()?.flatten().take(MAX_NAMES) {
        let name = entry.file_name().to_bytes();
        let Ok(text) = std::str::from_utf8(name) else { continue };
        let below = [path.as_bytes(), if path.as_bytes().is_empty() { b"" } else { b"/" }, name].concat();
        let segments = below.split(|&byte| byte == b'/');
        let raw: String = segments.map(|segment| format!("/{}", percent_encode(segment, NON_ALPHANUMERIC))).collect();
        if relative_path(&raw, mount.options.allows_dotfiles).is_err() {
            continue; // `.` and `..`, dotfiles, and what is never served under its name
        }
        if let Some(found) = mount.root.as_ref().and_then(|root| root.find(&below, How::Blocking).ok()) {
            names.push((!found.meta.is_directory, text.to_owned()));
        }
    }
    names.sort(); // directories first
    let title = escape(&String::from_utf8_lossy(path.as_bytes()));
    let mut html = format!(
        "<!doctype html><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>/{title}</title><h1>/{title}</h1><ul>\n"
    );
    if !path.as_bytes().is_empty() {
        html.push_str("<li><a href=\"../\">../</a>\n");
    }
    for (is_file, name) in names {
        let slash = if is_file { "" } else { "/" };
        let _ = writeln!(html, "<li><a href=\"./{}{slash}\">{}{slash}</a>", encode(&name), escape(&name));
    }
    html.push_str("</ul>\n");
    Some(html.into_bytes().into())
}

/// A name is whatever somebody called a file: it must be neither markup nor a URL of its own.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn encode(name: &str) -> String {
    percent_encode(name.as_bytes(), NON_ALPHANUMERIC).to_string()
}
