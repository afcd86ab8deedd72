//! A host with an event loop: one thread, which runs a tokio runtime and everything in it.
//!
//! Its handlers call the blocking client directly. If the client did its input and output in its
//! host's loop, such a call would wait for a loop that waits for it. This client has a reactor of
//! its own, so the call just takes its time, and the loop with it. A program that cannot spare that
//! time awaits what `Client::nb` returns.

use std::convert::Infallible;
use std::io;
use std::net;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::{App, CONNECTIONS_MAX, GRACE, HEAD_MAX, PATIENCE, PAUSE, turn_away};
use crate::api::{self, Answer, Refusal};
use crate::events::{self, Events, GREETING, HEARTBEAT};

/// Serves until the application's events are closed.
pub(super) fn serve(listener: net::TcpListener, app: &Arc<App>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let listener = TcpListener::from_std(listener)?;
        let accepting = tokio::spawn(accept(listener, Arc::clone(app), Arc::clone(&slots)));
        app.events.closed().await;
        accepting.abort();
        // Those who hold a slot after that are cut off with the runtime.
        drop(timeout(GRACE, acquire_all(&slots)).await);
        Ok(())
    })
}

async fn acquire_all(slots: &Semaphore) {
    for _ in 0..CONNECTIONS_MAX {
        slots.acquire().await.expect("the semaphore is never closed").forget();
    }
}

async fn accept(listener: TcpListener, app: Arc<App>, slots: Arc<Semaphore>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => begin(stream, &app, &slots),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

fn begin(stream: TcpStream, app: &Arc<App>, slots: &Arc<Semaphore>) {
    match Arc::clone(slots).try_acquire_owned() {
        Ok(slot) => drop(tokio::spawn(converse(stream, Arc::clone(app), slot))),
        Err(_) => drop(stream.into_std().map(|stream| turn_away(&stream))),
    }
}

async fn converse(stream: TcpStream, app: Arc<App>, _slot: OwnedSemaphorePermit) {
    let service = service_fn(move |request| respond(Arc::clone(&app), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // How a connection ended is its peer's affair.
    drop(timeout(LIFE, connection).await);
}

async fn respond(
    app: Arc<App>,
    request: Request<Incoming>,
) -> Result<Response<Either<Full<Bytes>, Feed>>, Infallible> {
    let (head, body) = request.into_parts();
    let answer = match read(body).await {
        // The blocking call, in the middle of the event loop.
        Ok(body) => api::answer(&app.board, &Request::from_parts(head, body)),
        Err(refusal) => refusal.into(),
    };
    Ok(match answer {
        Answer::Reply(reply) => reply.map(|body| Either::Left(Full::new(body))),
        Answer::Events(head) => head.map(|()| Either::Right(Feed::of(&app.events))),
    })
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let late = |_| api::refuse(StatusCode::REQUEST_TIMEOUT, "the body took too long");
    timeout(PATIENCE, collect(body)).await.map_err(late)?
}

/// What is beyond the limit is read as well, and thrown away: the peer listens only when it has
/// sent everything.
async fn collect(mut body: Incoming) -> Result<Bytes, Refusal> {
    let mut whole = Vec::new();
    let mut fits = true;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| api::refuse(StatusCode::BAD_REQUEST, e))?;
        let data = frame.into_data().unwrap_or_default();
        fits &= whole.len() + data.len() <= api::BODY_MAX;
        if fits {
            whole.extend_from_slice(&data);
        }
    }
    if fits { Ok(whole.into()) } else { Err(api::too_large()) }
}

/// A body that never ends by itself: a listener's stream. Its queue has one place, for what the
/// connection is about to take.
#[derive(Debug)]
struct Feed(mpsc::Receiver<Bytes>);

impl Feed {
    fn of(events: &Arc<Events>) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        drop(tokio::spawn(feed(Arc::clone(events), sender)));
        Self(receiver)
    }
}

/// Ends with the events, or when a sign of life finds that the connection is gone.
async fn feed(events: Arc<Events>, sender: mpsc::Sender<Bytes>) {
    let mut seen = events.latest();
    let mut piece = Some(GREETING);
    while let Some(text) = piece {
        if sender.send(text).await.is_err() {
            return;
        }
        let news = timeout(HEARTBEAT, events.after(seen)).await.unwrap_or(seen);
        piece = events::tell(&mut seen, news);
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|text| Ok(Frame::data(text))))
    }
}

/// How long a connection may last, so that a peer that takes nothing does not keep its place. A
/// page that listens to events comes again.
const LIFE: Duration = Duration::from_mins(10);
