//! Random bytes as the fields that decide about an answer: Range, the conditions, Accept-Encoding, pre-flights. No panic,
//! and what comes out keeps the promises that whoever sends it builds on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::http_coding::{Coding, choose_coding};
use wire::http_compression::{Candidate, Changed, Choice, GzipOptions, Wishes, choose, fields_for};
use wire::http_conditions::{Conditions, Validators, Verdict, judge, range_applies};
use wire::http_cors::{Cors, Grant, Preflight};
use wire::http_range::{MAX_RANGES, Multipart, Ranges, parse_ranges};

// The first byte chooses what there is, the next eight how long the file is; the rest is values, one a line.
fuzz_target!(|data: &[u8]| {
    let Some((&[choice, length @ ..], bytes)) = data.split_first_chunk::<9>() else {
        return;
    };
    let values: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let length = u64::from_le_bytes(length) >> (choice & 0x3f); // short files too
    for value in &values {
        check_ranges(value, length);
        check_ranges(&[b"bytes=", *value].concat(), length);
    }
    check_conditions(&values, choice);
    check_coding(&values, choice);
    check_compression(&values, choice);
    check_preflight(&values, choice);
});

fn check_ranges(value: &[u8], length: u64) {
    let Ranges::Some(ranges) = parse_ranges(value, length) else {
        return;
    };
    assert!((1..=MAX_RANGES).contains(&ranges.len()));
    let mut sorted = ranges.clone();
    sorted.sort_unstable();
    assert!(sorted.iter().all(|&(start, end)| start < end && end <= length));
    assert!(sorted.windows(2).all(|pair| pair[1].0 - pair[0].1 >= 80));
    // What was understood is understood again, written plainly.
    let plain: Vec<_> = ranges.iter().map(|(start, end)| format!("{start}-{}", end - 1)).collect();
    let again = parse_ranges(format!("bytes={}", plain.join(",")).as_bytes(), length);
    assert_eq!(again, Ranges::Some(ranges.clone()));
    let multipart = Multipart::new("text/plain", length, 0).expect("the content type has no control character");
    let content: u64 = ranges.iter().map(|(start, end)| end - start).sum();
    assert!(multipart.total_length(&ranges) >= content && content <= length);
}

fn check_conditions(values: &[&[u8]], choice: u8) {
    let split = usize::from(choice >> 2).min(values.len());
    let (if_match, if_none_match) = values.split_at(split);
    let conditions = Conditions {
        if_match,
        if_none_match,
        if_modified_since: if_match.last().copied(),
        if_unmodified_since: if_none_match.last().copied(),
        if_range: values.first().copied(),
    };
    let etag = if choice & 2 == 0 { "\"a\"" } else { "W/\"a\"" };
    let ours = Validators { etag, last_modified: 784_111_777 };
    assert_ne!(judge(&conditions, &ours, false), Verdict::NotModified);
    let only_dates = Conditions { if_match: &[], if_none_match: &[], ..conditions };
    for conditions in [conditions, only_dates] {
        let _ = judge(&conditions, &ours, choice & 1 == 0);
    }
    // Never with a tag that says of itself that it is not exact.
    assert!(!range_applies(Some(b"W/\"a\""), &ours));
    if range_applies(conditions.if_range, &ours) {
        let value = conditions.if_range.expect("there is always a first line");
        assert!(value == etag.as_bytes() || value.len() >= 24, "{}", value.escape_ascii());
    }
}

fn check_coding(values: &[&[u8]], choice: u8) {
    let mut available = Coding::ALL.to_vec();
    let mut at = 0;
    available.retain(|_| {
        at += 1;
        choice & (1 << at) != 0
    });
    let chosen = choose_coding(values, &available);
    assert!(chosen.is_none_or(|coding| available.contains(&coding)));
    available.reverse();
    assert_eq!(choose_coding(values, &available), chosen);
    assert_eq!(choose_coding(&[values.join(&b","[..]).as_slice()], &available), chosen);
    // A refusal holds, whatever else is said.
    let refused: Vec<&[u8]> = values.iter().copied().chain([&b"gzip;q=0"[..]]).collect();
    assert_ne!(choose_coding(&refused, &available), Some(Coding::Gzip));
}

fn check_compression(values: &[&[u8]], choice: u8) {
    let texts: Vec<&str> = values.iter().filter_map(|value| std::str::from_utf8(value).ok()).collect();
    let names = ["Content-Type", "Vary", "ETag", "Cache-Control", "Accept-Ranges", "X-A"];
    let fields: Vec<(&str, &str)> = names.iter().cycle().copied().zip(texts.iter().copied()).collect();
    let options = GzipOptions { level: 6, min_bytes: u64::from(choice), types: vec!["text/*".into(), "*+json".into()] };
    let candidate = Candidate { status: if choice & 1 == 0 { 200 } else { 304 }, fields: &fields, length: Some(100) };
    let chosen = choose(&options, &candidate, &Wishes { accept_encoding: values, if_none_match: values });
    let refused: Vec<&[u8]> = values.iter().copied().chain([&b"gzip;q=0"[..]]).collect();
    let never = choose(&options, &candidate, &Wishes { accept_encoding: &refused, if_none_match: values });
    assert!(matches!(never, Choice::AsItIs | Choice::Identity));
    let mut changed = Changed::default();
    let said = fields_for(chosen, chosen == Choice::Gzip, &fields, &mut changed);
    let codings = said.iter().filter(|(name, _)| *name == "Content-Encoding").count();
    assert_eq!(codings, usize::from(chosen == Choice::Gzip));
    assert!(chosen != Choice::AsItIs || said == fields);
}

fn check_preflight(values: &[&[u8]], choice: u8) {
    let own = ["https://a.example".to_owned()];
    let cors = Cors::new((choice & 1 == 0).then(|| own.to_vec()), None, None, &[], false, Some(1));
    let names = ["origin", "access-control-request-method", "access-control-request-headers"];
    let of = |name: &str| -> Vec<&[u8]> {
        names.iter().zip(values).filter(|(other, _)| **other == name).map(|(_, value)| *value).collect()
    };
    let grant = cors.judge(&of("origin"));
    assert!(!matches!(grant, Grant::Listed(_)) || values[0] == own[0].as_bytes());
    let Some(preflight) = Preflight::read("OPTIONS", of) else { return };
    for (_, value) in cors.answer_preflight(grant, &preflight).unwrap_or_default() {
        assert!(value.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{value:?}");
    }
}
