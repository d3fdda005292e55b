//! DEFLATE (RFC 1951), decoded plainly and bit by bit, to see how far back a compressor reaches. Real inflaters cannot
//! tell: they see further than their window inside one call.

/// What `stream` inflates to, and the longest distance in it. Panics if it is not valid and whole.
pub fn inflate_slowly(stream: &[u8]) -> (Vec<u8>, usize) {
    let mut bits = Bits { stream, at: 0 };
    let (mut out, mut farthest) = (Vec::new(), 0);
    while bits.at + 3 <= stream.len() * 8 {
        let is_final = bits.take(1) == 1;
        match bits.take(2) {
            0 => {
                bits.at = bits.at.next_multiple_of(8);
                let (length, complement) = (bits.take(16), bits.take(16));
                assert_eq!(length, !complement & 0xffff);
                out.extend((0..length).map(|_| bits.take(8) as u8));
            }
            1 => {
                let mut lengths = vec![8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                decode(&mut bits, &Code::new(&lengths), &Code::new(&[5; 30]), &mut out, &mut farthest);
            }
            2 => {
                let (literals, distances) = read_codes(&mut bits);
                decode(&mut bits, &literals, &distances, &mut out, &mut farthest);
            }
            _ => panic!("reserved block"),
        }
        assert!(!is_final);
    }
    (out, farthest)
}

struct Bits<'a> {
    stream: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> usize {
        (0..count).fold(0, |value, shift| {
            let bit = self.stream[self.at / 8] >> (self.at % 8) & 1;
            self.at += 1;
            value | usize::from(bit) << shift
        })
    }
}

/// A canonical Huffman code: how many codes each length has, and their symbols in order (RFC 1951 §3.2.2).
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        lengths.iter().for_each(|&length| counts[length] += 1);
        counts[0] = 0;
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|&symbol| lengths[symbol] > 0).collect();
        symbols.sort_by_key(|&symbol| lengths[symbol]);
        Self { counts, symbols }
    }

    fn read(&self, bits: &mut Bits) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1);
            if code < first + count {
                return self.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("no such code");
    }
}

fn read_codes(bits: &mut Bits) -> (Code, Code) {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances, count) = (bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4);
    let mut lengths = [0; 19];
    ORDER[..count].iter().for_each(|&symbol| lengths[symbol] = bits.take(3));
    let code = Code::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match code.read(bits) {
            16 => (*lengths.last().expect("a length to repeat"), 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            length => (length, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    assert_eq!(lengths.len(), literals + distances);
    (Code::new(&lengths[..literals]), Code::new(&lengths[literals..]))
}

fn decode(bits: &mut Bits, literals: &Code, distances: &Code, out: &mut Vec<u8>, farthest: &mut usize) {
    loop {
        match literals.read(bits) {
            256 => return,
            literal @ 0..256 => out.push(literal as u8),
            285 => copy(bits, 258, distances, out, farthest),
            symbol => {
                let step = symbol - 257;
                let extra = if step < 8 { 0 } else { step / 4 - 1 };
                let base = if step < 8 { step + 3 } else { ((4 + step % 4) << extra) + 3 };
                let length = base + bits.take(extra);
                copy(bits, length, distances, out, farthest);
            }
        }
    }
}

fn copy(bits: &mut Bits, length: usize, distances: &Code, out: &mut Vec<u8>, farthest: &mut usize) {
    let symbol = distances.read(bits);
    let extra = if symbol < 4 { 0 } else { symbol / 2 - 1 };
    let base = if symbol < 4 { symbol + 1 } else { ((2 + symbol % 2) << extra) + 1 };
    let distance = base + bits.take(extra);
    *farthest = distance.max(*farthest);
    (0..length).for_each(|_| out.push(out[out.len() - distance]));
}
