//! `Sec-WebSocket-Extensions`: its grammar (RFC 6455 §9.1) and what it agrees on for permessage-deflate
//! (RFC 7692 §7.1), both roles. Compression itself is in `ws_deflate`.
//!
//! Thread: any (pure).

use std::borrow::Cow;

use crate::error::{AnswerRefusal, HttpRefusal};
use crate::http_fields::{is_token, token_len};
use crate::ws_frame::Role;

const NAME: &str = "permessage-deflate";
const MAX_BITS: u8 = 15;

/// What one side wants of permessage-deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeflateOptions {
    /// 1 (fast) to 9 (small).
    pub level: u8,
    /// The largest window of either side, as a power of two: 9 to 15.
    pub window_bits: u8,
    /// Shorter messages are sent as they are. Not negotiated; kept here for whoever sends.
    pub min_bytes: usize,
    /// Whether messages may refer back to earlier ones: smaller messages, for 48 KiB (to read) and up to 370 KiB
    /// (to write) per connection.
    pub context_takeover: bool,
}

impl Default for DeflateOptions {
    fn default() -> Self {
        Self { level: 6, window_bits: MAX_BITS, min_bytes: 860, context_takeover: false }
    }
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeflateParams {
    /// The server's messages do not refer back to earlier ones.
    pub server_no_context_takeover: bool,
    /// The client's messages do not refer back to earlier ones.
    pub client_no_context_takeover: bool,
    /// How far the server's compressor reaches back, as a power of two: 8 to 15.
    pub server_max_window_bits: u8,
    /// How far the client's compressor reaches back, as a power of two: 8 to 15.
    pub client_max_window_bits: u8,
}

impl DeflateParams {
    /// Whether messages from `sender` may refer back to its earlier ones.
    pub const fn keeps_context(&self, sender: Role) -> bool {
        match sender {
            Role::Server => !self.server_no_context_takeover,
            Role::Client => !self.client_no_context_takeover,
        }
    }

    /// How far messages from `sender` may reach back, as a power of two.
    pub const fn window_bits(&self, sender: Role) -> u8 {
        match sender {
            Role::Server => self.server_max_window_bits,
            Role::Client => self.client_max_window_bits,
        }
    }
}

/// An offer that the server takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// What holds from the first frame on.
    pub params: DeflateParams,
    /// The value of `Sec-WebSocket-Extensions` in the 101.
    pub answer: String,
}

/// The server's half: the first of the client's offers that can be honoured (RFC 7692 §7.1), if there is one.
///
/// `values`: all `Sec-WebSocket-Extensions` of the request, in order; several fields are one list (RFC 6455 §9.1).
/// Other extensions, and offers with a parameter that is unknown, repeated or invalid, are passed over.
/// A client that does not offer `client_max_window_bits` cannot be told to use a smaller window, and is not.
///
/// Errors: 400 for values that are not the grammar of RFC 6455 §9.1.
pub fn accept_extensions(values: &[&[u8]], options: &DeflateOptions) -> Result<Option<Agreement>, HttpRefusal> {
    let offers = read_offers(values)?;
    let deflate = offers.iter().filter(|it| it.name == NAME);
    Ok(deflate.filter_map(read_params).map(|said| agree(&said, options)).next())
}

/// Only the grammar, for a server that wants no extension: the same 400 as from [`accept_extensions`].
pub fn check_extensions(values: &[&[u8]]) -> Result<(), HttpRefusal> {
    read_offers(values).map(drop)
}

fn read_offers<'a>(values: &[&'a [u8]]) -> Result<Vec<Extension<'a>>, HttpRefusal> {
    match read_list(values) {
        Some(list) if values.is_empty() || !list.is_empty() => Ok(list),
        _ => Err(HttpRefusal { status: 400, reason: "Sec-WebSocket-Extensions must be a list of extensions" }),
    }
}

fn agree(said: &Said, options: &DeflateOptions) -> Agreement {
    let params = DeflateParams {
        server_no_context_takeover: said.server_no_context_takeover || !options.context_takeover,
        client_no_context_takeover: said.client_no_context_takeover || !options.context_takeover,
        server_max_window_bits: said.server_bits.unwrap_or(MAX_BITS).min(options.window_bits),
        client_max_window_bits: match said.client_bits {
            Some(hint) => hint.unwrap_or(MAX_BITS).min(options.window_bits),
            None => MAX_BITS,
        },
    };
    let mut answer = NAME.to_owned();
    if params.server_no_context_takeover {
        answer += "; server_no_context_takeover";
    }
    if params.client_no_context_takeover {
        answer += "; client_no_context_takeover";
    }
    // §7.1.2.1: asked for, it must be answered. Not asked for, a smaller window is nobody's business but ours.
    if said.server_bits.is_some() {
        answer += &format!("; server_max_window_bits={}", params.server_max_window_bits);
    }
    // §7.1.2.2: never answered unless offered; MAX_BITS whenever it was not.
    if params.client_max_window_bits < MAX_BITS {
        answer += &format!("; client_max_window_bits={}", params.client_max_window_bits);
    }
    Agreement { params, answer }
}

/// The client's half: the value of `Sec-WebSocket-Extensions` in the request.
pub fn encode_offer(options: &DeflateOptions) -> String {
    let mut offer = NAME.to_owned();
    if !options.context_takeover {
        offer += "; server_no_context_takeover; client_no_context_takeover";
    }
    if options.window_bits < MAX_BITS {
        offer += &format!("; server_max_window_bits={0}; client_max_window_bits={0}", options.window_bits);
    } else {
        offer += "; client_max_window_bits";
    }
    offer
}

/// Whether a server's answer fits [`encode_offer`] (RFC 7692 §7.1). `Ok(None)`: it wants no compression.
///
/// `values`: all `Sec-WebSocket-Extensions` of the answer. `offered`: `None` if there was no offer.
pub fn check_agreement(
    values: &[&[u8]],
    offered: Option<&DeflateOptions>,
) -> Result<Option<DeflateParams>, AnswerRefusal> {
    let list = read_list(values).ok_or(AnswerRefusal::ExtensionParameters)?;
    match (&list[..], offered) {
        ([], _) => Ok(None),
        ([chosen], Some(options)) if chosen.name == NAME => {
            match read_params(chosen).and_then(|said| check_answer(&said, options)) {
                Some(params) => Ok(Some(params)),
                None => Err(AnswerRefusal::ExtensionParameters),
            }
        }
        _ => Err(AnswerRefusal::Extension),
    }
}

fn check_answer(said: &Said, options: &DeflateOptions) -> Option<DeflateParams> {
    // §7.1.1.1, §7.1.2.1: what we asked of the server it has to promise.
    if !options.context_takeover && !said.server_no_context_takeover {
        return None;
    }
    let server_max_window_bits = match said.server_bits {
        Some(bits) if bits <= options.window_bits => bits,
        None if options.window_bits == MAX_BITS => MAX_BITS,
        _ => return None,
    };
    let client_max_window_bits = match said.client_bits {
        Some(Some(bits)) if bits <= options.window_bits => bits,
        None => options.window_bits,
        _ => return None, // in an answer it has a value (§7.1.2.2)
    };
    Some(DeflateParams {
        server_no_context_takeover: said.server_no_context_takeover,
        client_no_context_takeover: said.client_no_context_takeover || !options.context_takeover,
        server_max_window_bits,
        client_max_window_bits,
    })
}

/// The parameters of one permessage-deflate, offered or answered.
#[derive(Default)]
struct Said {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_bits: Option<u8>,
    /// Without a value it says: I can do that, choose.
    client_bits: Option<Option<u8>>,
}

/// `None` for a parameter that is unknown, repeated, or has a value that it must not have.
fn read_params(extension: &Extension) -> Option<Said> {
    let mut said = Said::default();
    for (name, value) in &extension.params {
        match (*name, value.as_deref()) {
            ("server_no_context_takeover", None) if !said.server_no_context_takeover => {
                said.server_no_context_takeover = true;
            }
            ("client_no_context_takeover", None) if !said.client_no_context_takeover => {
                said.client_no_context_takeover = true;
            }
            ("server_max_window_bits", Some(bits)) if said.server_bits.is_none() => {
                said.server_bits = Some(read_bits(bits)?);
            }
            ("client_max_window_bits", None) if said.client_bits.is_none() => said.client_bits = Some(None),
            ("client_max_window_bits", Some(bits)) if said.client_bits.is_none() => {
                said.client_bits = Some(Some(read_bits(bits)?));
            }
            _ => return None,
        }
    }
    Some(said)
}

/// Decimal, without leading zeros (§7.1.2.1).
fn read_bits(value: &str) -> Option<u8> {
    let is_plain = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    value.parse().ok().filter(|bits| is_plain && (8..=MAX_BITS).contains(bits))
}

struct Extension<'a> {
    name: &'a str,
    params: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

/// `None` if a value is not the grammar. Empty elements of a list are skipped (RFC 9110 §5.6.1.2).
fn read_list<'a>(values: &[&'a [u8]]) -> Option<Vec<Extension<'a>>> {
    let mut list = Vec::new();
    for value in values {
        let mut scanner = Scanner { rest: value };
        loop {
            scanner.skip_blanks();
            if scanner.rest.is_empty() {
                break;
            }
            if scanner.takes(b',') {
                continue;
            }
            list.push(scanner.read_extension()?);
            scanner.skip_blanks();
            if !scanner.takes(b',') && !scanner.rest.is_empty() {
                return None;
            }
        }
    }
    Some(list)
}

struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn skip_blanks(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn takes(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn read_extension(&mut self) -> Option<Extension<'a>> {
        let mut extension = Extension { name: self.read_token()?, params: Vec::new() };
        loop {
            self.skip_blanks();
            if !self.takes(b';') {
                return Some(extension);
            }
            self.skip_blanks();
            extension.params.push(self.read_param()?);
        }
    }

    fn read_param(&mut self) -> Option<(&'a str, Option<Cow<'a, str>>)> {
        let name = self.read_token()?;
        self.skip_blanks();
        if !self.takes(b'=') {
            return Some((name, None));
        }
        self.skip_blanks();
        let value = if self.takes(b'"') { self.read_quoted()?.into() } else { self.read_token()?.into() };
        Some((name, Some(value)))
    }

    fn read_token(&mut self) -> Option<&'a str> {
        let (token, rest) = self.rest.split_at(token_len(self.rest));
        self.rest = rest;
        str::from_utf8(token).ok().filter(|it| !it.is_empty())
    }

    /// What stands after the opening quote. Unescaped, it "MUST conform to the 'token' ABNF" (RFC 6455 §9.1).
    fn read_quoted(&mut self) -> Option<String> {
        let mut content = Vec::new();
        loop {
            let (byte, rest) = match self.rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return String::from_utf8(content).ok().filter(|it| is_token(it.as_bytes()));
                }
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (*byte, rest),
                [] => return None,
            };
            content.push(byte);
            self.rest = rest;
        }
    }
}
