//! How this extension was built: what a report of a fault needs, and what a wheel is held against. It must
//! never tell of more than the build itself.

use pyo3::{prelude::*, types::PyTuple};

/// How the extension was built; there is one, `__build__`.
#[pyclass(frozen, module = "schematic_native._native")]
pub(crate) struct Build {
    #[pyo3(get)]
    version: &'static str,
    /// The ABI, and whether a free-threaded Python can load it.
    abi: &'static [&'static str],
    /// Cargo's; "release" in every published wheel.
    #[pyo3(get)]
    profile: &'static str,
    #[pyo3(get)]
    target: &'static str,
    #[pyo3(get)]
    rustc: &'static str,
}

/// What `rust/python/build.rs` found out.
pub(crate) const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    abi: match (cfg!(Py_LIMITED_API), cfg!(Py_GIL_DISABLED)) {
        (true, false) => &["abi3"],
        (true, true) => &["abi3t", "free-threaded"],
        (false, true) => &["version-specific", "free-threaded"],
        (false, false) => &["version-specific"],
    },
    profile: env!("BUILD_PROFILE"),
    target: env!("BUILD_TARGET"),
    rustc: env!("BUILD_RUSTC"),
};

impl Build {
    fn all_features(&self) -> Vec<&'static str> {
        let testing: &[_] = if cfg!(feature = "testing") {
            &["testing"]
        } else {
            &[]
        };
        [self.abi, testing].concat()
    }
}

#[pymethods]
impl Build {
    #[getter]
    fn features<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.all_features())
    }

    fn __repr__(&self) -> String {
        let Self {
            version,
            profile,
            target,
            rustc,
            ..
        } = self;
        let features = self.all_features().join(", ");
        format!("<Build {version} for {target}: {features}; profile {profile}, {rustc}>")
    }
}
