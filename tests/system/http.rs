//! What `--http` answers: metrics, health, the API, events and the page.

mod abuse;
mod access;
mod api;
mod metrics;
mod page;
mod ready;
mod reload;
mod scraped;
mod upgrade;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::harness::{Glbd, Server, connect_to, free_port};

/// The port of a daemon that speaks HTTP.
pub struct Web(pub SocketAddr);

/// What was answered to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Web {
    /// A port that is free.
    pub fn new() -> Web {
        Web(SocketAddr::from(([127, 0, 0, 1], free_port())))
    }

    /// The option for it.
    pub fn option(&self) -> String {
        format!("--http={}", self.0)
    }

    /// A daemon that speaks HTTP there.
    pub fn of(arguments: &[&str], servers: &[&Server]) -> (Glbd, Web) {
        let web = Web::new();
        let glbd = Glbd::builder().arg(web.option()).args(arguments).destinations(servers.iter().copied()).start();
        crate::harness::wait_until("HTTP is spoken", || TcpStream::connect(web.0).is_ok());
        (glbd, web)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    /// The JSON at a path.
    pub fn json(&self, path: &str) -> Value {
        self.json_of(200, path)
    }

    /// The JSON that comes with this status.
    pub fn json_of(&self, status: u16, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.body))
    }

    /// A request with these header lines beside `Host`, unless one of them is that.
    pub fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        self.try_to_ask(method, path, headers, body).expect("an answer")
    }

    pub fn try_to_ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> std::io::Result<Answer> {
        let mut stream = connect_to(self.0)?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|line| line.starts_with("Host:")) {
            head += &format!("Host: {}\r\n", self.0);
        }
        headers.iter().for_each(|line| head += &format!("{line}\r\n"));
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let text = String::from_utf8(answer).expect("text");
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return Err(std::io::Error::other(format!("no answer: {text:?}")));
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Ok(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
    }
}
