//! Whether an HTTP server, such as clustercheck, says that a destination is fit.

mod answer;

use tokio::io::AsyncWriteExt;

use super::stream::at_port;
use super::tcp::connect;
use super::{Answer, Asking, Probe};
use crate::address::PeerAddress;
use crate::config::HttpOptions;
use crate::pool::health::Verdict;
pub(in crate::checker) use answer::read_status;

/// Fetches a page, and judges by its status.
pub(super) struct Http {
    server: PeerAddress,
    request: String,
    options: HttpOptions,
}

impl Http {
    /// Asks at the destination's host, and at its port unless there is another.
    pub(super) fn new(destination: PeerAddress, options: HttpOptions) -> Http {
        let server = at_port(destination, options.port);
        let host = if server.is_unix() { "localhost".to_owned() } else { server.to_string() };
        let (agent, path) = (concat!("glbd/", env!("CARGO_PKG_VERSION")), &options.path);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n");
        Http { server, request, options }
    }
}

impl Probe for Http {
    fn is_waited_for(&self) -> bool {
        true
    }

    fn ask(&mut self, _fresh: bool) -> Asking<'_> {
        Box::pin(async {
            let mut stream = connect(self.server).await?;
            // Some answer without having read anything, and are gone by now.
            let asked = stream.write_all(self.request.as_bytes()).await;
            match read_status(&mut stream).await {
                Ok(status) => Ok(judge(status, &self.options)),
                Err(error) => Err(asked.err().unwrap_or(error)),
            }
        })
    }
}

fn judge(status: u16, options: &HttpOptions) -> Answer {
    let reason = format!("HTTP status {status}");
    match status {
        _ if options.ready.contains(&status) => Answer::new(Verdict::Ready, ""),
        _ if options.spare.contains(&status) => Answer::new(Verdict::Spare, reason),
        _ if options.avoid.contains(&status) => Answer::new(Verdict::Avoid, reason),
        _ => Answer::new(Verdict::Down, reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_means_what_the_options_say_and_is_the_reason() {
        let path = "/".to_owned();
        let options = HttpOptions { port: None, path, ready: vec![200, 204], spare: vec![429], avoid: vec![503] };
        for (status, verdict, reason) in [
            (200, Verdict::Ready, ""),
            (204, Verdict::Ready, ""),
            (429, Verdict::Spare, "HTTP status 429"),
            (503, Verdict::Avoid, "HTTP status 503"),
            (201, Verdict::Down, "HTTP status 201"),
            (500, Verdict::Down, "HTTP status 500"),
        ] {
            assert_eq!(judge(status, &options), Answer::new(verdict, reason));
        }
    }
}
