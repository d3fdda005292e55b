//! Conditional requests: the RFC's tables, the order of precedence, lists and dates in every form, and any bytes.

mod linear_time;

use std::time::{Duration, UNIX_EPOCH};

use linear_time::assert_linear;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use wire::http_conditions::Verdict::{Go, NotModified, PreconditionFailed};
use wire::http_conditions::{Conditions, Validators, Verdict, judge, range_applies};

/// "Sun, 06 Nov 1994 08:49:37 GMT", the date of the RFC.
const THEN: u64 = 784_111_777;
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

const STRONG: Validators = Validators { etag: "\"a\"", last_modified: THEN };
const WEAK: Validators = Validators { etag: "W/\"a\"", last_modified: THEN };

/// Fields by name, as in a request.
fn judge_fields(fields: &[(&str, &str)], validators: &Validators, is_get_or_head: bool) -> Verdict {
    let all = |name| fields.iter().filter(|it| it.0 == name).map(|it| it.1.as_bytes()).collect::<Vec<_>>();
    let (if_match, if_none_match) = (all("If-Match"), all("If-None-Match"));
    let conditions = Conditions {
        if_match: &if_match,
        if_none_match: &if_none_match,
        if_modified_since: all("If-Modified-Since").first().copied(),
        if_unmodified_since: all("If-Unmodified-Since").first().copied(),
        if_range: None,
    };
    judge(&conditions, validators, is_get_or_head)
}

#[test]
fn without_conditions_everything_goes() {
    for is_get_or_head in [true, false] {
        assert_eq!(judge(&Conditions::default(), &STRONG, is_get_or_head), Go);
    }
}

/// RFC 9110 §8.8.3.2, the table of strong and weak comparison.
#[test]
fn tags_compare_as_in_the_rfc() {
    let table = [
        ("W/\"1\"", "W/\"1\"", false, true),
        ("W/\"1\"", "W/\"2\"", false, false),
        ("W/\"1\"", "\"1\"", false, true),
        ("\"1\"", "\"1\"", true, true),
    ];
    for (one, other, strong, weak) in table {
        for (sent, etag) in [(one, other), (other, one)] {
            let ours = Validators { etag, last_modified: THEN };
            let verdict = if strong { Go } else { PreconditionFailed };
            assert_eq!(judge_fields(&[("If-Match", sent)], &ours, true), verdict, "{sent} {etag}");
            assert_eq!(range_applies(Some(sent.as_bytes()), &ours), strong, "{sent} {etag}");
            let verdict = if weak { NotModified } else { Go };
            assert_eq!(judge_fields(&[("If-None-Match", sent)], &ours, true), verdict, "{sent} {etag}");
        }
    }
}

#[test]
fn examples_of_the_rfc() {
    let xyzzy = Validators { etag: "\"xyzzy\"", last_modified: THEN };
    let other = Validators { etag: "\"other\"", last_modified: THEN };
    let weak = Validators { etag: "W/\"xyzzy\"", last_modified: THEN };
    // §13.1.1
    for value in ["\"xyzzy\"", "\"xyzzy\", \"r2d2xxxx\", \"c3piozzzz\""] {
        assert_eq!(judge_fields(&[("If-Match", value)], &xyzzy, false), Go);
        assert_eq!(judge_fields(&[("If-Match", value)], &other, false), PreconditionFailed);
        assert_eq!(judge_fields(&[("If-Match", value)], &weak, false), PreconditionFailed);
    }
    assert_eq!(judge_fields(&[("If-Match", "*")], &other, false), Go);
    // §13.1.2
    let values = [
        "\"xyzzy\"",
        "W/\"xyzzy\"",
        "\"xyzzy\", \"r2d2xxxx\", \"c3piozzzz\"",
        "W/\"xyzzy\", W/\"r2d2xxxx\", W/\"c3piozzzz\"",
    ];
    for value in values {
        for ours in [&xyzzy, &weak] {
            assert_eq!(judge_fields(&[("If-None-Match", value)], ours, true), NotModified);
            assert_eq!(judge_fields(&[("If-None-Match", value)], ours, false), PreconditionFailed);
        }
        assert_eq!(judge_fields(&[("If-None-Match", value)], &other, true), Go);
        assert_eq!(judge_fields(&[("If-None-Match", value)], &other, false), Go);
    }
    assert_eq!(judge_fields(&[("If-None-Match", "*")], &other, true), NotModified);
    assert_eq!(judge_fields(&[("If-None-Match", "*")], &other, false), PreconditionFailed);
    // §13.1.3, §13.1.4
    let date = "Sat, 29 Oct 1994 19:43:31 GMT";
    let seconds = 783_459_811;
    for (last_modified, since, until) in
        [(seconds - 1, NotModified, Go), (seconds, NotModified, Go), (seconds + 1, Go, PreconditionFailed)]
    {
        let ours = Validators { etag: "\"a\"", last_modified };
        assert_eq!(judge_fields(&[("If-Modified-Since", date)], &ours, true), since);
        assert_eq!(judge_fields(&[("If-Unmodified-Since", date)], &ours, true), until);
    }
}

#[test]
fn lists_are_read_across_fields() {
    let found: &[&[&str]] = &[
        &["\"a\""],
        &["\"b\",\"a\""],
        &["\"a\" \t,\t \"b\""],
        &[", ,\"a\",,"],
        &["\"b\"", "\"a\""],
        &["\"a\"", "\"b\""],
        &["", "\"a\""],
        &["\"b,\\\"", "\"a\""],
        &["*"],
    ];
    let missing: &[&[&str]] = &[
        &[""],
        &[" , "],
        &["", ""],
        &["\"b\""],
        &["\"A\""],
        &["\"\""],
        &["\"b\", \"c\"", "\"d\""],
        &["\",a,\""],
        &["\"a,\""],
        &["\"\\a\""],
        &["\"a\u{e4}\""],
        &["\"*\""],
    ];
    let malformed: &[&[&str]] = &[
        &["a"],
        &["\"a"],
        &["a\""],
        &["\"a\"\"a\""],
        &["\"a\" \"a\""],
        &["\"a\";\"b\""],
        &["\"a\", b"],
        &["b, \"a\""],
        &["\"a\"", "b"],
        &["'a'"],
        &["w/\"a\""],
        &["W/ \"a\""],
        &["W\"a\""],
        &["W/a"],
        &["W/"],
        &["\"a \""],
        &["\"a\t\""],
        &["\"a\x7f\""],
        &["\"\\\"a\""],
        &["*, \"a\""],
        &["\"a\", *"],
        &["*", "\"a\""],
        &["\"a\"", "*"],
        &["**"],
        &["\"a\"", "\""],
    ];
    // What If-Match says, then If-None-Match of a GET and of a PUT.
    let groups = [
        (found, [Go, NotModified, PreconditionFailed]),
        (missing, [PreconditionFailed, Go, Go]),
        (malformed, [PreconditionFailed, Go, PreconditionFailed]),
    ];
    for (lists, verdicts) in groups {
        for list in lists {
            let fields = |name| list.iter().map(|value| (name, *value)).collect::<Vec<_>>();
            assert_eq!(judge_fields(&fields("If-Match"), &STRONG, true), verdicts[0], "{list:?}");
            assert_eq!(judge_fields(&fields("If-Match"), &STRONG, false), verdicts[0], "{list:?}");
            assert_eq!(judge_fields(&fields("If-None-Match"), &STRONG, true), verdicts[1], "{list:?}");
            assert_eq!(judge_fields(&fields("If-None-Match"), &STRONG, false), verdicts[2], "{list:?}");
        }
    }
}

/// Fields, then what is made of them in a GET and in a PUT.
type Row<'a> = (&'a [(&'a str, &'a str)], Verdict, Verdict);

/// §13.2.2 step by step: every pair of conditions that meet.
#[test]
fn conditions_have_an_order() {
    let table: &[Row] = &[
        // If-Unmodified-Since does not count beside If-Match, whatever that says, be it unreadable.
        (&[("If-Match", "\"a\""), ("If-Unmodified-Since", BEFORE)], Go, Go),
        (&[("If-Match", "\"b\""), ("If-Unmodified-Since", AFTER)], PreconditionFailed, PreconditionFailed),
        (&[("If-Match", "oops"), ("If-Unmodified-Since", AFTER)], PreconditionFailed, PreconditionFailed),
        // Nor If-Modified-Since beside If-None-Match.
        (&[("If-None-Match", "\"b\""), ("If-Modified-Since", SAME)], Go, Go),
        (&[("If-None-Match", "\"a\""), ("If-Modified-Since", BEFORE)], NotModified, PreconditionFailed),
        (&[("If-None-Match", "oops"), ("If-Modified-Since", SAME)], Go, PreconditionFailed),
        (&[("If-None-Match", ""), ("If-Modified-Since", SAME)], Go, Go),
        // What would fail comes before what would save bytes.
        (&[("If-Match", "\"b\""), ("If-None-Match", "\"a\"")], PreconditionFailed, PreconditionFailed),
        (&[("If-Match", "\"a\""), ("If-None-Match", "\"a\"")], NotModified, PreconditionFailed),
        (&[("If-Match", "\"a\""), ("If-None-Match", "\"b\"")], Go, Go),
        (&[("If-Match", "\"b\""), ("If-Modified-Since", SAME)], PreconditionFailed, PreconditionFailed),
        (&[("If-Match", "\"a\""), ("If-Modified-Since", SAME)], NotModified, Go),
        (&[("If-Unmodified-Since", BEFORE), ("If-None-Match", "\"a\"")], PreconditionFailed, PreconditionFailed),
        (&[("If-Unmodified-Since", SAME), ("If-None-Match", "\"a\"")], NotModified, PreconditionFailed),
        (&[("If-Unmodified-Since", BEFORE), ("If-Modified-Since", SAME)], PreconditionFailed, PreconditionFailed),
        (&[("If-Unmodified-Since", SAME), ("If-Modified-Since", SAME)], NotModified, Go),
        // If-Modified-Since is for GET and HEAD alone.
        (&[("If-Modified-Since", SAME)], NotModified, Go),
        (&[("If-Unmodified-Since", BEFORE)], PreconditionFailed, PreconditionFailed),
    ];
    for (fields, get, put) in table {
        assert_eq!(judge_fields(fields, &STRONG, true), *get, "{fields:?}");
        assert_eq!(judge_fields(fields, &STRONG, false), *put, "{fields:?}");
    }
}

const THREE_FORMS: [&str; 3] = [SAME, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"];

const NO_DATES: &[&str] = &[
    "",
    "0",
    "-1",
    "784111777",
    "1994-11-06T08:49:37Z",
    "Sun, 06 Nov 1994 08:49:37",
    "Sun, 06 Nov 1994 08:49:37 UTC",
    "Sun, 06 Nov 1994 08:49:37 +0000",
    "sun, 06 nov 1994 08:49:37 gmt",
    "Sun, 6 Nov 1994 08:49:37 GMT",
    "Mon, 06 Nov 1994 08:49:37 GMT", // it was a Sunday
    "Sun, 31 Feb 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 24:00:00 GMT",
    "Wed, 31 Dec 1969 23:59:59 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT; length=7",
    "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37 GM\u{164}",
    "Sun Nov 6 08:49:37 1994",
];

#[test]
fn dates_come_in_three_forms() {
    let newer = Validators { last_modified: THEN + 1, ..STRONG };
    for date in THREE_FORMS {
        assert_eq!(judge_fields(&[("If-Modified-Since", date)], &STRONG, true), NotModified, "{date}");
        assert_eq!(judge_fields(&[("If-Modified-Since", date)], &newer, true), Go, "{date}");
        assert_eq!(judge_fields(&[("If-Unmodified-Since", date)], &STRONG, true), Go, "{date}");
        assert_eq!(judge_fields(&[("If-Unmodified-Since", date)], &newer, true), PreconditionFailed, "{date}");
        assert!(range_applies(Some(date.as_bytes()), &STRONG), "{date}");
        assert!(!range_applies(Some(date.as_bytes()), &newer), "{date}");
    }
}

#[test]
fn what_is_no_date_is_ignored() {
    // Both would go the other way for any date that can be read.
    let oldest = Validators { last_modified: 0, ..STRONG };
    let newest = Validators { last_modified: u64::MAX, ..STRONG };
    for date in NO_DATES {
        assert_eq!(judge_fields(&[("If-Modified-Since", date)], &oldest, true), Go, "{date}");
        assert_eq!(judge_fields(&[("If-Unmodified-Since", date)], &newest, true), Go, "{date}");
        for validators in [&oldest, &STRONG, &newest] {
            assert!(!range_applies(Some(date.as_bytes()), validators), "{date}");
        }
    }
    for date in [b"Sun, 06 Nov 1994 08:49:37 GM\xff", &[0xff; 29][..]] {
        let conditions = Conditions { if_modified_since: Some(date), ..Conditions::default() };
        assert_eq!(judge(&conditions, &oldest, true), Go);
    }
}

#[test]
fn if_range_wants_the_very_same() {
    assert!(range_applies(None, &STRONG));
    let table = [
        ("\"a\"", true),
        (SAME, true),
        ("\"b\"", false),
        ("W/\"a\"", false),
        (BEFORE, false),
        (AFTER, false), // it is a validator, not a time since when
        ("*", false),
        ("a", false),
        ("\"a", false),
        ("\"a\", \"b\"", false),
        ("\"a\"x", false),
        ("\"a\" ", false),
        ("", false),
    ];
    for (value, applies) in table {
        assert_eq!(range_applies(Some(value.as_bytes()), &STRONG), applies, "{value}");
    }
    assert!(!range_applies(Some(b"W/\"a\""), &WEAK));
    assert!(!range_applies(Some(b"\"a\""), &WEAK));
    assert!(range_applies(Some(SAME.as_bytes()), &WEAK));
}

#[test]
fn no_tag_equals_a_missing_one() {
    let ours = Validators { etag: "", last_modified: THEN };
    for value in ["\"\"", "W/\"\"", "", "\"a\""] {
        assert_eq!(judge_fields(&[("If-None-Match", value)], &ours, true), Go);
        assert_eq!(judge_fields(&[("If-Match", value)], &ours, true), PreconditionFailed);
        assert!(!range_applies(Some(value.as_bytes()), &ours));
    }
    assert_eq!(judge_fields(&[("If-None-Match", "*")], &ours, true), NotModified);
    assert_eq!(judge_fields(&[("If-Modified-Since", SAME)], &ours, true), NotModified);
}

fn tag() -> impl Strategy<Value = String> {
    ("(W/)?", "[!#-~\u{e4}]{0,2}|[ab,*\\\\]").prop_map(|(weak, opaque)| format!("{weak}\"{opaque}\""))
}

/// Nearly conditions: pieces of the grammar in any order, and a few random bytes.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> =
        vec![b"\"", b"\"a\"", b"W/", b"*", b",", b" ", b"\t", b"a", b"\xe4", b"\\", SAME.as_bytes(), b"GMT"];
    let piece = prop_oneof![8 => select(pieces).prop_map(<[u8]>::to_vec), 1 => vec(any::<u8>(), 0..4)];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_judged(
        lists in (vec(noise(), 0..3), vec(noise(), 0..3)),
        dates in (proptest::option::of(noise()), proptest::option::of(noise())),
        is_get_or_head in any::<bool>(),
    ) {
        let (if_match, if_none_match): (Vec<_>, Vec<_>) =
            (lists.0.iter().map(|it| &it[..]).collect(), lists.1.iter().map(|it| &it[..]).collect());
        let conditions = Conditions {
            if_match: &if_match,
            if_none_match: &if_none_match,
            if_modified_since: dates.0.as_deref(),
            if_unmodified_since: dates.1.as_deref(),
            if_range: dates.0.as_deref(),
        };
        let verdict = judge(&conditions, &STRONG, is_get_or_head);
        prop_assert!(is_get_or_head || verdict != NotModified);
        // Several fields are one list.
        let (one, other) = (if_match.join(&b", "[..]), if_none_match.join(&b", "[..]));
        let joined = Conditions {
            if_match: if if_match.is_empty() { &[] } else { &[&one] },
            if_none_match: if if_none_match.is_empty() { &[] } else { &[&other] },
            ..conditions
        };
        prop_assert_eq!(judge(&joined, &STRONG, is_get_or_head), verdict);
        let _ = range_applies(conditions.if_range, &STRONG);
    }

    #[test]
    fn a_list_holds_a_tag_or_does_not(
        fields in vec(vec(tag(), 1..4), 1..4),
        etag in tag(),
        separator in select(vec![",", ", ", " , ", ",,", "\t,"]),
    ) {
        let ours = Validators { etag: &etag, last_modified: THEN };
        let values: Vec<_> = fields.iter().map(|tags| tags.join(separator)).collect();
        let named = |name| values.iter().map(|value| (name, &**value)).collect::<Vec<_>>();
        let tags = || fields.iter().flatten();
        let strong = !etag.starts_with('W') && tags().any(|tag| *tag == etag);
        let weak = tags().any(|tag| tag.trim_start_matches("W/") == etag.trim_start_matches("W/"));
        let verdict = judge_fields(&named("If-Match"), &ours, false);
        prop_assert_eq!(verdict, if strong { Go } else { PreconditionFailed });
        let verdict = judge_fields(&named("If-None-Match"), &ours, true);
        prop_assert_eq!(verdict, if weak { NotModified } else { Go });
        let own = Some(etag.as_bytes());
        prop_assert_eq!(range_applies(own, &ours), !etag.starts_with('W'));
    }

    #[test]
    fn dates_compare_by_the_second(date in 0u64..253_402_300_800, last_modified in any::<u64>(), near in -2i64..=2) {
        let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(date));
        for last_modified in [last_modified, date.saturating_add_signed(near)] {
            let ours = Validators { last_modified, ..STRONG };
            let is_newer = last_modified > date;
            let verdict = judge_fields(&[("If-Modified-Since", &text)], &ours, true);
            prop_assert_eq!(verdict, if is_newer { Go } else { NotModified });
            let verdict = judge_fields(&[("If-Unmodified-Since", &text)], &ours, true);
            prop_assert_eq!(verdict, if is_newer { PreconditionFailed } else { Go });
            prop_assert_eq!(range_applies(Some(text.as_bytes()), &ours), last_modified == date);
        }
    }
}

#[test]
fn long_lists_are_read_in_linear_time() {
    for piece in ["\"b\",", ",", " ", "\"b", "W/\"b\" , "] {
        assert_linear(piece, |value| assert_eq!(judge_fields(&[("If-None-Match", value)], &STRONG, true), Go));
    }
}
