//! The thread: accepts clients and serves them. What bounds them stands here.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use log::warn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::Shared;
use super::listener::Listener;
use super::patient::Patient;
use super::routes;
use super::samples;
use super::seats::{Seats, Taken};
use crate::log::Trouble;

/// How long the head of a request may take, and a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head, and of what is read or written ahead.
const MOST_BYTES: usize = 16 << 10;
/// Most lines of a request's head.
const MOST_HEADERS: usize = 64;
/// How long to wait before accepting again when there is no descriptor.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);
/// How long requests under way may take when the thread is to end.
const GRACE: Duration = Duration::from_secs(2);

/// A client's stream, of whatever kind.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A socket that accepts.
enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    fn new(listener: &Listener) -> io::Result<Door> {
        match listener.try_clone()? {
            Listener::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket).map(Door::Tcp)
            }
            Listener::Unix(socket) => {
                socket.set_nonblocking(true)?;
                UnixListener::from_std(socket).map(Door::Unix)
            }
        }
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Option<SocketAddr>)> {
        match self {
            Door::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((Box::new(stream), Some(peer)))
            }
            Door::Unix(socket) => Ok((Box::new(socket.accept().await?.0), None)),
        }
    }
}

/// Serves until the thread is to end.
pub(super) fn run(shared: &Arc<Shared>) {
    let runtime = match Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            warn!("HTTP is not spoken: {error}");
            return;
        }
    };
    LocalSet::new().block_on(&runtime, serve(shared));
}

async fn serve(shared: &Arc<Shared>) {
    let seats = Seats::new(shared.settings.max_connections);
    let sampled = spawn_local(samples::keep(Arc::clone(shared)));
    let mut ends = shared.ends.subscribe();
    tokio::select! {
        () = accept_all(shared, &seats) => {}
        _ = ends.wait_for(|ends| *ends) => {}
    }
    sampled.abort();
    let deadline = Instant::now() + GRACE;
    while seats.len() > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
}

async fn accept_all(shared: &Arc<Shared>, seats: &Seats) {
    let door = match Door::new(&shared.settings.listener) {
        Ok(door) => door,
        Err(error) => {
            warn!("HTTP is not spoken: {error}");
            return std::future::pending().await;
        }
    };
    let trouble = Trouble::new(module_path!(), "HTTP clients cannot be accepted");
    loop {
        routes::panic_if_tested();
        match door.accept().await {
            // A client for whom there is no room is closed.
            Ok((stream, peer)) => {
                if let Some(seat) = seats.take() {
                    converse(shared, seat, stream, peer);
                }
            }
            Err(error) => {
                if let Some(suppressed) = trouble.occurs(Instant::now()) {
                    warn!("HTTP: cannot accept: {error}{suppressed}");
                }
                sleep(SHORTAGE_PAUSE).await;
            }
        }
    }
}

/// Serves one client in a task of its own: what it brings about is its own trouble.
fn converse(shared: &Arc<Shared>, seat: Taken, stream: Box<dyn Stream>, peer: Option<SocketAddr>) {
    let (seat, shared) = (Rc::new(seat), Arc::clone(shared));
    let own = Rc::clone(&seat);
    let task = spawn_local(async move {
        let (mut ends, begun) = (shared.ends.subscribe(), Notify::new());
        let answer = service_fn(|request| {
            let (shared, in_use) = (Arc::clone(&shared), own.use_it());
            let seats = own.seats().clone();
            begun.notify_one();
            async move { Ok::<_, Infallible>(routes::answer(&shared, &seats, request, peer, in_use).await) }
        });
        let mut builder = http1::Builder::new();
        // Who has said all that there is to say may listen still.
        builder.half_close(true);
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        builder.max_buf_size(MOST_BYTES).max_headers(MOST_HEADERS);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(Patient::new(stream)), answer));
        tokio::select! {
            // How it ends is the client's business.
            _ = connection.as_mut() => return,
            _ = ends.wait_for(|ends| *ends) => {}
        }
        // The request of one that has just been accepted may be on its way.
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = timeout(GRACE / 2, begun.notified()) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(GRACE, connection).await;
    });
    seat.belongs_to(task.abort_handle());
}
