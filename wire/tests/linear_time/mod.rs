//! Long lists must not cost more than their length: what every reader of a field is tried with.

use std::time::{Duration, Instant};

/// Four times the bytes cost about four times as much; a reader that starts over would need sixteen.
pub fn assert_linear(piece: &str, read: impl Fn(&str)) {
    let fastest = |count| {
        let value = piece.repeat(count);
        let time = || {
            let started = Instant::now();
            read(&value);
            started.elapsed()
        };
        (0..15).map(|_| time()).min().unwrap()
    };
    let (small, large) = (fastest(4_000), fastest(16_000));
    assert!(large < small * 9 + Duration::from_micros(100), "{piece:?}: {small:?} {large:?}");
}
