//! A body in a file, as Python holds it: the file is closed when nobody holds this any more.
//!
//! Thread: whichever thread of the interpreter calls.

use crate::spool::Spooled;
use pyo3::prelude::*;
use std::os::fd::AsRawFd;

#[pyclass(module = "portico._core", frozen)]
pub struct Spool(pub Spooled);

#[pymethods]
impl Spool {
    fn fileno(&self) -> i32 {
        self.0.file.as_raw_fd()
    }

    fn __len__(&self) -> usize {
        self.0.length as usize
    }
}
