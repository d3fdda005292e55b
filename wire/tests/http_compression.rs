//! What is compressed for whom: types, lengths, exclusions, wishes; and what the fields say then.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use wire::http_compression::{Candidate, Changed, Choice, GzipOptions, Wishes, choose, fields_for, is_compressible};

type Fields<'a> = &'a [(&'a str, &'a str)];

const HTML: (&str, &str) = ("Content-Type", "text/html; charset=utf-8");

fn options() -> GzipOptions {
    let types = ["text/*", "application/json", "*+json", "*+xml"].map(str::to_owned).to_vec();
    GzipOptions { level: 6, min_bytes: 860, types }
}

fn choose_with(status: u16, fields: Fields, length: Option<u64>, accept: Option<&str>) -> Choice {
    let accept: Vec<&[u8]> = accept.into_iter().map(str::as_bytes).collect();
    let wishes = Wishes { accept_encoding: &accept, if_none_match: &[] };
    choose(&options(), &Candidate { status, fields, length }, &wishes)
}

/// Of an answer to a client that takes gzip.
fn choice(status: u16, fields: Fields, length: Option<u64>) -> Choice {
    choose_with(status, fields, length, Some("gzip"))
}

fn said(choice: Choice, is_compressed: bool, fields: Fields) -> Vec<(String, String)> {
    let mut changed = Changed::default();
    let fields = fields_for(choice, is_compressed, fields, &mut changed);
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn own(fields: Fields) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_client_has_to_take_gzip() {
    let table = [
        (Some("gzip"), Choice::Gzip),
        (Some("GZip"), Choice::Gzip),
        (Some("x-gzip"), Choice::Gzip),
        (Some("gzip, deflate, br, zstd"), Choice::Gzip),
        (Some("br;q=1, gzip;q=0.2"), Choice::Gzip),
        (Some("*"), Choice::Gzip),
        (Some("identity;q=0.5, gzip;q=0.5"), Choice::Gzip),
        (Some("identity;q=0, *"), Choice::Gzip),
        (Some("gzip;q=0.001"), Choice::Gzip),
        (Some("gzip;q=0"), Choice::Identity),
        (Some("gzip;q=0, *"), Choice::Identity),
        (Some("*;q=0"), Choice::Identity),
        (Some("br"), Choice::Identity),
        (Some("identity"), Choice::Identity),
        (Some("gzip;q=0.4, identity;q=0.5"), Choice::Identity),
        (Some("gzip;q=2"), Choice::Identity),
        (Some("gzipped"), Choice::Identity),
        (Some(""), Choice::Identity),
        (None, Choice::Identity),
    ];
    for (accept, expected) in table {
        assert_eq!(choose_with(200, &[HTML], Some(1000), accept), expected, "{accept:?}");
    }
}

#[test]
fn short_bodies_are_left_and_streams_are_not() {
    for (length, expected) in [
        (Some(0), Choice::AsItIs),
        (Some(859), Choice::AsItIs),
        (Some(860), Choice::Gzip),
        (Some(u64::MAX), Choice::Gzip),
        (None, Choice::Gzip),
    ] {
        assert_eq!(choice(200, &[HTML], length), expected, "{length:?}");
    }
    let none = GzipOptions { min_bytes: 0, ..options() };
    let empty = Candidate { status: 200, fields: &[HTML], length: Some(0) };
    assert_eq!(choose(&none, &empty, &Wishes { accept_encoding: &[b"gzip"], if_none_match: &[] }), Choice::AsItIs);
}

#[test]
fn types_are_compared_in_any_case_and_without_parameters() {
    let types = ["text/*", "application/json", "*+json", "image/*"].map(str::to_owned);
    for good in [
        "text/plain",
        "TEXT/HTML;charset=UTF-8",
        "text/event-stream",
        "application/json",
        "Application/JSON ; charset=utf-8",
        "application/ld+json",
        "application/vnd.api+JSON;profile=\"a;b\"",
        " text/css ",
        "image/png",
    ] {
        assert!(is_compressible(good, &types), "{good:?}");
    }
    for bad in ["", "text", "text;charset=utf-8", "application/jsonp", "application/xjson", "xtext/plain", "a/b+jsonx"]
    {
        assert!(!is_compressible(bad, &types), "{bad:?}");
    }
    assert!(is_compressible("font/é+json", &types) && !is_compressible("é", &types));
    assert!(is_compressible("a/b", &["*/*".to_owned()]) && !is_compressible("nothing", &["*/*".to_owned()]));
    assert!(!is_compressible("text/plain", &[]));
}

#[test]
fn without_one_type_nothing_is_known() {
    assert_eq!(choice(200, &[], Some(1000)), Choice::AsItIs);
    assert_eq!(choice(200, &[HTML, HTML], Some(1000)), Choice::AsItIs);
}

/// RFC 9110 §14.4, §15.4.5, §15.3.5; RFC 9111 §5.2.2.6; RFC 9530.
#[test]
fn what_must_not_be_changed_is_not() {
    for (name, value) in [
        ("Content-Encoding", "br"),
        ("content-encoding", "identity"),
        ("Content-Range", "bytes 0-9/10"),
        ("Cache-Control", "public, No-Transform"),
        ("Content-Digest", "sha-256=:AAAA:"),
        ("Repr-Digest", "sha-256=:AAAA:"),
        ("Digest", "sha-256=AAAA"),
        ("Content-MD5", "AAAA"),
        ("Trailer", "X-Sha256"),
    ] {
        assert_eq!(choice(200, &[HTML, (name, value)], Some(1000)), Choice::AsItIs, "{name}");
    }
    for status in [204, 205, 206] {
        assert_eq!(choice(status, &[HTML], Some(1000)), Choice::AsItIs, "{status}");
    }
    for status in [200, 201, 203, 404, 500, 999] {
        assert_eq!(choice(status, &[HTML], Some(1000)), Choice::Gzip, "{status}");
    }
    assert_eq!(choice(200, &[HTML, ("Cache-Control", "x-no-transform, no-store")], Some(1000)), Choice::Gzip);
}

#[test]
fn fields_of_the_compressed_form() {
    let fields = [HTML, ("ETag", "\"a\""), ("content-length", "1000"), ("Accept-Ranges", "bytes"), ("X-A", "1")];
    let expected = [HTML, ("ETag", "W/\"a\""), ("X-A", "1"), ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")];
    assert_eq!(said(Choice::Gzip, true, &fields), own(&expected));
}

#[test]
fn fields_of_the_form_as_it_is() {
    let fields = [HTML, ("ETag", "\"a\""), ("Content-Length", "1000"), ("Accept-Ranges", "bytes")];
    let varied = [&fields[..], &[("Vary", "Accept-Encoding")]].concat();
    assert_eq!(said(Choice::Identity, false, &fields), own(&varied));
    assert_eq!(said(Choice::Gzip, false, &fields), own(&varied), "compressing made it no smaller");
    assert_eq!(said(Choice::AsItIs, false, &fields), own(&fields));
}

#[test]
fn a_weak_tag_stays_what_it_is() {
    assert_eq!(said(Choice::Gzip, true, &[("ETag", "W/\"a\"")])[0].1, "W/\"a\"");
    assert_eq!(said(Choice::Gzip, true, &[("ETag", "no tag")])[0].1, "no tag");
}

#[test]
fn vary_becomes_one_line() {
    for (before, after) in [
        (&[("Vary", "Cookie")][..], "Cookie, Accept-Encoding"),
        (&[("vary", "Cookie, Origin"), ("Vary", "X-A")], "Cookie, Origin, X-A, Accept-Encoding"),
        (&[("Vary", "accept-encoding")], "accept-encoding"),
        (&[("Vary", "Cookie,Accept-Encoding")], "Cookie,Accept-Encoding"),
        (&[("Vary", "*")], "*"),
        (&[("Vary", "")], "Accept-Encoding"),
    ] {
        let fields = said(Choice::Identity, false, before);
        assert_eq!(fields, [("Vary".to_owned(), after.to_owned())], "{before:?}");
    }
}

/// The client has what was sent compressed, so the 304 has to speak of that (RFC 9111 §4.3.4 compares the tags).
#[test]
fn a_304_repeats_the_tag_that_the_client_got() {
    let table = [
        ("gzip", "W/\"a\"", Choice::NotModified),
        ("gzip", "\"b\", W/\"a\"", Choice::NotModified),
        ("gzip", "\"a\"", Choice::Identity),
        ("gzip", "\"a\", W/\"a\"", Choice::Identity),
        ("gzip", "W/\"b\"", Choice::Identity),
        ("gzip", "*", Choice::Identity),
        ("gzip", "W/\"a\" garbage", Choice::Identity),
        ("identity", "W/\"a\"", Choice::Identity),
    ];
    for (accept, tags, expected) in table {
        let wishes = Wishes { accept_encoding: &[accept.as_bytes()], if_none_match: &[tags.as_bytes()] };
        let candidate = Candidate { status: 304, fields: &[("ETag", "\"a\"")], length: Some(0) };
        assert_eq!(choose(&options(), &candidate, &wishes), expected, "{tags}");
    }
    let expected = [("ETag", "W/\"a\""), ("Vary", "Accept-Encoding")];
    assert_eq!(said(Choice::NotModified, false, &[("ETag", "\"a\"")]), own(&expected));
    assert_eq!(choice(304, &[("ETag", "W/\"a\"")], Some(0)), Choice::Identity);
    assert_eq!(choice(304, &[("Cache-Control", "no-transform")], Some(0)), Choice::AsItIs);
}

fn any_field() -> impl Strategy<Value = (&'static str, String)> {
    let names = ["Content-Type", "Vary", "ETag", "Cache-Control", "Content-Length", "Accept-Ranges", "X-A"];
    (select(names.to_vec()), "[ -~é]{0,20}")
}

proptest! {
    /// Whatever stands in the fields: one Vary that says it, nothing of the application's lost but what is no longer true.
    #[test]
    fn fields_are_added_and_not_lost(fields in vec(any_field(), 0..8), is_compressed: bool) {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, &value[..])).collect();
        let after = said(Choice::Gzip, is_compressed, &fields);
        let varies: Vec<_> = after.iter().filter(|(name, _)| name == "Vary").map(|(_, value)| value).collect();
        let mentions = |value: &String| value.to_ascii_lowercase().contains("accept-encoding") || value.contains('*');
        prop_assert!(varies.iter().any(|value| mentions(value)));
        for (name, value) in &fields {
            match *name {
                "Content-Length" | "Accept-Ranges" if is_compressed => {}
                "Vary" => prop_assert!(varies.iter().any(|joined| joined.contains(value.trim()))),
                "ETag" => prop_assert!(after.iter().any(|(_, other)| other.ends_with(value))),
                _ => prop_assert!(after.iter().any(|(other, now)| other == name && now == value)),
            }
        }
        let _ = choice(200, &fields, None);
    }
}
