//! As much of HTTP/1.1 as the threaded host needs: one request in, one answer out.

use std::fmt::Display;
use std::io::{self, Read};

use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::{Request, Response, StatusCode};

use super::HEAD_MAX;
use crate::api::{self, Refusal};

/// Why there is no request.
#[derive(Debug)]
pub(super) enum NoRequest {
    /// The peer is told why.
    Refused(Refusal),
    /// The peer is gone, or too slow.
    Lost(io::Error),
}

/// Reads a request. Takes at most [`HEAD_MAX`] and [`api::BODY_MAX`] bytes of memory.
pub(super) fn read_request(input: &mut impl Read) -> Result<Request<Bytes>, NoRequest> {
    let mut read = Vec::new();
    loop {
        if let Some((head, length)) = parse_head(&read)? {
            let body = read_body(input, read.split_off(length), body_length(&head)?)?;
            return Ok(head.map(|()| body));
        }
        if read.len() >= HEAD_MAX {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(refuse(status, format!("a request's head has at most {HEAD_MAX} bytes")));
        }
        read_some(input, &mut read)?;
    }
}

/// The head of a request and its length in bytes, once all of it is there.
fn parse_head(read: &[u8]) -> Result<Option<(Request<()>, usize)>, NoRequest> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(read).map_err(malformed)? else {
        return Ok(None);
    };
    let mut request = Request::builder()
        .method(head.method.unwrap_or_default())
        .uri(head.path.unwrap_or_default());
    for header in head.headers {
        request = request.header(header.name, header.value);
    }
    Ok(Some((request.body(()).map_err(malformed)?, length)))
}

fn body_length(head: &Request<()>) -> Result<usize, NoRequest> {
    if head.headers().contains_key(TRANSFER_ENCODING) {
        return Err(refuse(StatusCode::LENGTH_REQUIRED, "a body needs a Content-Length"));
    }
    let Some(length) = head.headers().get(CONTENT_LENGTH) else { return Ok(0) };
    let digits = length.to_str().unwrap_or_default();
    match digits.parse::<u64>().map(usize::try_from) {
        Ok(Ok(length)) if length <= api::BODY_MAX => Ok(length),
        Ok(_) => Err(NoRequest::Refused(api::too_large())),
        Err(error) => Err(malformed(error)),
    }
}

fn read_body(input: &mut impl Read, mut body: Vec<u8>, length: usize) -> Result<Bytes, NoRequest> {
    body.truncate(length);
    while body.len() < length {
        read_some(input, &mut body)?;
    }
    body.truncate(length);
    Ok(body.into())
}

fn read_some(input: &mut impl Read, into: &mut Vec<u8>) -> Result<(), NoRequest> {
    let mut chunk = [0; 4096];
    let count = input.read(&mut chunk).map_err(NoRequest::Lost)?;
    into.extend(chunk.iter().take(count));
    if count == 0 { Err(NoRequest::Lost(io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
}

fn malformed(error: impl Display) -> NoRequest {
    refuse(StatusCode::BAD_REQUEST, format!("not a request: {error}"))
}

fn refuse(status: StatusCode, reason: impl Display) -> NoRequest {
    NoRequest::Refused(api::refuse(status, reason))
}

/// The bytes of an answer, after which the connection is to be closed.
pub(super) fn encode(mut answer: Response<Bytes>) -> Vec<u8> {
    if answer.status() != StatusCode::NO_CONTENT {
        let length = answer.body().len();
        answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    let mut bytes = encode_head(&answer);
    bytes.extend_from_slice(answer.body());
    bytes
}

/// The bytes of an answer's head. If it names no length, the body ends where the connection does.
pub(super) fn encode_head<B>(answer: &Response<B>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\nconnection: close\r\n", answer.status()).into_bytes();
    for (name, value) in answer.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The most headers that a request may have; more are malformed.
const HEADERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_come_a_byte_at_a_time() {
        let text = b"PUT /notes/1?x=y HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbodyrest";
        for size in [1, 7, text.len()] {
            let request = read_request(&mut Pieces { rest: text, size }).unwrap();
            assert_eq!(request.method(), "PUT");
            assert_eq!(request.uri(), "/notes/1?x=y");
            assert_eq!(request.headers()["host"], "h");
            assert_eq!(request.body(), "body");
        }
    }

    #[test]
    fn what_is_no_request_gets_a_reason() {
        let long = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(HEAD_MAX));
        for (text, status) in [
            ("nonsense\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\ncontent-length: some\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\ncontent-length: 65537\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\ncontent-length: 99999999999999999\r\n\r\n", 413),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 411),
            (&long, 431),
        ] {
            match read_request(&mut text.as_bytes()) {
                Err(NoRequest::Refused(Refusal::Because(given, _))) => assert_eq!(given, status),
                other => panic!("{other:?} for {text}"),
            }
        }
    }

    #[test]
    fn a_request_cut_short_is_nobodys() {
        for text in ["", "GET /", "PUT / HTTP/1.1\r\ncontent-length: 2\r\n\r\n1"] {
            let read = read_request(&mut text.as_bytes());
            assert!(matches!(read, Err(NoRequest::Lost(_))), "{read:?} for {text}");
        }
    }

    #[test]
    fn an_answer_says_that_the_connection_ends() {
        let bytes = encode(api::refuse(StatusCode::NOT_FOUND, "gone").into());
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\nconnection: close\r\n"), "{text}");
        assert!(text.contains("\r\ncontent-length: 16\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n{\"error\":\"gone\"}"), "{text}");
    }

    struct Pieces<'a> {
        rest: &'a [u8],
        size: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let size = self.size.min(into.len());
            self.rest.read(&mut into[..size])
        }
    }
}
