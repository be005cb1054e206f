//! Clients: plain sockets that give up after a while, so that a test of a stuck daemon fails instead of hanging.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::net::PATIENCE;

/// A client of `address` whose reads and writes fail after [`PATIENCE`].
pub fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    patient(TcpStream::connect_timeout(&address, PATIENCE)?)
}

/// A client of `address` whose connection may still be under way, or over. Only reading tells: a connect that is waited
/// for hides what a peer has said when it has reset the connection right after that.
pub fn begin_to_connect_to(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    let begun = socket.connect(&address.into()).map_err(|error| error.raw_os_error());
    assert!(matches!(begun, Ok(()) | Err(Some(libc::EINPROGRESS))), "{begun:?}");
    socket.set_nonblocking(false).expect("O_NONBLOCK");
    patient(socket.into()).expect("timeouts")
}

/// A client of `address` that comes from the address `source`, one of 127.0.0.0/8 for instance.
pub fn connect_from(source: impl Into<IpAddr>, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source.into(), 0).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    patient(socket.into())
}

/// A client of `address`, one of 127.0.0.1, that comes from this port.
pub fn connect_through(port: u16, address: SocketAddr) -> TcpStream {
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    client.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("a port");
    client.connect(&address.into()).expect("glbd listens");
    patient(client.into()).expect("timeouts")
}

/// Lets reads and writes fail after [`PATIENCE`].
pub fn patient(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Closes the connection with a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

/// The next line without its newline; empty if the connection ends first. Reads not a byte more.
pub fn read_line(mut stream: &TcpStream) -> io::Result<String> {
    let mut line = String::new();
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(1) if byte != *b"\n" => line.push(char::from(byte[0])),
            // A read with a timeout is interrupted when the process is stopped and continued: signal(7).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(line),
        }
    }
}

/// The names of the [`Server::named`](super::Server::named) at the other ends of `clients`.
pub fn names_of(clients: &[TcpStream]) -> Vec<String> {
    clients.iter().map(|client| read_line(client).expect("the server's name")).collect()
}

/// Whether an operation failed because the peer has reset the connection, even in the moment in which it stood.
pub fn was_reset(error: &io::Error) -> bool {
    // It is a broken pipe if an end came before the reset.
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Reads on until the connection is over, and says whether it ended cleanly: `false` means a reset.
pub fn said_goodbye(mut stream: &TcpStream) -> bool {
    match io::copy(&mut stream, &mut io::sink()) {
        Ok(_) => true,
        Err(error) if was_reset(&error) => false,
        Err(error) => panic!("neither an end nor a reset: {error}"),
    }
}

/// Whether what is sent comes back.
pub fn echoes(mut stream: &TcpStream) -> bool {
    stream.write_all(b"still there?\n").is_ok() && read_line(stream).is_ok_and(|line| line == "still there?")
}
