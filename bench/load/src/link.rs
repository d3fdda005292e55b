//! A socket, plain or TLS: what the clients of the load read and write. It believes any certificate.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// What a record may become longer by than what is read of it now.
const RECORD_BYTES: usize = 20 * 1024;

pub struct Link {
    pub stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    encrypted: Vec<u8>,
}

impl Link {
    /// Connect and, with `config`, shake hands.
    pub fn connect(port: u16, config: Option<&Arc<ClientConfig>>) -> io::Result<Link> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let tls = match config {
            None => None,
            Some(config) => {
                let name = ServerName::try_from("localhost").expect("a name");
                let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                tls.set_buffer_limit(None);
                while tls.is_handshaking() {
                    tls.complete_io(&mut stream)?;
                }
                Some(Box::new(tls))
            }
        };
        Ok(Link { stream, tls, encrypted: Vec::new() })
    }

    /// The server has had the last word of the handshake: only then is it done on both sides.
    pub fn wait_for_tickets(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.tls13_tickets_received() == 0 {
            if tls.read_tls(&mut self.stream)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Say close_notify and go.
    pub fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.stream);
        }
    }

    /// Queue and send; `WouldBlock` as long as something is left, then again with nothing.
    pub fn send(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            while !out.is_empty() {
                let count = self.stream.write(out)?;
                out.drain(..count);
            }
            return Ok(());
        };
        tls.writer().write_all(out)?;
        out.clear();
        while tls.wants_write() {
            tls.write_tls(&mut self.stream)?;
        }
        Ok(())
    }

    pub fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(buffer) };
        self.encrypted.resize(buffer.len().saturating_sub(RECORD_BYTES).clamp(1, 128 * 1024), 0);
        let mut filled = match tls.reader().read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if filled > 0 {
            return Ok(filled);
        }
        let count = self.stream.read(&mut self.encrypted)?;
        let mut rest = &self.encrypted[..count];
        while !rest.is_empty() {
            tls.read_tls(&mut rest)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 && filled < buffer.len() {
                filled += tls.reader().read(&mut buffer[filled..])?;
            }
        }
        if filled == 0 && count > 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(filled) }
    }
}

/// TLS as any client speaks it, but that it keeps no sessions and checks nothing: the server is to be measured.
pub fn config() -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
