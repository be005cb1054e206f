//! Asks a daemon over its control socket. Everything has a deadline and a bound: the daemon may be stopped, or be none.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::arguments::ControlAddress;
use super::text::harmless;

/// Longest answer that is taken: four times what a daemon with a full table says of it.
const LONGEST_ANSWER: usize = 192 << 20;
/// Where a daemon takes commands unless somebody says otherwise.
const USUAL_SOCKET: &str = "/run/glbd/glbd.sock";
const USUAL_PORT: u16 = 8011;
/// How soon to try again where the daemon has no room for another conversation at the moment.
const BUSY: Duration = Duration::from_millis(20);
/// Behind each command, so that the end of an answer can be told from an answer that was cut off.
const LAST_COMMAND: &str = "version";
const LAST_ANSWER: &str = "glbd ";
/// What the line about a process begins with that was to close connections, and does not answer.
pub const MISSING: &str = "Missing: ";

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The daemon has refused it: its words, a line for each reason.
    Refused(Vec<String>),
    /// It was asked for wrongly.
    Usage(String),
    /// The daemon cannot be reached, has not answered in time, or has answered something else.
    Unreachable(String),
    /// The daemon has answered, and the answer is shown, but these older processes of an upgrade did not answer it: a line
    /// for each.
    Incomplete(Vec<String>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(reasons) | Failure::Incomplete(reasons) => f.write_str(&reasons.join("; ")),
            Failure::Usage(reason) | Failure::Unreachable(reason) => f.write_str(reason),
        }
    }
}

/// A daemon, and how to reach it.
#[derive(Debug, Clone)]
pub struct Client {
    /// They are tried in this order.
    addresses: Vec<ControlAddress>,
}

impl Client {
    /// The daemon there, or where it usually is.
    pub fn new(address: Option<ControlAddress>) -> Client {
        let usual = || {
            let socket = Path::new(USUAL_SOCKET);
            let socket = socket.exists().then(|| ControlAddress::Unix(socket.into()));
            socket.into_iter().chain([ControlAddress::Tcp("127.0.0.1".into(), USUAL_PORT)]).collect()
        };
        Client { addresses: address.map_or_else(usual, |address| vec![address]) }
    }

    /// Where it is.
    pub fn name(&self) -> String {
        self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
    }

    /// Has one command carried out.
    ///
    /// # Errors
    /// As [`Failure`] says.
    pub fn ask(&self, command: &str, deadline: Instant) -> Result<String, Failure> {
        let mut answers = self.ask_all(&[command], deadline)?;
        let answer = answers.pop().unwrap_or_default();
        match answer.starts_with("Error: ") {
            true => Err(Failure::Refused(reasons(&answer))),
            false => Ok(answer),
        }
    }

    /// Has several commands carried out in one conversation, and returns the answer to each, errors included.
    ///
    /// # Errors
    /// The daemon cannot be reached, or has not answered all of them.
    pub fn ask_all(&self, commands: &[&str], deadline: Instant) -> Result<Vec<String>, Failure> {
        let lines: String = commands.iter().map(|command| format!("{command}\n{LAST_COMMAND}\n")).collect();
        let socket = self.begin(&(lines + "quit\n"), deadline)?;
        let answer = read_to_end(&socket, deadline).map_err(|error| self.unreachable(&error))?;
        let answers = split(&answer, commands.len());
        answers.ok_or_else(|| self.unreachable(&io::Error::other("the daemon has not answered to the end")))
    }

    /// Begins a conversation that goes on, and returns what is sent in it.
    ///
    /// # Errors
    /// The daemon cannot be reached.
    pub fn follow(&self, command: &str, deadline: Instant) -> Result<Socket, Failure> {
        let socket = self.begin(&format!("{command}\n"), deadline)?;
        let forever = socket.set_read_timeout(None).and_then(|()| socket.set_nonblocking(false));
        forever.map_err(|error| self.unreachable(&error))?;
        // Finds out about a machine that is gone. A UNIX socket has no such thing.
        let probes = TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
        let _ = SockRef::from(&socket).set_tcp_keepalive(&probes);
        Ok(socket)
    }

    fn begin(&self, lines: &str, deadline: Instant) -> Result<Socket, Failure> {
        let mut failures = Vec::new();
        for address in &self.addresses {
            match connect(address, deadline).and_then(|socket| send(&socket, lines, deadline).map(|()| socket)) {
                Ok(socket) => return Ok(socket),
                Err(error) => failures.push(format!("{address}: {}", said(&error))),
            }
        }
        Err(Failure::Unreachable(failures.join("; ")))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        Failure::Unreachable(format!("{}: {}", self.name(), said(error)))
    }
}

/// What an answer that is an error says.
pub fn reasons(answer: &str) -> Vec<String> {
    answer.lines().map(|line| harmless(line.strip_prefix("Error: ").unwrap_or(line))).collect()
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "the daemon has not answered in time".into(),
        _ => harmless(&error.to_string()),
    }
}

/// The answers to so many commands, each of which is followed by the answer to the last command.
fn split(answer: &str, count: usize) -> Option<Vec<String>> {
    let mut answers = vec![String::new()];
    for line in answer.split_inclusive('\n') {
        if line.starts_with(LAST_ANSWER) && line.ends_with('\n') {
            answers.push(String::new());
        } else {
            *answers.last_mut()? += line;
        }
    }
    // What stands behind the last one is none.
    (answers.pop()?.is_empty() && answers.len() == count).then_some(answers)
}

fn connect(address: &ControlAddress, deadline: Instant) -> io::Result<Socket> {
    match address {
        ControlAddress::Unix(path) => {
            let path = path.to_string_lossy();
            let path = path.strip_prefix('@').map_or_else(|| path.to_string(), |name| format!("\0{name}"));
            connect_to(&SockAddr::unix(path)?, Domain::UNIX, deadline)
        }
        ControlAddress::Tcp(host, port) => {
            let mut failure = io::Error::new(ErrorKind::NotFound, "the host has no address");
            for address in resolve(host, *port, deadline)? {
                match connect_to(&address.into(), Domain::for_address(address), deadline) {
                    Ok(socket) => return Ok(socket),
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        }
    }
}

fn connect_to(address: &SockAddr, domain: Domain, deadline: Instant) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if domain != Domain::UNIX {
        socket.connect_timeout(address, left(deadline)?)?;
        return Ok(socket);
    }
    // A UNIX socket is connected at once, or its backlog is full.
    socket.set_nonblocking(true)?;
    while let Err(error) = socket.connect(address) {
        match error.kind() {
            ErrorKind::WouldBlock => thread::sleep(BUSY.min(left(deadline)?)),
            _ => return Err(error),
        }
    }
    socket.set_nonblocking(false)?;
    Ok(socket)
}

/// Resolves in a thread of its own, which may take longer than there is time.
fn resolve(host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (sender, receiver) = mpsc::channel();
    let host = host.to_owned();
    thread::spawn(move || sender.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect)));
    receiver.recv_timeout(left(deadline)?).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

fn send(socket: &Socket, lines: &str, deadline: Instant) -> io::Result<()> {
    socket.set_write_timeout(Some(left(deadline)?))?;
    (&*socket).write_all(lines.as_bytes())
}

fn read_to_end(socket: &Socket, deadline: Instant) -> io::Result<String> {
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        socket.set_read_timeout(Some(left(deadline)?))?;
        match (&*socket).read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.len() > LONGEST_ANSWER {
            return Err(io::Error::other("the answer is too long"));
        }
    }
    String::from_utf8(answer).map_err(|_| io::Error::other("the answer is no text"))
}

/// How much time is left, at least a moment.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_millis(1))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_cut_off_is_none() {
        let whole = "one\ntwo\nglbd 2.0.0\nError: no\nglbd 2.0.0\n";
        assert_eq!(split(whole, 2), Some(vec!["one\ntwo\n".into(), "Error: no\n".into()]));
        for end in 0..whole.len() {
            assert_eq!(split(&whole[..end], 2), None, "{:?}", &whole[..end]);
        }
        assert_eq!(split(whole, 1), None);
        assert_eq!(split("glbd 2.0.0\n", 1), Some(vec![String::new()]));
    }
}
