//! The path of a request below a mount → the relative path of a file: decoded once, unable to climb.
//! Not whether there is such a file, and not where a symlink leads.
//!
//! Thread: any (pure).

/// A path below a directory: no segment is empty, `.` or `..`, or has a NUL or `/` in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelativePath {
    bytes: Vec<u8>,
    is_directory_like: bool,
}

impl RelativePath {
    /// Segments joined by `/`, none at either end; empty for the mount itself. Bytes, because file names are bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the request's path ended with `/`.
    pub fn is_directory_like(&self) -> bool {
        self.is_directory_like
    }
}

/// Why a path names no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathRefusal {
    /// No honest client sends it: 400.
    Malformed,
    /// A name that is never served, whether or not there is such a file: 404.
    NotFound,
}

/// `raw_path_below_mount`: what follows the mount in the request's path, still encoded; empty, or it begins with `/`.
pub fn relative_path(raw_path_below_mount: &str, allows_dotfiles: bool) -> Result<RelativePath, PathRefusal> {
    let Some(raw) = raw_path_below_mount.strip_prefix('/') else {
        // Anything else is beside the mount: `/static-secret` is not the file `-secret` of `/static`.
        let is_mount = raw_path_below_mount.is_empty();
        let mount = RelativePath { bytes: Vec::new(), is_directory_like: false };
        return if is_mount { Ok(mount) } else { Err(PathRefusal::NotFound) };
    };
    let mut bytes = decode(raw.as_bytes())?;
    let is_directory_like = raw.is_empty() || raw.ends_with('/');
    if !raw.is_empty() {
        if is_directory_like {
            bytes.pop();
        }
        for (index, segment) in bytes.split(|&byte| byte == b'/').enumerate() {
            check_segment(segment, index == 0, allows_dotfiles)?;
        }
    }
    Ok(RelativePath { bytes, is_directory_like })
}

/// Decoded exactly once: a second time would turn `%252e%252e` into `..`, the hole of CVE-2021-42013.
fn decode(raw: &[u8]) -> Result<Vec<u8>, PathRefusal> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.iter();
    while let Some(&byte) = rest.next() {
        let is_escape = byte == b'%';
        let byte = if is_escape { escaped(rest.next(), rest.next())? } else { byte };
        // `\` is a separator to Windows, and to those proxies and browsers that take it for `/`. An encoded `/` is
        // part of a name to us and a separator to a proxy that decodes before it checks. Bytes from 0x80 are names.
        if byte.is_ascii_control() || byte == b'\\' || (is_escape && byte == b'/') {
            return Err(PathRefusal::Malformed);
        }
        decoded.push(byte);
    }
    Ok(decoded)
}

fn escaped(high: Option<&u8>, low: Option<&u8>) -> Result<u8, PathRefusal> {
    let digit = |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16));
    match (digit(high), digit(low)) {
        (Some(high), Some(low)) => Ok((high * 16 + low) as u8), // at most 255
        _ => Err(PathRefusal::Malformed),
    }
}

fn check_segment(segment: &[u8], is_first: bool, allows_dotfiles: bool) -> Result<(), PathRefusal> {
    match segment {
        // Two URLs for one file confuse caches and every rule that goes by the path.
        b"" => Err(PathRefusal::NotFound),
        // Clients remove them before they ask (RFC 3986 §5.2.4); one that arrives is meant to climb.
        b"." | b".." => Err(PathRefusal::Malformed),
        // .git, .env, .htpasswd: nobody means to publish them. What is well known is public (RFC 8615 §3).
        [b'.', ..] if !(allows_dotfiles || is_first && segment == b".well-known") => Err(PathRefusal::NotFound),
        // Refused everywhere, so that a tree has the same URLs on Linux, on Windows and on a share.
        _ if has_drive_letter(segment) || is_windows_device(segment) => Err(PathRefusal::NotFound),
        _ => Ok(()),
    }
}

/// `C:`, and `C:name`, which joined to a path replaces it.
fn has_drive_letter(segment: &[u8]) -> bool {
    matches!(segment, [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// Windows opens the device whatever follows a dot or a colon (`nul.txt`), and takes superscripts for digits.
fn is_windows_device(segment: &[u8]) -> bool {
    let end = segment.iter().position(|byte| matches!(byte, b'.' | b':')).unwrap_or(segment.len());
    let name = segment[..end].trim_ascii_end();
    let is = |device: &str| name.eq_ignore_ascii_case(device.as_bytes());
    let is_port = |kind: &str| {
        name.split_at_checked(3).is_some_and(|(port, number)| {
            port.eq_ignore_ascii_case(kind.as_bytes())
                && matches!(number, [b'0'..=b'9'] | b"\xC2\xB9" | b"\xC2\xB2" | b"\xC2\xB3")
        })
    };
    is_port("COM") || is_port("LPT") || ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].into_iter().any(is)
}
