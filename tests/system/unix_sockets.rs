//! UNIX sockets in place of addresses and ports.

mod changes;
mod clients;
mod endings;
mod failures;
mod listening;
mod loops;
mod programs;
mod traffic;

use std::fmt;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use socket2::SockRef;
use tempfile::TempDir;

use crate::harness::servers::echo;
use crate::harness::{PATIENCE, patient};

/// A directory for sockets.
pub fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// What a UNIX socket is called by glbd.
pub fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// A connected UNIX socket, as the type that all helpers take: its calls are the same.
pub fn as_stream(stream: UnixStream) -> TcpStream {
    patient(OwnedFd::from(stream).into()).expect("timeouts")
}

/// A server at a UNIX socket, whose connections go on when it is dropped. Displays as a destination.
pub struct UnixServer {
    path: PathBuf,
    accepted: Arc<AtomicUsize>,
    listener: Arc<UnixListener>,
}

impl UnixServer {
    /// Does `service` with every connection, in a thread of its own.
    pub fn serving(path: impl AsRef<Path>, service: impl Fn(&TcpStream) + Send + Sync + 'static) -> Self {
        let path = path.as_ref().to_path_buf();
        let listener = Arc::new(UnixListener::bind(&path).expect("a path"));
        let (accepted, service) = (Arc::new(AtomicUsize::new(0)), Arc::new(service));
        thread::spawn({
            let (listener, accepted) = (Arc::clone(&listener), Arc::clone(&accepted));
            move || {
                while let Ok((stream, _)) = listener.accept() {
                    accepted.fetch_add(1, Ordering::SeqCst);
                    let service = Arc::clone(&service);
                    thread::spawn(move || service(&TcpStream::from(OwnedFd::from(stream))));
                }
            }
        });
        Self { path, accepted, listener }
    }

    /// Sends back what it gets.
    pub fn echo(path: impl AsRef<Path>) -> Self {
        Self::serving(path, echo)
    }

    /// Says its name, then echoes.
    pub fn named(path: impl AsRef<Path>, name: &str) -> Self {
        use std::io::Write;
        let greeting = format!("{name}\n");
        Self::serving(path, move |mut stream| {
            if stream.write_all(greeting.as_bytes()).is_ok() {
                echo(stream);
            }
        })
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for UnixServer {
    fn drop(&mut self) {
        // Makes a blocked accept(2) return.
        SockRef::from(&*self.listener).shutdown(std::net::Shutdown::Both).ok();
    }
}

impl fmt::Display for UnixServer {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        unix(&self.path).fmt(formatter)
    }
}

/// A listening UNIX socket in the hands of a test.
pub struct Listening(UnixListener);

impl Listening {
    pub fn at(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a path");
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        Self(listener)
    }

    /// The server's end of the next connection.
    pub fn accept(&self) -> TcpStream {
        as_stream(self.0.accept().expect("a connection from glbd").0)
    }
}
