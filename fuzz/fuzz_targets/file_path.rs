//! Random text as a path below a mount: nothing climbs, nothing panics, and the same path encoded another way is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::file_path::relative_path;

fuzz_target!(|raw: &str| {
    let hidden = relative_path(raw, false);
    let Ok(path) = relative_path(raw, true) else {
        assert!(hidden.is_err());
        return;
    };
    let bytes = path.as_bytes();
    if !bytes.is_empty() {
        for segment in bytes.split(|&byte| byte == b'/') {
            assert!(!segment.is_empty() && segment != b"." && segment != b"..");
            assert!(!segment.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\'));
            assert!(hidden.is_err() || segment[0] != b'.' || segment == b".well-known");
        }
    }
    if !raw.is_empty() {
        let encode = |byte: &u8| if *byte == b'/' { "/".to_owned() } else { format!("%{byte:02X}") };
        let end = if path.is_directory_like() && !bytes.is_empty() { "/" } else { "" };
        let again = format!("/{}{end}", bytes.iter().map(encode).collect::<String>());
        assert_eq!(relative_path(&again, true), Ok(path));
    }
});
