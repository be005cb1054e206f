//! Both ends of a relayed connection in the hands of one test.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use socket2::SockRef;

use super::client::patient;
use super::glbd::{Builder, Glbd};
use super::net::{PATIENCE, free_port};

/// A glbd with one destination, which the test plays itself.
pub struct Stage {
    pub glbd: Glbd,
    listener: TcpListener,
}

impl Stage {
    /// A stage with a glbd that has nothing out of the ordinary.
    pub fn start() -> Self {
        Self::start_with(Glbd::builder())
    }

    /// A stage with this glbd, to which the destination is added.
    pub fn start_with(builder: Builder) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let listener = TcpListener::bind(address).expect("a free port");
        // On Linux this is also how long accept(2) waits.
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        Self { glbd: builder.destinations([address]).start(), listener }
    }

    /// A new client, and the server's end of its connection.
    pub fn pair(&self) -> (TcpStream, TcpStream) {
        let client = self.glbd.connect();
        (client, self.accept())
    }

    /// The server's end of the next connection.
    pub fn accept(&self) -> TcpStream {
        let (server, _) = self.listener.accept().expect("a connection from glbd");
        patient(server).expect("timeouts")
    }
}
