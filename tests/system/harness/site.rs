//! Destinations with a page beside them that says how they are, as clustercheck does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::net::free_port;
use super::servers::Server;

/// A named server at an address of its own, and its page. Displays as the server's address.
pub struct Site {
    pub server: Server,
    page: Arc<Page>,
    _page_server: Server,
}

struct Page {
    status: AtomicUsize,
    hangs: AtomicBool,
    delay: Mutex<Duration>,
    asked: Mutex<Vec<Instant>>,
}

/// So many sites, named 2, 3 and so on after their addresses, and the port of all their pages.
pub fn sites<const N: usize>() -> (u16, [Site; N]) {
    let port = free_port();
    (port, std::array::from_fn(|index| Site::at([127, 0, 0, 2 + index as u8].into(), free_port(), port)))
}

impl Site {
    /// A site that is named after the last number of its address.
    pub fn at(ip: Ipv4Addr, port: u16, page_port: u16) -> Self {
        let [.., number] = ip.octets();
        Site::beside(Server::named_at(&number.to_string(), SocketAddr::from((ip, port))), page_port)
    }

    /// A site of any server, its page at another port of the server's address.
    pub fn beside(server: Server, page_port: u16) -> Self {
        let page = Arc::new(Page {
            status: AtomicUsize::new(200),
            hangs: AtomicBool::new(false),
            delay: Mutex::default(),
            asked: Mutex::default(),
        });
        let shared = Arc::clone(&page);
        let address = SocketAddr::new(server.address().ip(), page_port);
        let page_server = Server::at(address, move |stream| shared.serve(stream));
        Self { server, page, _page_server: page_server }
    }

    /// From now on the page has this status.
    pub fn say(&self, status: usize) {
        self.page.status.store(status, Ordering::SeqCst);
    }

    /// From now on the page is not answered, or is again, those who wait for it too.
    pub fn hang(&self, hangs: bool) {
        self.page.hangs.store(hangs, Ordering::SeqCst);
    }

    /// From now on the page takes so long.
    pub fn delay(&self, delay: Duration) {
        *self.page.delay.lock().expect("no panic") = delay;
    }

    /// When the page was asked for.
    pub fn asked(&self) -> Vec<Instant> {
        self.page.asked.lock().expect("no panic").clone()
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.server.fmt(formatter)
    }
}

impl Page {
    fn serve(&self, mut stream: &TcpStream) {
        let mut request = [0; 1024];
        // Whoever asks does so in one segment.
        if stream.read(&mut request).is_ok_and(|count| count > 0) {
            self.asked.lock().expect("no panic").push(Instant::now());
            let begun = Instant::now();
            let delay = *self.delay.lock().expect("no panic");
            while begun.elapsed() < delay || self.hangs.load(Ordering::SeqCst) {
                // Until the one who asked is gone.
                stream.set_nonblocking(true).expect("a socket");
                if stream.peek(&mut request).is_ok() {
                    return;
                }
                thread::sleep(Duration::from_millis(2));
            }
            stream.set_nonblocking(false).expect("a socket");
            let status = self.status.load(Ordering::SeqCst);
            // One that is gone is not interested any more.
            write!(stream, "HTTP/1.1 {status} As Told\r\nConnection: close\r\n\r\n").ok();
        }
    }
}
