//! Random bytes where TLS is spoken, in place of a handshake and amid the records of a client: no panic, no end of the
//! process, and what is delivered is a beginning of what was said.
#![no_main]
// Only a part of what the core needs of them is needed here.
#![allow(dead_code)]

#[path = "../../core/src/signals.rs"]
mod signals;
#[path = "../../core/src/stream.rs"]
mod stream;
#[path = "../../core/src/tls.rs"]
mod tls;

use libfuzzer_sys::fuzz_target;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};
use stream::{Received, Stream};
use tls::Tls;

/// As much as a connection reads at once, see `core/src/connection.rs`.
const BUFFER_BYTES: usize = 64 * 1024 + 14;

static CONFIGS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("our own certificate");
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key));
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = client.map(|builder| builder.with_root_certificates(roots).with_no_client_auth());
    (Arc::new(server.expect("a server")), Arc::new(client.expect("a client")))
});

/// One end, and the other end of its socket, where this target sits between the two.
struct End {
    stream: Stream,
    wire: UnixStream,
    scratch: Vec<u8>,
    heard: Vec<u8>,
    is_over: bool,
}

impl End {
    fn new(tls: Box<Tls>) -> End {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a pair of sockets");
        let (stream, wire) = (Stream::with_tls(pair.0, tls), UnixStream::from(pair.1));
        End { stream, wire, scratch: Vec::new(), heard: Vec::new(), is_over: false }
    }

    fn server() -> End {
        End::new(Tls::server(&CONFIGS.0).expect("a session"))
    }

    fn client() -> End {
        let name = ServerName::try_from("localhost").expect("a name");
        End::new(Tls::client(&CONFIGS.1, name).expect("a session"))
    }

    /// What it puts on the wire.
    fn says(&mut self) -> Vec<u8> {
        let _ = self.stream.push();
        let mut said = Vec::new();
        let read = self.wire.read_to_end(&mut said);
        assert!(read.is_ok() || read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
        said
    }

    /// It gets these bytes, in pieces of at most `size`.
    fn hears(&mut self, bytes: &[u8], size: usize) {
        let mut buffer = vec![0; BUFFER_BYTES];
        for piece in bytes.chunks(size) {
            if self.wire.write_all(piece).is_err() {
                return; // it takes no more
            }
            while !self.is_over {
                match self.stream.receive(&mut buffer, &mut self.scratch) {
                    Ok(Received::Bytes(count)) => self.heard.extend_from_slice(&buffer[..count]),
                    Ok(Received::End | Received::NotTls) => self.is_over = true,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => self.is_over = true,
                }
            }
        }
    }
}

// The first byte says how long the pieces are; the second who is lied to, and whether before or after the handshake.
fuzz_target!(|bytes: &[u8]| {
    let [size, choice, rest @ ..] = bytes else { return };
    let size = usize::from(*size) * 7 + 1;
    match choice % 3 {
        0 => lie_at_once(End::server(), rest, size),
        1 => lie_at_once(End::client(), rest, size),
        _ => lie_later(rest, size),
    }
});

fn lie_at_once(mut end: End, bytes: &[u8], size: usize) {
    end.says();
    end.hears(bytes, size);
    end.says();
    assert!(end.heard.is_empty(), "plaintext without a handshake");
}

/// The client says something, and in three bytes at a time the input says what becomes of its records on the way.
fn lie_later(bytes: &[u8], size: usize) {
    let (mut client, mut server) = (End::client(), End::server());
    while client.stream.is_handshaking() || server.stream.is_handshaking() {
        let (said, answered) = (client.says(), server.says());
        server.hears(&said, BUFFER_BYTES);
        client.hears(&answered, BUFFER_BYTES);
        assert!(!client.is_over && !server.is_over);
    }
    // As much as the socket has room for.
    let said: Vec<u8> = bytes.iter().cycle().take((bytes.len() * 20).min(60_000)).copied().collect();
    let mut left = &said[..];
    while !left.is_empty() {
        let count = client.stream.send(&left[..left.len().min(3000)]).expect("room on the wire");
        left = &left[count..];
    }
    assert!(client.stream.finish());
    let mut records = client.says();
    let honest = records.clone();
    for lie in bytes.chunks_exact(3).take(8) {
        let at = usize::from(u16::from_le_bytes([lie[0], lie[1]])) % records.len().max(1);
        match lie[2] % 5 {
            0 => {} // the truth
            1 if at < records.len() => records[at] ^= lie[2] | 1,
            2 => records.truncate(at),
            3 => drop(records.drain(..at)),
            _ => {
                let twice = records[at..].to_vec();
                records.extend_from_slice(&twice);
            }
        }
    }
    server.hears(&records, size);
    assert!(said.starts_with(&server.heard), "what nobody said");
    if records == honest {
        assert!(server.heard == said && server.is_over, "a part of what was said");
    }
    server.stream.finish();
    server.says();
}
