//! Accept-Encoding: the RFC's examples, weights, exclusions, and any bytes.

mod linear_time;

use linear_time::assert_linear;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use wire::http_coding::Coding::{self, Brotli, Gzip, Zstd};
use wire::http_coding::choose_coding;

fn choose(value: &str, available: &[Coding]) -> Option<Coding> {
    choose_coding(&[value.as_bytes()], available)
}

/// RFC 9110 §12.5.3.
#[test]
fn examples_of_the_rfc() {
    let table = [
        ("compress, gzip", Some(Gzip)),
        ("", None),
        ("*", Some(Zstd)),
        ("compress;q=0.5, gzip;q=1.0", Some(Gzip)),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", Some(Gzip)),
    ];
    for (value, coding) in table {
        assert_eq!(choose(value, &Coding::ALL), coding, "{value:?}");
    }
    assert_eq!(choose_coding(&[], &Coding::ALL), None);
}

#[test]
fn what_browsers_and_tools_send() {
    let table = [
        ("gzip, deflate, br, zstd", [Some(Zstd), Some(Brotli), Some(Gzip)]),
        ("gzip, deflate, br", [Some(Brotli), Some(Brotli), Some(Gzip)]),
        ("gzip, deflate", [Some(Gzip), Some(Gzip), Some(Gzip)]),
        ("deflate, gzip, br, zstd", [Some(Zstd), Some(Brotli), Some(Gzip)]),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", [Some(Brotli), Some(Brotli), Some(Gzip)]),
        ("identity", [None, None, None]),
        ("identity;q=1, *;q=0", [None, None, None]),
    ];
    for (value, codings) in table {
        let available: [&[Coding]; 3] = [&Coding::ALL, &[Gzip, Brotli], &[Gzip]];
        for (available, coding) in available.iter().zip(codings) {
            assert_eq!(choose(value, available), coding, "{value} of {available:?}");
        }
        assert_eq!(choose(value, &[]), None);
    }
}

#[test]
fn the_highest_weight_wins_and_0_excludes() {
    let table = [
        ("zstd;q=0.5, br;q=0.6, gzip;q=0.4", Some(Brotli)),
        ("zstd;q=0.001, br;q=0.002, gzip;q=0.003", Some(Gzip)),
        ("zstd;q=0.999, br, gzip;q=1.000", Some(Brotli)),
        ("gzip, br, zstd", Some(Zstd)),
        ("gzip;q=0.5, br;q=.5, zstd;q=0.5", Some(Zstd)),
        ("gzip;q=0", None),
        ("gzip;q=0.000", None),
        ("gzip;q=0.", None),
        ("gzip;q=0.001", Some(Gzip)),
        ("zstd;q=0, *", Some(Brotli)),
        ("zstd;q=0, br;q=0, *", Some(Gzip)),
        ("*;q=0", None),
        ("*;q=0, gzip", Some(Gzip)),
        ("*;q=0.5, gzip;q=0.4", Some(Zstd)),
        ("*;q=0.5, gzip;q=0.6", Some(Gzip)),
        // Said twice: the lower counts, in any order.
        ("gzip, gzip;q=0", None),
        ("gzip;q=0, gzip", None),
        ("gzip;q=0, x-gzip", None),
        ("*, *;q=0", None),
    ];
    for (value, coding) in table {
        assert_eq!(choose(value, &Coding::ALL), coding, "{value}");
        assert_eq!(choose(value, &[Gzip, Zstd, Brotli, Gzip]), coding, "{value}");
    }
}

#[test]
fn identity_has_a_weight_too() {
    let table = [
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.6", None),
        ("gzip;q=0.5, identity;q=0.5", Some(Gzip)),
        ("gzip;q=0.5, identity;q=0.4", Some(Gzip)),
        ("gzip;q=0.5, identity;q=0", Some(Gzip)),
        ("gzip;q=0.001", Some(Gzip)), // not named, it is allowed, but as the last
        ("gzip;q=0.3, *;q=0.5", None),
        ("gzip;q=0.3, *;q=0.5, identity;q=0.1", Some(Gzip)),
        ("gzip;q=0.3, *;q=0", Some(Gzip)),
        // Nothing is left. Better the file as it is than none (§12.5.3).
        ("identity;q=0", None),
        ("identity;q=0, gzip;q=0", None),
        ("*;q=0", None),
    ];
    for (value, coding) in table {
        assert_eq!(choose(value, &[Gzip]), coding, "{value}");
    }
}

#[test]
fn names_and_weights_are_written_in_many_ways() {
    let fine = [
        "GZIP",
        "Gzip",
        "x-gzip",
        "X-GZip;q=1",
        "gzip;q=1",
        "gzip;Q=1",
        "gzip;q=1.",
        "gzip;q=1.0",
        "gzip;q=1.00",
        "gzip;q=1.000",
        "gzip;q=0.1",
        "gzip;q=0.12",
        "gzip;q=0.123",
        "gzip ; q=0.5",
        "gzip\t;\tq=0.5 ",
        ",gzip",
        " , ,gzip, ",
        "brotli, gzip",
        "gzip, \u{e4}",
    ];
    for value in fine {
        assert_eq!(choose(value, &[Gzip]), Some(Gzip), "{value:?}");
    }
    let malformed = [
        "gzip;q=1.001",
        "gzip;q=1.1",
        "gzip;q=2",
        "gzip;q=10",
        "gzip;q=00.5",
        "gzip;q=0.1234",
        "gzip;q=1.0000",
        "gzip;q=.5",
        "gzip;q=-1",
        "gzip;q=+1",
        "gzip;q=0,5",
        "gzip;q=1e0",
        "gzip;q=0.x",
        "gzip;q=\"1\"",
        "gzip;q=",
        "gzip;q",
        "gzip;",
        "gzip;q =1",
        "gzip;q= 1",
        "gzip;level=9",
        "gzip;q=1;level=9",
        "gzip;level=9;q=1",
        "gzip;q=1;q=1",
        "gzip;;q=1",
        "gzip q=1",
        "gzip deflate",
        "gzip/1",
        "gzi",
        "gzip2",
        "*gzip",
        "\"gzip\"",
        "** ",
        ";q=1",
    ];
    for value in malformed {
        assert_eq!(choose(value, &[Gzip]), None, "{value:?}");
        // Only that element is skipped.
        assert_eq!(choose(&format!("{value}, br"), &[Gzip, Brotli]), Some(Brotli), "{value:?}");
        assert_eq!(choose(&format!("br;q=0.5,{value}"), &[Gzip, Brotli]), Some(Brotli), "{value:?}");
    }
}

#[test]
fn several_fields_are_one_list() {
    assert_eq!(choose_coding(&[b"br", b"gzip"], &[Gzip]), Some(Gzip));
    assert_eq!(choose_coding(&[b"", b"gzip"], &[Gzip]), Some(Gzip));
    assert_eq!(choose_coding(&[b"gzip", b"gzip;q=0"], &[Gzip]), None);
    assert_eq!(choose_coding(&[b"gzip;", b"q=1"], &[Gzip]), None);
}

#[test]
fn names_are_those_of_the_registry() {
    let names = Coding::ALL.map(|coding| (coding.name(), coding.suffix()));
    assert_eq!(names, [("zstd", ".zst"), ("br", ".br"), ("gzip", ".gz")]);
}

/// In thousandths, and how it is written.
fn weight() -> impl Strategy<Value = (u16, String)> {
    prop_oneof![
        Just((1000, String::new())),
        select(vec!["1", "1.", "1.0", "1.000"]).prop_map(|text| (1000, format!(";q={text}"))),
        select(vec![0u16, 1, 499, 500, 501, 999]).prop_map(|weight| (weight, format!("; q=0.{weight:03}"))),
        (0u16..10).prop_map(|tenths| (tenths * 100, format!(" ;Q=0.{tenths}"))),
    ]
}

const NAMES: [&str; 7] = ["zstd", "br", "gzip", "identity", "*", "deflate", "dcb"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_choose_what_is_available(
        values in vec(vec(any::<u8>(), 0..30), 0..4),
        available in subsequence(Coding::ALL.to_vec(), 0..=3),
    ) {
        let values: Vec<_> = values.iter().map(|value| &value[..]).collect();
        prop_assert!(choose_coding(&values, &available).is_none_or(|coding| available.contains(&coding)));
    }

    #[test]
    fn nearly_grammar_chooses_what_is_available(
        value in "(gzip|br|zstd|\\*|identity|;|q=|=|0|1|\\.|,| |[ -~]){0,20}",
        available in subsequence(Coding::ALL.to_vec(), 0..=3),
    ) {
        prop_assert!(choose(&value, &available).is_none_or(|coding| available.contains(&coding)));
    }

    /// Against the words of §12.5.3, written down in another way.
    #[test]
    fn the_best_acceptable_one(
        wishes in subsequence(NAMES.to_vec(), 0..=7).prop_shuffle(),
        weights in vec(weight(), 7),
        mut available in subsequence(Coding::ALL.to_vec(), 0..=3).prop_shuffle(),
    ) {
        let said: Vec<(&str, u16)> = wishes.iter().zip(&weights).map(|(name, weight)| (*name, weight.0)).collect();
        let elements: Vec<_> = wishes.iter().zip(&weights).map(|(name, weight)| format!("{name}{}", weight.1)).collect();
        let chosen = choose(&elements.join(", "), &available);
        let fields: Vec<_> = elements.iter().map(|element| element.as_bytes()).collect();
        prop_assert_eq!(choose_coding(&fields, &available), chosen);

        let of = |name: &str| said.iter().find(|it| it.0 == name).map(|it| it.1);
        let weight = |name: &str| of(name).or(of("*")).unwrap_or(0);
        available.sort_by_key(|coding| (1000 - weight(coding.name()), Coding::ALL.iter().position(|it| it == coding)));
        let best = available.first().copied().filter(|coding| {
            weight(coding.name()) > 0 && weight(coding.name()) >= weight("identity")
        });
        prop_assert_eq!(chosen, best, "{:?}", elements);
    }
}

#[test]
fn long_lists_are_read_in_linear_time() {
    for piece in ["gzip;q=0.5,", ",", " ", ";", "a"] {
        assert_linear(piece, |value| assert_ne!(choose(value, &Coding::ALL), Some(Zstd)));
    }
}
