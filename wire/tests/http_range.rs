//! Range: the RFC's examples, every corner of its grammar, and what holds for any bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::http_head::FieldError;
use wire::http_range::{MAX_RANGES, Multipart, Ranges, content_range, parse_ranges, unsatisfied_range};

fn parse(value: &str, length: u64) -> Ranges {
    parse_ranges(value.as_bytes(), length)
}

#[test]
fn examples_of_the_rfc() {
    // RFC 9110 §14.1.2, of a representation of 10000 bytes.
    let table: &[(&str, &[(u64, u64)])] = &[
        ("bytes=0-499", &[(0, 500)]),
        ("bytes=500-999", &[(500, 1000)]),
        ("bytes=-500", &[(9500, 10000)]),
        ("bytes=9500-", &[(9500, 10000)]),
        ("bytes=0-0,-1", &[(0, 1), (9999, 10000)]),
        ("bytes= 0-999, 4500-5499, -1000", &[(0, 1000), (4500, 5500), (9000, 10000)]),
        // "several legal but not canonical specifications of the second 500 bytes"
        ("bytes=500-600,601-999", &[(500, 1000)]),
        ("bytes=500-700,601-999", &[(500, 1000)]),
    ];
    for (value, ranges) in table {
        assert_eq!(parse(value, 10000), Ranges::Some(ranges.to_vec()), "{value}");
    }
    // §14.4
    assert_eq!(content_range(42, 1234, 1234), "bytes 42-1233/1234");
    assert_eq!(content_range(0, 500, 1234), "bytes 0-499/1234");
    assert_eq!(content_range(734, 1234, 1234), "bytes 734-1233/1234");
    assert_eq!(unsatisfied_range(1234), "bytes */1234");
}

#[test]
fn ranges_end_where_the_file_does() {
    let max = u64::MAX.to_string();
    let table: &[(&str, u64, (u64, u64))] = &[
        ("bytes=0-", 1, (0, 1)),
        ("bytes=0-0", 1, (0, 1)),
        ("bytes=0-1", 1, (0, 1)),
        ("bytes=99-99", 100, (99, 100)),
        ("bytes=99-100", 100, (99, 100)),
        ("bytes=-1", 100, (99, 100)),
        ("bytes=-100", 100, (0, 100)),
        ("bytes=-101", 100, (0, 100)),
        ("bytes=007-00000000000000000000000000009", 100, (7, 10)),
        ("bytes=5-18446744073709551616", 100, (5, 100)),
        ("bytes=5-99999999999999999999999999999999999", 100, (5, 100)),
        ("bytes=-99999999999999999999999999999999999", 100, (0, 100)),
        (&format!("bytes=0-{max}"), u64::MAX, (0, u64::MAX)),
        (&format!("bytes=-{max}"), u64::MAX, (0, u64::MAX)),
        ("bytes=18446744073709551614-", u64::MAX, (u64::MAX - 1, u64::MAX)),
        ("bytes=18446744073709551614-,18446744073709551600-18446744073709551601", u64::MAX, (u64::MAX - 15, u64::MAX)),
    ];
    for (value, length, range) in table {
        assert_eq!(parse(value, *length), Ranges::Some(vec![*range]), "{value} of {length}");
    }
}

#[test]
fn what_is_not_in_the_file_is_unsatisfiable() {
    let table = [
        ("bytes=100-", 100),
        ("bytes=100-200", 100),
        ("bytes=-0", 100),
        ("bytes=-0,100-", 100),
        ("bytes=0-", 0),
        ("bytes=0-0", 0),
        ("bytes=-1", 0),
        ("bytes=18446744073709551615-", u64::MAX),
        ("bytes=99999999999999999999999-99999999999999999999998", 100), // both are "beyond"
    ];
    for (value, length) in table {
        assert_eq!(parse(value, length), Ranges::Unsatisfiable, "{value} of {length}");
    }
    // One that can be satisfied is enough (§14.1.2).
    assert_eq!(parse("bytes=100-,-0,5-6", 100), Ranges::Some(vec![(5, 7)]));
}

#[test]
fn anything_else_is_ignored() {
    let table = [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes= , ,",
        "bytes=-",
        "bytes=--1",
        "bytes=1",
        "bytes=1-0",
        "bytes=0-1,5-4",
        "bytes=0-1,x",
        "bytes=0-1;2-3",
        "bytes=0-1 2-3",
        "bytes=0 -1",
        "bytes=0- 1",
        "bytes=- 1",
        "bytes=+0-1",
        "bytes=0-+1",
        "bytes=0x0-1",
        "bytes=0-1-2",
        "bytes=a-b",
        "bytes=0-1a",
        "bytes=1.0-2",
        "bytes=0\u{2013}1",
        "bytes=\u{664}-",
        "bytes =0-1",
        " bytes=0-1",
        "bytes:0-1",
        "bytes 0-1/2",
        "byte=0-1",
        "items=0-1",
        "none=0-1",
        "=0-1",
        "0-1",
    ];
    for length in [0, 1, 100, u64::MAX] {
        for value in table {
            assert_eq!(parse(value, length), Ranges::Ignored, "{value:?} of {length}");
        }
    }
}

#[test]
fn the_unit_has_no_case_and_lists_have_gaps() {
    for value in ["BYTES=0-1", "Bytes=0-1", "bytes=,0-1", "bytes=0-1,", "bytes=, ,\t0-1 ,, "] {
        assert_eq!(parse(value, 100), Ranges::Some(vec![(0, 2)]), "{value:?}");
    }
}

#[test]
fn many_ranges_are_ignored() {
    let ask = |count: usize, spec: &dyn Fn(usize) -> String| {
        let specs: Vec<_> = (0..count).map(spec).collect();
        parse(&format!("bytes={}", specs.join(",")), 1 << 20)
    };
    // Apart, all the same (as the Apache killer has them), and none of them in the file.
    let apart = |at: usize| format!("{}-{}", at * 1000, at * 1000);
    let same = |at: usize| format!("0-{at}");
    let outside = |_: usize| "2000000-".to_owned();
    let all = (0..MAX_RANGES as u64).map(|at| (at * 1000, at * 1000 + 1)).collect();
    assert_eq!(ask(MAX_RANGES, &apart), Ranges::Some(all));
    assert_eq!(ask(MAX_RANGES, &same), Ranges::Some(vec![(0, 16)]));
    assert_eq!(ask(MAX_RANGES, &outside), Ranges::Unsatisfiable);
    for count in [MAX_RANGES + 1, 1300] {
        assert_eq!(ask(count, &apart), Ranges::Ignored);
        assert_eq!(ask(count, &same), Ranges::Ignored);
        assert_eq!(ask(count, &outside), Ranges::Ignored);
    }
}

#[test]
fn near_ranges_become_one_and_the_others_keep_their_order() {
    let table: &[(&str, &[(u64, u64)])] = &[
        ("0-9,10-19", &[(0, 20)]),
        ("10-19,0-9", &[(0, 20)]),
        ("0-9,0-9", &[(0, 10)]),
        ("0-99,20-29", &[(0, 100)]),
        ("20-29,0-99", &[(0, 100)]),
        ("0-9,89-99", &[(0, 100)]),
        ("0-9,90-99", &[(0, 10), (90, 100)]),
        ("90-99,0-9", &[(90, 100), (0, 10)]),
        ("500-599,0-9,-10", &[(500, 600), (0, 10), (990, 1000)]),
        // The last one closes the gap between the first and the third, and stands where the first stood.
        ("500-509,0-9,700-709,510-699", &[(500, 710), (0, 10)]),
        ("0-9,700-709,500-509,330-339,400-799", &[(0, 10), (330, 800)]),
        ("0-9,700-709,500-509,300-309,400-799", &[(0, 10), (400, 800), (300, 310)]),
        ("700-,0-9,-1000", &[(0, 1000)]),
        // What lies outside holds no place.
        ("5000-,500-509,0-9", &[(500, 510), (0, 10)]),
    ];
    for (set, ranges) in table {
        assert_eq!(parse(&format!("bytes={set}"), 1000), Ranges::Some(ranges.to_vec()), "{set}");
    }
}

/// §14.6, but for the boundary and for the empty line that is allowed in front.
#[test]
fn a_multipart_body_is_that_of_the_rfc() {
    let multipart = Multipart::new("application/pdf", 8000, 0x1234).unwrap();
    let boundary = "00000000000000000000000000001234";
    assert_eq!(multipart.content_type(), format!("multipart/byteranges; boundary={boundary}"));
    let ranges = [(500, 1000), (7000, 8000)];
    let expected = format!(
        "\r\n--{boundary}\r\nContent-Type: application/pdf\r\nContent-Range: bytes 500-999/8000\r\n\r\n{}\
         \r\n--{boundary}\r\nContent-Type: application/pdf\r\nContent-Range: bytes 7000-7999/8000\r\n\r\n{}\
         \r\n--{boundary}--\r\n",
        "x".repeat(500),
        "x".repeat(1000),
    );
    assert_eq!(body(&multipart, &ranges), expected);
    assert_eq!(multipart.total_length(&ranges), expected.len() as u64);
}

fn body(multipart: &Multipart, ranges: &[(u64, u64)]) -> String {
    let mut body = String::new();
    for &(start, end) in ranges {
        body += &multipart.part_head(start, end);
        body += &"x".repeat((end - start) as usize);
    }
    body + &multipart.closing()
}

#[test]
fn a_content_type_can_be_missing_but_not_forge_a_line() {
    let multipart = Multipart::new("", 10, u128::MAX).unwrap();
    let boundary = "f".repeat(32);
    assert_eq!(multipart.part_head(0, 1), format!("\r\n--{boundary}\r\nContent-Range: bytes 0-0/10\r\n\r\n"));
    for content_type in ["text/plain\r\nX: y", "a\nb", "a\rb", "a\0"] {
        let error = FieldError::Value { name: "Content-Type".to_owned(), value: content_type.to_owned() };
        assert_eq!(Multipart::new(content_type, 10, 0).unwrap_err(), error);
    }
}

#[test]
fn lengths_beyond_any_file_do_not_overflow() {
    let multipart = Multipart::new("a/b", u64::MAX, 0).unwrap();
    assert_eq!(multipart.total_length(&[(0, u64::MAX), (0, u64::MAX)]), u64::MAX);
    assert_eq!(multipart.total_length(&[]), multipart.closing().len() as u64);
    assert_eq!(content_range(0, 0, 0), "bytes 0-0/0");
}

#[derive(Clone, Debug)]
enum Spec {
    Closed(u64, u64),
    Open(u64),
    Suffix(u64),
}

impl Spec {
    fn text(&self) -> String {
        match self {
            Self::Closed(first, last) => format!("{first}-{last}"),
            Self::Open(first) => format!("{first}-"),
            Self::Suffix(count) => format!("-{count}"),
        }
    }

    fn asks_for(&self, byte: u64, length: u64) -> bool {
        match *self {
            Self::Closed(first, last) => first <= byte && byte <= last,
            Self::Open(first) => first <= byte,
            Self::Suffix(count) => byte + count >= length,
        }
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    prop_oneof![
        6 => (0u64..1200, 0u64..60).prop_map(|(first, more)| Spec::Closed(first, first + more)),
        1 => (900u64..1200).prop_map(Spec::Open),
        1 => (0u64..60).prop_map(Spec::Suffix),
    ]
}

/// What is promised of all ranges: inside the file, few, not empty, apart; so together never longer than the file.
fn check_promises(ranges: &[(u64, u64)], length: u64) {
    assert!((1..=MAX_RANGES).contains(&ranges.len()));
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    assert!(sorted.iter().all(|&(start, end)| start < end && end <= length));
    assert!(sorted.windows(2).all(|pair| pair[1].0 - pair[0].1 >= 80));
    assert!(sorted.iter().map(|(start, end)| end - start).sum::<u64>() <= length);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_keep_the_promises(bytes in vec(any::<u8>(), 0..60), length in any::<u64>()) {
        for value in [bytes.clone(), [b"bytes=", &bytes[..]].concat()] {
            if let Ranges::Some(ranges) = parse_ranges(&value, length) {
                check_promises(&ranges, length);
            }
        }
    }

    #[test]
    fn nearly_grammar_keeps_the_promises(value in "bytes=[0-9 ,-]{0,80}", length in prop_oneof![0u64..200, any::<u64>()]) {
        if let Ranges::Some(ranges) = parse(&value, length) {
            check_promises(&ranges, length);
        }
    }

    /// Byte by byte: what was asked for is there, and what is there beside it only fills gaps too small for a part.
    #[test]
    fn exactly_what_was_asked_for(specs in vec(spec(), 1..=MAX_RANGES), length in 0u64..1100) {
        let texts: Vec<_> = specs.iter().map(Spec::text).collect();
        let asked: Vec<bool> =
            (0..length).map(|byte| specs.iter().any(|spec| spec.asks_for(byte, length))).collect();
        let ranges = match parse(&format!("bytes={}", texts.join(", ")), length) {
            Ranges::Some(ranges) => ranges,
            other => {
                prop_assert_eq!(other, Ranges::Unsatisfiable);
                prop_assert!(!asked.contains(&true));
                return Ok(());
            }
        };
        check_promises(&ranges, length);
        let mut rest = asked;
        for &(start, end) in &ranges {
            let part = &mut rest[start as usize..end as usize];
            prop_assert!(part[0] && part[part.len() - 1]);
            prop_assert!(part.split(|asked| *asked).all(|gap| gap.len() < 80));
            part.fill(false);
        }
        prop_assert!(!rest.contains(&true));
        // In the order in which the first byte of any of them was asked for.
        let first_asked = |&(start, end): &(u64, u64)| {
            specs.iter().position(|spec| (start..end).any(|byte| spec.asks_for(byte, length)))
        };
        prop_assert!(ranges.iter().map(first_asked).is_sorted());
    }

    #[test]
    fn the_length_told_ahead_is_the_length_sent(
        specs in vec(spec(), 1..=MAX_RANGES),
        content_type in "[ -~]{0,30}",
        random in any::<u128>(),
    ) {
        let texts: Vec<_> = specs.iter().map(Spec::text).collect();
        if let Ranges::Some(ranges) = parse(&format!("bytes={}", texts.join(",")), 1100) {
            let multipart = Multipart::new(&content_type, 1100, random).unwrap();
            prop_assert_eq!(body(&multipart, &ranges).len() as u64, multipart.total_length(&ranges));
        }
    }
}
