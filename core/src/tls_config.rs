//! What TLS is configured with: PEM in, rustls's configurations for either role out, or a sentence that says what is wrong.
//!
//! Thread: any (pure).

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::Document;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, InconsistentKeys, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use std::sync::Arc;

/// One certificate with what leads to its issuer, and its private key; both PEM.
pub struct IdentityPem {
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
}

pub struct TlsSpec {
    /// The first is for clients that ask for no name, or for one that is in none.
    pub identities: Vec<IdentityPem>,
    pub password: Option<String>,
    /// Whom the peer's certificate has to lead to, PEM; empty: nobody.
    pub trusted: Vec<u8>,
    /// Certificates that are not valid any more, PEM; may be empty.
    pub revoked: Vec<u8>,
    /// A peer has to show a certificate. (A client otherwise believes any; a server verifies what it is shown.)
    pub requires_peer: bool,
    /// Nothing below TLS 1.3.
    pub is_13_only: bool,
}

/// For whoever configures: what is wrong, and with what.
#[derive(Debug)]
pub struct ConfigError(pub String);

impl<T: Into<String>> From<T> for ConfigError {
    fn from(text: T) -> ConfigError {
        ConfigError(text.into())
    }
}

impl TlsSpec {
    pub fn server(&self) -> Result<Arc<ServerConfig>, ConfigError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.versions())
            .map_err(unexpected)?;
        let builder = if self.trusted.is_empty() {
            if self.requires_peer {
                return Err("auth=True needs client=, the CA that certificates of clients have to lead to".into());
            }
            builder.with_no_client_auth()
        } else {
            let roots = Arc::new(roots_of(&self.trusted)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .with_crls(crls_of(&self.revoked)?);
            let verifier = if self.requires_peer { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| format!("client: {error}"))?)
        };
        let identities = self.identities(&provider)?;
        if identities.is_empty() {
            return Err("a server needs a certificate and its key: tls_config(server=…)".into());
        }
        let mut config = builder.with_cert_resolver(Arc::new(ByName(identities)));
        // Sessions are resumed by tickets, which need no memory here (RFC 5077, RFC 8446 §4.6.1).
        config.ticketer = ring::Ticketer::new().map_err(unexpected)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    pub fn client(&self) -> Result<Arc<ClientConfig>, ConfigError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.versions())
            .map_err(unexpected)?;
        let builder = if self.requires_peer {
            let roots = Arc::new(roots_of(&self.trusted)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .with_crls(crls_of(&self.revoked)?)
                .build()
                .map_err(|error| format!("client: {error}"))?;
            builder.with_webpki_verifier(verifier)
        } else {
            let anybody = Arc::new(Anybody(provider.signature_verification_algorithms));
            builder.dangerous().with_custom_certificate_verifier(anybody)
        };
        let mut config = match self.identities(&provider)?.into_iter().next() {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        const ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
        if self.is_13_only { ONLY_13 } else { rustls::ALL_VERSIONS }
    }

    fn identities(&self, provider: &CryptoProvider) -> Result<Vec<Arc<CertifiedKey>>, ConfigError> {
        self.identities.iter().map(|pem| identity_of(pem, self.password.as_deref(), provider)).collect()
    }
}

fn unexpected(error: Error) -> ConfigError {
    ConfigError(error.to_string())
}

fn identity_of(
    pem: &IdentityPem,
    password: Option<&str>,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, ConfigError> {
    let chain = certificates_of(&pem.chain)?;
    let key = key_of(&pem.key, password)?;
    match CertifiedKey::from_der(chain, key, provider) {
        Ok(identity) => Ok(Arc::new(identity)),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("the private key belongs to another certificate".into())
        }
        Err(Error::InvalidCertificate(error)) => Err(format!("the certificate cannot be read: {error:?}").into()),
        Err(error) => {
            Err(format!("the private key cannot be used ({error}); expected RSA (2048 bits or more), ECDSA or Ed25519")
                .into())
        }
    }
}

pub fn certificates_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Err(error) => Err(format!("this is not PEM: {error}").into()),
        Ok(none) if none.is_empty() => Err("no certificate is in it; expected -----BEGIN CERTIFICATE-----".into()),
        Ok(certificates) => Ok(certificates),
    }
}

fn key_of(pem: &[u8], password: Option<&str>) -> Result<PrivateKeyDer<'static>, ConfigError> {
    if contains(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return decrypted_key(pem, password);
    }
    if contains(pem, b"Proc-Type: 4,ENCRYPTED") {
        // One round of MD5 over the password is all that protects these.
        return Err(
            "the private key is encrypted in OpenSSL's old way (Proc-Type), which is not safe; convert it with: \
                    openssl pkcs8 -topk8 -in old.pem -out new.pem"
                .into(),
        );
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            "no private key is in it; expected -----BEGIN PRIVATE KEY----- (or EC, RSA, ENCRYPTED)".into()
        }
        error => format!("this is not PEM: {error}").into(),
    })
}

/// PKCS #8 under a password (RFC 5958 §3, RFC 8018 §6.2).
fn decrypted_key(pem: &[u8], password: Option<&str>) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let Some(password) = password else {
        return Err("the private key is encrypted; password= has to say with what".into());
    };
    let refused = |error: &dyn std::fmt::Display| {
        ConfigError(format!(
            "the private key is encrypted in a way that is not supported, or damaged ({error}); expected PBES2 with AES, \
             as openssl pkcs8 -topk8 makes it"
        ))
    };
    let text = String::from_utf8_lossy(pem);
    let start = text.find("-----BEGIN ENCRYPTED PRIVATE KEY-----").unwrap_or(0);
    let end = text[start..].find("-----END ENCRYPTED PRIVATE KEY-----").map(|at| start + at);
    let end = end.ok_or("the encrypted private key is damaged: its END line is missing")?;
    let section = format!("{}-----END ENCRYPTED PRIVATE KEY-----\n", &text[start..end]);
    let (_, document) = Document::from_pem(&section).map_err(|error| refused(&error))?;
    let info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|error| refused(&error))?;
    match info.decrypt(password) {
        Ok(key) => Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into()),
        // One wrong password in 256 gives something that ends like a padding, and is no key.
        Err(pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::DecryptFailed) | pkcs8::Error::Asn1(_)) => {
            Err("the password is wrong for the private key".into())
        }
        Err(error) => Err(refused(&error)),
    }
}

fn roots_of(pem: &[u8]) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(pem).map_err(|error| format!("client: {}", error.0))? {
        roots.add(certificate).map_err(|error| format!("client: a certificate cannot be read: {error}"))?;
    }
    Ok(roots)
}

fn crls_of(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, ConfigError> {
    if pem.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let crls: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    match crls {
        Ok(crls) if !crls.is_empty() => Ok(crls),
        _ => Err("client: no revocation list is in its second part; expected -----BEGIN X509 CRL-----".into()),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The certificate for the name that a client asks for (SNI, RFC 6066 §3), of a kind that it can verify.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let [only] = &self.0[..] {
            return Some(Arc::clone(only));
        }
        let can_verify =
            |identity: &&Arc<CertifiedKey>| identity.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_named = |identity: &&Arc<CertifiedKey>| name.as_ref().is_some_and(|name| is_for(identity, name));
        let named = self.0.iter().filter(can_verify).find(is_named);
        named.or_else(|| self.0.iter().find(can_verify)).or(self.0.first()).cloned()
    }
}

fn is_for(identity: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = identity.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// `auth=False` of a client: any certificate will do, as long as the server has its key.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
