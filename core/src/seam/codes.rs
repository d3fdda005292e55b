//! The numbers that stand for words on both sides of the seam. `_core.pyi` says what each means.
//!
//! Thread: any (constants).

use super::arguments::{
    FRAMES_BINARY, FRAMES_BY_TYPE, FRAMES_TEXT, REACH_ALL, REACH_BELOW, REACH_EXACT, SLOW_CLOSE, SLOW_DROP_NEW,
    SLOW_DROP_OLDEST,
};
use crate::route_table::Wants;
use pyo3::prelude::*;

pub const HEAD: u8 = 0;
pub const REQUEST: u8 = 1;
pub const OPEN: u8 = 2;
pub const MESSAGE: u8 = 3;
pub const CLOSED: u8 = 4;
pub const GONE: u8 = 5;
pub const STOPPED: u8 = 6;
pub const DRAINED: u8 = 7;
pub const LOGGED: u8 = 8;
pub const ARRIVED: u8 = 9;
pub const TROUBLE: u8 = 10;
pub const CONNECTED: u8 = 11;
pub const FAILED: u8 = 12;

pub const WHY_SYSTEM: u8 = 0;
pub const WHY_TIMED_OUT: u8 = 1;
pub const WHY_ANSWERED: u8 = 2;
pub const WHY_PROTOCOL: u8 = 3;
pub const WHY_CANCELLED: u8 = 4;
pub const WHY_CERTIFICATE: u8 = 5;
pub const WHY_ENDED: u8 = 6;

pub const SENT: u8 = 0;
pub const SHUT: u8 = 7;
pub const FULL: u8 = 8;
pub const BODILESS: u8 = 1;

/// Give each its name in Python.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    for (name, value) in [
        ("HEAD", HEAD),
        ("REQUEST", REQUEST),
        ("OPEN", OPEN),
        ("MESSAGE", MESSAGE),
        ("CLOSED", CLOSED),
        ("GONE", GONE),
        ("STOPPED", STOPPED),
        ("DRAINED", DRAINED),
        ("LOGGED", LOGGED),
        ("ARRIVED", ARRIVED),
        ("TROUBLE", TROUBLE),
        ("CONNECTED", CONNECTED),
        ("FAILED", FAILED),
        ("WHY_SYSTEM", WHY_SYSTEM),
        ("WHY_TIMED_OUT", WHY_TIMED_OUT),
        ("WHY_ANSWERED", WHY_ANSWERED),
        ("WHY_PROTOCOL", WHY_PROTOCOL),
        ("WHY_CANCELLED", WHY_CANCELLED),
        ("WHY_CERTIFICATE", WHY_CERTIFICATE),
        ("WHY_ENDED", WHY_ENDED),
        ("BODILESS", BODILESS),
        ("SENT", SENT),
        ("SHUT", SHUT),
        ("FULL", FULL),
        ("SLOW_CLOSE", SLOW_CLOSE),
        ("SLOW_DROP_NEW", SLOW_DROP_NEW),
        ("SLOW_DROP_OLDEST", SLOW_DROP_OLDEST),
        ("FRAMES_BY_TYPE", FRAMES_BY_TYPE),
        ("FRAMES_TEXT", FRAMES_TEXT),
        ("FRAMES_BINARY", FRAMES_BINARY),
        ("REACH_BELOW", REACH_BELOW),
        ("REACH_EXACT", REACH_EXACT),
        ("REACH_ALL", REACH_ALL),
        ("WANTS_HEAD", Wants::HEAD.0),
        ("WANTS_REQUEST", Wants::REQUEST.0),
        ("WANTS_WEBSOCKET", Wants::WEBSOCKET.0),
        ("WANTS_BODY", Wants::BODY.0),
    ] {
        module.add(name, value)?;
    }
    Ok(())
}
