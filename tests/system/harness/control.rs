//! The control client, and the answers of `getinfo` and `getstat` taken apart.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::net::PATIENCE;

/// Sends `commands` and a newline, half-closes, and returns all that glbd answers until it closes.
pub fn ask(control: SocketAddr, commands: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(control)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{commands}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The same through a socket file.
pub fn ask_at(path: &Path, commands: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{commands}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The answer to `getinfo`.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    pub rows: Vec<Row>,
    /// `total connections: N`
    pub total: usize,
    /// `of N max`
    pub max: usize,
    /// `Queue: N`, where destinations are limited.
    pub queued: Option<usize>,
}

/// One destination in [`Info`].
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub address: String,
    pub weight: f64,
    pub usage: f64,
    /// `None` where glbd prints `N/A`.
    pub map: Option<f64>,
    /// Whether it is the single destination, which stands where `map` would.
    pub is_single: bool,
    pub conns: usize,
}

impl Info {
    /// Takes the answer apart; panics, showing it, if its layout is not GLB's.
    pub fn parse(answer: &str) -> Self {
        Self::try_parse(answer).unwrap_or_else(|| panic!("not the layout of getinfo:\n{answer}"))
    }

    fn try_parse(answer: &str) -> Option<Self> {
        let mut lines = answer.lines();
        let is_rule = |line: &str| !line.is_empty() && line.bytes().all(|byte| byte == b'-');
        let title = lines.next()? == "Router:";
        let ruled = is_rule(lines.next()?);
        let heading = lines.next()?.split_whitespace().eq(["Address", ":", "weight", "usage", "map", "conns"]);
        if !(title && ruled && heading) {
            return None;
        }
        let rows = lines.by_ref().take_while(|line| !is_rule(line)).map(Row::parse).collect::<Option<Vec<_>>>()?;
        let rest = lines.next()?.strip_prefix("Destinations: ")?;
        let (count, rest) = rest.split_once(", total connections: ")?;
        let (total, rest) = rest.split_once(" of ")?;
        let max = rest.strip_suffix(" max")?;
        let queue = lines.next().map(|line| Some(line.strip_prefix("Queue: ")?.split_once(' ')?.0.parse().ok()));
        let queued = match queue {
            Some(queued) => Some(queued??),
            None => None,
        };
        let complete = count.parse() == Ok(rows.len()) && lines.next().is_none();
        complete.then_some(Self { rows, total: total.parse().ok()?, max: max.parse().ok()?, queued })
    }

    /// The row of the destination with this address; panics if there is none.
    pub fn row(&self, address: impl ToString) -> &Row {
        let address = address.to_string();
        self.rows.iter().find(|row| row.address == address).unwrap_or_else(|| panic!("no {address} in {self:?}"))
    }
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let (address, columns) = line.split_once(" : ")?;
        let columns: Vec<&str> = columns.split_whitespace().collect();
        let [weight, usage, map, conns] = columns[..] else {
            return None;
        };
        Some(Self {
            address: address.trim_start().to_owned(),
            weight: weight.parse().ok()?,
            usage: usage.parse().ok()?,
            map: if ["N/A", "single"].contains(&map) { None } else { Some(map.parse().ok()?) },
            is_single: map == "single",
            conns: conns.parse().ok()?,
        })
    }
}

/// The answer to `getstat`: all but `open` and `elapsed` count since the last report.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub received: u64,
    pub recv_calls: u64,
    pub sent: u64,
    pub send_calls: u64,
    pub created: u64,
    pub open: u64,
    pub readable: u64,
    pub writable: u64,
    pub polls: u64,
    pub elapsed: f64,
}

impl Stats {
    /// Takes the answer apart; panics, showing it, if its layout is not GLB's.
    pub fn parse(answer: &str) -> Self {
        Self::try_parse(answer).unwrap_or_else(|| panic!("not the layout of getstat: {answer:?}"))
    }

    fn try_parse(answer: &str) -> Option<Self> {
        let line = answer.strip_suffix('\n')?;
        let mut fields = line.split(' ');
        let mut after = |label: &str| (fields.next()? == label).then(|| fields.next())?;
        let stats = Self {
            bytes_in: after("in:")?.parse().ok()?,
            bytes_out: after("out:")?.parse().ok()?,
            received: after("recv:")?.parse().ok()?,
            recv_calls: after("/")?.parse().ok()?,
            sent: after("send:")?.parse().ok()?,
            send_calls: after("/")?.parse().ok()?,
            created: after("conns:")?.parse().ok()?,
            open: after("/")?.parse().ok()?,
            readable: after("poll:")?.parse().ok()?,
            writable: after("/")?.parse().ok()?,
            polls: after("/")?.parse().ok()?,
            elapsed: after("elapsed:")?.parse().ok()?,
        };
        fields.next().is_none().then_some(stats)
    }
}
