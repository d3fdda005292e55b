//! Which compressed form of a file a client prefers (`Accept-Encoding`, RFC 9110 §12.5.3). Not compression itself.
//!
//! Thread: any (pure).

use crate::http_fields::list_members;

/// A way to compress content (RFC 9110 §8.4.1, RFC 7932, RFC 8878).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// All of them; where the client has no preference, the first is ours.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// The value of `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// What a compressed file's name has at its end.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Brotli => ".br",
            Self::Gzip => ".gz",
        }
    }
}

/// The one of `available` that the client likes best. `None`: the file as it is (identity).
///
/// `values`: all `Accept-Encoding` of the request; several fields are one list. Without any, everything is allowed, but what
/// leaves the field out is often something that can't decompress. A malformed element is skipped.
/// Identity is the answer also to a client that refuses everything there is: §12.5.3 prefers that to a 406.
pub fn choose_coding(values: &[&[u8]], available: &[Coding]) -> Option<Coding> {
    let wishes = Wishes::read(values);
    let mut chosen = None;
    let mut least = wishes.identity().max(1); // 0 excludes
    for coding in Coding::ALL.into_iter().filter(|coding| available.contains(coding)) {
        let weight = wishes.weight(coding);
        if weight >= least {
            chosen = Some(coding);
            least = weight + 1;
        }
    }
    chosen
}

/// What was said of each coding, in thousandths. Of two weights for one the lower counts: identity is never wrong.
#[derive(Default)]
struct Wishes {
    codings: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    /// `*`: every coding that is not named.
    others: Option<u16>,
}

impl Wishes {
    fn read(values: &[&[u8]]) -> Self {
        let mut wishes = Self::default();
        for (name, weight) in values.iter().flat_map(|value| list_members(value)).filter_map(read_element) {
            if let Some(said) = wishes.entry(name) {
                *said = Some(said.map_or(weight, |before| before.min(weight)));
            }
        }
        wishes
    }

    fn entry(&mut self, name: &[u8]) -> Option<&mut Option<u16>> {
        if name == b"*" {
            return Some(&mut self.others);
        }
        if name.eq_ignore_ascii_case(b"identity") {
            return Some(&mut self.identity);
        }
        // §8.4.1.3: to be treated alike.
        let name = if name.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { name };
        let coding = Coding::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()))?;
        Some(&mut self.codings[coding as usize])
    }

    fn weight(&self, coding: Coding) -> u16 {
        self.codings[coding as usize].or(self.others).unwrap_or(0)
    }

    /// Allowed without being named, but then the least of all.
    fn identity(&self) -> u16 {
        self.identity.or(self.others).unwrap_or(0)
    }
}

fn read_element(element: &[u8]) -> Option<(&[u8], u16)> {
    let Some(semicolon) = memchr::memchr(b';', element) else {
        return Some((element, 1000));
    };
    let [b'q' | b'Q', b'=', weight @ ..] = element[semicolon + 1..].trim_ascii_start() else {
        return None;
    };
    Some((element[..semicolon].trim_ascii_end(), read_weight(weight)?))
}

/// §12.4.2: 0 to 1 with up to three decimals.
fn read_weight(text: &[u8]) -> Option<u16> {
    let (whole, decimals) = match text {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] => (whole, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let worth = [100, 10, 1];
    let fraction: u16 = decimals.iter().zip(worth).map(|(digit, worth)| u16::from(digit - b'0') * worth).sum();
    let weight = u16::from(whole - b'0') * 1000 + fraction;
    (weight <= 1000).then_some(weight)
}
