//! The response to one HTTP/1.1 request, read from bytes that the caller has received. Nothing here waits.

use thiserror::Error;

/// What is before the body takes no more bytes.
const LONGEST_HEAD: usize = 64 * 1024;
/// No response to a batch is longer.
const LONGEST_BODY: usize = 1024 * 1024;
const MOST_HEADERS: usize = 100;

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status; never an interim one.
    pub status: u16,
    /// Names and values of the headers, as they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, without its framing.
    pub body: Vec<u8>,
    /// Whether the connection may serve another request.
    pub reusable: bool,
}

/// Why the bytes received are not a response.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ResponseError {
    /// Something else than HTTP/1.
    #[error("the response is not HTTP/1.1")]
    Malformed,
    /// More than anybody needs.
    #[error("the response is too long")]
    TooLong,
    /// The connection ended within it.
    #[error("the connection ended before the response did")]
    CutShort,
}

/// How the end of a body is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilEnd,
}

impl Response {
    /// Reads all that has been received; None if more is to come. `ended` says that nothing will, and `tunnel` that a
    /// success has no body, as it opens a tunnel.
    ///
    /// # Errors
    ///
    /// The bytes are not a response.
    pub fn read(received: &[u8], ended: bool, tunnel: bool) -> Result<Option<Self>, ResponseError> {
        let response = Self::find(received, ended, tunnel)?;
        if response.is_none() && ended {
            return Err(ResponseError::CutShort);
        }
        Ok(response)
    }

    fn find(mut received: &[u8], ended: bool, tunnel: bool) -> Result<Option<Self>, ResponseError> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
            let mut head = httparse::Response::new(&mut headers);
            let length = match head.parse(received) {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) if received.len() > LONGEST_HEAD => {
                    return Err(ResponseError::TooLong);
                }
                Ok(httparse::Status::Partial) => return Ok(None),
                Err(_) => return Err(ResponseError::Malformed),
            };
            let (Some(status), Some(minor)) = (head.code, head.version) else {
                return Err(ResponseError::Malformed);
            };
            let rest = &received[length..];
            if (100..200).contains(&status) && status != 101 {
                received = rest;
                continue;
            }
            let bodiless = matches!(status, 101 | 204 | 304) || (tunnel && status / 100 == 2);
            let framing = if bodiless {
                Framing::Length(0)
            } else {
                framing(head.headers)?
            };
            let Some((body, taken)) = body(rest, framing, ended)? else {
                return Ok(None);
            };
            let reusable = framing != Framing::UntilEnd
                && !ended
                && taken == rest.len()
                && keeps_alive(minor, head.headers);
            let headers = head.headers.iter();
            return Ok(Some(Self {
                status,
                headers: headers
                    .map(|header| (header.name.to_owned(), header.value.to_vec()))
                    .collect(),
                body,
                reusable,
            }));
        }
    }

    /// The value of a header, whatever the case of its name; the first one where there are several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(value)
    }
}

fn values<'a>(
    headers: &'a [httparse::Header<'a>],
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    let named = move |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
    headers.iter().filter(named).map(|header| header.value)
}

fn framing(headers: &[httparse::Header<'_>]) -> Result<Framing, ResponseError> {
    if let Some(coding) = values(headers, "transfer-encoding").last() {
        let chunked = coding
            .rsplit(|&byte| byte == b',')
            .next()
            .is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        return Ok(if chunked {
            Framing::Chunked
        } else {
            Framing::UntilEnd
        });
    }
    let mut length = None;
    for value in values(headers, "content-length") {
        let value =
            std::str::from_utf8(value.trim_ascii()).map_err(|_| ResponseError::Malformed)?;
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ResponseError::Malformed);
        }
        let value: usize = value.parse().map_err(|_| ResponseError::TooLong)?;
        // Two lengths that differ are how a response is smuggled past a proxy.
        if length.is_some_and(|other| other != value) {
            return Err(ResponseError::Malformed);
        }
        length = Some(value);
    }
    match length {
        Some(length) if length > LONGEST_BODY => Err(ResponseError::TooLong),
        Some(length) => Ok(Framing::Length(length)),
        None => Ok(Framing::UntilEnd),
    }
}

/// The body and how many bytes it took with its framing; None if more is to come.
fn body(
    rest: &[u8],
    framing: Framing,
    ended: bool,
) -> Result<Option<(Vec<u8>, usize)>, ResponseError> {
    match framing {
        Framing::Length(length) => Ok(rest.get(..length).map(|body| (body.to_vec(), length))),
        Framing::Chunked => chunks(rest),
        Framing::UntilEnd if rest.len() > LONGEST_BODY => Err(ResponseError::TooLong),
        Framing::UntilEnd => Ok(ended.then(|| (rest.to_vec(), rest.len()))),
    }
}

fn chunks(rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ResponseError> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        // With what frames the chunks, which may be as small as one byte.
        if at > 16 * LONGEST_BODY || body.len() > LONGEST_BODY {
            return Err(ResponseError::TooLong);
        }
        let (start, size) = match httparse::parse_chunk_size(&rest[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) if rest.len() - at > LONGEST_HEAD => {
                return Err(ResponseError::TooLong);
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(ResponseError::Malformed),
        };
        let size = usize::try_from(size).map_err(|_| ResponseError::TooLong)?;
        if size > LONGEST_BODY {
            return Err(ResponseError::TooLong);
        }
        at += start;
        if size == 0 {
            return Ok(trailer(&rest[at..])?.map(|length| (body, at + length)));
        }
        let Some(chunk) = rest.get(at..at + size + 2) else {
            return Ok(None);
        };
        let Some(chunk) = chunk.strip_suffix(b"\r\n") else {
            return Err(ResponseError::Malformed);
        };
        body.extend_from_slice(chunk);
        at += size + 2;
    }
}

/// The length of what follows the last chunk; None if more is to come.
fn trailer(rest: &[u8]) -> Result<Option<usize>, ResponseError> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    match httparse::parse_headers(rest, &mut headers) {
        Ok(httparse::Status::Complete((length, _))) => Ok(Some(length)),
        Ok(httparse::Status::Partial) if rest.len() > LONGEST_HEAD => Err(ResponseError::TooLong),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(ResponseError::Malformed),
    }
}

fn keeps_alive(minor: u8, headers: &[httparse::Header<'_>]) -> bool {
    let says = |word: &str| {
        values(headers, "connection")
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    !says("close") && (minor >= 1 || says("keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_BODY, LONGEST_HEAD, Response, ResponseError};
    use proptest::prelude::*;
    use std::fmt::Write;

    fn read(text: &str) -> Result<Option<Response>, ResponseError> {
        Response::read(text.as_bytes(), false, false)
    }

    fn whole(text: &str) -> Response {
        read(text).unwrap().unwrap()
    }

    #[test]
    fn a_response_is_whole_with_the_last_byte_and_not_before() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;ext=1\r\n{\r\n1\r\n}\r\n0\r\nEtag: 1\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200\r\ncontent-length:2\r\n\r\n{}",
        ] {
            for end in 0..text.len() {
                assert_eq!(read(&text[..end]), Ok(None), "{:?}", &text[..end]);
                let cut = Response::read(&text.as_bytes()[..end], true, false);
                assert_eq!(cut, Err(ResponseError::CutShort));
            }
            let response = whole(text);
            assert_eq!(
                (response.status, &*response.body, response.reusable),
                (200, &b"{}"[..], true)
            );
        }
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let text = b"HTTP/1.1 500 Oops\r\n\r\nhalf";
        assert_eq!(Response::read(text, false, false), Ok(None));
        let response = Response::read(text, true, false).unwrap().unwrap();
        assert_eq!(
            (response.status, &*response.body, response.reusable),
            (500, &b"half"[..], false)
        );
    }

    #[test]
    fn some_statuses_have_no_body() {
        for text in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        ] {
            let response = whole(text);
            assert!(response.body.is_empty() && response.reusable);
        }
        let tunnel = b"HTTP/1.1 200 Connection established\r\n\r\n";
        assert_eq!(Response::read(tunnel, false, false), Ok(None));
        assert!(Response::read(tunnel, false, true).unwrap().is_some());
        let refused = b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno";
        assert_eq!(
            Response::read(refused, false, true).unwrap().unwrap().body,
            b"no"
        );
    }

    #[test]
    fn a_connection_is_kept_unless_somebody_says_no() {
        for (text, kept) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n",
                false,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1",
                false,
            ),
        ] {
            assert_eq!(whole(text).reusable, kept, "{text}");
        }
    }

    #[test]
    fn headers_are_found_whatever_their_case() {
        let response = whole("HTTP/1.1 307 x\r\nLOCATION: /there\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(response.header("Location"), Some(&b"/there"[..]));
        assert_eq!(response.header("Retry-After"), None);
    }

    #[test]
    fn what_is_no_response_is_refused() {
        for (text, why) in [
            ("SSH-2.0-OpenSSH\r\n", ResponseError::Malformed),
            ("HTTP/2 200\r\n\r\n", ResponseError::Malformed),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                ResponseError::Malformed,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
                ResponseError::Malformed,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
                ResponseError::TooLong,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n",
                ResponseError::TooLong,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                ResponseError::Malformed,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                ResponseError::TooLong,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz",
                ResponseError::Malformed,
            ),
        ] {
            assert_eq!(read(text), Err(why), "{text}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(LONGEST_HEAD));
        assert_eq!(read(&endless), Err(ResponseError::TooLong));
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(LONGEST_BODY + 1));
        assert_eq!(read(&endless), Err(ResponseError::TooLong));
        assert_eq!(
            Response::read(b"", true, false),
            Err(ResponseError::CutShort)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            start in prop_oneof![
                Just(""),
                Just("HTTP/1.1 200 OK\r\n"),
                Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ],
            rest in proptest::collection::vec(any::<u8>(), 0..200),
            ended: bool,
        ) {
            let _ = Response::read(&[start.as_bytes(), &rest].concat(), ended, false);
        }

        #[test]
        fn a_body_is_the_same_however_it_is_cut_into_chunks(
            parts in proptest::collection::vec("[a-z]{1,20}", 0..10),
        ) {
            let mut text = String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n");
            for part in &parts {
                let _ = write!(text, "{:x}\r\n{part}\r\n", part.len());
            }
            text += "0\r\n\r\n";
            prop_assert_eq!(whole(&text).body, parts.concat().into_bytes());
        }
    }
}
