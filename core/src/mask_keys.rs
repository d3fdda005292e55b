//! The masks of what a client sends (RFC 6455 §5.3), and the nonce of its handshake.
//!
//! Thread: whoever holds the reactor.

use std::hash::{BuildHasher, RandomState};

/// Keys that nobody can predict: who chooses what is sent could otherwise choose what a proxy on the way sees (§10.3).
///
/// A counter under SipHash, a pseudorandom function, with the key that the standard library draws from the system for
/// thread: a system call per frame would cost more than the frame. The process goes in, too: it forks with its keys, and
/// the server of one child should not know what the other will say.
pub struct MaskKeys {
    secret: RandomState,
    process: u32,
    count: u64,
}

impl MaskKeys {
    pub fn new() -> MaskKeys {
        MaskKeys { secret: RandomState::new(), process: std::process::id(), count: 0 }
    }

    pub fn next(&mut self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.draw();
        [a, b, c, d]
    }

    /// 16 bytes for `Sec-WebSocket-Key` (§4.1).
    pub fn nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.draw());
        nonce[8..].copy_from_slice(&self.draw());
        nonce
    }

    fn draw(&mut self) -> [u8; 8] {
        self.count += 1;
        self.secret.hash_one((self.process, self.count)).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_do_not_repeat_within_and_between_connections() {
        let (mut one, mut other) = (MaskKeys::new(), MaskKeys::new());
        let keys: HashSet<[u8; 16]> = (0..1000).flat_map(|_| [one.nonce(), other.nonce()]).collect();
        assert_eq!(keys.len(), 2000);
        assert_ne!([one.next(), one.next(), one.next()], [other.next(), other.next(), other.next()]);
    }

    #[test]
    fn a_fork_has_keys_of_its_own() {
        let mut parent = MaskKeys::new();
        let mut child = MaskKeys { secret: parent.secret.clone(), process: parent.process + 1, count: 0 };
        assert_ne!(parent.nonce(), child.nonce());
    }
}
