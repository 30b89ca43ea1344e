//! Calls Python code from a native method. It must never let a thread that the interpreter ends in such a call
//! unwind through native code.
//!
//! Before Python 3.14, the interpreter's exit ends a daemon thread as soon as it needs the lock of the interpreter,
//! by unwinding its stack. Native code in the middle of that stack would abort the whole process.

use std::{hint::black_box, mem, ptr, thread};

use pyo3::{
    ffi::{self, PyObject},
    prelude::*,
    types::{PyString, PyTuple},
};

type Call = unsafe extern "C" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;
type UnwindingCall =
    unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;

/// Dropped only while its thread is being ended: keeps the thread where it is until the process has ended.
struct StayHere;

impl Drop for StayHere {
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}

/// Calls a method that runs Python code.
pub(crate) fn call_method<'py, A>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    arguments: A,
) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
{
    call(&object.getattr(name)?, arguments)
}

/// Calls an object that runs Python code.
pub(crate) fn call<'py, A>(
    callable: &Bound<'py, PyAny>,
    arguments: A,
) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
{
    let py = callable.py();
    let arguments = arguments.into_pyobject(py).map_err(Into::into)?;
    let stay = StayHere;
    #[allow(
        unsafe_code,
        reason = "pyo3 declares a call that cannot unwind; both pointers live for the whole of it"
    )]
    // SAFETY: the two types differ in whether a call may unwind, and nothing else.
    let result = unsafe {
        // The compiler must not see through the pointer: it would take the call for one that cannot unwind.
        let call = black_box(mem::transmute::<Call, UnwindingCall>(ffi::PyObject_Call));
        call(callable.as_ptr(), arguments.as_ptr(), ptr::null_mut())
    };
    mem::forget(stay);
    #[allow(
        unsafe_code,
        reason = "pyo3 has no other way to take the result of a call"
    )]
    // SAFETY: the result is a new reference, or null with an exception set.
    unsafe {
        Bound::from_owned_ptr_or_err(py, result)
    }
}
