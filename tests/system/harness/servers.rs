//! Real destinations: TCP servers on loopback, a thread for each connection.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{SockRef, Socket};

use super::net::free_port;

/// A destination that serves until it is stopped or dropped. Displays as its address.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<Running>,
}

type Service = dyn Fn(&TcpStream) + Send + Sync;

struct Running {
    listener: Arc<TcpListener>,
    acceptor: JoinHandle<()>,
}

struct Shared {
    /// What is done with a connection, which is closed when this returns.
    service: Box<Service>,
    accepted: AtomicUsize,
    /// The open connections. Weak, so that a connection is closed at the moment in which its service returns.
    open: Mutex<HashMap<usize, Weak<TcpStream>>>,
}

impl Server {
    /// Sends back what it gets; when the client half-closes, sends the rest and closes.
    pub fn echo() -> Self {
        Self::serving(echo)
    }

    /// Says its name and a newline to everyone who connects, then goes on as [`Server::echo`].
    pub fn named(name: &str) -> Self {
        Self::named_at(name, SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())))
    }

    /// [`Server::named`] at another address.
    pub fn named_at(name: &str, address: SocketAddr) -> Self {
        let greeting = format!("{name}\n");
        Self::at(address, move |stream| {
            if tell(stream, greeting.as_bytes()) {
                echo(stream);
            }
        })
    }

    /// Says its name and a newline to everyone who connects, and closes.
    pub fn named_and_closing(name: &str) -> Self {
        let greeting = format!("{name}\n");
        Self::serving(move |stream| {
            tell(stream, greeting.as_bytes());
        })
    }

    /// Does `service` with every connection, in a thread of its own, and closes it after that.
    pub fn serving(service: impl Fn(&TcpStream) + Send + Sync + 'static) -> Self {
        Self::serving_at(Ipv4Addr::LOCALHOST, service)
    }

    /// [`Server::serving`] on another address of this machine, `::1` for instance.
    pub fn serving_at(ip: impl Into<IpAddr>, service: impl Fn(&TcpStream) + Send + Sync + 'static) -> Self {
        Self::at(SocketAddr::new(ip.into(), free_port()), service)
    }

    /// [`Server::serving`] at this address.
    pub fn at(address: SocketAddr, service: impl Fn(&TcpStream) + Send + Sync + 'static) -> Self {
        let shared = Shared { service: Box::new(service), accepted: AtomicUsize::new(0), open: Mutex::default() };
        let mut server = Self { address, shared: Arc::new(shared), running: None };
        server.start();
        server
    }

    /// Where it listens, or did until it was stopped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The destination with a weight, as it is written on glbd's command line and to its control port.
    pub fn weighted(&self, weight: f64) -> String {
        format!("{self}:{weight}")
    }

    /// Connections accepted since the beginning, those before a [`Server::stop`] too.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.open().len()
    }

    /// Stops listening and closes all connections. The port stays this server's.
    pub fn stop(&mut self) {
        if self.running.is_none() {
            return;
        }
        self.stop_listening();
        for stream in self.shared.open().values().filter_map(Weak::upgrade) {
            // It may have ended by itself in the meantime.
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Refuses new connections; those that are open go on.
    pub fn stop_listening(&mut self) {
        let Some(Running { listener, acceptor }) = self.running.take() else {
            return;
        };
        // Makes a blocked accept(2) return, which closing the socket would not.
        SockRef::from(&*listener).shutdown(Shutdown::Both).expect("shutdown of a listening socket");
        acceptor.join().expect("the accepting thread");
    }

    /// Listens again on the same port after [`Server::stop`] or [`Server::stop_listening`].
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "the server at {self} runs already");
        let listener = Arc::new(TcpListener::bind(self.address).expect("the server's own port"));
        let acceptor = thread::spawn({
            let (listener, shared) = (Arc::clone(&listener), Arc::clone(&self.shared));
            move || shared.accept_all(&listener)
        });
        self.running = Some(Running { listener, acceptor });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.address.fmt(formatter)
    }
}

impl Shared {
    fn accept_all(self: &Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            let stream = Arc::new(stream);
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            self.open().insert(number, Arc::downgrade(&stream));
            let shared = Arc::clone(self);
            thread::spawn(move || {
                (shared.service)(&stream);
                drop(stream);
                shared.open().remove(&number);
            });
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<usize, Weak<TcpStream>>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Sends back what comes until the peer half-closes or is gone.
pub fn echo(stream: &TcpStream) {
    // A peer that is gone ends the echo as well as one that said so.
    io::copy(&mut &*stream, &mut &*stream).ok();
}

/// Whether `bytes` went out; `false` if the peer is gone.
fn tell(mut stream: &TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

/// A destination that neither accepts nor refuses: who connects hears nothing, as from a host that is switched off.
pub struct SilentDestination {
    address: SocketAddr,
    listener: Socket,
    /// Connections that nobody accepts fill the queue, so that the kernel drops all that come after them.
    queue: Vec<TcpStream>,
}

impl SilentDestination {
    /// Starts to be silent.
    pub fn start() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let listener = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        listener.bind(&address.into()).expect("a free port");
        listener.listen(0).expect("listen");
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queue.push(stream);
        }
        Self { address, listener, queue }
    }

    /// Accepts those that have come and all that come from now on, and does `service` with each.
    pub fn accept(self, service: impl Fn(TcpStream) + Send + 'static) {
        drop(self.queue);
        let listener = TcpListener::from(self.listener);
        thread::spawn(move || listener.incoming().flatten().for_each(service));
    }
}

impl fmt::Display for SilentDestination {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.address.fmt(formatter)
    }
}
