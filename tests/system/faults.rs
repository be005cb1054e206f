//! The system's calls fail under load, one after the other. docs/faults.md has the table of what is promised.

mod clocks;
mod files;
mod processes;
mod relay;
mod sockets;

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::servers::echo;
use crate::harness::{Payload, Server, Site, connect_to, echoes, free_port, wait_until};

/// Clients at a time that come and go.
const CLIENTS: usize = 4;
/// Bytes of each, both ways.
const LENGTH: usize = 3000;

/// Clients of echoing destinations that come and go and compare what they get, and one that stays.
struct Load {
    session: TcpStream,
    record: Arc<Record>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Record {
    over: AtomicBool,
    served: AtomicUsize,
    complaints: Mutex<Vec<String>>,
}

impl Load {
    fn on(address: SocketAddr) -> Self {
        let session = connect_to(address).expect("glbd accepts");
        assert!(echoes(&session));
        let record = Arc::new(Record::default());
        let threads = (0..CLIENTS).map(|number| {
            let record = Arc::clone(&record);
            thread::spawn(move || record.come_and_go(address, number as u64))
        });
        let load = Self { session, threads: threads.collect(), record };
        load.wait_for_more();
        load
    }

    fn served(&self) -> usize {
        self.record.served.load(Ordering::SeqCst)
    }

    /// Waits until clients have been served that came after this was called.
    fn wait_for_more(&self) {
        let before = self.served();
        wait_until("more clients are served", || self.served() > before + 3 * CLIENTS);
    }

    /// Ends the load. Every client must have been served, and the one that stayed must still be.
    fn end(self) {
        self.wait_for_more();
        assert_eq!(self.complaints(), [""; 0]);
        assert!(echoes(&self.session), "the connection that was there before");
    }

    fn complaints(&self) -> Vec<String> {
        self.record.complaints.lock().expect("no panic").clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.record.over.store(true, Ordering::SeqCst);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Record {
    fn come_and_go(&self, address: SocketAddr, seed: u64) {
        while !self.over.load(Ordering::SeqCst) {
            match visit(address, seed) {
                Ok(()) => drop(self.served.fetch_add(1, Ordering::SeqCst)),
                Err(error) => self.complaints.lock().expect("no panic").push(error.to_string()),
            }
        }
    }
}

/// Two echoing destinations, and the port of their pages. These take so long that the watchdog waits for one at most times.
fn watched_sites() -> (u16, [Site; 2]) {
    let page_port = free_port();
    let site = |number| {
        let address = SocketAddr::from(([127, 0, 0, number], free_port()));
        let site = Site::beside(Server::at(address, echo), page_port);
        site.delay(Duration::from_millis(100));
        site
    };
    (page_port, [site(2), site(3)])
}

fn visit(address: SocketAddr, seed: u64) -> std::io::Result<()> {
    let (client, payload) = (connect_to(address)?, Payload::new(seed, LENGTH));
    payload.send(&client)?;
    client.shutdown(Shutdown::Write)?;
    payload.try_receive_to_end(&client)
}
