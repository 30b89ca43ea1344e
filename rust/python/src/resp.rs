//! Redis' protocol, as far as a check and a settle need it: commands, and replies that are plain. A reply must
//! never be guessed: what is not plain and whole is left to the parser of redis-py.

use pyo3::{
    intern,
    prelude::*,
    types::{PyBytes, PyList, PyString, PyTuple},
};

/// Writes a command: how many words it has, its opening, which is packed and has `opened` of them, and the others.
#[pyfunction]
pub(crate) fn pack_command<'py>(
    py: Python<'py>,
    opening: &str,
    opened: usize,
    words: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyBytes>> {
    // The words of a check and its settle are shorter than this on average.
    let mut out = Vec::with_capacity(opening.len() + 48 * (words.len() + 1));
    header(&mut out, b'*', opened + words.len());
    out.extend_from_slice(opening.as_bytes());
    for word in words.iter_borrowed() {
        push(&mut out, &word)?;
    }
    Ok(PyBytes::new(py, &out))
}

fn push(out: &mut Vec<u8>, word: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(text) = word.cast::<PyString>() {
        if let Ok(text) = text.to_str() {
            push_bytes(out, text.as_bytes());
            return Ok(());
        }
        // Bytes that were read with "surrogateescape" go back as they came.
        let py = word.py();
        let encoded = word.call_method1(intern!(py, "encode"), ("utf-8", "surrogateescape"))?;
        push_bytes(out, encoded.cast::<PyBytes>()?.as_bytes());
        return Ok(());
    }
    let number: i64 = word.extract()?;
    push_bytes(out, number.to_string().as_bytes());
    Ok(())
}

fn push_bytes(out: &mut Vec<u8>, word: &[u8]) {
    header(out, b'$', word.len());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// What a list or a text begins with: its kind and its length.
fn header(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = length;
    loop {
        at -= 1;
        digits[at] = b"0123456789"[rest % 10];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Reads so many replies that are integers, texts or null; `None` if the data is anything else.
#[pyfunction]
pub(crate) fn plain_replies<'py>(
    py: Python<'py>,
    data: &[u8],
    count: usize,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let replies = PyList::empty(py);
    let mut rest = data;
    for _ in 0..count {
        let Some((reply, after)) = plain_reply(rest) else {
            return Ok(None);
        };
        rest = after;
        match reply {
            Plain::Integer(number) => replies.append(number)?,
            Plain::Text(text) => replies.append(PyBytes::new(py, text))?,
            Plain::Null => replies.append(py.None())?,
        }
    }
    Ok(rest.is_empty().then_some(replies))
}

enum Plain<'a> {
    Integer(i64),
    Text(&'a [u8]),
    Null,
}

/// The first reply, and what comes after it.
fn plain_reply(data: &[u8]) -> Option<(Plain<'_>, &[u8])> {
    let (&kind, rest) = data.split_first()?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = (&rest[..end], &rest[end + 2..]);
    match (kind, line) {
        (b':', _) => Some((Plain::Integer(integer(line)?), rest)),
        (b'$', b"-1") | (b'_', b"") => Some((Plain::Null, rest)),
        (b'$', _) => {
            let length = usize::try_from(integer(line)?).ok()?;
            let (text, rest) = rest.split_at_checked(length)?;
            Some((Plain::Text(text), rest.strip_prefix(b"\r\n")?))
        }
        _ => None,
    }
}

/// A whole number, without a sign of plus.
fn integer(digits: &[u8]) -> Option<i64> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.parse().ok().filter(|_| !digits.starts_with('+'))
}
