//! Sec-WebSocket-Extensions: the grammar, and what is agreed on, both roles.

use std::time::{Duration, Instant};

use wire::ws_deflate::{
    Agreement, DeflateOptions, DeflateParams, accept_extensions, check_agreement, check_extensions, encode_offer,
};
use wire::ws_frame::Role;
use wire::ws_handshake::{Answer, AnswerRefusal, accept_for_key, check_answer};

const PLAIN: DeflateOptions = DeflateOptions { level: 6, window_bits: 15, min_bytes: 860, context_takeover: false };
const CONTEXT: DeflateOptions = DeflateOptions { context_takeover: true, ..PLAIN };
const NARROW: DeflateOptions = DeflateOptions { window_bits: 10, ..CONTEXT };

fn accept(value: &str, options: &DeflateOptions) -> Option<String> {
    accept_all(&[value], options).unwrap().map(|it| it.answer)
}

fn accept_all(values: &[&str], options: &DeflateOptions) -> Result<Option<Agreement>, u16> {
    let values: Vec<&[u8]> = values.iter().map(|it| it.as_bytes()).collect();
    let result = accept_extensions(&values, options).map_err(|refusal| refusal.status);
    assert_eq!(check_extensions(&values).map_err(|refusal| refusal.status).err(), result.as_ref().err().copied());
    result
}

fn params(server_no: bool, client_no: bool, server_bits: u8, client_bits: u8) -> DeflateParams {
    DeflateParams {
        server_no_context_takeover: server_no,
        client_no_context_takeover: client_no,
        server_max_window_bits: server_bits,
        client_max_window_bits: client_bits,
    }
}

#[test]
fn what_nobody_chose_is_plain() {
    assert_eq!(DeflateOptions::default(), PLAIN);
}

#[test]
fn offers_are_answered() {
    let no = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let cases = [
        // what the client offers, what we want, what we answer after the name, and what then holds
        ("", PLAIN, &no[18..], params(true, true, 15, 15)),
        ("", CONTEXT, "", params(false, false, 15, 15)),
        ("; server_no_context_takeover", CONTEXT, "; server_no_context_takeover", params(true, false, 15, 15)),
        ("; client_no_context_takeover", CONTEXT, "; client_no_context_takeover", params(false, true, 15, 15)),
        ("; client_no_context_takeover", PLAIN, &no[18..], params(true, true, 15, 15)),
        ("; server_max_window_bits=15", CONTEXT, "; server_max_window_bits=15", params(false, false, 15, 15)),
        ("; server_max_window_bits=12", CONTEXT, "; server_max_window_bits=12", params(false, false, 12, 15)),
        ("; server_max_window_bits=12", NARROW, "; server_max_window_bits=10", params(false, false, 10, 15)),
        ("; server_max_window_bits=9", NARROW, "; server_max_window_bits=9", params(false, false, 9, 15)),
        ("; server_max_window_bits=8", CONTEXT, "; server_max_window_bits=8", params(false, false, 8, 15)),
        ("; client_max_window_bits", CONTEXT, "", params(false, false, 15, 15)),
        ("; client_max_window_bits=15", CONTEXT, "", params(false, false, 15, 15)),
        ("; client_max_window_bits", NARROW, "; client_max_window_bits=10", params(false, false, 10, 10)),
        ("; client_max_window_bits=12", NARROW, "; client_max_window_bits=10", params(false, false, 10, 10)),
        ("; client_max_window_bits=8", NARROW, "; client_max_window_bits=8", params(false, false, 10, 8)),
        ("; client_max_window_bits=11", CONTEXT, "; client_max_window_bits=11", params(false, false, 15, 11)),
        // not offered, so not answered: our own window is narrow all the same, the client's is not
        ("", NARROW, "", params(false, false, 10, 15)),
        (
            "; client_max_window_bits; server_max_window_bits=11; client_no_context_takeover; server_no_context_takeover",
            NARROW,
            "; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10; client_max_window_bits=10",
            params(true, true, 10, 10),
        ),
    ];
    for (offer, options, answer, params) in cases {
        let found = accept_all(&[&format!("permessage-deflate{offer}")], &options);
        let expected = Agreement { params, answer: format!("permessage-deflate{answer}") };
        assert_eq!(found, Ok(Some(expected)), "{offer:?} with {options:?}");
    }
}

#[test]
fn bad_parameters_decline_the_offer() {
    let bad = [
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "server_max_window_bits=010",
        "server_max_window_bits=+9",
        "server_max_window_bits=0xa",
        "server_max_window_bits=1e1",
        "server_max_window_bits=999999999999999999999",
        "server_max_window_bits=-9",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=08",
        "client_max_window_bits; client_max_window_bits",
        "client_max_window_bits=10; client_max_window_bits",
        "client_max_window_bits; client_max_window_bits=10",
        "mystery",
        "mystery=1",
        "Server_No_Context_Takeover",
    ];
    for parameters in bad {
        let offer = format!("permessage-deflate; {parameters}");
        assert_eq!(accept(&offer, &CONTEXT), None, "{parameters}");
        // The fallback after it is taken (RFC 7692 §5.1).
        assert_eq!(accept(&format!("{offer}, permessage-deflate"), &CONTEXT).unwrap(), "permessage-deflate");
    }
}

#[test]
fn every_window_can_be_asked_for() {
    for bits in 8..=15 {
        let Agreement { params, answer } = accept_all(
            &[&format!("permessage-deflate; server_max_window_bits={bits}; client_max_window_bits=\"{bits}\"")],
            &CONTEXT,
        )
        .unwrap()
        .unwrap();
        assert_eq!((params.window_bits(Role::Server), params.window_bits(Role::Client)), (bits, bits));
        assert!(answer.contains(&format!("server_max_window_bits={bits}")));
        assert_eq!(answer.contains(&format!("client_max_window_bits={bits}")), bits < 15);
    }
}

#[test]
fn the_first_offer_that_can_be_honoured_wins() {
    let value = "permessage-deflate; server_max_window_bits=10, permessage-deflate";
    assert_eq!(accept(value, &CONTEXT).unwrap(), "permessage-deflate; server_max_window_bits=10");
    let value = "x-webkit-deflate-frame, permessage-bzip2; level=9, permessage-deflate";
    assert_eq!(accept(value, &CONTEXT).unwrap(), "permessage-deflate");
    assert_eq!(accept("permessage-deflated, Permessage-Deflate", &CONTEXT), None, "names compare exactly");
}

#[test]
fn several_fields_are_one_list() {
    let found = accept_all(&["foo; a=b", " , permessage-deflate; mystery ,", "permessage-deflate"], &CONTEXT);
    assert_eq!(found.unwrap().unwrap().answer, "permessage-deflate");
    assert_eq!(accept_all(&[], &CONTEXT), Ok(None));
    assert_eq!(accept_all(&["foo", ""], &CONTEXT), Ok(None));
}

#[test]
fn the_grammar_allows() {
    let good = [
        "permessage-deflate;server_max_window_bits=10",
        "permessage-deflate ;\tserver_max_window_bits = 10 ",
        ",, permessage-deflate; server_max_window_bits=10 ,,",
        "permessage-deflate; server_max_window_bits=\"10\"",
        "permessage-deflate; server_max_window_bits=\"1\\0\"",
        "foo; bar=\"a\\b\", permessage-deflate; server_max_window_bits=10",
    ];
    for value in good {
        assert_eq!(
            accept(value, &CONTEXT).as_deref(),
            Some("permessage-deflate; server_max_window_bits=10"),
            "{value}"
        );
    }
}

#[test]
fn the_grammar_refuses() {
    let bad = [
        "",
        " ",
        ",",
        ";",
        "permessage-deflate;",
        "permessage-deflate; ",
        "permessage-deflate;; server_max_window_bits=10",
        "permessage-deflate; =10",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits= ;",
        "permessage-deflate; server_max_window_bits=10 11",
        "permessage-deflate server_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; server_max_window_bits=\"10\\",
        "permessage-deflate; server_max_window_bits=\"10\\\"",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"10\"1",
        "permessage-deflate; foo=\"a b\"",
        "permessage-deflate; foo=\"a,b\"",
        "permessage-deflate; foo=\"é\"",
        "permessage-deflate, foo=bar",
        "permessage-deflate, foo/bar",
        "permessage-deflate, (foo)",
        "permessage-deflate, \"foo\"",
        "permessage-deflate, é",
        "permessage-deflate\r\nX: y",
    ];
    for value in bad {
        assert_eq!(accept_all(&[value], &CONTEXT), Err(400), "{value:?}");
    }
    assert_eq!(accept_all(&["permessage-deflate", "a;"], &CONTEXT), Err(400), "also after one that could be taken");
    assert_eq!(accept_all(&["foo; a=\"b", "c\""], &CONTEXT), Err(400), "a string does not go on in the next field");
}

#[test]
fn a_hundred_thousand_offers_take_linear_time() {
    let start = Instant::now();
    let bad = "permessage-deflate; mystery".to_owned();
    let offers = vec![bad; 100_000].join(",");
    assert_eq!(accept(&offers, &PLAIN), None);
    let parameters = format!("permessage-deflate{}", "; a=\"\\b\"".repeat(100_000));
    assert_eq!(accept(&parameters, &PLAIN), None);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_clients_offer_says_what_it_wants() {
    let cases = [
        (CONTEXT, "permessage-deflate; client_max_window_bits"),
        (PLAIN, "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"),
        (NARROW, "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10"),
    ];
    for (options, offer) in cases {
        assert_eq!(encode_offer(&options), offer);
    }
}

#[test]
fn the_client_takes_what_fits_its_offer() {
    let cases = [
        (CONTEXT, "", params(false, false, 15, 15)),
        (CONTEXT, "; server_no_context_takeover", params(true, false, 15, 15)),
        (CONTEXT, "; client_no_context_takeover", params(false, true, 15, 15)),
        (CONTEXT, "; server_max_window_bits=8", params(false, false, 8, 15)),
        (CONTEXT, "; client_max_window_bits=8", params(false, false, 15, 8)),
        (CONTEXT, "; client_max_window_bits=\"15\"", params(false, false, 15, 15)),
        (PLAIN, "; server_no_context_takeover", params(true, true, 15, 15)),
        (NARROW, "; server_max_window_bits=10", params(false, false, 10, 10)),
        (NARROW, "; server_max_window_bits=9; client_max_window_bits=9", params(false, false, 9, 9)),
    ];
    for (options, answer, params) in cases {
        let answer = format!("permessage-deflate{answer}");
        assert_eq!(check_agreement(&[answer.as_bytes()], Some(&options)), Ok(Some(params)), "{answer}");
    }
    for none in [&[][..], &[&b" "[..]][..]] {
        assert_eq!(check_agreement(none, Some(&PLAIN)), Ok(None));
        assert_eq!(check_agreement(none, None), Ok(None));
    }
}

#[test]
fn the_client_refuses_what_it_did_not_offer() {
    use AnswerRefusal::{Extension, ExtensionParameters as Parameters};
    let cases = [
        (Some(CONTEXT), "foo", Extension),
        (Some(CONTEXT), "permessage-deflate, foo", Extension),
        (Some(CONTEXT), "permessage-deflate, permessage-deflate", Extension),
        (None, "permessage-deflate", Extension),
        (Some(CONTEXT), "permessage-deflate;", Parameters),
        (None, "foo;", Parameters),
        (Some(CONTEXT), "permessage-deflate; mystery", Parameters),
        (Some(CONTEXT), "permessage-deflate; server_no_context_takeover=1", Parameters),
        (Some(CONTEXT), "permessage-deflate; server_max_window_bits", Parameters),
        (Some(CONTEXT), "permessage-deflate; server_max_window_bits=16", Parameters),
        (Some(CONTEXT), "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", Parameters),
        (Some(CONTEXT), "permessage-deflate; client_max_window_bits", Parameters), // needs a value in an answer
        (Some(PLAIN), "permessage-deflate", Parameters), // server_no_context_takeover was asked for
        (Some(PLAIN), "permessage-deflate; client_no_context_takeover", Parameters),
        (Some(NARROW), "permessage-deflate", Parameters), // so was server_max_window_bits
        (Some(NARROW), "permessage-deflate; server_max_window_bits=11", Parameters),
        (Some(NARROW), "permessage-deflate; server_max_window_bits=9; client_max_window_bits=11", Parameters),
    ];
    for (options, answer, refusal) in cases {
        assert_eq!(check_agreement(&[answer.as_bytes()], options.as_ref()), Err(refusal), "{answer}");
        assert!(!refusal.reason().is_empty());
    }
}

#[test]
fn our_halves_understand_each_other() {
    for server in [PLAIN, CONTEXT, NARROW] {
        for client in [PLAIN, CONTEXT, NARROW, DeflateOptions { window_bits: 9, ..PLAIN }] {
            let agreement = accept_all(&[&encode_offer(&client)], &server).unwrap().unwrap();
            let found = check_agreement(&[agreement.answer.as_bytes()], Some(&client)).unwrap().unwrap();
            // What is not said is only a smaller window of the one that does not say it.
            assert_eq!(found.keeps_context(Role::Server), agreement.params.keeps_context(Role::Server));
            assert_eq!(found.keeps_context(Role::Client), agreement.params.keeps_context(Role::Client));
            assert!(found.server_max_window_bits >= agreement.params.server_max_window_bits);
            assert!(found.client_max_window_bits <= agreement.params.client_max_window_bits);
        }
    }
}

#[test]
fn the_whole_answer_settles_both() {
    let (key, offered) = (b"dGhlIHNhbXBsZSBub25jZQ==", ["chat".to_owned()]);
    let accept = accept_for_key(key);
    let answer = Answer {
        status: 101,
        upgrade: &[b"websocket"],
        connection: &[b"Upgrade"],
        accept: &[&accept],
        extensions: &[b"permessage-deflate; server_max_window_bits=12"],
        protocols: &[b"chat"],
    };
    let settled = check_answer(&answer, key, &offered, Some(&CONTEXT)).unwrap();
    assert_eq!(settled.protocol, Some("chat"));
    assert_eq!(settled.deflate, Some(params(false, false, 12, 15)));
    assert_eq!(check_answer(&answer, key, &offered, None), Err(AnswerRefusal::Extension));
}

#[test]
fn params_know_who_sends() {
    let params = params(true, false, 9, 12);
    assert!(!params.keeps_context(Role::Server) && params.keeps_context(Role::Client));
    assert_eq!((params.window_bits(Role::Server), params.window_bits(Role::Client)), (9, 12));
}
