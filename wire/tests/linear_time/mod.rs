//! Long lists must not cost more than their length: what every reader of a field is tried with.

use std::time::{Duration, Instant};

/// A busy machine slows some rounds down, and the more there are, the less the fastest of them tells of it.
const ROUNDS: [usize; 2] = [15, 200];

/// Four times the bytes cost about four times as much; a reader that starts over would need sixteen.
pub fn assert_linear(piece: &str, read: impl Fn(&str)) {
    let time = |value: &str| {
        let started = Instant::now();
        read(value);
        started.elapsed()
    };
    let (short, long) = (piece.repeat(4_000), piece.repeat(16_000));
    let (mut small, mut large) = (Duration::MAX, Duration::MAX);
    for round in 1..=ROUNDS[1] {
        small = small.min(time(&short));
        large = large.min(time(&long));
        if round >= ROUNDS[0] && large < small * 9 + Duration::from_micros(100) {
            return;
        }
    }
    panic!("{piece:?}: {small:?} {large:?}");
}
