//! Certificates as documents: made for tests and private networks, and read to see whose they are.
//!
//! Thread: any (pure).

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use std::time::Duration;
use time::OffsetDateTime;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// Clocks of machines that are to believe it may be behind.
const CLOCKS_DIFFER: time::Duration = time::Duration::hours(1);

/// A self-signed certificate for `names` (host names and addresses), and its key; both PEM.
pub fn write(names: &[String], valid: Duration) -> Result<(String, String), String> {
    let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
    let mut subject = DistinguishedName::new();
    if let Some(first) = names.first() {
        subject.push(DnType::CommonName, &first[..]);
    }
    params.distinguished_name = subject;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCKS_DIFFER;
    params.not_after = now.checked_add(valid.try_into().unwrap_or(time::Duration::MAX)).ok_or("it would never end")?;
    // It is its own issuer and nobody else's: who trusts it trusts this one key.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())?;
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// What a certificate says of itself.
pub struct Facts {
    /// RFC 4514: `CN=alice,O=Lab`.
    pub subject: String,
    pub common_name: Option<String>,
    /// Seconds since 1970.
    pub not_before: u64,
    pub not_after: u64,
}

pub fn read(der: &[u8]) -> Result<Facts, String> {
    let certificate = Certificate::from_der(der).map_err(|error| error.to_string())?;
    let certificate = certificate.tbs_certificate();
    let subject = certificate.subject();
    let validity = certificate.validity();
    Ok(Facts {
        subject: subject.to_string(),
        common_name: subject.common_name().ok().flatten().map(|name| name.value().into_owned()),
        not_before: validity.not_before.to_unix_duration().as_secs(),
        not_after: validity.not_after.to_unix_duration().as_secs(),
    })
}
