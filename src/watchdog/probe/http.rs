//! Whether an HTTP server, such as clustercheck, says that a destination is fit.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tcp::connect;
use super::{Answer, Asking, Probe};
use crate::table::health::Verdict;

/// An answer's head must fit in here.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// Fetches a page, and looks at the status only.
pub(super) struct Http {
    server: SocketAddr,
    request: String,
}

impl Http {
    /// Asks at the destination's host, and at its port unless there is another.
    pub(super) fn new(destination: SocketAddr, port: Option<u16>, path: String) -> Http {
        let server = SocketAddr::new(destination.ip(), port.unwrap_or(destination.port()));
        let agent = concat!("glbd/", env!("CARGO_PKG_VERSION"));
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n");
        Http { server, request }
    }
}

impl Probe for Http {
    fn ask(&mut self) -> Asking<'_> {
        Box::pin(async {
            let mut stream = connect(self.server).await?;
            // Some answer without having read anything, and are gone by now.
            let asked = stream.write_all(self.request.as_bytes()).await;
            let mut head = Vec::new();
            while head.len() < MAX_HEAD {
                if let Some(status) = status(&head)? {
                    return Ok(judge(status));
                }
                match stream.read_buf(&mut head).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => return Err(asked.err().unwrap_or(error)),
                }
            }
            Err(invalid("its answer is not HTTP, or is cut short"))
        })
    }
}

/// The status, once the head is complete.
fn status(head: &[u8]) -> io::Result<Option<u16>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head) {
        Ok(_) => Ok(response.code),
        Err(error) => Err(invalid(&format!("its answer is not HTTP: {error}"))),
    }
}

fn judge(status: u16) -> Answer {
    match status {
        200 => Answer::new(Verdict::Ready, ""),
        _ => Answer::new(Verdict::Down, format!("HTTP status {status}")),
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
