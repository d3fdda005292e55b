//! What Python passes, made into our values, and errors on their way back.
//!
//! Thread: whichever thread of the interpreter calls, attached to it.

use crate::files::{Mount, MountOptions, Mounts, Reach, Root};
use crate::http_answer::Answer;
use crate::listen::Listener;
use crate::number::Number;
use crate::route_table::{Inline, Route, RouteTable, Wants};
use crate::settings::{Limits, SlowClient, WebSocketOptions};
use crate::timers::Millis;
use pyo3::buffer::PyBuffer;
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use wire::http_compression::GzipOptions;
use wire::http_cors::Cors;
use wire::http_head::{Content, HeadLimits, ResponseLine, Version, encode_response_head};
use wire::ws_deflate::DeflateOptions;
use wire::ws_frame::Opcode;
use wire::ws_message::MessageLimits;

pub fn check_status(status: u16) -> PyResult<()> {
    if (200..=999).contains(&status) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("status of an answer must be from 200 to 999, not {status}")))
}

/// An answer left for later must not fail later.
pub fn check_answer(answer: &Answer) -> PyResult<()> {
    let line = ResponseLine { status: answer.status, reason: answer.reason, version: Version::Http11 };
    let content = match answer.status {
        204 | 304 => Content::None,
        _ => Content::Length(answer.body.len() as u64),
    };
    encode_response_head(&mut Vec::new(), &line, answer.fields, content, &[b' '; 29], true)
        .map(drop)
        .map_err(value_error)
}

/// With errno kept, so that Python makes the right subclass of OSError.
pub fn os_error(error: std::io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(errno) => PyOSError::new_err((errno, message(&error))),
        None => error.into(),
    }
}

fn message(error: &std::io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}

pub fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// `None` for what no clock reaches: wait for ever.
pub fn deadline_after(seconds: f64) -> Option<Instant> {
    let wait = Duration::try_from_secs_f64(seconds.max(0.0)).ok()?;
    Instant::now().checked_add(wait)
}

/// `str` is text, bytes-like is binary.
pub fn payload_of<'a>(data: &'a Bound<'_, PyAny>) -> PyResult<(Opcode, Cow<'a, [u8]>)> {
    if let Ok(text) = data.cast::<PyString>() {
        Ok((Opcode::Text, Cow::Borrowed(text.to_str()?.as_bytes())))
    } else if let Ok(bytes) = data.cast::<PyBytes>() {
        Ok((Opcode::Binary, Cow::Borrowed(bytes.as_bytes())))
    } else if let Ok(buffer) = PyBuffer::<u8>::get(data) {
        // Copied under the lock: somebody may write into it while it is sent.
        Ok((Opcode::Binary, Cow::Owned(buffer.to_vec(data.py())?)))
    } else {
        let text = format!(
            "expected str (sent as text) or a bytes-like object (sent as binary), not {}",
            data.get_type().name()?
        );
        Err(PyTypeError::new_err(text))
    }
}

type InlineSpec = (u16, Vec<(String, String)>, Vec<u8>);
type DeflateSpec = (u8, u8, usize, bool);
pub type WebSocketSpec = (Vec<String>, bool, Option<DeflateSpec>, u8, u8, Option<Vec<String>>);
type GzipSpec = (u8, u64, Vec<String>);
pub type RouteSpec =
    (Number, String, bool, Vec<String>, u8, Option<InlineSpec>, Option<WebSocketSpec>, Option<GzipSpec>);
type CorsSpec = (Option<Vec<String>>, Option<Vec<String>>, Option<Vec<String>>, Vec<String>, bool, Option<u32>);

pub const SLOW_CLOSE: u8 = 0;
pub const SLOW_DROP_NEW: u8 = 1;
pub const SLOW_DROP_OLDEST: u8 = 2;

pub const FRAMES_BY_TYPE: u8 = 0;
pub const FRAMES_TEXT: u8 = 1;
pub const FRAMES_BINARY: u8 = 2;

pub const REACH_BELOW: u8 = 0;
pub const REACH_EXACT: u8 = 1;
pub const REACH_ALL: u8 = 2;

pub fn routes_of(specs: Vec<RouteSpec>) -> PyResult<RouteTable> {
    let mut routes = Vec::with_capacity(specs.len());
    for (number, path, prefix, methods, wants, inline, websocket, gzip) in specs {
        if !path.starts_with('/') {
            return Err(PyValueError::new_err(format!("the path of a route begins with '/', not {path:?}")));
        }
        let gzip = gzip.map(gzip_options).transpose()?;
        let inline = inline.map(|(status, fields, body)| Inline {
            status,
            fields,
            body: body.into(),
            compressed: OnceLock::new(),
        });
        if let Some(inline) = &inline {
            let fields: Vec<(&str, &str)> = inline.fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            check_answer(&Answer {
                status: inline.status,
                reason: None,
                fields: &fields,
                body: &inline.body,
                close: false,
            })?;
        }
        let mut route = Route::new(&path, prefix, Wants(wants)).with_methods(methods);
        route.number = number;
        route.inline = inline;
        route.gzip = gzip.map(Arc::new);
        if let Some(spec) = websocket {
            route.websocket = Arc::new(websocket_options(spec)?);
        }
        routes.push(route);
    }
    Ok(RouteTable::new(routes))
}

fn gzip_options(spec: GzipSpec) -> PyResult<GzipOptions> {
    let (level, min_bytes, types) = spec;
    if !(1..=9).contains(&level) {
        return Err(PyValueError::new_err(format!("gzip needs a level of 1-9, not {level}")));
    }
    Ok(GzipOptions { level, min_bytes, types })
}

/// None, and nothing, is what a server without CORS has.
pub fn cors_of(config: &Bound<'_, PyDict>) -> PyResult<Option<Cors>> {
    if !config.contains("cors")? {
        return Ok(None);
    }
    let Some((origins, methods, headers, expose, credentials, max_age_s)) = item::<Option<CorsSpec>>(config, "cors")?
    else {
        return Ok(None);
    };
    if credentials && origins.is_none() {
        return Err(PyValueError::new_err("cors with credentials needs a list of origins"));
    }
    let said = [&origins, &methods, &headers].into_iter().flatten().flatten().chain(&expose);
    let fields: Vec<(&str, &str)> = said.map(|value| ("Access-Control", value.as_str())).collect();
    check_answer(&Answer { status: 204, reason: None, fields: &fields, body: b"", close: false })?;
    Ok(Some(Cors::new(origins, methods.as_deref(), headers.as_deref(), &expose, credentials, max_age_s)))
}

type FilesOptions = (bool, bool, String, Vec<(String, String)>, Option<(String, String)>, bool, bool, bool, bool, u8);
pub type FilesSpec = (String, Option<PathBuf>, Option<FilesOptions>);

/// Opens every root, so it may wait for a disk: call it detached.
pub fn mounts_of(specs: Vec<FilesSpec>) -> Result<Mounts, MountError> {
    let mut mounts = Vec::with_capacity(specs.len());
    for (path, root, options) in specs {
        let (Some(root), Some(options)) = (root, options) else {
            mounts.push(Mount::new(&path, None, MountOptions::default()));
            continue;
        };
        let (
            indexhtml,
            fallthrough,
            html_charset,
            fields,
            validation,
            dotfiles,
            symlinks,
            listing,
            precompressed,
            reach,
        ) = options;
        check_fields(&fields)?;
        let opened = Root::open(&root, symlinks).map_err(|error| MountError::Root(root, error))?;
        let validation = validation.map(|(name, value)| (name, value.into_bytes()));
        let options = MountOptions {
            indexhtml,
            fallthrough,
            html_charset,
            fields,
            validation,
            allows_dotfiles: dotfiles,
            listing,
            precompressed,
            reach: match reach {
                REACH_EXACT => Reach::Exact,
                REACH_ALL => Reach::All,
                _ => Reach::Below,
            },
        };
        mounts.push(Mount::new(&path, Some(opened), options));
    }
    Ok(Mounts::new(mounts))
}

pub enum MountError {
    Root(PathBuf, std::io::Error),
    Field(String),
}

impl From<MountError> for PyErr {
    fn from(error: MountError) -> PyErr {
        match error {
            MountError::Root(path, error) => match error.raw_os_error() {
                // With the file's name, as Python's own errors have it.
                Some(errno) => PyOSError::new_err((errno, message(&error), path.into_os_string())),
                None => PyOSError::new_err(format!("{}: {error}", path.display())),
            },
            MountError::Field(text) => PyValueError::new_err(text),
        }
    }
}

/// What static answers say by themselves, or what would make them say two things.
fn check_fields(fields: &[(String, String)]) -> Result<(), MountError> {
    const OURS: [&str; 5] = ["content-encoding", "content-length", "content-range", "date", "last-modified"];
    if let Some((name, _)) = fields.iter().find(|(name, _)| OURS.contains(&&name.to_ascii_lowercase()[..])) {
        return Err(MountError::Field(format!("{name} of a static path says what is sent, so it can't be set")));
    }
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let line = ResponseLine { status: 200, reason: None, version: Version::Http11 };
    encode_response_head(&mut Vec::new(), &line, &fields, Content::Length(0), &[b' '; 29], true)
        .map(drop)
        .map_err(|error| MountError::Field(error.to_string()))
}

pub fn websocket_options(spec: WebSocketSpec) -> PyResult<WebSocketOptions> {
    let (subprotocols, requires_subprotocol, deflate, slow_client, frames, allowed_origins) = spec;
    let deflate = deflate.map(|(level, window_bits, min_bytes, context_takeover)| {
        if !(1..=9).contains(&level) || !(9..=15).contains(&window_bits) {
            let text = format!("deflate needs a level of 1-9 and window_bits of 9-15, not {level} and {window_bits}");
            return Err(PyValueError::new_err(text));
        }
        Ok(DeflateOptions { level, window_bits, min_bytes, context_takeover })
    });
    let slow_client = match slow_client {
        SLOW_CLOSE => SlowClient::Close,
        SLOW_DROP_NEW => SlowClient::DropNew,
        SLOW_DROP_OLDEST => SlowClient::DropOldest,
        other => return Err(PyValueError::new_err(format!("slow_client must be 0, 1 or 2, not {other}"))),
    };
    let frames = match frames {
        FRAMES_BY_TYPE => None,
        FRAMES_TEXT => Some(Opcode::Text),
        FRAMES_BINARY => Some(Opcode::Binary),
        other => return Err(PyValueError::new_err(format!("frames must be 0, 1 or 2, not {other}"))),
    };
    let deflate = deflate.transpose()?;
    Ok(WebSocketOptions { subprotocols, requires_subprotocol, deflate, slow_client, frames, allowed_origins })
}

pub fn open_listener(address: &Bound<'_, PyAny>, mode: Option<u32>) -> PyResult<(Listener, String, u16, bool)> {
    if let Ok(path) = address.extract::<PathBuf>() {
        let listener = Listener::unix(&path, mode).map_err(os_error)?;
        return Ok((listener, path.to_string_lossy().into_owned(), 0, false));
    }
    let (host, port): (String, u16) = address.extract()?;
    let Ok(ip) = host.parse() else {
        return Err(PyValueError::new_err(format!("{host:?} is not an IPv4 or IPv6 address")));
    };
    let (listener, bound) = Listener::tcp(SocketAddr::new(ip, port)).map_err(os_error)?;
    Ok((listener, bound.ip().to_string(), bound.port(), true))
}

pub fn item<'py, T: FromPyObjectOwned<'py>>(config: &Bound<'py, PyDict>, name: &str) -> PyResult<T> {
    match config.get_item(name)? {
        Some(value) => value.extract::<T>().map_err(|error| {
            let error: PyErr = error.into();
            PyTypeError::new_err(format!("{name}: {error}"))
        }),
        None => Err(PyTypeError::new_err(format!("{name} is missing"))),
    }
}

pub fn limits_of(config: &Bound<'_, PyDict>) -> PyResult<Limits> {
    let count = |name| item::<usize>(config, name);
    let millis = |name| -> PyResult<Option<Millis>> {
        let seconds: Option<f64> = item(config, name)?;
        // At least a millisecond: zero would be over before it began.
        Ok(seconds.map(|seconds| ((seconds * 1000.0) as Millis).max(1)))
    };
    let head = HeadLimits {
        max_head_bytes: count("max_head_bytes")?,
        max_headers: count("max_headers")?,
        max_url_bytes: count("max_url_bytes")?,
    };
    let message =
        MessageLimits { max_message_bytes: count("max_message_bytes")?, max_fragments: item(config, "max_fragments")? };
    Ok(Limits {
        head,
        message,
        max_body_bytes: item(config, "max_body_bytes")?,
        max_body_in_memory_bytes: item(config, "max_body_in_memory_bytes")?,
        max_inbox_messages: count("max_inbox_messages")?,
        max_inbox_bytes: count("max_inbox_bytes")?,
        max_outbox_bytes: count("max_outbox_bytes")?,
        max_connections: count("max_connections")?,
        max_connections_per_address: item(config, "max_connections_per_address")?,
        handshake_timeout: millis("handshake_timeout_s")?,
        head_timeout: millis("head_timeout_s")?,
        body_timeout: millis("body_timeout_s")?,
        idle_timeout: millis("idle_timeout_s")?,
        write_timeout: millis("write_timeout_s")?,
        answer_timeout: millis("answer_timeout_s")?,
        ping_interval: millis("ping_interval_s")?,
        pong_timeout: millis("pong_timeout_s")?,
        close_timeout: millis("close_timeout_s")?,
    })
}
