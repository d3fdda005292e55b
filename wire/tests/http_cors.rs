//! CORS: who may read, what a pre-flight is told, and any bytes.

mod linear_time;

use linear_time::assert_linear;
use proptest::collection::vec;
use proptest::prelude::*;
use wire::http_cors::{Cors, Grant, Preflight};

type Fields = Vec<(String, String)>;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// Two origins, two methods, two headers, one field to read.
fn listed() -> Cors {
    let origins = names(&["https://app.example", "http://localhost:3000"]);
    let (methods, headers) = (names(&["GET", "PUT"]), names(&["Authorization", "X-Id"]));
    Cors::new(Some(origins), Some(&methods), Some(&headers), &names(&["X-Total"]), true, Some(60))
}

fn anyone() -> Cors {
    Cors::new(None, None, None, &[], false, None)
}

fn fields(cors: &Cors, origins: &[&[u8]], own: &[(&str, &str)]) -> Fields {
    let mut fields = own.to_vec();
    let mut store = String::new();
    cors.add_fields(cors.judge(origins), &mut fields, &mut store);
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read<'a>(method: &str, lines: &'a [(&'a str, &'a [u8])]) -> Option<Preflight<'a>> {
    Preflight::read(method, |name| lines.iter().filter(|(other, _)| *other == name).map(|(_, value)| *value).collect())
}

/// `None`: refused.
fn answer(cors: &Cors, lines: &[(&str, &[u8])]) -> Option<Fields> {
    let preflight = read("OPTIONS", lines).expect("a pre-flight");
    let origins: Vec<&[u8]> = lines.iter().filter(|(name, _)| *name == "origin").map(|(_, value)| *value).collect();
    let fields = cors.answer_preflight(cors.judge(&origins), &preflight)?;
    Some(fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect())
}

fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(other, _)| other == name).map(|(_, value)| &value[..])
}

#[test]
fn any_page_may_read_and_caches_need_not_know_whose() {
    let expected = vec![("Access-Control-Allow-Origin".to_owned(), "*".to_owned())];
    let all: [&[&[u8]]; 5] = [&[], &[b"https://a.example"], &[b"null"], &[b"a", b"b"], &[b"\xff"]];
    for origins in all {
        assert_eq!(fields(&anyone(), origins, &[]), expected);
    }
}

#[test]
fn a_listed_page_may_read_what_is_exposed() {
    let seen = fields(&listed(), &[b"http://localhost:3000"], &[("Vary", "Cookie"), ("X-Total", "3")]);
    let expected = [
        ("X-Total", "3"),
        ("Access-Control-Allow-Origin", "http://localhost:3000"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Expose-Headers", "X-Total"),
        ("Vary", "Cookie, Origin"),
    ];
    let expected: Fields = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(seen, expected);
}

#[test]
fn others_get_nothing_but_the_caches_are_told() {
    let alike: [&[&[u8]]; 12] = [
        &[],
        &[b"null"],
        &[b""],
        &[b"*"],
        &[b"https://app.example.evil.example"],
        &[b"https://evil.example/https://app.example"],
        &[b"https://app.example/"],
        &[b"https://app.example:443"],
        &[b"http://app.example"],
        &[b"HTTPS://APP.EXAMPLE"],
        &[b"https://app.example", b"https://app.example"],
        &[b"https://app.example, https://app.example"],
    ];
    for origins in alike {
        assert_eq!(listed().judge(origins), Grant::None, "{origins:?}");
        assert_eq!(fields(&listed(), origins, &[]), [("Vary".to_owned(), "Origin".to_owned())]);
    }
}

#[test]
fn an_answer_that_says_it_itself_is_left_alone() {
    let own = [("access-control-allow-origin", "https://other.example")];
    let expected = vec![(own[0].0.to_owned(), own[0].1.to_owned())];
    assert_eq!(fields(&listed(), &[b"https://app.example"], &own), expected);
    assert_eq!(fields(&anyone(), &[b"https://app.example"], &own), expected);
}

#[test]
fn nothing_is_said_of_a_request_that_was_not_looked_at() {
    let (cors, mut store, mut fields) = (anyone(), String::new(), Vec::new());
    cors.add_fields(Grant::default(), &mut fields, &mut store);
    assert!(fields.is_empty());
}

const ORIGIN: (&str, &[u8]) = ("origin", b"https://app.example");
const METHOD: (&str, &[u8]) = ("access-control-request-method", b"DELETE");

#[test]
fn a_preflight_is_told_what_is_allowed_whatever_it_asks() {
    let fields = answer(&listed(), &[ORIGIN, METHOD, ("access-control-request-headers", b"x-other")]).unwrap();
    assert_eq!(get(&fields, "Access-Control-Allow-Methods"), Some("GET, PUT"));
    assert_eq!(get(&fields, "Access-Control-Allow-Headers"), Some("Authorization, X-Id"));
    assert_eq!(get(&fields, "Access-Control-Max-Age"), Some("60"));
    assert_eq!(get(&fields, "Access-Control-Allow-Private-Network"), None);
}

#[test]
fn where_any_may_come_they_are_named() {
    let headers: &[u8] = b"authorization, x-a,,x-b , n\xc3\xa9, a b";
    let asked = [ORIGIN, METHOD, ("access-control-request-headers", headers)];
    let fields = answer(&anyone(), &asked).unwrap();
    assert_eq!(get(&fields, "Access-Control-Allow-Methods"), Some("DELETE"));
    assert_eq!(get(&fields, "Access-Control-Allow-Headers"), Some("authorization, x-a, x-b"));
    let fields = answer(&anyone(), &[ORIGIN, METHOD]).unwrap();
    assert_eq!(get(&fields, "Access-Control-Allow-Headers"), None);
    assert_eq!(get(&fields, "Access-Control-Max-Age"), None);
}

#[test]
fn a_preflight_of_another_origin_is_refused() {
    assert_eq!(answer(&listed(), &[("origin", b"https://evil.example"), METHOD]), None);
    assert_eq!(answer(&listed(), &[("origin", b"null"), METHOD]), None);
}

#[test]
fn only_listed_origins_reach_into_a_private_network() {
    let asked = [ORIGIN, METHOD, ("access-control-request-private-network", &b"true"[..])];
    let name = "Access-Control-Allow-Private-Network";
    assert_eq!(get(&answer(&listed(), &asked).unwrap(), name), Some("true"));
    assert_eq!(get(&answer(&anyone(), &asked).unwrap(), name), None);
    let no = [ORIGIN, METHOD, ("access-control-request-private-network", &b"false"[..])];
    assert_eq!(get(&answer(&listed(), &no).unwrap(), name), None);
}

#[test]
fn other_options_are_no_preflights() {
    assert!(read("OPTIONS", &[ORIGIN, METHOD]).is_some());
    for method in ["GET", "POST", "options"] {
        assert!(read(method, &[ORIGIN, METHOD]).is_none(), "{method}");
    }
    for lines in [
        &[][..],
        &[ORIGIN],
        &[METHOD],
        &[ORIGIN, ORIGIN, METHOD],
        &[ORIGIN, METHOD, METHOD],
        &[ORIGIN, ("access-control-request-method", b"")],
        &[ORIGIN, ("access-control-request-method", b"DELETE\x80")],
        &[ORIGIN, ("access-control-request-method", b"GET, PUT")],
    ] {
        assert!(read("OPTIONS", lines).is_none(), "{lines:?}");
    }
}

#[test]
fn long_lists_cost_no_more_than_their_length() {
    assert_linear("x-header,", |value| {
        let asked = [ORIGIN, METHOD, ("access-control-request-headers", value.as_bytes())];
        assert!(answer(&anyone(), &asked).is_some());
    });
}

proptest! {
    /// Nothing but tokens of the request comes back, and never an origin that nobody listed.
    #[test]
    fn any_bytes_are_answered_safely(
        origin in vec(any::<u8>(), 0..40), method in vec(any::<u8>(), 1..10), headers in vec(any::<u8>(), 0..60)
    ) {
        let lines = [
            ("origin", &origin[..]),
            ("access-control-request-method", &method[..]),
            ("access-control-request-headers", &headers[..]),
        ];
        prop_assert_eq!(listed().judge(&[&origin[..]]), Grant::None);
        if let Some(preflight) = read("OPTIONS", &lines) {
            let cors = anyone();
            let fields = cors.answer_preflight(cors.judge(&[&origin[..]]), &preflight).unwrap();
            for (name, value) in fields {
                prop_assert!(value.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{}: {:?}", name, value);
            }
        }
    }
}
