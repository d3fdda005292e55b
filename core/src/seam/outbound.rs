//! What Python passes to open a WebSocket to somebody else's server, made into our values.
//!
//! Thread: whichever thread of the interpreter calls, attached to it.

use super::arguments::{WebSocketSpec, item, limits_of, value_error, websocket_options};
use super::certificates::TlsSpecParts;
use crate::calling::Call;
use crate::dial::Destination;
use crate::settings::Settings;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::path::PathBuf;

pub struct Outbound {
    pub destination: Destination,
    pub call: Call,
    pub settings: Settings,
    pub has_deflate: bool,
    /// How to speak TLS there, and with whom.
    pub tls: Option<(TlsSpecParts, ServerName<'static>)>,
}

pub fn outbound_of(address: &Bound<'_, PyAny>, config: &Bound<'_, PyDict>) -> PyResult<Outbound> {
    let destination = destination_of(address)?;
    let options = websocket_options(item::<WebSocketSpec>(config, "websocket")?)?;
    let has_deflate = options.deflate.is_some();
    let (host, target): (String, String) = (item(config, "host")?, item(config, "target")?);
    let fields: Vec<(String, String)> = item(config, "fields")?;
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let timeout: Option<f64> = item(config, "open_timeout_s")?;
    let timeout = timeout.map(|seconds| ((seconds * 1000.0) as u64).max(1));
    let call = Call::new(&host, &target, &fields, options, timeout).map_err(value_error)?;
    let limits = limits_of(&item::<Bound<'_, PyDict>>(config, "limits")?)?;
    let settings = Settings::outbound(limits, matches!(destination, Destination::Tcp(_)));
    Ok(Outbound { destination, call, settings, has_deflate, tls: tls_of(config)? })
}

fn tls_of(config: &Bound<'_, PyDict>) -> PyResult<Option<(TlsSpecParts, ServerName<'static>)>> {
    let Some((spec, name)) = item::<Option<(TlsSpecParts, String)>>(config, "tls")? else { return Ok(None) };
    let server = ServerName::try_from(name).map_err(|error| value_error(format!("the name of the server: {error}")))?;
    Ok(Some((spec, server)))
}

fn destination_of(address: &Bound<'_, PyAny>) -> PyResult<Destination> {
    if let Ok(path) = address.extract::<PathBuf>() {
        return Ok(Destination::Unix(path));
    }
    let (host, port): (String, u16) = address.extract()?;
    match host.parse() {
        Ok(ip) => Ok(Destination::Tcp(SocketAddr::new(ip, port))),
        Err(_) => Err(PyValueError::new_err(format!("{host:?} is not an IPv4 or IPv6 address"))),
    }
}
