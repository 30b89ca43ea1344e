//! Batches of events on their way out, the answers to them, and how many may be sent at once.

use std::borrow::Cow;

use parking_lot::Mutex;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};
use schematic_core::events::{Batch, Pace, Response};

#[cfg(unix)]
use crate::exchange::exchange;

/// Up to 100 events, written when they are asked for.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct EventBatch(pub Batch);

/// Room for the line with the length, whatever the length.
const LENGTH_LINE: usize = 64;

impl EventBatch {
    /// Writes a whole request, and tells where it begins: the length of the body is known once that is written.
    fn write_request(&self, head: &[u8]) -> (Vec<u8>, usize) {
        let room = head.len() + LENGTH_LINE;
        let mut memory = vec![0; room];
        self.0.write(&mut memory);
        let line = format!("Content-Length: {}\r\n\r\n", memory.len() - room);
        let middle = room - line.len();
        let start = middle - head.len();
        memory[start..middle].copy_from_slice(head);
        memory[middle..room].copy_from_slice(line.as_bytes());
        (memory, start)
    }
}

#[pymethods]
impl EventBatch {
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &py.detach(|| self.0.body()))
    }

    /// A whole HTTP/1.1 request: the given lines, the length, the body.
    fn request<'py>(&self, py: Python<'py>, head: &[u8]) -> Bound<'py, PyBytes> {
        let (memory, start) = py.detach(|| self.write_request(head));
        PyBytes::new(py, &memory[start..])
    }

    /// Sends that request over a socket that blocks, and reads the answer.
    #[cfg(unix)]
    fn exchange(&self, py: Python<'_>, descriptor: i32, head: &[u8]) -> PyResult<HttpAnswer> {
        let answer = py.detach(|| {
            let (memory, start) = self.write_request(head);
            exchange(descriptor, &memory[start..])
        })?;
        Ok(HttpAnswer(answer))
    }

    #[getter]
    fn count(&self) -> usize {
        self.0.len()
    }

    #[getter]
    fn billing(&self) -> usize {
        self.0.billing()
    }

    /// Two halves, to find the event that the service refuses; none of a single event.
    fn split(&self) -> Option<(Self, Self)> {
        let (first, second) = self.0.split()?;
        Some((Self(first), Self(second)))
    }
}

/// The answer to one HTTP/1.1 request.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct HttpAnswer(Response);

#[pymethods]
impl HttpAnswer {
    #[getter]
    fn status(&self) -> u16 {
        self.0.status
    }

    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.body)
    }

    #[getter]
    fn reusable(&self) -> bool {
        self.0.reusable
    }

    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        Some(String::from_utf8_lossy(self.0.header(name)?))
    }
}

/// Reads all that has been received; None if more is to come.
#[pyfunction]
pub(crate) fn read_answer(
    received: &[u8],
    ended: bool,
    tunnel: bool,
) -> PyResult<Option<HttpAnswer>> {
    let answer = Response::read(received, ended, tunnel);
    match answer {
        Ok(answer) => Ok(answer.map(HttpAnswer)),
        Err(error) => Err(PyValueError::new_err(error.to_string())),
    }
}

/// How many requests may be under way.
#[pyclass(frozen, name = "Pace", module = "schematic_native._native")]
pub(crate) struct RequestPace(Mutex<Pace>);

#[pymethods]
impl RequestPace {
    #[new]
    fn new(first: u16, most: u16) -> Self {
        Self(Mutex::new(Pace::new(first, most)))
    }

    #[getter]
    fn limit(&self) -> usize {
        self.0.lock().limit()
    }

    fn taken(&self, seconds: f64, wanted: bool) {
        self.0.lock().taken(seconds, wanted);
    }

    fn refused(&self) {
        self.0.lock().refused();
    }
}
