//! What the result classes have in common: from one list of fields come a class's constructor, getters,
//! `==`, `repr`, pickling and copying. It must never know a class.

use pyo3::{prelude::*, types::PyDict};

/// A result's fields by name, in the order of its constructor.
pub(super) type Fields<'py> = Vec<(&'static str, Bound<'py, PyAny>)>;

/// A class that is the sum of its fields.
pub(super) trait Record {
    /// Its name in Python.
    const CLASS: &'static str;
    /// The fields that its constructor cannot do without.
    const REQUIRED: &'static [&'static str];

    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Fields<'py>>;

    fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, value) in self.fields(py)? {
            dict.set_item(name, value)?;
        }
        Ok(dict)
    }

    fn describe(&self, py: Python<'_>) -> PyResult<String> {
        let fields = self.fields(py)?.into_iter();
        let texts = fields.map(|(name, value)| Ok(format!("{name}={}", value.repr()?)));
        let texts = texts.collect::<PyResult<Vec<_>>>()?;
        Ok(format!("{}({})", Self::CLASS, texts.join(", ")))
    }

    fn equals(&self, py: Python<'_>, other: &Self) -> PyResult<bool> {
        for ((_, mine), (_, theirs)) in self.fields(py)?.iter().zip(other.fields(py)?) {
            if !mine.eq(theirs)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Makes a class of a list of fields: the name of each, the [`super::field::Field`] that reads and shows
/// it, and what is shown. `new` is the value that the constructor makes of the fields, once they are read;
/// `leave` is called before a copy leaves this process.
macro_rules! record {
    ($class:ident as $this:ident {
        required { $($name:ident: $kind:ty = $shown:expr,)* }
        optional { $($more:ident: $more_kind:ty = $more_shown:expr,)* }
        new $made:expr;
        $(leave $leave:ident;)?
    }) => {
        #[pymethods]
        impl $class {
            #[new]
            #[pyo3(signature = ($($name,)* $($more = None,)*))]
            #[allow(clippy::too_many_arguments, reason = "the fields as published")]
            fn new(
                $($name: <$kind as Field>::Given<'_>,)*
                $($more: <$more_kind as Field>::Given<'_>,)*
            ) -> PyResult<Self> {
                $(let $name = <$kind as Field>::keep(stringify!($name), $name)?;)*
                $(let $more = <$more_kind as Field>::keep(stringify!($more), $more)?;)*
                Ok($made)
            }

            $(
                #[getter]
                fn $name(&self) -> <$kind as Field>::Shown<'_> {
                    let $this = self;
                    $shown
                }
            )*
            $(
                #[getter]
                fn $more(&self) -> <$more_kind as Field>::Shown<'_> {
                    let $this = self;
                    $more_shown
                }
            )*

            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                self.describe(py)
            }

            fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
                match other.cast_exact::<Self>() {
                    Ok(other) => self.equals(py, other.get())?.into_py_any(py),
                    Err(_) => Ok(py.NotImplemented()),
                }
            }

            fn __getnewargs_ex__<'py>(
                &self,
                py: Python<'py>,
            ) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
                $(self.$leave();)?
                Ok((PyTuple::empty(py), self.as_dict(py)?))
            }
        }

        impl Record for $class {
            const CLASS: &'static str = stringify!($class);
            const REQUIRED: &'static [&'static str] = &[$(stringify!($name)),*];

            fn fields<'py>(&self, py: Python<'py>) -> PyResult<Fields<'py>> {
                Ok(vec![
                    $((stringify!($name), self.$name().into_bound_py_any(py)?),)*
                    $((stringify!($more), self.$more().into_bound_py_any(py)?),)*
                ])
            }
        }
    };
}

/// Makes a class, as `record!` does, that keeps a structure of the core with fields of the same names.
macro_rules! mirror {
    ($class:ident of $inner:ty {
        required { $($name:ident: $kind:ty,)* }
        optional { $($more:ident: $more_kind:ty,)* }
    }) => {
        record! {
            $class as this {
                required { $($name: $kind = <$kind as Field>::show(&this.0.$name),)* }
                optional { $($more: $more_kind = <$more_kind as Field>::show(&this.0.$more),)* }
                new Self({
                    type Inner = $inner;
                    Inner { $($name,)* $($more,)* }.into()
                });
            }
        }
    };
}

/// Makes a class, as `record!` does, that keeps the fields themselves.
macro_rules! plain_record {
    ($(#[$attribute:meta])* $class:ident {
        required { $($name:ident: $kind:ty,)* }
        optional { $($more:ident: $more_kind:ty,)* }
    }) => {
        $(#[$attribute])*
        pub(crate) struct $class {
            $($name: <$kind as Field>::Kept,)*
            $($more: <$more_kind as Field>::Kept,)*
        }

        record! {
            $class as this {
                required { $($name: $kind = <$kind as Field>::show(&this.$name),)* }
                optional { $($more: $more_kind = <$more_kind as Field>::show(&this.$more),)* }
                new Self { $($name,)* $($more,)* };
            }
        }
    };
}

pub(super) use {mirror, plain_record, record};
