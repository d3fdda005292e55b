//! Runs `playbooks/*.playbook`: conversations with one `MessageReader`, line by line.
//!
//! ```text
//! # comment
//! role client                what we are (server unless said; must come first)
//! limit max_message_bytes 10
//! deflate context           permessage-deflate was agreed on, with context takeover; without: `deflate`
//! > 81 02 68 69    a frame   hex bytes as one input; the mask is added if we are a server
//! + 6c*3           more      the same frame's payload goes on: three times 6c, in another input
//! ! 81 02          raw       bytes as they are, no mask added
//! < text "hi"                the next event; all events of an input stand below it
//! ```
//! Events: `text "…"`, `binary hex…`, `ping "…"`, `pong "…"`, `close 1000 "…"`, `fail 1002`; strings as
//! Rust prints them; 64 bytes and more as `text 70000 bytes`.
//! Every playbook is then played twice more, in one input and byte by byte: the events must be the same.

mod ws_events;

use std::fs;
use std::path::Path;

use wire::ws_deflate::{DeflateParams, InflaterPool};
use wire::ws_frame::Role;
use wire::ws_message::{MessageLimits, MessageReader};
use ws_events::{Event, read_inputs};

const KEY: [u8; 4] = [0x5a, 0x00, 0xff, 0x81];

#[test]
fn every_playbook_plays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/playbooks");
    let mut played = 0;
    for entry in fs::read_dir(folder).expect("the folder of playbooks") {
        let path = entry.expect("an entry of the folder").path();
        if path.extension().is_some_and(|it| it == "playbook") {
            let text = fs::read_to_string(&path).expect("a readable playbook");
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            Playbook::parse(&name, &text).play();
            played += 1;
        }
    }
    assert!(played > 20, "only {played} playbooks found");
}

struct Playbook {
    name: String,
    role: Role,
    limits: MessageLimits,
    /// Whether context is kept, if messages may be compressed.
    deflate: Option<bool>,
    /// Each input with the events expected right after it.
    steps: Vec<(Vec<u8>, Vec<String>)>,
}

impl Playbook {
    fn parse(name: &str, text: &str) -> Self {
        let mut book = Self {
            name: name.to_owned(),
            role: Role::Server,
            limits: MessageLimits::default(),
            deflate: None,
            steps: Vec::new(),
        };
        let mut taken = 0; // of the payload of the frame being written
        for line in text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#')) {
            let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
            match mark {
                ">" => {
                    let (input, payload) = book.mask_frame(&parse_bytes(rest));
                    taken = payload;
                    book.steps.push((input, Vec::new()));
                }
                "+" => {
                    let input = book.mask_payload(&parse_bytes(rest), taken);
                    taken += input.len();
                    book.steps.push((input, Vec::new()));
                }
                "!" => book.steps.push((parse_bytes(rest), Vec::new())),
                "<" => {
                    let (_, events) = book.steps.last_mut().expect("an input before the event");
                    events.push(rest.trim().to_owned());
                }
                "role" => book.role = parse_role(rest),
                "limit" => book.set_limit(rest),
                "deflate" => book.deflate = Some(rest == "context"),
                _ => panic!("{name}: what is {line:?}?"),
            }
        }
        book
    }

    fn set_limit(&mut self, line: &str) {
        let (name, value) = line.trim().split_once(' ').expect("limit NAME NUMBER");
        let value: usize = value.trim().parse().expect("a number");
        match name {
            "max_message_bytes" => self.limits.max_message_bytes = value,
            "max_fragments" => self.limits.max_fragments = value as u32,
            _ => panic!("no limit is called {name}"),
        }
    }

    /// Sets the mask bit, adds the key, masks; returns the length of the payload that is there too.
    fn mask_frame(&self, frame: &[u8]) -> (Vec<u8>, usize) {
        let header = match frame[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let payload = &frame[header..];
        let mut input = frame[..header].to_vec();
        if self.role == Role::Server {
            input[1] |= 0x80;
            input.extend_from_slice(&KEY);
        }
        input.extend(self.mask_payload(payload, 0));
        (input, payload.len())
    }

    fn mask_payload(&self, payload: &[u8], offset: usize) -> Vec<u8> {
        match self.role {
            Role::Client => payload.to_vec(),
            Role::Server => {
                let key = KEY.iter().cycle().skip(offset % 4);
                payload.iter().zip(key).map(|(byte, key)| byte ^ key).collect()
            }
        }
    }

    fn reader(&self) -> MessageReader {
        let Some(keeps_context) = self.deflate else {
            return MessageReader::new(self.role, self.limits);
        };
        let params = DeflateParams {
            server_no_context_takeover: !keeps_context,
            client_no_context_takeover: !keeps_context,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        };
        MessageReader::with_deflate(self.role, self.limits, &params, InflaterPool::new())
    }

    fn play(&self) {
        let mut reader = self.reader();
        let mut failed = false;
        let mut transcript = String::new();
        for (input, expected) in &self.steps {
            assert!(!failed, "{}: input after the failure", self.name);
            let events = read_inputs(&mut reader, [&input[..]]);
            failed = matches!(events.last(), Some(Event::Failed(_)));
            let events: Vec<String> = events.iter().map(print_event).collect();
            transcript += &format!("> {} bytes\n", input.len());
            events.iter().for_each(|it| transcript += &format!("< {it}\n"));
            assert_eq!(&events, expected, "{}, where this happened:\n{transcript}", self.name);
        }
        self.play_in_other_pieces();
    }

    fn play_in_other_pieces(&self) {
        let all: Vec<u8> = self.steps.iter().flat_map(|(input, _)| input).copied().collect();
        let expected: Vec<&String> = self.steps.iter().flat_map(|(_, events)| events).collect();
        for size in [all.len().max(1), 1] {
            let events = read_inputs(&mut self.reader(), all.chunks(size));
            let events: Vec<String> = events.iter().map(print_event).collect();
            let events: Vec<&String> = events.iter().collect();
            assert_eq!(events, expected, "{} in pieces of {size}", self.name);
        }
    }
}

fn parse_role(word: &str) -> Role {
    match word.trim() {
        "client" => Role::Client,
        "server" => Role::Server,
        other => panic!("no role is called {other}"),
    }
}

/// Hex pairs, each perhaps `*times`; the first word that is neither begins the comment.
fn parse_bytes(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in line.split_whitespace() {
        let (pair, times) = word.split_once('*').unwrap_or((word, "1"));
        match (pair.len(), u8::from_str_radix(pair, 16), times.parse()) {
            (2, Ok(byte), Ok(times)) => bytes.extend(std::iter::repeat_n(byte, times)),
            _ => break,
        }
    }
    bytes
}

fn print_event(event: &Event) -> String {
    match event {
        Event::Text(text) => format!("text {}", print_text(text)),
        Event::Binary(bytes) if bytes.len() >= 64 => format!("binary {} bytes", bytes.len()),
        Event::Binary(bytes) => bytes.iter().fold("binary".to_owned(), |line, byte| format!("{line} {byte:02x}")),
        Event::Ping(bytes) => format!("ping {}", print_text(&String::from_utf8_lossy(bytes))),
        Event::Pong(bytes) => format!("pong {}", print_text(&String::from_utf8_lossy(bytes))),
        Event::Close(code, reason) => format!("close {code} {}", print_text(reason)),
        Event::Failed(code) => format!("fail {code}"),
    }
}

fn print_text(text: &str) -> String {
    if text.len() >= 64 { format!("{} bytes", text.len()) } else { format!("{text:?}") }
}
