//! What the board says over HTTP: a request in, an answer out, and no idea who carries them.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /notes` | 200 and an array of notes |
//! | `POST /notes` `{text}` | 201 and the note, with its `Location` |
//! | `PUT /notes/ID` `{text, revision}` | 200 and the note, or 409 and the note as it is now |
//! | `DELETE /notes/ID?revision=…` | 204, or 409 and the note as it is now |
//! | `GET /events` | server-sent events, one `changed` after each change |
//!
//! A note is `{id, text, revision}`. Its id is its object's oid, its revision the tid that wrote
//! it, both as 16 hexadecimal digits. Whatever fails is answered with `{"error": reason}`.

use std::fmt::Display;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeo_client::{Oid, Tid};

use crate::board::{Board, BoardError, Note};

/// The longest body that a request may have, in bytes.
pub(crate) const BODY_MAX: usize = 64 * 1024;

/// What a host does for a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Sends this.
    Reply(Response<Bytes>),
    /// Sends this head, and then [events](crate::events) for as long as there are any.
    Events(Response<()>),
}

/// Why a request gets no other answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// For this reason, under this status.
    Because(StatusCode, String),
    /// 405: only these methods are there.
    Only(&'static str),
    /// 409: this is what the note says now.
    Conflict(Note),
}

/// Answers a request. Blocks its caller while the database is asked.
pub(crate) fn answer(board: &Board, request: &Request<Bytes>) -> Answer {
    let path: Vec<_> = request.uri().path().split('/').skip(1).collect();
    let reply = match (request.method().as_str(), path.as_slice()) {
        ("GET", ["events"]) => return Answer::Events(events()),
        ("GET", [""]) => Ok(page()),
        ("GET", ["notes"]) => list(board),
        (_, ["notes", ..]) if is_foreign(request.headers()) => Err(foreign()),
        ("POST", ["notes"]) => add(board, request),
        ("PUT", ["notes", id]) => edit(board, id, request),
        ("DELETE", ["notes", id]) => delete(board, id, request),
        (_, ["" | "events"]) => Err(Refusal::Only("GET")),
        (_, ["notes"]) => Err(Refusal::Only("GET, POST")),
        (_, ["notes", _]) => Err(Refusal::Only("PUT, DELETE")),
        _ => Err(refuse(StatusCode::NOT_FOUND, "there is nothing here")),
    };
    reply.map_or_else(Answer::from, Answer::Reply)
}

#[derive(Deserialize)]
struct Addition {
    text: String,
}

#[derive(Deserialize)]
struct Edit {
    text: String,
    revision: Tid,
}

fn list(board: &Board) -> Result<Response<Bytes>, Refusal> {
    Ok(json(StatusCode::OK, &board.notes()?))
}

fn add(board: &Board, request: &Request<Bytes>) -> Result<Response<Bytes>, Refusal> {
    let Addition { text } = parse(request)?;
    let note = board.add(&checked(text)?)?;
    let location = format!("/notes/{}", note.id);
    let location = HeaderValue::try_from(location).expect("hexadecimal digits are fit for headers");
    Ok(with(json(StatusCode::CREATED, &note), header::LOCATION, location))
}

fn edit(board: &Board, id: &str, request: &Request<Bytes>) -> Result<Response<Bytes>, Refusal> {
    let Edit { text, revision } = parse(request)?;
    let note = board.edit(note_id(id)?, &checked(text)?, revision)?;
    Ok(json(StatusCode::OK, &note))
}

fn delete(board: &Board, id: &str, request: &Request<Bytes>) -> Result<Response<Bytes>, Refusal> {
    let revision = revision(request.uri().query().unwrap_or_default())?;
    board.delete(note_id(id)?, revision)?;
    Ok(response(StatusCode::NO_CONTENT, Bytes::new()))
}

fn parse<T: DeserializeOwned>(request: &Request<Bytes>) -> Result<T, Refusal> {
    serde_json::from_slice(request.body()).map_err(|error| bad(format_args!("the body: {error}")))
}

fn checked(text: String) -> Result<String, Refusal> {
    if text.trim().is_empty() { Err(bad("a note needs a text")) } else { Ok(text) }
}

fn note_id(id: &str) -> Result<Oid, BoardError> {
    id.parse().map_err(|_| BoardError::NoSuchNote)
}

fn revision(query: &str) -> Result<Tid, Refusal> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("revision="))
        .ok_or_else(|| bad("which revision? ?revision=… is missing"))?
        .parse()
        .map_err(|error| bad(format_args!("the revision: {error}")))
}

impl From<BoardError> for Refusal {
    fn from(error: BoardError) -> Self {
        match error {
            BoardError::Changed(note) => Self::Conflict(note),
            BoardError::NoSuchNote => refuse(StatusCode::NOT_FOUND, error),
            BoardError::Full => bad(error),
            BoardError::Database(why) => refuse(StatusCode::SERVICE_UNAVAILABLE, why),
        }
    }
}

/// Browsers name the page that a request comes from. Only our own may write.
fn is_foreign(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
    headers
        .get(header::ORIGIN)
        .is_some_and(|origin| origin.as_bytes().strip_prefix(b"http://") != Some(host))
}

fn foreign() -> Refusal {
    refuse(StatusCode::FORBIDDEN, "another site's page may not change notes")
}

fn bad(reason: impl Display) -> Refusal {
    refuse(StatusCode::BAD_REQUEST, reason)
}

/// A refusal for this reason.
pub(crate) fn refuse(status: StatusCode, reason: impl Display) -> Refusal {
    Refusal::Because(status, reason.to_string())
}

/// The refusal of a body longer than [`BODY_MAX`].
pub(crate) fn too_large() -> Refusal {
    let reason = format_args!("a body has at most {BODY_MAX} bytes");
    refuse(StatusCode::PAYLOAD_TOO_LARGE, reason)
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Reply(refusal.into())
    }
}

impl From<Refusal> for Response<Bytes> {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Because(status, reason) => error(status, &reason),
            Refusal::Only(methods) => {
                let refusal = error(StatusCode::METHOD_NOT_ALLOWED, &format!("only {methods}"));
                with(refusal, header::ALLOW, HeaderValue::from_static(methods))
            }
            Refusal::Conflict(note) => json(StatusCode::CONFLICT, &note),
        }
    }
}

fn error(status: StatusCode, reason: &str) -> Response<Bytes> {
    json(status, &serde_json::json!({ "error": reason }))
}

fn page() -> Response<Bytes> {
    let page = response(StatusCode::OK, Bytes::from_static(include_bytes!("page.html")));
    let page = with(page, header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    with(page, header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))
}

fn events() -> Response<()> {
    let head = response(StatusCode::OK, ());
    with(head, header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Bytes> {
    let body = serde_json::to_vec(value).expect("notes and reasons are text");
    let json = HeaderValue::from_static("application/json");
    with(response(status, body.into()), header::CONTENT_TYPE, json)
}

fn response<B>(status: StatusCode, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    with(response, header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

fn with<B>(mut response: Response<B>, name: HeaderName, value: HeaderValue) -> Response<B> {
    response.headers_mut().insert(name, value);
    response
}

/// The page brings all that it needs, and may talk to nobody but us.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
     script-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zeo_client::Client;
    use zeo_server::{RunningServer, Server};

    use super::*;

    #[test]
    fn a_note_lives_its_life() {
        let (_server, board) = board();
        let (status, note) = ask(&board, "POST", "/notes", r#"{"text":"one"}"#);
        assert_eq!((status, &note["text"]), (201, &json!("one")));
        assert_eq!(ask(&board, "GET", "/notes", ""), (200, json!([note])));

        let path = format!("/notes/{}", note["id"].as_str().unwrap());
        let edit = json!({ "text": "two", "revision": note["revision"] }).to_string();
        let (status, edited) = ask(&board, "PUT", &path, &edit);
        assert_eq!((status, &edited["text"], &edited["id"]), (200, &json!("two"), &note["id"]));
        assert_eq!(ask(&board, "PUT", &path, &edit), (409, edited.clone()));

        let stale = format!("{path}?revision={}", note["revision"].as_str().unwrap());
        assert_eq!(ask(&board, "DELETE", &stale, ""), (409, edited.clone()));
        let current = format!("{path}?revision={}", edited["revision"].as_str().unwrap());
        assert_eq!(ask(&board, "DELETE", &current, ""), (204, Value::Null));
        assert_eq!(ask(&board, "DELETE", &current, "").0, 404);
        assert_eq!(ask(&board, "GET", "/notes", ""), (200, json!([])));
    }

    #[test]
    fn names_and_revisions_are_sixteen_digits() {
        let (_server, board) = board();
        let (_, note) = ask(&board, "POST", "/notes", r#"{"text":"one"}"#);
        for name in ["id", "revision"] {
            let text = note[name].as_str().unwrap();
            assert!(text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_done_gets_a_reason() {
        let (_server, board) = board();
        for (method, path, body, expected) in [
            ("POST", "/notes", "", 400),
            ("POST", "/notes", "{}", 400),
            ("POST", "/notes", r#"{"text":" \n"}"#, 400),
            ("POST", "/notes", r#"{"text":["one"]}"#, 400),
            ("POST", "/notes", "{\"text\":\"\u{fffd}", 400),
            ("PUT", "/notes/1", r#"{"text":"one"}"#, 400),
            ("PUT", "/notes/1", r#"{"text":"one","revision":"new"}"#, 400),
            ("PUT", "/notes/1", r#"{"text":"one","revision":1}"#, 400),
            ("PUT", "/notes/77", r#"{"text":"one","revision":"1"}"#, 404),
            ("PUT", "/notes/fish", r#"{"text":"one","revision":"1"}"#, 404),
            ("DELETE", "/notes/1", "", 400),
            ("DELETE", "/notes/1?revision=", "", 400),
            ("DELETE", "/notes/1?revision=new", "", 400),
            ("DELETE", "/notes/77?revision=1", "", 404),
            ("DELETE", "/notes", "", 405),
            ("PATCH", "/notes/1", "", 405),
            ("POST", "/", "", 405),
            ("POST", "/events", "", 405),
            ("GET", "/notes/1/more", "", 404),
            ("GET", "/favicon.ico", "", 404),
        ] {
            let (status, said) = ask(&board, method, path, body);
            assert_eq!(status, expected, "{method} {path} {body}: {said}");
            assert!(said["error"].is_string(), "{method} {path} {body}: {said}");
        }
    }

    #[test]
    fn a_page_from_elsewhere_may_not_write() {
        let (_server, board) = board();
        for (origin, status) in [
            ("http://localhost:8080", 201),
            ("http://localhost:8081", 403),
            ("https://example.com", 403),
            ("null", 403),
        ] {
            let request = Request::post("/notes")
                .header(header::HOST, "localhost:8080")
                .header(header::ORIGIN, origin)
                .body(r#"{"text":"one"}"#.into());
            assert_eq!(reply(&board, &request.unwrap()).status(), status, "{origin}");
        }
    }

    #[test]
    fn a_text_is_never_read_as_html() {
        let (_server, board) = board();
        let page = String::from_utf8(reply(&board, &request("GET", "/", "")).into_body().into());
        let page = page.unwrap();
        for danger in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!page.contains(danger), "{danger}");
        }
        let text = "<script>alert(1)</script> & \"'\u{0}\u{1f5d2}";
        let (_, note) = ask(&board, "POST", "/notes", &json!({ "text": text }).to_string());
        assert_eq!(note["text"], text);
    }

    #[test]
    fn a_database_out_of_reach_is_said_so() {
        let (server, board) = board();
        server.stop();
        let (status, said) = ask(&board, "GET", "/notes", "");
        assert_eq!(status, 503, "{said}");
        assert!(said["error"].is_string(), "{said}");
    }

    fn board() -> (RunningServer, Board) {
        let server = Server::in_memory().unwrap();
        let patience = std::time::Duration::from_millis(100);
        let db = Client::options().wait_timeout(patience).connect(&server.url("main")).unwrap();
        (server, Board::open(db).unwrap())
    }

    fn ask(board: &Board, method: &str, path: &str, body: &str) -> (u16, Value) {
        let reply = reply(board, &request(method, path, body));
        let said = serde_json::from_slice(reply.body()).unwrap_or_default();
        (reply.status().as_u16(), said)
    }

    fn request(method: &str, path: &str, body: &str) -> Request<Bytes> {
        Request::builder().method(method).uri(path).body(body.to_owned().into()).unwrap()
    }

    fn reply(board: &Board, request: &Request<Bytes>) -> Response<Bytes> {
        match answer(board, request) {
            Answer::Reply(reply) => reply,
            Answer::Events(_) => panic!("events for {request:?}"),
        }
    }
}
