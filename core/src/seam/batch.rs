//! The events of one `take`, made into Python objects one by one.
//!
//! Thread: home, attached to the interpreter.

use super::codes::{
    ARRIVED, CLOSED, CONNECTED, DRAINED, FAILED, GONE, HEAD, LOGGED, MESSAGE, OPEN, REQUEST, STOPPED, TROUBLE,
    WHY_ANSWERED, WHY_CANCELLED, WHY_CERTIFICATE, WHY_ENDED, WHY_PROTOCOL, WHY_SYSTEM, WHY_TIMED_OUT,
};
use super::spool::Spool;
use crate::access_log::{Asked, Record};
use crate::engine::{Engine, Handled};
use crate::mailbox::{Body, Event, Failure, Kind, Request, Why};
use crate::number::Number;
use crate::route_table::Route;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use wire::http_head::Version;

#[pyclass(module = "portico._core")]
pub struct Batch {
    engine: Arc<Engine>,
    events: VecDeque<Event>,
    /// The connection whose events are being handled, and how much of them.
    current: Number,
    messages: usize,
    bytes: usize,
    /// The route that Python looks up for the current event: it stays known until the next one is asked for.
    route: Option<Arc<Route>>,
    /// What has been handled and not been settled.
    handled: Vec<Handled>,
    /// What the last long message was kept in; the reactor uses it again.
    spare: Vec<u8>,
    is_open: bool,
    waited: Duration,
    /// How many events were handed out, records of the access log not counted: no callback is for them.
    ran: usize,
    has_begun: bool,
    /// On the coarse clock of `now_coarse`.
    ends_at: Duration,
}

/// Once callbacks have had the thread for so long the batch is over, and whoever else lives there, an asyncio loop, a
/// window, the caller of `service(timeout)`, has a turn. One callback may of course take longer.
const BUDGET: Duration = Duration::from_millis(10);

/// What smaller messages are kept in is not worth handing back.
const SPARE_FROM_BYTES: usize = 128 * 1024;

/// What was sent to so many connections leaves together, one socket after the other: the system sends 10 % faster while
/// nothing else is done in between, and the clients that a first send wakes find the others' answers when they look.
/// Slow callbacks do not wait for each other, see `settle`; nor does the watchman.
const SETTLE_TOGETHER: usize = 32;

#[pymethods]
impl Batch {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        if self.has_begun && now_coarse() >= self.ends_at {
            self.end();
            return Ok(None);
        }
        let Some(event) = self.events.pop_front() else {
            self.end();
            return Ok(None);
        };
        self.has_begun = true;
        self.ran += usize::from(!matches!(event.kind, Kind::Logged(_)));
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
            Kind::Logged(_) => {} // of no connection: what the last one gets goes on being collected
            _ => self.settle(event.number),
        }
        self.messages += usize::from(matches!(event.kind, Kind::Message { .. }));
        self.route = match &event.kind {
            Kind::Head(request) | Kind::Request(request) | Kind::Open { request, .. } => {
                Some(Arc::clone(&request.route))
            }
            _ => None,
        };
        to_python(py, event, &mut self.spare).map(Some)
    }

    fn __len__(&self) -> usize {
        self.events.len()
    }

    #[getter]
    fn ran(&self) -> usize {
        self.ran
    }

    #[getter]
    fn waited_s(&self) -> f64 {
        self.waited.as_secs_f64()
    }
}

impl Batch {
    pub fn new(engine: Arc<Engine>, events: VecDeque<Event>) -> Batch {
        let waited = events.front().map_or(Duration::ZERO, |event| engine.age(event.at));
        let is_open = !events.is_empty();
        Batch {
            engine,
            events,
            current: 0,
            messages: 0,
            bytes: 0,
            route: None,
            handled: Vec::new(),
            spare: Vec::new(),
            is_open,
            waited,
            ran: 0,
            has_begun: false,
            ends_at: now_coarse() + BUDGET,
        }
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
        self.engine.settle(&mut self.handled, std::mem::take(&mut self.spare));
        self.engine.look_up();
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.is_open, false) {
            self.route = None;
            self.settle(0);
            self.engine.settle(&mut self.handled, std::mem::take(&mut self.spare));
            self.engine.end_batch(std::mem::take(&mut self.events));
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.end();
    }
}

/// It is a few milliseconds late, but costs a quarter of what the exact time does, and is asked for with every event.
fn now_coarse() -> Duration {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn to_python<'py>(py: Python<'py>, event: Event, spare: &mut Vec<u8>) -> PyResult<Bound<'py, PyTuple>> {
    let number = event.number;
    match event.kind {
        Kind::Message { is_text, data } => {
            let message = message_object(py, is_text, &data)?;
            if data.capacity() >= SPARE_FROM_BYTES {
                *spare = data;
            }
            (MESSAGE, number, message).into_pyobject(py)
        }
        Kind::Request(request) => (REQUEST, number, request_parts(py, *request)?).into_pyobject(py),
        Kind::Head(request) => (HEAD, number, request_parts(py, *request)?).into_pyobject(py),
        Kind::Open { request, protocol } => (OPEN, number, (request_parts(py, *request)?, protocol)).into_pyobject(py),
        Kind::Closed { code, reason } => (CLOSED, number, (code, reason)).into_pyobject(py),
        Kind::Gone => (GONE, number, py.None()).into_pyobject(py),
        Kind::Stopped => (STOPPED, number, py.None()).into_pyobject(py),
        Kind::Drained => (DRAINED, number, py.None()).into_pyobject(py),
        Kind::Logged(record) => (LOGGED, number, log_parts(py, &record)?).into_pyobject(py),
        Kind::Arrived => (ARRIVED, number, py.None()).into_pyobject(py),
        Kind::Trouble(text) => (TROUBLE, number, text).into_pyobject(py),
        Kind::Connected { head, protocol } => {
            (CONNECTED, number, (PyBytes::new(py, &head.field_block()), protocol)).into_pyobject(py)
        }
        Kind::Failed(failure) => (FAILED, number, failure_parts(py, *failure)?).into_pyobject(py),
    }
}

/// What Python knows a message as.
pub fn message_object<'py>(py: Python<'py>, is_text: bool, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    Ok(match is_text {
        true => PyString::from_bytes(py, data)?.into_any(),
        false => PyBytes::new(py, data).into_any(),
    })
}

fn failure_parts(py: Python<'_>, failure: Failure) -> PyResult<Bound<'_, PyTuple>> {
    let (why, errno) = match failure.why {
        Why::System(errno) => (WHY_SYSTEM, errno),
        Why::TimedOut => (WHY_TIMED_OUT, 0),
        Why::Answered => (WHY_ANSWERED, 0),
        Why::Protocol => (WHY_PROTOCOL, 0),
        Why::Cancelled => (WHY_CANCELLED, 0),
        Why::Certificate => (WHY_CERTIFICATE, 0),
        Why::Ended => (WHY_ENDED, 0),
    };
    let answer = failure.answer.map(|(head, body)| {
        let (fields, body) = (PyBytes::new(py, &head.field_block()), PyBytes::new(py, &body));
        (head.status(), head.reason().into_owned(), fields, body)
    });
    (why, errno, failure.text, answer).into_pyobject(py)
}

fn request_parts(py: Python<'_>, request: Request) -> PyResult<Bound<'_, PyTuple>> {
    let head = &request.head;
    let version = match head.version() {
        Version::Http10 => pyo3::intern!(py, "1.0"),
        Version::Http11 => pyo3::intern!(py, "1.1"),
    };
    let client = client_of(py, request.client)?;
    let fields = PyBytes::new(py, &head.field_block());
    let body = match request.body {
        Body::Memory(bytes) => PyBytes::new(py, &bytes).into_any(),
        Body::File(spooled) => Bound::new(py, Spool(spooled))?.into_any(),
        Body::Coming(number) => number.into_pyobject(py)?.into_any(),
    };
    let tls = request.tls.map(|certificate| PyBytes::new(py, &certificate));
    (
        request.server,
        request.route.number,
        PyString::intern(py, head.method()),
        head.target(),
        version,
        fields,
        body,
        client,
        request.is_websocket,
        tls,
    )
        .into_pyobject(py)
}

fn client_of(py: Python<'_>, client: Option<SocketAddr>) -> PyResult<Bound<'_, PyAny>> {
    Ok(match client {
        Some(address) => (address.ip().to_canonical().to_string(), address.port()).into_pyobject(py)?.into_any(),
        None => pyo3::intern!(py, "").clone().into_any(),
    })
}

pub fn log_parts<'py>(py: Python<'py>, record: &Record) -> PyResult<Bound<'py, PyTuple>> {
    let (line, fields) = match &record.asked {
        Asked::Request(head) => (head.line(), head.field_block()),
        Asked::Line(line) => (line.to_vec(), Vec::new()),
    };
    (
        client_of(py, record.client)?,
        PyBytes::new(py, &line),
        PyBytes::new(py, &fields),
        record.status,
        record.body_bytes,
        record.began.as_secs_f64(),
        record.took.as_secs_f64(),
        record.is_whole,
        record.close_code,
        record.lost,
    )
        .into_pyobject(py)
}
