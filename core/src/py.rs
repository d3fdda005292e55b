//! The seam: `Core` and `Batch`, documented in `python/portico/_core.pyi`. The only file that knows Python.
//!
//! Thread: whichever thread of the interpreter calls; attached to it, except inside `detach`.

use crate::engine::{Engine, Handled};
use crate::http::Answer;
use crate::listen::Listener;
use crate::mailbox::{Event, Kind, Request};
use crate::number::Number;
use crate::outbox::{COPY_BELOW_BYTES, Outbox};
use crate::reactor::Reactor;
use crate::route_table::{Inline, Route, RouteTable, Wants};
use crate::settings::{Limits, Settings};
use crate::timers::Millis;
use crate::watchman;
use crate::websocket::Outcome;
use parking_lot::Mutex;
use pyo3::buffer::PyBuffer;
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::http_head::{Content, HeadLimits, ResponseLine, Version, encode_response_head};
use wire::ws_close::is_sendable;
use wire::ws_frame::{Opcode, encode_frame, encode_header};
use wire::ws_message::MessageLimits;

const HEAD: u8 = 0;
const REQUEST: u8 = 1;
const OPEN: u8 = 2;
const MESSAGE: u8 = 3;
const CLOSED: u8 = 4;
const GONE: u8 = 5;
const STOPPED: u8 = 6;

const SENT: u8 = 0;
const SHUT: u8 = 7;
const FULL: u8 = 8;

/// RFC 6455 §5.5: what a control frame can carry.
const MAX_CONTROL_BYTES: usize = 125;
/// Two of them are the close code.
const MAX_REASON_BYTES: usize = 123;

fn code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Sent => SENT,
        Outcome::Shut => SHUT,
        Outcome::Full => FULL,
    }
}

#[pyclass(module = "portico._core", frozen)]
struct Core {
    engine: Arc<Engine>,
    watchman: Mutex<Option<JoinHandle<()>>>,
    is_shut: AtomicBool,
}

#[pymethods]
impl Core {
    #[new]
    fn new() -> PyResult<Core> {
        let engine = Engine::new().map_err(|errno| os_error(errno.into()))?;
        Ok(Core { engine: Arc::new(engine), watchman: Mutex::new(None), is_shut: AtomicBool::new(false) })
    }

    fn take(&self, py: Python<'_>, max_events: usize, timeout: Option<f64>) -> PyResult<Batch> {
        self.check_alive()?;
        self.engine.arrive();
        // Look before letting go of the interpreter: under load there is always something, and taking it back from a busy
        // thread can cost the switch interval.
        let mut taken = self.engine.take_now(max_events);
        if taken.events.is_empty() && !taken.is_woken && timeout != Some(0.0) {
            let deadline = timeout.and_then(deadline_after);
            taken = loop {
                // Handlers of signals run here. They may raise, and they may fork.
                if let Err(raised) = py.check_signals().and_then(|()| self.check_alive()) {
                    self.engine.leave_home(false);
                    return Err(raised);
                }
                if let Ok(taken) = py.detach(|| self.engine.wait_and_take(max_events, deadline)) {
                    break taken;
                }
            };
        }
        self.engine.leave_home(!taken.events.is_empty());
        Ok(Batch::new(Arc::clone(&self.engine), taken.events))
    }

    fn fileno(&self) -> i32 {
        self.engine.descriptor()
    }

    fn wake(&self) {
        self.engine.mailbox.wake();
    }

    fn listen(
        &self,
        py: Python<'_>,
        address: Bound<'_, PyAny>,
        config: Bound<'_, PyDict>,
    ) -> PyResult<(Number, String, u16)> {
        self.check_alive()?;
        self.start_watchman()?;
        let (listener, host, port, is_tcp) = open_listener(&address, item(&config, "mode")?)?;
        let settings = Settings {
            limits: limits_of(&item::<Bound<'_, PyDict>>(&config, "limits")?)?,
            allowed_hosts: item(&config, "allowed_hosts")?,
            allowed_origins: item(&config, "allowed_origins")?,
            is_tcp,
        };
        let routes = routes_of(item(&config, "routes")?)?;
        let number = py.detach(|| {
            let mut lease = self.engine.lease();
            lease.forget_stopped();
            lease.add_site(listener, settings, routes)
        });
        Ok((number.map_err(|errno| os_error(errno.into()))?, host, port))
    }

    fn set_routes(&self, py: Python<'_>, server: Number, routes: Vec<RouteSpec>) -> PyResult<bool> {
        let routes = routes_of(routes)?;
        Ok(py.detach(|| self.engine.lease().set_routes(server, routes)))
    }

    fn stop(&self, py: Python<'_>, server: Number, grace_s: f64) -> PyResult<bool> {
        let grace = Duration::try_from_secs_f64(grace_s).map_err(|_| {
            PyValueError::new_err(format!("grace_s must be a number of seconds from 0 up, not {grace_s}"))
        })?;
        Ok(py.detach(|| self.engine.lease().stop(server, grace)))
    }

    fn connections(&self, py: Python<'_>, server: Number) -> usize {
        py.detach(|| self.engine.lease().site(server).map_or(0, |site| site.sockets.len()))
    }

    #[pyo3(signature = (number, status, reason, fields, body, close = false))]
    fn respond(
        &self,
        number: Number,
        status: u16,
        reason: Option<PyBackedStr>,
        fields: Vec<(PyBackedStr, PyBackedStr)>,
        body: Bound<'_, PyAny>,
        close: bool,
    ) -> PyResult<bool> {
        if !(200..=999).contains(&status) {
            let text = format!("status of an answer must be from 200 to 999, not {status}");
            return Err(PyValueError::new_err(text));
        }
        let (_, body) = payload_of(&body)?;
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let answer = Answer { status, reason: reason.as_deref(), fields: &fields, body: &body, close };
        match self.engine.try_lease() {
            Some(mut lease) => {
                lease.tick();
                let is_corked = lease.is_corking && self.engine.is_home();
                let answered = lease.with_cork(number, is_corked, |connection, turn| connection.answer(&answer, turn));
                answered.unwrap_or(Ok(false)).map_err(value_error)
            }
            None => self.respond_later(number, &answer),
        }
    }

    fn proceed(&self, number: Number) -> bool {
        self.command(number, true, move |reactor| {
            reactor.tick();
            reactor.with(number, |connection, turn| connection.proceed(turn)).unwrap_or(false)
        })
    }

    fn send(&self, number: Number, data: &Bound<'_, PyAny>) -> PyResult<u8> {
        let (opcode, payload) = payload_of(data)?;
        let outcome = match self.engine.try_lease() {
            Some(mut lease) => {
                let is_corked = lease.is_corking && self.engine.is_home();
                lease.send(number, is_corked, |outbox| write_frame(outbox, opcode, &payload))
            }
            None if self.engine.is_live(number) => {
                let frame = frame_of(opcode, &payload);
                self.engine.leave(Box::new(move |reactor| {
                    reactor.send(number, false, |outbox| outbox.append_owned(frame));
                }));
                Outcome::Sent
            }
            None => Outcome::Shut,
        };
        Ok(code(outcome))
    }

    fn broadcast(&self, py: Python<'_>, server: Number, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        let (opcode, payload) = payload_of(data)?;
        let frame: Arc<[u8]> = frame_of(opcode, &payload).into();
        if let Some(mut lease) = self.engine.try_lease() {
            let is_corked = lease.is_corking && self.engine.is_home();
            return Ok(lease.broadcast(server, is_corked, &frame));
        }
        // The count is promised, so wait for the reactor, detached: its holder never waits for us.
        Ok(py.detach(|| self.engine.lease().broadcast(server, false, &frame)))
    }

    #[allow(clippy::needless_pass_by_value)]
    fn close(&self, number: Number, code: u16, reason: PyBackedStr) -> PyResult<u8> {
        if !is_sendable(code) {
            let text = format!("close code must be 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 §7.4), not {code}");
            return Err(PyValueError::new_err(text));
        }
        if reason.len() > MAX_REASON_BYTES {
            let text = format!("close reason must be at most {MAX_REASON_BYTES} bytes of UTF-8, not {}", reason.len());
            return Err(PyValueError::new_err(text));
        }
        let reason = reason.to_string();
        Ok(self.command(number, SENT, move |reactor| {
            reactor.tick();
            let asked = reactor.with(number, |connection, turn| connection.close_asked(code, &reason, turn));
            self::code(asked.unwrap_or(Outcome::Shut))
        }))
    }

    fn ping(&self, number: Number, data: Vec<u8>) -> PyResult<u8> {
        if data.len() > MAX_CONTROL_BYTES {
            let text = format!("a ping carries at most {MAX_CONTROL_BYTES} bytes (RFC 6455 §5.5), not {}", data.len());
            return Err(PyValueError::new_err(text));
        }
        Ok(self.command(number, SENT, move |reactor| {
            reactor.tick();
            code(reactor.with(number, |connection, turn| connection.ping(&data, turn)).unwrap_or(Outcome::Shut))
        }))
    }

    fn info(&self, py: Python<'_>, number: Number) -> Option<(usize, Option<f64>)> {
        py.detach(|| {
            let seen = self.engine.lease().with(number, |connection, _| connection.websocket_info());
            seen.flatten()
        })
    }

    fn round_trips(&self, py: Python<'_>, number: Number) -> Vec<(f64, f64)> {
        py.detach(|| self.engine.lease().with(number, |connection, _| connection.round_trips()).unwrap_or_default())
    }

    fn hold(&self, number: Number) {
        self.command(number, (), move |reactor| {
            reactor.with(number, |connection, _| connection.hold());
        });
    }

    fn release(&self, number: Number) {
        self.command(number, (), move |reactor| {
            reactor.with(number, |connection, turn| connection.release(turn));
        });
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = py.detach(|| self.engine.lease().counters);
        let stats = PyDict::new(py);
        stats.set_item("accepted", counters.accepted)?;
        stats.set_item("requests", counters.requests)?;
        stats.set_item("messages", counters.messages)?;
        stats.set_item("refused", counters.refused)?;
        stats.set_item("turns", counters.turns)?;
        stats.set_item("panics", counters.panics)?;
        stats.set_item("takeovers", self.engine.takeovers.load(Ordering::Relaxed))?;
        Ok(stats)
    }

    fn shutdown(&self, py: Python<'_>) {
        if !self.is_shut.swap(true, Ordering::SeqCst) {
            py.detach(|| {
                self.engine.lease().cut_all();
                self.end_watchman();
                self.engine.mailbox.wake();
            });
        }
    }

    fn before_fork(&self, py: Python<'_>) {
        // SAFETY: the engine is where its `Arc` put it, and this thread thaws it right after the fork.
        py.detach(|| unsafe { self.engine.freeze() });
    }

    fn after_fork_in_parent(&self) {
        self.engine.thaw();
    }

    fn after_fork_in_child(&self) {
        // SAFETY: this thread, the copy of the one that forked, is the child's only one.
        unsafe { self.engine.mailbox.fall_silent() }
        self.engine.thaw_in_child();
        self.is_shut.store(true, Ordering::SeqCst);
        if let Some(handle) = self.watchman.lock().take() {
            std::mem::forget(handle); // that thread exists in the parent only
        }
        if let Some(mut lease) = self.engine.try_lease() {
            lease.drop_descriptors(false);
        }
    }
}

impl Core {
    fn check_alive(&self) -> PyResult<()> {
        if self.is_shut.load(Ordering::SeqCst) {
            return Err(PyRuntimeError::new_err("this core was shut down, or belongs to the parent of this process"));
        }
        Ok(())
    }

    fn start_watchman(&self) -> PyResult<()> {
        let mut watchman = self.watchman.lock();
        if watchman.is_none() {
            *watchman = Some(watchman::start(Arc::clone(&self.engine)).map_err(os_error)?);
        }
        Ok(())
    }

    fn end_watchman(&self) {
        self.engine.is_ending.store(true, Ordering::SeqCst);
        self.engine.alarm.set();
        let handle = self.watchman.lock().take();
        if let Some(handle) = handle {
            let _ = handle.join();
        }
    }

    /// Do it now, or leave it to whoever has the reactor and answer as if it will succeed on a number that is alive.
    fn command<R: Outcomes>(
        &self,
        number: Number,
        expected: R,
        act: impl FnOnce(&mut Reactor) -> R + Send + 'static,
    ) -> R {
        match self.engine.try_lease() {
            Some(mut lease) => act(&mut lease),
            None if self.engine.is_live(number) => {
                self.engine.leave(Box::new(move |reactor| {
                    act(reactor);
                }));
                expected
            }
            None => R::DEAD,
        }
    }

    fn respond_later(&self, number: Number, answer: &Answer) -> PyResult<bool> {
        check_answer(answer)?;
        if !self.engine.is_live(number) {
            return Ok(false);
        }
        let reason = answer.reason.map(str::to_owned);
        let fields: Vec<(String, String)> =
            answer.fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (status, body, close) = (answer.status, answer.body.to_vec(), answer.close);
        self.engine.leave(Box::new(move |reactor| {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            let answer = Answer { status, reason: reason.as_deref(), fields: &fields, body: &body, close };
            reactor.tick();
            reactor.with(number, |connection, turn| connection.answer(&answer, turn).is_ok());
        }));
        Ok(true)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Only a core that nobody shut down; the watchman never waits for the interpreter, so this takes milliseconds.
        if !self.is_shut.load(Ordering::SeqCst) {
            self.end_watchman();
        }
    }
}

/// What a command on a dead number answers.
trait Outcomes {
    const DEAD: Self;
}
impl Outcomes for () {
    const DEAD: () = ();
}
impl Outcomes for bool {
    const DEAD: bool = false;
}
impl Outcomes for u8 {
    const DEAD: u8 = SHUT;
}

/// An answer left for later must not fail later.
fn check_answer(answer: &Answer) -> PyResult<()> {
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
fn os_error(error: std::io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(errno) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((errno, text))
        }
        None => error.into(),
    }
}

fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// `None` for what no clock reaches: wait for ever.
fn deadline_after(seconds: f64) -> Option<Instant> {
    let wait = Duration::try_from_secs_f64(seconds.max(0.0)).ok()?;
    Instant::now().checked_add(wait)
}

// ---- batches --------------------------------------------------------------------------------------------------------

#[pyclass(module = "portico._core")]
struct Batch {
    engine: Arc<Engine>,
    events: VecDeque<Event>,
    /// The connection whose events are being handled, and how much of them.
    current: Number,
    messages: usize,
    bytes: usize,
    /// What has been handled and not been settled.
    handled: Vec<Handled>,
    is_open: bool,
    waited: Duration,
}

/// What was sent to so many connections leaves together, one socket after the other: the system sends 10 % faster while
/// nothing else is done in between. Slow callbacks do not wait for each other, see `settle`; nor does the watchman.
const SETTLE_TOGETHER: usize = 8;

#[pymethods]
impl Batch {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(event) = self.events.pop_front() else {
            self.end();
            return Ok(None);
        };
        match &event.kind {
            Kind::Message { data, .. } if event.number == self.current => self.bytes += data.len(),
            Kind::Message { data, .. } => {
                self.settle(event.number);
                self.bytes = data.len();
            }
            Kind::Closed { .. } => {
                // Its messages have been handled: a close that waits for that is answered now.
                self.settle(event.number);
                self.settle_all();
            }
            _ => self.settle(event.number),
        }
        self.messages += usize::from(matches!(event.kind, Kind::Message { .. }));
        to_python(py, event).map(Some)
    }

    fn __len__(&self) -> usize {
        self.events.len()
    }

    #[getter]
    fn waited_s(&self) -> f64 {
        self.waited.as_secs_f64()
    }
}

impl Batch {
    fn new(engine: Arc<Engine>, events: VecDeque<Event>) -> Batch {
        let waited = events.front().map_or(Duration::ZERO, |event| engine.age(event.at));
        let is_open = !events.is_empty();
        Batch { engine, events, current: 0, messages: 0, bytes: 0, handled: Vec::new(), is_open, waited }
    }

    /// The callbacks of the current connection have returned; `next` is whose come now.
    fn settle(&mut self, next: Number) {
        if self.current != 0 {
            self.handled.push(Handled { number: self.current, messages: self.messages, bytes: self.bytes });
            if self.handled.len() >= SETTLE_TOGETHER || self.engine.is_late() {
                self.settle_all();
            }
        }
        self.current = next;
        self.messages = 0;
        self.bytes = 0;
    }

    fn settle_all(&mut self) {
        self.engine.settle(&mut self.handled);
        self.engine.look_up();
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.is_open, false) {
            self.settle(0);
            self.engine.settle(&mut self.handled);
            self.engine.end_batch(std::mem::take(&mut self.events));
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.end();
    }
}

fn to_python(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyTuple>> {
    let number = event.number;
    match event.kind {
        Kind::Message { is_text: true, data } => (MESSAGE, number, PyString::from_bytes(py, &data)?).into_pyobject(py),
        Kind::Message { data, .. } => (MESSAGE, number, PyBytes::new(py, &data)).into_pyobject(py),
        Kind::Request(request) => (REQUEST, number, request_parts(py, *request)?).into_pyobject(py),
        Kind::Head(request) => (HEAD, number, request_parts(py, *request)?).into_pyobject(py),
        Kind::Open(request) => (OPEN, number, request_parts(py, *request)?).into_pyobject(py),
        Kind::Closed { code, reason } => (CLOSED, number, (code, reason)).into_pyobject(py),
        Kind::Gone => (GONE, number, py.None()).into_pyobject(py),
        Kind::Stopped => (STOPPED, number, py.None()).into_pyobject(py),
    }
}

fn request_parts(py: Python<'_>, request: Request) -> PyResult<Bound<'_, PyTuple>> {
    let head = &request.head;
    let version = match head.version() {
        Version::Http10 => pyo3::intern!(py, "1.0"),
        Version::Http11 => pyo3::intern!(py, "1.1"),
    };
    let client = match request.client {
        Some(address) => (address.ip().to_canonical().to_string(), address.port()).into_pyobject(py)?.into_any(),
        None => pyo3::intern!(py, "").clone().into_any(),
    };
    let fields = PyBytes::new(py, &head.field_block());
    let body = PyBytes::new(py, &request.body);
    (
        request.server,
        request.route,
        PyString::intern(py, head.method()),
        head.target(),
        version,
        fields,
        body,
        client,
        request.is_websocket,
    )
        .into_pyobject(py)
}

// ---- arguments ------------------------------------------------------------------------------------------------------

/// `str` is text, bytes-like is binary.
fn payload_of<'a>(data: &'a Bound<'_, PyAny>) -> PyResult<(Opcode, Cow<'a, [u8]>)> {
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

fn write_frame(outbox: &mut Outbox, opcode: Opcode, payload: &[u8]) {
    if payload.len() < COPY_BELOW_BYTES {
        outbox.append(|out| encode_frame(out, opcode, payload, None));
    } else {
        outbox.append(|out| encode_header(out, true, opcode, payload.len() as u64, None));
        outbox.append_owned(payload.to_vec());
    }
}

fn frame_of(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    encode_frame(&mut frame, opcode, payload, None);
    frame
}

type InlineSpec = (u16, Vec<(String, String)>, Vec<u8>);
type RouteSpec = (String, bool, u8, Option<InlineSpec>);

fn routes_of(specs: Vec<RouteSpec>) -> PyResult<RouteTable> {
    let mut routes = Vec::with_capacity(specs.len());
    for (path, prefix, wants, inline) in specs {
        if !path.starts_with('/') {
            return Err(PyValueError::new_err(format!("the path of a route begins with '/', not {path:?}")));
        }
        let inline = inline.map(|(status, fields, body)| Inline { status, fields, body: body.into() });
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
        routes.push(Route::new(&path, prefix, Wants(wants), inline));
    }
    Ok(RouteTable::new(routes))
}

fn open_listener(address: &Bound<'_, PyAny>, mode: Option<u32>) -> PyResult<(Listener, String, u16, bool)> {
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

fn item<'py, T: FromPyObjectOwned<'py>>(config: &Bound<'py, PyDict>, name: &str) -> PyResult<T> {
    match config.get_item(name)? {
        Some(value) => value.extract::<T>().map_err(|error| {
            let error: PyErr = error.into();
            PyTypeError::new_err(format!("{name}: {error}"))
        }),
        None => Err(PyTypeError::new_err(format!("{name} is missing"))),
    }
}

fn limits_of(config: &Bound<'_, PyDict>) -> PyResult<Limits> {
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
        max_inbox_messages: count("max_inbox_messages")?,
        max_inbox_bytes: count("max_inbox_bytes")?,
        max_outbox_bytes: count("max_outbox_bytes")?,
        max_connections: count("max_connections")?,
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

/// The native half of `portico`.
// Free-threaded builds turn the interpreter lock on for this module until a thread storm has passed there.
#[pymodule(gil_used = true)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Core>()?;
    module.add_class::<Batch>()?;
    for (name, value) in [
        ("HEAD", HEAD),
        ("REQUEST", REQUEST),
        ("OPEN", OPEN),
        ("MESSAGE", MESSAGE),
        ("CLOSED", CLOSED),
        ("GONE", GONE),
        ("STOPPED", STOPPED),
        ("SENT", SENT),
        ("SHUT", SHUT),
        ("FULL", FULL),
        ("WANTS_HEAD", Wants::HEAD.0),
        ("WANTS_REQUEST", Wants::REQUEST.0),
        ("WANTS_WEBSOCKET", Wants::WEBSOCKET.0),
    ] {
        module.add(name, value)?;
    }
    Ok(())
}
