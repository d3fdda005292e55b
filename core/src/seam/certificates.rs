//! TLS configurations and certificates across the seam: plain values, checked here.
//!
//! Thread: whichever thread of the interpreter calls; attached to it, except inside `detach`.

use super::arguments::value_error;
use crate::certificate;
use crate::tls_config::{ConfigError, IdentityPem, TlsSpec, certificates_of};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;
use std::time::Duration;

/// `(identities, password, trusted, revoked, requires_peer, is_13_only)`.
pub type TlsSpecParts = (Vec<(Vec<u8>, Vec<u8>)>, Option<String>, Vec<u8>, Vec<u8>, bool, bool);

fn spec_of(parts: TlsSpecParts) -> TlsSpec {
    let (identities, password, trusted, revoked, requires_peer, is_13_only) = parts;
    let identities = identities.into_iter().map(|(chain, key)| IdentityPem { chain, key }).collect();
    TlsSpec { identities, password, trusted, revoked, requires_peer, is_13_only }
}

fn refused(ConfigError(text): ConfigError) -> PyErr {
    value_error(text)
}

/// A key under a password takes its time, on purpose.
pub fn server_tls(py: Python<'_>, parts: TlsSpecParts) -> PyResult<Arc<ServerConfig>> {
    py.detach(|| spec_of(parts).server()).map_err(refused)
}

/// The last configuration of a client, and what it was made of: who connects again need not read a hundred CAs again,
/// and can resume the session.
#[derive(Default)]
pub struct ClientTls(Mutex<Option<(TlsSpecParts, Arc<ClientConfig>)>>);

impl ClientTls {
    pub fn get(&self, py: Python<'_>, parts: TlsSpecParts) -> PyResult<Arc<ClientConfig>> {
        if let Some((known, config)) = &*self.0.lock()
            && *known == parts
        {
            return Ok(Arc::clone(config));
        }
        let config = py.detach(|| spec_of(parts.clone()).client()).map_err(refused)?;
        *self.0.lock() = Some((parts, Arc::clone(&config)));
        Ok(config)
    }
}

#[pyfunction]
pub fn check_tls<'py>(py: Python<'py>, spec: TlsSpecParts) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let leaves = py.detach(|| -> Result<Vec<Vec<u8>>, ConfigError> {
        let spec = spec_of(spec);
        if spec.identities.is_empty() {
            spec.client()?;
        } else {
            spec.server()?;
        }
        spec.identities.iter().map(|identity| Ok(certificates_of(&identity.chain)?[0].to_vec())).collect()
    });
    Ok(leaves.map_err(refused)?.iter().map(|der| PyBytes::new(py, der)).collect())
}

#[pyfunction]
pub fn read_certificate(der: &[u8]) -> PyResult<(String, Option<String>, u64, u64)> {
    let facts = certificate::read(der).map_err(value_error)?;
    Ok((facts.subject, facts.common_name, facts.not_before, facts.not_after))
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value)]
pub fn write_certificate(py: Python<'_>, names: Vec<String>, valid_s: u64) -> PyResult<(String, String)> {
    py.detach(|| certificate::write(&names, Duration::from_secs(valid_s))).map_err(value_error)
}
