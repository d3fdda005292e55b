//! The seam: `Core` and `Batch`, documented in `python/portico/_core.pyi`. Only this folder knows Python.
//!
//! Thread: whichever thread of the interpreter calls; attached to it, except inside `detach`.

mod arguments;
mod batch;
mod beside;
mod certificates;
mod codes;
mod outbound;
mod spool;

use crate::connection::{Connection, Turn};
use crate::dial::dial;
use crate::engine::Engine;
use crate::http_answer::Answer;
use crate::http_compress::compress_inline;
use crate::http_stream::{Begun, TooMuch};
use crate::inflow::{OVER, Taken};
use crate::mailbox::{Event, Kind};
use crate::number::{self, Number};
use crate::outgoing::Outgoing;
use crate::reactor::Reactor;
use crate::route_table::RouteTable;
use crate::settings::Settings;
use crate::topics::Topics;
use crate::watchman;
use crate::websocket_send::Outcome;
use arguments::{
    FilesSpec, RouteSpec, check_answer, check_status, cors_of, deadline_after, item, limits_of, mounts_of,
    open_listener, os_error, payload_of, routes_of, value_error,
};
use batch::{Batch, log_parts, message_object};
use certificates::{ClientTls, TlsSpecParts, check_tls, read_certificate, server_tls, write_certificate};
use codes::{BODILESS, FULL, SENT, SHUT};
use outbound::{Outbound, outbound_of};
use parking_lot::Mutex;
use pyo3::exceptions::{PyImportError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use spool::Spool;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::error::error_body;
use wire::http_gzip::GzipPool;
use wire::ws_close::is_sendable;
use wire::ws_deflate::InflaterPool;

/// How often a wait looks for signals.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// RFC 6455 §5.5: what a control frame can carry.
const MAX_CONTROL_BYTES: usize = 125;
/// Two of them are the close code.
const MAX_REASON_BYTES: usize = 123;

/// In seconds and nanoseconds.
fn since_1970(nanos: i128) -> (i64, u32) {
    const SECOND: i128 = 1_000_000_000;
    (i64::try_from(nanos.div_euclid(SECOND)).unwrap_or_default(), nanos.rem_euclid(SECOND) as u32)
}

fn code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Sent => SENT,
        Outcome::Shut => SHUT,
        Outcome::Full => FULL,
    }
}

fn written(written: Option<Result<Outcome, TooMuch>>) -> PyResult<u8> {
    match written {
        Some(Ok(outcome)) => Ok(code(outcome)),
        Some(Err(TooMuch)) => Err(PyValueError::new_err("the body is longer than its Content-Length")),
        None => Ok(SHUT),
    }
}

#[pyclass(module = "portico._core", frozen)]
struct Core {
    engine: Arc<Engine>,
    watchman: Mutex<Option<JoinHandle<()>>>,
    is_shut: AtomicBool,
    client_tls: ClientTls,
}

#[pymethods]
impl Core {
    #[new]
    fn new() -> PyResult<Core> {
        let engine = Engine::new().map_err(|errno| os_error(errno.into()))?;
        Ok(Core {
            engine: Arc::new(engine),
            watchman: Mutex::new(None),
            is_shut: AtomicBool::new(false),
            client_tls: ClientTls::default(),
        })
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

    fn mailbox_fileno(&self) -> i32 {
        self.engine.mailbox.descriptor().as_raw_fd()
    }

    fn oldest_s(&self) -> f64 {
        self.engine.mailbox.oldest().map_or(0.0, |at| self.engine.age(at).as_secs_f64())
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
            cors: cors_of(&config)?,
            is_tcp,
            logs_access: config.contains("logs_access")? && item(&config, "logs_access")?,
            spool_directory: item(&config, "spool_directory")?,
            inflaters: InflaterPool::new(),
            gzippers: GzipPool::new(),
        };
        let routes = self.routes(item(&config, "routes")?)?;
        let files: Vec<FilesSpec> = if config.contains("files")? { item(&config, "files")? } else { Vec::new() };
        let mounts = py.detach(|| mounts_of(files))?;
        let tls: Option<TlsSpecParts> = if config.contains("tls")? { item(&config, "tls")? } else { None };
        let tls = tls.map(|parts| server_tls(py, parts)).transpose()?;
        let number = py.detach(|| {
            compress_inline(&routes, None);
            let mut lease = self.engine.lease();
            lease.forget_stopped();
            lease.add_site(listener, settings, routes, mounts, tls)
        });
        Ok((number.map_err(|errno| os_error(errno.into()))?, host, port))
    }

    fn connect(&self, py: Python<'_>, address: Bound<'_, PyAny>, config: Bound<'_, PyDict>) -> PyResult<Number> {
        self.check_alive()?;
        self.start_watchman()?;
        let Outbound { destination, call, settings, has_deflate, tls } = outbound_of(&address, &config)?;
        let tls = match tls {
            Some((spec, name)) => Some((self.client_tls.get(py, spec)?, name)),
            None => None,
        };
        self.engine.has_deflate.fetch_or(has_deflate, Ordering::Relaxed);
        let number = py.detach(|| {
            let stream = dial(&destination, tls)?;
            let mut lease = self.engine.lease();
            lease.tick();
            lease.call(stream, call, settings).map_err(std::io::Error::from)
        });
        number.map_err(os_error)
    }

    fn set_routes(&self, py: Python<'_>, server: Number, routes: Vec<RouteSpec>) -> PyResult<Option<Vec<Number>>> {
        let routes = self.routes(routes)?;
        Ok(py.detach(|| {
            let former = self.engine.lease().site(server).map(|site| Arc::clone(&site.routes));
            compress_inline(&routes, former.as_deref());
            drop(former); // what it lets go of must not look as if it were used
            self.engine.lease().set_routes(server, routes)
        }))
    }

    fn set_files(&self, py: Python<'_>, server: Number, files: Vec<FilesSpec>) -> PyResult<bool> {
        Ok(py.detach(|| mounts_of(files).map(|mounts| self.engine.lease().set_mounts(server, mounts)))?)
    }

    fn set_tls(&self, py: Python<'_>, server: Number, tls: TlsSpecParts) -> PyResult<bool> {
        let config = server_tls(py, tls)?;
        Ok(py.detach(|| self.engine.lease().set_tls(server, config)))
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
    #[allow(clippy::too_many_arguments)]
    fn respond(
        &self,
        py: Python<'_>,
        number: Number,
        status: u16,
        reason: Option<PyBackedStr>,
        fields: Vec<(PyBackedStr, PyBackedStr)>,
        body: Bound<'_, PyAny>,
        close: bool,
    ) -> PyResult<bool> {
        check_status(status)?;
        let (_, body) = payload_of(&body)?;
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let answer = Answer { status, reason: reason.as_deref(), fields: &fields, body: &body, close };
        if self.squeezes_alone(&body) {
            return py.detach(|| self.respond_long(number, &answer)).map_err(value_error);
        }
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

    #[pyo3(signature = (number, status, reason, fields, length, close = false, tells_end = false))]
    #[allow(clippy::too_many_arguments)]
    fn begin(
        &self,
        py: Python<'_>,
        number: Number,
        status: u16,
        reason: Option<PyBackedStr>,
        fields: Vec<(PyBackedStr, PyBackedStr)>,
        length: Option<u64>,
        close: bool,
        tells_end: bool,
    ) -> PyResult<u8> {
        check_status(status)?;
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let answer = Answer { status, reason: reason.as_deref(), fields: &fields, body: &[], close };
        let begun = self.now(py, number, |connection, turn| connection.begin_stream(&answer, length, tells_end, turn));
        match begun.unwrap_or(Ok(Begun::Shut)).map_err(value_error)? {
            Begun::Body => Ok(SENT),
            Begun::Bodiless => Ok(BODILESS),
            Begun::Shut => Ok(SHUT),
        }
    }

    fn write(&self, py: Python<'_>, number: Number, data: &Bound<'_, PyAny>) -> PyResult<u8> {
        let (_, data) = payload_of(data)?;
        if self.squeezes_alone(&data) {
            return written(py.detach(|| self.write_long(number, &data)));
        }
        written(self.now(py, number, |connection, turn| connection.write_stream(&data, turn)))
    }

    fn offer(&self, py: Python<'_>, number: Number, data: &Bound<'_, PyAny>) -> PyResult<u8> {
        let (_, data) = payload_of(data)?;
        if self.squeezes_alone(&data) {
            return written(py.detach(|| self.offer_long(number, &data)));
        }
        written(self.now(py, number, |connection, turn| connection.offer_stream(&data, turn)))
    }

    #[staticmethod]
    fn new_number() -> Number {
        number::next()
    }

    fn resume(&self, py: Python<'_>, number: Number) {
        self.now(py, number, |connection, _| connection.resume_stream());
    }

    fn finish(&self, py: Python<'_>, number: Number, trailers: Vec<(PyBackedStr, PyBackedStr)>) -> PyResult<bool> {
        let trailers: Vec<(&str, &str)> = trailers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let finished = self.now(py, number, |connection, turn| connection.finish_stream(&trailers, turn));
        finished.unwrap_or(Ok(false)).map_err(value_error)
    }

    fn abort(&self, py: Python<'_>, number: Number) {
        self.now(py, number, |connection, turn| connection.abort_stream(turn));
    }

    #[pyo3(signature = (number, status, reason, fields, descriptor, length, close = false, modified_ns = None))]
    #[allow(clippy::too_many_arguments)]
    fn respond_file(
        &self,
        py: Python<'_>,
        number: Number,
        status: u16,
        reason: Option<PyBackedStr>,
        fields: Vec<(PyBackedStr, PyBackedStr)>,
        descriptor: i32,
        length: u64,
        close: bool,
        modified_ns: Option<i128>,
    ) -> PyResult<bool> {
        check_status(status)?;
        // SAFETY: the caller's descriptor stays open while this call lasts, and only its duplicate is kept.
        let own = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned().map_err(os_error)?;
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let answer = Answer { status, reason: reason.as_deref(), fields: &fields, body: &[], close };
        let modified = modified_ns.map(since_1970);
        let answered =
            self.now(py, number, |connection, turn| connection.answer_file_of(&answer, own, length, modified, turn));
        answered.unwrap_or(Ok(false)).map_err(value_error)
    }

    fn proceed(&self, number: Number) -> bool {
        self.command(number, true, move |reactor| {
            reactor.tick();
            reactor.with(number, |connection, turn| connection.proceed(turn)).unwrap_or(false)
        })
    }

    fn send(&self, py: Python<'_>, number: Number, data: &Bound<'_, PyAny>) -> PyResult<u8> {
        let (opcode, payload) = payload_of(data)?;
        let mut message = Outgoing::to_one(opcode, payload);
        if self.compresses_alone(&message) {
            return Ok(code(py.detach(|| self.send_long(number, message))));
        }
        let outcome = match self.engine.try_lease() {
            Some(mut lease) => {
                let is_corked = lease.is_corking && self.engine.is_home();
                lease.send(number, is_corked, &mut message)
            }
            None if self.engine.is_live(number) => {
                let mut message = message.into_owned();
                self.engine.leave(Box::new(move |reactor| {
                    reactor.send(number, false, &mut message);
                }));
                Outcome::Sent
            }
            None => Outcome::Shut,
        };
        Ok(code(outcome))
    }

    fn broadcast(&self, py: Python<'_>, server: Number, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.send_to_many(py, server, None, data, 0)
    }

    #[allow(clippy::needless_pass_by_value)]
    fn publish(
        &self,
        py: Python<'_>,
        server: Number,
        topic: PyBackedStr,
        data: &Bound<'_, PyAny>,
        exclude: Number,
    ) -> PyResult<usize> {
        self.send_to_many(py, server, Some(&topic), data, exclude)
    }

    #[allow(clippy::needless_pass_by_value)]
    fn subscribe(&self, number: Number, topic: PyBackedStr) -> bool {
        self.command(number, true, move |reactor| {
            reactor.with(number, |connection, turn| connection.subscribe(&topic, turn)).unwrap_or(false)
        })
    }

    #[allow(clippy::needless_pass_by_value)]
    fn unsubscribe(&self, number: Number, topic: PyBackedStr) -> bool {
        self.command(number, true, move |reactor| {
            reactor.with(number, |connection, turn| connection.unsubscribe(&topic, turn)).unwrap_or(false)
        })
    }

    fn topics<'py>(&self, py: Python<'py>, server: Number) -> PyResult<Bound<'py, PyDict>> {
        let counts: Vec<(String, usize)> = py.detach(|| {
            let lease = self.engine.lease();
            let topics = lease.site(server).map(|site| &site.topics);
            topics.into_iter().flat_map(Topics::counts).map(|(topic, count)| (topic.to_owned(), count)).collect()
        });
        let topics = PyDict::new(py);
        for (topic, count) in counts {
            topics.set_item(topic, count)?;
        }
        Ok(topics)
    }

    fn drain(&self, py: Python<'_>, number: Number) -> bool {
        py.detach(|| self.engine.lease().with(number, |connection, turn| connection.drain(turn)).unwrap_or(false))
    }

    fn watch_drained(&self, number: Number) {
        self.command(number, (), move |reactor| {
            reactor.with(number, |connection, _| connection.watch_drained());
        });
    }

    fn wait_drained(&self, py: Python<'_>, number: Number, timeout: Option<f64>) -> PyResult<bool> {
        let waited = wait_in_slices(py, timeout, |slice| self.engine.wait_drained(number, slice));
        Ok(waited?.unwrap_or(false))
    }

    fn receive<'py>(
        &self,
        py: Python<'py>,
        number: Number,
        body: Number,
        says_arrived: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let taken = self.now(py, number, |connection, turn| connection.take_inflow(body, says_arrived, turn));
        match taken.unwrap_or(Taken::Failed(OVER)) {
            Taken::Bytes(bytes) => Ok(Some(PyBytes::new(py, &bytes).into_any())),
            Taken::End => Ok(Some(PyBytes::new(py, b"").into_any())),
            Taken::Nothing => Ok(None),
            Taken::Failed(refusal) => {
                let line = error_body(refusal.status, refusal.reason);
                Ok(Some((refusal.status, line.trim_end()).into_pyobject(py)?.into_any()))
            }
        }
    }

    fn wait_body(&self, py: Python<'_>, number: Number, body: Number, timeout: Option<f64>) -> PyResult<bool> {
        let waited = wait_in_slices(py, timeout, |slice| self.engine.wait_body(number, body, slice).then_some(()));
        Ok(waited?.is_some())
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
            let seen = self.engine.lease().with(number, |connection, turn| connection.websocket_info(turn));
            seen.flatten()
        })
    }

    fn round_trips(&self, py: Python<'_>, number: Number) -> Vec<(f64, f64)> {
        py.detach(|| self.engine.lease().with(number, |connection, _| connection.round_trips()).unwrap_or_default())
    }

    fn hold(&self, number: Number, size: usize) {
        self.command(number, (), move |reactor| {
            reactor.with(number, |connection, _| connection.hold(size));
        });
    }

    fn release(&self, number: Number, size: usize) {
        self.command(number, (), move |reactor| {
            reactor.with(number, |connection, turn| connection.release(size, turn));
        });
    }

    fn expects_answer(&self) -> bool {
        self.engine.expects_answer()
    }

    fn answer<'py>(
        &self,
        py: Python<'py>,
        number: Number,
        handled: Option<usize>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(size) = handled {
            self.release(number, size);
        }
        if !self.engine.is_answer_near() {
            return Ok(None);
        }
        let answer = py.detach(|| self.engine.look_for(number));
        answer.map(|answer| message_object(py, answer.is_text, &answer.data)).transpose()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (counters, lost_records) = py.detach(|| {
            let lease = self.engine.lease();
            (lease.counters.clone(), lease.lost_records())
        });
        let stats = PyDict::new(py);
        stats.set_item("accepted", counters.accepted)?;
        stats.set_item("requests", counters.requests)?;
        stats.set_item("messages", counters.messages)?;
        stats.set_item("refused", counters.refused.values().sum::<u64>())?;
        for (status, count) in &counters.refused {
            stats.set_item(format!("refused_{status}"), count)?;
        }
        stats.set_item("turns", counters.turns)?;
        stats.set_item("panics", counters.panics)?;
        stats.set_item("dropped", counters.dropped)?;
        stats.set_item("files", counters.files)?;
        stats.set_item("lost_records", lost_records)?;
        stats.set_item("handshakes", counters.handshakes)?;
        stats.set_item("failed_handshakes", counters.failed_handshakes)?;
        stats.set_item("takeovers", self.engine.takeovers.load(Ordering::Relaxed))?;
        Ok(stats)
    }

    fn shutdown<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Number, Bound<'py, PyTuple>)>> {
        if self.is_shut.swap(true, Ordering::SeqCst) {
            return Ok(Vec::new());
        }
        let left = py.detach(|| {
            self.engine.lease().cut_all();
            self.end_watchman();
            let left = self.engine.mailbox.empty();
            self.engine.mailbox.wake();
            left
        });
        let record = |event: Event| match event.kind {
            Kind::Logged(record) => Some(log_parts(py, &record).map(|parts| (event.number, parts))),
            _ => None, // files that it brings are closed
        };
        left.into_iter().filter_map(record).collect()
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
        self.engine.mailbox.empty();
    }
}

impl Core {
    fn check_alive(&self) -> PyResult<()> {
        if self.is_shut.load(Ordering::SeqCst) {
            return Err(PyRuntimeError::new_err("this core was shut down, or belongs to the parent of this process"));
        }
        Ok(())
    }

    /// Do something with a connection and wait for what comes of it: detached, unless nobody has the reactor.
    fn now<R: Send>(
        &self,
        py: Python<'_>,
        number: Number,
        act: impl FnOnce(&mut Connection, &mut Turn) -> R + Send,
    ) -> Option<R> {
        if let Some(mut lease) = self.engine.try_lease() {
            lease.tick();
            return lease.with(number, act);
        }
        py.detach(|| {
            let mut lease = self.engine.lease();
            lease.tick();
            lease.with(number, act)
        })
    }

    fn routes(&self, specs: Vec<RouteSpec>) -> PyResult<RouteTable> {
        let routes = routes_of(specs)?;
        if routes.has_deflate() {
            self.engine.has_deflate.store(true, Ordering::Relaxed);
        }
        if routes.has_gzip() {
            self.engine.has_gzip.store(true, Ordering::Relaxed);
        }
        Ok(routes)
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

/// Wait with `wait`, looking for signals in between. `None`: `timeout` seconds have passed.
fn wait_in_slices<R: Send>(
    py: Python<'_>,
    timeout: Option<f64>,
    wait: impl Fn(Duration) -> Option<R> + Sync,
) -> PyResult<Option<R>> {
    let deadline = timeout.and_then(deadline_after);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let slice = left.map_or(SIGNAL_CHECK, |left| left.min(SIGNAL_CHECK));
        if let Some(found) = py.detach(|| wait(slice)) {
            return Ok(Some(found));
        }
        py.check_signals()?;
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(None);
        }
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

/// The native half of `portico`.
// Free-threaded builds turn the interpreter lock on for this module until a thread storm has passed there.
#[pymodule(gil_used = true)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Types, interned names and exit hooks belong to one interpreter; PyO3's multi-phase modules do not check it.
    // SAFETY: attached to an interpreter.
    if unsafe { ffi::PyInterpreterState_Get() != ffi::PyInterpreterState_Main() } {
        return Err(PyImportError::new_err("portico runs in the main interpreter only, and this is a subinterpreter"));
    }
    module.add_class::<Core>()?;
    module.add_class::<Batch>()?;
    module.add_class::<Spool>()?;
    module.add_function(wrap_pyfunction!(check_tls, module)?)?;
    module.add_function(wrap_pyfunction!(read_certificate, module)?)?;
    module.add_function(wrap_pyfunction!(write_certificate, module)?)?;
    codes::add_to(module)?;
    Ok(())
}
