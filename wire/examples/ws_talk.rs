//! One end of a WebSocket on standard input and output, line by line, so that a program in another language can compare
//! this crate with its own implementation (`tests/test_differential.py` does).
//!
//! ```text
//! ws_talk server|client [--max-message N] [--level 6]
//!         [--deflate server_no_context_takeover=1,client_no_context_takeover=0,server_bits=15,client_bits=12]
//! in HEX                                        bytes from the peer: a line per event, then `.`
//!     text HEX   binary HEX   ping HEX   pong HEX   close CODE HEX   error CODE
//! out text|binary|ping|pong HEX [compressed]    answered by `frame HEX`, masked if we are a client
//! close CODE HEX                                answered by `frame HEX`; HEX is the reason
//! ```

use std::io::{self, BufRead, Write};

use wire::ws_close::encode_close;
use wire::ws_deflate::{DeflateParams, Deflater, InflaterPool};
use wire::ws_frame::{Opcode, RSV1, Role, apply_mask, encode_extended_header};
use wire::ws_message::{Incoming, MessageLimits, MessageReader};

fn main() -> io::Result<()> {
    let mut talk = Talk::from_arguments();
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["in", hex] => talk.read(parse_hex(hex), &mut out)?,
            ["out", kind, hex] => talk.send(kind, &parse_hex(hex), false, &mut out)?,
            ["out", kind, hex, "compressed"] => talk.send(kind, &parse_hex(hex), true, &mut out)?,
            ["close", code, hex] => {
                let reason = String::from_utf8(parse_hex(hex)).expect("a reason in UTF-8");
                let mut frame = Vec::new();
                encode_close(&mut frame, code.parse().expect("a code"), &reason, talk.mask());
                writeln!(out, "frame {}", print_hex(&frame))?;
            }
            _ => panic!("what is {line:?}?"),
        }
        out.flush()?;
    }
    Ok(())
}

struct Talk {
    role: Role,
    reader: MessageReader,
    deflater: Option<Deflater>,
    keeps_context: bool,
    /// Masks need not be unpredictable here, only different.
    seed: u32,
}

impl Talk {
    fn from_arguments() -> Self {
        let mut arguments = std::env::args().skip(1);
        let role = match arguments.next().as_deref() {
            Some("server") => Role::Server,
            Some("client") => Role::Client,
            other => panic!("server or client, not {other:?}"),
        };
        let (mut limits, mut level, mut params) = (MessageLimits::default(), 6, None);
        while let Some(name) = arguments.next() {
            let value = arguments.next().expect("a value after the option");
            match &name[..] {
                "--max-message" => limits.max_message_bytes = value.parse().expect("a number"),
                "--level" => level = value.parse().expect("a number"),
                "--deflate" => params = Some(parse_params(&value)),
                _ => panic!("no option is called {name}"),
            }
        }
        let reader = match &params {
            Some(params) => MessageReader::with_deflate(role, limits, params, InflaterPool::new()),
            None => MessageReader::new(role, limits),
        };
        let deflater = params.map(|it| Deflater::new(level, it.window_bits(role)));
        let keeps_context = params.is_some_and(|it| it.keeps_context(role));
        Self { role, reader, deflater, keeps_context, seed: 1 }
    }

    fn read(&mut self, mut input: Vec<u8>, out: &mut impl Write) -> io::Result<()> {
        let mut used = 0;
        loop {
            let (taken, event) = match self.reader.read(&mut input[used..]) {
                Ok(it) => it,
                Err(refusal) => {
                    writeln!(out, "error {}", refusal.code)?;
                    break;
                }
            };
            used += taken;
            let is_none = event.is_none();
            match event {
                Some(Incoming::Text(it)) => writeln!(out, "text {}", print_hex(&it))?,
                Some(Incoming::Binary(it)) => writeln!(out, "binary {}", print_hex(&it))?,
                Some(Incoming::Ping(it)) => writeln!(out, "ping {}", print_hex(&it))?,
                Some(Incoming::Pong(it)) => writeln!(out, "pong {}", print_hex(&it))?,
                Some(Incoming::Close { code, reason }) => {
                    writeln!(out, "close {code} {}", print_hex(reason.as_bytes()))?;
                }
                None => {}
            }
            if is_none && used == input.len() && !self.reader.has_more() {
                break;
            }
        }
        writeln!(out, ".")
    }

    fn send(&mut self, kind: &str, payload: &[u8], is_compressed: bool, out: &mut impl Write) -> io::Result<()> {
        let opcode = match kind {
            "text" => Opcode::Text,
            "binary" => Opcode::Binary,
            "ping" => Opcode::Ping,
            "pong" => Opcode::Pong,
            _ => panic!("nothing is called {kind}"),
        };
        let mut compressed = Vec::new();
        let (rsv, payload) = if is_compressed {
            let deflater = self.deflater.as_mut().expect("--deflate");
            deflater.compress(payload, &mut compressed);
            if !self.keeps_context {
                deflater.reset();
            }
            (RSV1, &compressed[..])
        } else {
            (0, payload)
        };
        let mask = self.mask();
        let mut frame = Vec::new();
        encode_extended_header(&mut frame, true, rsv, opcode, payload.len() as u64, mask);
        let start = frame.len();
        frame.extend_from_slice(payload);
        if let Some(key) = mask {
            apply_mask(&mut frame[start..], key, 0);
        }
        writeln!(out, "frame {}", print_hex(&frame))
    }

    fn mask(&mut self) -> Option<[u8; 4]> {
        self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.role == Role::Client).then_some(self.seed.to_be_bytes())
    }
}

fn parse_params(list: &str) -> DeflateParams {
    let mut params = DeflateParams {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    for item in list.split(',') {
        let (name, value) = item.split_once('=').expect("NAME=VALUE");
        let value: u8 = value.parse().expect("a number");
        match name {
            "server_no_context_takeover" => params.server_no_context_takeover = value == 1,
            "client_no_context_takeover" => params.client_no_context_takeover = value == 1,
            "server_bits" => params.server_max_window_bits = value,
            "client_bits" => params.client_max_window_bits = value,
            _ => panic!("no parameter is called {name}"),
        }
    }
    params
}

fn parse_hex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex") as u8;
    hex.as_bytes().as_chunks::<2>().0.iter().map(|&[high, low]| digit(high) << 4 | digit(low)).collect()
}

fn print_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
