//! Redis' protocol, as far as the package needs it: commands, and replies that are plain. A reply must
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

/// Lists lie in each other no deeper in any reply to the package.
const DEEPEST: usize = 4;

/// Reads so many replies that are integers, texts, null or lists of those; `None` if the data is anything else.
#[pyfunction]
pub(crate) fn plain_replies<'py>(
    py: Python<'py>,
    data: &[u8],
    count: usize,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let read = plain_list(py, data, count, DEEPEST)?;
    Ok(read.and_then(|(replies, rest)| rest.is_empty().then_some(replies)))
}

/// What was read, and the data after it; `None` if it is not plain, or not whole.
type Read<'a, T> = PyResult<Option<(T, &'a [u8])>>;

fn plain_list<'py, 'a>(
    py: Python<'py>,
    data: &'a [u8],
    count: usize,
    depth: usize,
) -> Read<'a, Bound<'py, PyList>> {
    let list = PyList::empty(py);
    let mut rest = data;
    for _ in 0..count {
        let Some((reply, after)) = plain_reply(py, rest, depth)? else {
            return Ok(None);
        };
        list.append(reply)?;
        rest = after;
    }
    Ok(Some((list, rest)))
}

fn plain_reply<'py, 'a>(
    py: Python<'py>,
    data: &'a [u8],
    depth: usize,
) -> Read<'a, Bound<'py, PyAny>> {
    let Some((part, rest)) = first_part(data) else {
        return Ok(None);
    };
    let reply = match part {
        Part::Integer(number) => number.into_pyobject(py)?.into_any(),
        Part::Text(text) => PyBytes::new(py, text).into_any(),
        Part::Null => py.None().into_bound(py),
        Part::List(_) if depth == 0 => return Ok(None),
        Part::List(count) => {
            let list = plain_list(py, rest, count, depth - 1)?;
            return Ok(list.map(|(list, rest)| (list.into_any(), rest)));
        }
    };
    Ok(Some((reply, rest)))
}

enum Part<'a> {
    Integer(i64),
    Text(&'a [u8]),
    Null,
    /// So many replies follow that are its own.
    List(usize),
}

/// The first reply, or the beginning of a list, and what comes after it.
fn first_part(data: &[u8]) -> Option<(Part<'_>, &[u8])> {
    let (&kind, rest) = data.split_first()?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, rest) = (&rest[..end], &rest[end + 2..]);
    match (kind, line) {
        (b':', _) => Some((Part::Integer(integer(line)?), rest)),
        (b'$' | b'*', b"-1") | (b'_', b"") => Some((Part::Null, rest)),
        (b'$', _) => {
            let (text, rest) = rest.split_at_checked(length(line)?)?;
            Some((Part::Text(text), rest.strip_prefix(b"\r\n")?))
        }
        (b'*', _) => Some((Part::List(length(line)?), rest)),
        _ => None,
    }
}

fn length(digits: &[u8]) -> Option<usize> {
    usize::try_from(integer(digits)?).ok()
}

/// A whole number, without a sign of plus.
fn integer(digits: &[u8]) -> Option<i64> {
    let digits = std::str::from_utf8(digits).ok()?;
    digits.parse().ok().filter(|_| !digits.starts_with('+'))
}
