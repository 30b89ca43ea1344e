//! Lookup keys of companies and users: mappings of text to text or UUIDs. They must never be copied on the
//! way to a check.

use pyo3::{
    exceptions::PyTypeError,
    intern,
    prelude::*,
    types::{PyDict, PyMapping, PyString},
};
use schematic_core::leases::Keys;
use smallvec::SmallVec;

use super::{kind_of, utf8};

/// Lookup keys of a company or user, borrowed from Python for the length of a call.
pub(crate) struct BorrowedKeys<'py> {
    /// The argument, as errors tell it.
    name: &'static str,
    pairs: SmallVec<[(Bound<'py, PyString>, Bound<'py, PyString>); 2]>,
}

/// The same, as the core takes them.
type KeyPairs<'a> = SmallVec<[(&'a str, &'a str); 2]>;

impl<'py> BorrowedKeys<'py> {
    pub fn of(name: &'static str, keys: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Self>> {
        let Some(keys) = keys else {
            return Ok(None);
        };
        let mut pairs = SmallVec::new();
        if let Ok(dict) = keys.cast_exact::<PyDict>() {
            for (key, value) in dict.iter() {
                pairs.push(pair(name, key, value)?);
            }
        } else if let Ok(mapping) = keys.cast::<PyMapping>() {
            for item in mapping.items()?.iter() {
                let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
                pairs.push(pair(name, key, value)?);
            }
        } else {
            let kind = kind_of(keys);
            return Err(PyTypeError::new_err(format!(
                "{name} must be a dict of lookup keys such as {{'id': 'acme'}}, not {kind}"
            )));
        }
        Ok(Some(Self { name, pairs }))
    }

    pub fn pairs(&self) -> PyResult<KeyPairs<'_>> {
        let mut pairs = KeyPairs::new();
        for (key, value) in &self.pairs {
            pairs.push((utf8(self.name, key)?, utf8(self.name, value)?));
        }
        Ok(pairs)
    }
}

/// Lookup keys of a company or user, as the core takes them; `None` if nobody is named.
type Named<'a> = Option<&'a [(&'a str, &'a str)]>;

/// Borrows the lookup keys of whom a check is about for as long as `work` takes.
#[inline]
pub(crate) fn with_parties<T>(
    company: Option<&Bound<'_, PyAny>>,
    user: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(Named<'_>, Named<'_>) -> PyResult<T>,
) -> PyResult<T> {
    let (company, user) = (
        BorrowedKeys::of("company", company)?,
        BorrowedKeys::of("user", user)?,
    );
    let company = company.as_ref().map(BorrowedKeys::pairs).transpose()?;
    let user = user.as_ref().map(BorrowedKeys::pairs).transpose()?;
    work(company.as_deref(), user.as_deref())
}

/// Copies lookup keys.
pub(crate) fn keys(name: &'static str, keys: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Keys>> {
    let keys = BorrowedKeys::of(name, keys)?;
    keys.map(|keys| Ok(Keys::new(&keys.pairs()?))).transpose()
}

fn pair<'py>(
    name: &str,
    key: Bound<'py, PyAny>,
    value: Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyString>, Bound<'py, PyString>)> {
    let key = key.cast_into::<PyString>().map_err(|fault| {
        let kind = kind_of(&fault.into_inner());
        PyTypeError::new_err(format!("{name} must have str keys, not {kind}"))
    })?;
    let value = match value.cast_into::<PyString>() {
        Ok(value) => value,
        Err(fault) => id_text(name, &key, &fault.into_inner())?,
    };
    Ok((key, value))
}

/// The text of a `uuid.UUID`, as which many programs keep the ids of their companies.
#[cold]
fn id_text<'py>(
    name: &str,
    key: &Bound<'py, PyString>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyString>> {
    let uuid = value.py().import(intern!(value.py(), "uuid"))?;
    if value.is_instance(&uuid.getattr(intern!(value.py(), "UUID"))?)? {
        return value.str();
    }
    let kind = kind_of(value);
    Err(PyTypeError::new_err(format!(
        "{name}[{key:?}] must be a str or a UUID, not {kind}"
    )))
}
