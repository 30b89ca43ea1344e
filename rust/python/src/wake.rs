//! Calls Python's waker from inside a call of the core, and keeps what a signal handler raised there
//! until that call is done. It must never let the core see an exception.

use std::{
    cell::Cell,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use pyo3::prelude::*;
use schematic_core::decider::{Topic, Wake};

use crate::python_call;

thread_local! {
    /// What a signal handler raised while the core called its waker.
    static INTERRUPTION: Cell<Option<PyErr>> = const { Cell::new(None) };
}
/// Whether any thread has such an exception: far cheaper to read than each thread's own.
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Raises what a signal handler raised during a call of the core, which is done by then.
///
/// Python runs signal handlers wherever Python code runs, and so within the waker, too.
#[inline]
pub(crate) fn uninterrupted<T>(done: T) -> PyResult<T> {
    if IS_INTERRUPTED.load(Relaxed)
        && let Some(raised) = INTERRUPTION.take()
    {
        // Handlers run on the main thread alone, so no other thread's is forgotten.
        IS_INTERRUPTED.store(false, Relaxed);
        return Err(raised);
    }
    Ok(done)
}

/// The core's waker: calls `callable` with the name of the topic.
pub(crate) fn wake_with(callable: Option<Py<PyAny>>) -> Wake {
    Box::new(move |topic| {
        if let Some(callable) = &callable {
            call(callable, name_of(topic));
        }
    })
}

const fn name_of(topic: Topic) -> &'static str {
    match topic {
        Topic::Events => "events",
        Topic::Extend => "extend",
    }
}

fn call(callable: &Py<PyAny>, topic: &str) {
    Python::attach(|py| {
        if let Err(raised) = python_call::call(callable.bind(py), (topic,)) {
            INTERRUPTION.set(Some(raised));
            IS_INTERRUPTED.store(true, Relaxed);
            // The call was cut short, and the core calls for a topic only once.
            if let Err(raised) = python_call::call(callable.bind(py), (topic,)) {
                INTERRUPTION.set(Some(raised));
            }
        }
    });
}
