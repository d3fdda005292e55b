//! The server's end of HTTP on standard input and output, line by line, so that a program in another language can compare
//! this crate with its own implementation (`tests/test_http_differential.py` does). One request follows the other, as on
//! a connection whose answers close nothing.
//!
//! ```text
//! new                                a connection begins
//! in HEX                             bytes from the client: a line per event, then `.`
//!     empty                                               an empty line before a request, which is skipped
//!     request METHOD TARGET VERSION keep|close FIELDS     FIELDS in HEX, as `Name:value\r\n`
//!     body HEX
//!     end TRAILERS                                        the request is complete; TRAILERS as FIELDS
//!     error STATUS WHY                                    nothing is read after it
//! ```

use std::io::{self, BufRead, Write};

use wire::error::HttpRefusal;
use wire::http_body::BodyReader;
use wire::http_head::{HeadLimits, HeadReader, Version};

const MAX_BODY_BYTES: u64 = 1 << 20;

fn main() -> io::Result<()> {
    let mut talk = Talk::default();
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            None if line == "new" => talk = Talk::default(),
            Some(("in", hex)) => {
                if let Err(refusal) = talk.read(&parse_hex(hex), &mut out) {
                    writeln!(out, "error {} {}", refusal.status, refusal.reason)?;
                }
                writeln!(out, ".")?;
                out.flush()?;
            }
            _ => panic!("what is {line:?}?"),
        }
    }
    Ok(())
}

#[derive(Default)]
struct Talk {
    input: Vec<u8>,
    head: HeadReader,
    body: Option<BodyReader>,
}

impl Talk {
    fn read(&mut self, bytes: &[u8], out: &mut impl Write) -> Result<(), HttpRefusal> {
        self.input.extend_from_slice(bytes);
        loop {
            if let Some(body) = &mut self.body {
                let mut content = Vec::new();
                let read = body.read(&self.input, &mut content);
                if !content.is_empty() {
                    say(out, &format!("body {}", print_hex(&content)));
                }
                self.input.drain(..read?);
                if !body.is_done() {
                    return Ok(());
                }
                say(out, &format!("end {}", print_hex(body.trailers())));
                self.body = None;
            }
            let read = self.head.read_request(&self.input, &HeadLimits::default());
            if self.input.starts_with(b"\r") {
                say(out, "empty");
            }
            let Some((used, head)) = read? else {
                return Ok(());
            };
            self.input.drain(..used);
            let body = BodyReader::new(head.framing(), MAX_BODY_BYTES)?;
            let version = if head.version() == Version::Http10 { "1.0" } else { "1.1" };
            let goes_on = if head.keep_alive() { "keep" } else { "close" };
            let fields = print_hex(&head.field_block());
            say(out, &format!("request {} {} {version} {goes_on} {fields}", head.method(), head.target()));
            self.body = Some(body);
        }
    }
}

fn say(out: &mut impl Write, line: &str) {
    writeln!(out, "{line}").expect("somebody who listens");
}

fn parse_hex(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex") as u8;
    hex.as_bytes().as_chunks::<2>().0.iter().map(|&[high, low]| digit(high) << 4 | digit(low)).collect()
}

fn print_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
