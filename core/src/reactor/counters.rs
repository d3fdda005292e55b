//! What the seam's `stats` tells of one reactor. Thread: whoever holds it.

use std::collections::BTreeMap;

#[derive(Clone, Default)]
pub struct Counters {
    pub accepted: u64,
    pub requests: u64,
    pub messages: u64,
    /// What was answered with an error that Python never hears of, by status or close code.
    pub refused: BTreeMap<u16, u64>,
    pub turns: u64,
    pub panics: u64,
    /// Messages that clients who read too slowly did not get.
    pub dropped: u64,
    /// Requests that were answered with a file.
    pub files: u64,
    /// TLS handshakes that were completed.
    pub handshakes: u64,
    pub failed_handshakes: u64,
    /// Parts of handshakes that came; each may need a private key.
    pub handshake_steps: u64,
}

impl Counters {
    /// Somebody was answered with this status or close code.
    pub fn refuse(&mut self, status: u16) {
        *self.refused.entry(status).or_default() += 1;
    }
}
