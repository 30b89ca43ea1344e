//! One request over a socket of Python's: sent, and its answer read, in one wait that nobody else waits for.
//!
//! The socket stays Python's: nothing here opens, closes or configures one, and it must block.

use std::{
    io::{self, Read, Write},
    mem::ManuallyDrop,
    net::TcpStream,
    os::fd::{FromRawFd, RawFd},
};

use pyo3::{exceptions::PyValueError, prelude::*};
use schematic_core::events::{Response, ResponseError};

/// Most answers are shorter.
const CHUNK: usize = 4096;

/// Why there is no answer.
pub(crate) enum Failure {
    /// The connection failed before any of the answer came.
    Lost(io::Error),
    /// What came is no answer.
    Answer(ResponseError),
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost(error) => error.into(),
            Failure::Answer(error) => PyValueError::new_err(error.to_string()),
        }
    }
}

/// Sends a request and reads its answer.
pub(crate) fn exchange(descriptor: RawFd, request: &[u8]) -> Result<Response, Failure> {
    if descriptor < 0 {
        return Err(Failure::Lost(io::ErrorKind::NotConnected.into()));
    }
    #[allow(unsafe_code, reason = "the socket is known by its number here")]
    // SAFETY: the caller keeps the socket open until this returns; the stream is never dropped, so it closes nothing.
    let mut socket = ManuallyDrop::new(unsafe { TcpStream::from_raw_fd(descriptor) });
    socket.write_all(request).map_err(Failure::Lost)?;
    read_answer(&mut *socket)
}

fn read_answer(socket: &mut impl Read) -> Result<Response, Failure> {
    let mut received = Vec::new();
    let mut chunk = [0; CHUNK];
    loop {
        let count = match socket.read(&mut chunk) {
            Ok(0) if received.is_empty() => {
                return Err(Failure::Lost(io::ErrorKind::ConnectionReset.into()));
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if received.is_empty() => return Err(Failure::Lost(error)),
            Err(_) => return Err(Failure::Answer(ResponseError::CutShort)),
        };
        received.extend_from_slice(&chunk[..count]);
        match Response::read(&received, count == 0, false) {
            Ok(None) => {}
            Ok(Some(response)) => return Ok(response),
            Err(error) => return Err(Failure::Answer(error)),
        }
    }
}
