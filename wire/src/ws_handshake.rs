//! The opening handshake (RFC 6455 §4), both roles, on field values that the caller found. It reads no
//! HTTP and knows no routes; `Upgrade` and `Connection` of a request are checked in `http_head`.
//!
//! Thread: any (pure).

use std::collections::HashSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha1::{Digest as _, Sha1};

pub use crate::error::AnswerRefusal;
use crate::error::HttpRefusal;
use crate::ws_extensions::{DeflateOptions, DeflateParams, check_agreement};

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

// RFC 4648 §3.5 leaves it open whether the unused bits of the last character must be zero. The key is only
// hashed as text, so a client that leaves dirt there harms nobody.
const KEY_BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// What a client's request offers: field values with the white space around them removed.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// `Sec-WebSocket-Version`.
    pub version: Option<&'a [u8]>,
    /// `Sec-WebSocket-Key`.
    pub key: Option<&'a [u8]>,
    /// All `Sec-WebSocket-Protocol` values in order; several fields are one list (§11.3.4).
    pub protocols: &'a [&'a [u8]],
}

/// A handshake that may be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: [u8; 28],
    /// What the client offers, in its order of preference.
    pub protocols: Vec<String>,
}

/// Check a client's offer (§4.2.1).
///
/// Errors: 426 for any version but 13, or none (the caller adds `Sec-WebSocket-Version: 13`); 400 for a key
/// that is not the base64 of 16 bytes, and for protocols that are not a list of different tokens.
pub fn accept_offer(offer: &Offer) -> Result<Handshake, HttpRefusal> {
    // First, because a client of an older draft has no key either, and 426 tells it what would help (§4.4).
    if offer.version != Some(b"13".as_slice()) {
        return refuse(426, "Sec-WebSocket-Version must be 13");
    }
    let Some(key) = offer.key else {
        return refuse(400, "Sec-WebSocket-Key is missing");
    };
    if !is_key(key) {
        return refuse(400, "Sec-WebSocket-Key must be the base64 of 16 bytes");
    }
    Ok(Handshake { accept: accept_for_key(key), protocols: read_protocols(offer.protocols)? })
}

fn is_key(key: &[u8]) -> bool {
    let mut nonce = [0; 18]; // the decoder's estimate for 24 characters, before it sees the padding
    KEY_BASE64.decode_slice(key, &mut nonce) == Ok(16)
}

/// `1#token`, each once (§4.1). A set, because comparing every pair would let one request of a few thousand
/// names hold the I/O thread.
fn read_protocols(values: &[&[u8]]) -> Result<Vec<String>, HttpRefusal> {
    let mut seen = HashSet::new();
    let mut protocols = Vec::new();
    for value in values {
        let before = protocols.len();
        for name in list_elements(value) {
            let Some(token) = read_token(name) else {
                return refuse(400, "Sec-WebSocket-Protocol must be a list of tokens");
            };
            if !seen.insert(token) {
                return refuse(400, "Sec-WebSocket-Protocol names a protocol twice");
            }
            protocols.push(token.to_owned());
        }
        if protocols.len() == before {
            return refuse(400, "Sec-WebSocket-Protocol is empty");
        }
    }
    Ok(protocols)
}

/// The elements of a comma-separated list. Empty ones are skipped (RFC 9110 §5.6.1.2).
fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_blanks).filter(|element| !element.is_empty())
}

fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A token (RFC 9110 §5.6.2) is ASCII, and therefore a `str`.
fn read_token(name: &[u8]) -> Option<&str> {
    let is_token = !name.is_empty() && name.iter().all(|&byte| is_token_byte(byte));
    if is_token { str::from_utf8(name).ok() } else { None }
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

fn refuse<T>(status: u16, reason: &'static str) -> Result<T, HttpRefusal> {
    Err(HttpRefusal { status, reason })
}

/// The first of the server's protocols that the client offers. Names compare exactly (§4.2.2).
///
/// `None` is an answer without the field: the client then decides whether it can do without (§4.1).
pub fn choose_protocol<'a>(offered: &[String], supported: &'a [String]) -> Option<&'a str> {
    supported.iter().find(|name| offered.contains(name)).map(String::as_str)
}

/// Append the whole 101 answer (§4.2.2): `extra` holds ready-made `Name: value\r\n` lines.
///
/// `protocol` is written only if the client offered it: anything else makes the client fail the connection,
/// and an offered name is known to be a token, so nothing can be smuggled into the head through it.
pub fn encode_switching_protocols(out: &mut Vec<u8>, handshake: &Handshake, protocol: Option<&str>, extra: &[u8]) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\n\
          Upgrade: websocket\r\n\
          Connection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(&handshake.accept);
    out.extend_from_slice(b"\r\n");
    if let Some(name) = protocol.filter(|name| handshake.protocols.iter().any(|it| it == name)) {
        out.extend_from_slice(b"Sec-WebSocket-Protocol: ");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(extra);
    out.extend_from_slice(b"\r\n");
}

/// The proof that we understood the key: base64(SHA-1(key + GUID)), §4.2.2 step 5.4.
pub fn accept_for_key(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    STANDARD.encode_slice(digest, &mut accept).expect("the base64 of 20 bytes is 28 characters, whatever the bytes");
    accept
}

/// The client's `Sec-WebSocket-Key` for 16 bytes that nobody can predict (§4.1).
pub fn encode_key(nonce: [u8; 16]) -> [u8; 24] {
    let mut key = [0; 24];
    STANDARD.encode_slice(nonce, &mut key).expect("the base64 of 16 bytes is 24 characters, whatever the bytes");
    key
}

/// Whether a server's `Sec-WebSocket-Accept` answers our `key`.
pub fn check_accept(key: &[u8], accept_field: &[u8]) -> bool {
    accept_for_key(key) == accept_field
}

/// A server's answer as a client sees it: field values with the white space around them removed.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// All `Upgrade` values.
    pub upgrade: &'a [&'a [u8]],
    /// All `Connection` values.
    pub connection: &'a [&'a [u8]],
    /// All `Sec-WebSocket-Accept` values.
    pub accept: &'a [&'a [u8]],
    /// All `Sec-WebSocket-Extensions` values.
    pub extensions: &'a [&'a [u8]],
    /// All `Sec-WebSocket-Protocol` values.
    pub protocols: &'a [&'a [u8]],
}

/// What a server's answer settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled<'a> {
    /// The protocol that the server chose.
    pub protocol: Option<&'a str>,
    /// How both sides compress, if they do.
    pub deflate: Option<DeflateParams>,
}

/// Check a server's answer to our `key`, the `offered` protocols and permessage-deflate, if that was offered (§4.1).
pub fn check_answer<'a>(
    answer: &Answer,
    key: &[u8],
    offered: &'a [String],
    deflate: Option<&DeflateOptions>,
) -> Result<Settled<'a>, AnswerRefusal> {
    if answer.status != 101 {
        return Err(AnswerRefusal::Status);
    }
    if !matches!(answer.upgrade, [name] if name.eq_ignore_ascii_case(b"websocket")) {
        return Err(AnswerRefusal::Upgrade);
    }
    let mut options = answer.connection.iter().flat_map(|it| list_elements(it));
    if !options.any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return Err(AnswerRefusal::Connection);
    }
    if !matches!(answer.accept, [accept] if check_accept(key, accept)) {
        return Err(AnswerRefusal::Accept);
    }
    let deflate = check_agreement(answer.extensions, deflate)?;
    let protocol = match answer.protocols {
        [] => None,
        [name] => match offered.iter().find(|it| it.as_bytes() == *name) {
            Some(protocol) => Some(protocol.as_str()),
            None => return Err(AnswerRefusal::Protocol),
        },
        _ => return Err(AnswerRefusal::Protocol),
    };
    Ok(Settled { protocol, deflate })
}
