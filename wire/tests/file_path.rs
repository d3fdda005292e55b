//! Paths of requests as paths of files: what they become, what is refused, and that nothing climbs.

use proptest::prelude::*;
use wire::file_path::PathRefusal::{Malformed, NotFound};
use wire::file_path::{PathRefusal, relative_path};

fn read(raw: &str) -> Result<(Vec<u8>, bool), PathRefusal> {
    relative_path(raw, false).map(|path| (path.as_bytes().to_vec(), path.is_directory_like()))
}

#[test]
fn a_path_is_decoded_once() {
    let table: &[(&str, &[u8], bool)] = &[
        ("", b"", false),
        ("/", b"", true),
        ("/a", b"a", false),
        ("/a/", b"a", true),
        ("/a/b.txt", b"a/b.txt", false),
        ("/a%20b+c", b"a b+c", false),
        ("/%61/%2d", b"a/-", false),
        ("/%c3%A9", "é".as_bytes(), false),
        ("/é", "é".as_bytes(), false),
        ("/%FF%fe", b"\xFF\xFE", false),               // no UTF-8, but a name
        ("/%c0%ae%c0%ae", b"\xC0\xAE\xC0\xAE", false), // an overlong `..` is two bytes twice, to the kernel as well
        ("/%EF%BC%8Fetc", "／etc".as_bytes(), false),
        ("/%252e%252e/a", b"%2e%2e/a", false),
        ("/%25", b"%", false),
        ("/%3f%23%3B", b"?#;", false),
        ("/100%25;v=1", b"100%;v=1", false),
        ("/a..b/foo..", b"a..b/foo..", false),
        ("/foo.", b"foo.", false),
        ("/~user/-rf/*", b"~user/-rf/*", false),
        ("/%20", b" ", false),
        ("/.well-known/acme-challenge/x", b".well-known/acme-challenge/x", false),
        ("/%2Ewell-known/", b".well-known", true),
    ];
    for (raw, bytes, is_directory_like) in table {
        assert_eq!(read(raw), Ok((bytes.to_vec(), *is_directory_like)), "{raw}");
    }
}

#[test]
fn what_no_honest_client_sends_is_malformed() {
    let table = [
        // Escapes.
        "/%",
        "/%2",
        "/a%zz",
        "/%2g",
        "/%%32%65",
        "/%+1",
        "/% 1",
        "/%é",
        "/%u002e",
        // Climbing, in every spelling.
        "/..",
        "/../",
        "/../etc/passwd",
        "/a/..",
        "/a/../b",
        "/%2e%2e/x",
        "/.%2e",
        "/%2E.",
        "/a/%2e%2E/",
        "/.",
        "/./a",
        "/a/.",
        "/a/./b",
        "/%2e",
        "/a/%2e/b",
        // Separators of somebody else.
        "/a%2fb",
        "/%2F",
        "/..%2f..%2fetc",
        "/a\\b",
        "/%5c",
        "/..%5C..%5Cboot.ini",
        "/\\\\host\\share",
        // NUL and other control bytes.
        "/%00",
        "/a.txt%00.png",
        "/\0",
        "/%0a",
        "/a%0D%0ab",
        "/%1f",
        "/%7F",
        "/\t",
        "/\u{7f}",
    ];
    for raw in table {
        assert_eq!(read(raw), Err(Malformed), "{raw:?}");
        assert_eq!(relative_path(raw, true), Err(Malformed), "{raw:?} with dotfiles");
    }
}

#[test]
fn what_is_never_served_is_not_found() {
    let table = [
        // Empty segments.
        "//",
        "///",
        "//a",
        "/a//b",
        "/a//",
        "//etc/passwd",
        // Not below the mount at all.
        "a",
        "-secret",
        "%2fa",
        "%61",
        "x/",
        // Windows: drives and devices.
        "/C:",
        "/c:/windows",
        "/c:x",
        "/a/D:",
        "/%43%3a",
        "/CON",
        "/con",
        "/a/Prn",
        "/aux/",
        "/nul",
        "/NUL.txt",
        "/nul.tar.gz",
        "/nul%20",
        "/nul%20.txt",
        "/nul:",
        "/nul:x",
        "/COM1",
        "/com0",
        "/com9.log",
        "/LPT3",
        "/com%C2%B9",
        "/lpt³.txt",
        "/conin$",
        "/CONOUT$",
    ];
    for raw in table {
        assert_eq!(read(raw), Err(NotFound), "{raw:?}");
        assert_eq!(relative_path(raw, true), Err(NotFound), "{raw:?} with dotfiles");
    }
}

#[test]
fn names_that_look_like_those_are_ordinary() {
    for name in
        ["CONSOLE", "nul_", "com", "com10", "comA", "xcon", "lpt", "auxiliary.txt", "ab:c", "1:", ":", "é:", "con-1"]
    {
        assert_eq!(read(&format!("/{name}")), Ok((name.as_bytes().to_vec(), false)));
    }
}

#[test]
fn dotfiles_are_hidden_unless_allowed() {
    for raw in
        ["/.git/config", "/.env", "/a/.htpasswd", "/%2Eenv", "/..foo", "/...", "/.well-known2", "/a/.well-known/x"]
    {
        assert_eq!(read(raw), Err(NotFound), "{raw}");
        let allowed = relative_path(raw, true).map(|path| path.as_bytes().to_vec());
        assert_eq!(allowed, Ok(raw[1..].replace("%2E", ".").into_bytes()), "{raw}");
    }
}

/// What the rest of the server relies on; the same path encoded another way must be the same path.
fn check_promises(raw: &str) {
    let hidden = relative_path(raw, false);
    let Ok(path) = relative_path(raw, true) else {
        assert!(hidden.is_err());
        return;
    };
    let bytes = path.as_bytes();
    assert!(bytes.len() < raw.len().max(1));
    if !bytes.is_empty() {
        for segment in bytes.split(|&byte| byte == b'/') {
            assert!(!segment.is_empty() && segment != b"." && segment != b"..");
            assert!(!segment.iter().any(|&byte| byte == 0 || byte == b'\\'));
            assert!(hidden.is_err() || segment[0] != b'.' || segment == b".well-known");
        }
    }
    let mut again = String::new();
    for &byte in bytes {
        again += &if byte == b'/' { "/".to_owned() } else { format!("%{byte:02x}") };
    }
    let slash = if path.is_directory_like() && !bytes.is_empty() { "/" } else { "" };
    let again = if raw.is_empty() { again } else { format!("/{again}{slash}") };
    assert_eq!(relative_path(&again, true), Ok(path));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn nothing_panics_or_climbs(raw in any::<String>()) {
        check_promises(&raw);
    }

    #[test]
    fn nothing_made_of_suspicious_pieces_climbs(pieces in proptest::collection::vec(
        prop::sample::select(&[
            "/", "/", "/", ".", "..", "%2e", "%2E", "%2f", "%5c", "\\", "%00", "%", "%25", "a", "C:", "nul", ".well-known",
            "%c0%ae", "é", "%FF", " ", "2e",
        ][..]), 0..12))
    {
        check_promises(&pieces.concat());
        check_promises(&format!("/{}", pieces.concat()));
    }
}
