//! What MySQL or MariaDB, and Galera in it, say of themselves, over one connection that is kept.
//!
//! A server that sees too many logins cut short refuses all connections from their host (`max_connect_errors`), those
//! of glbd's clients too. So a login that was begun is never given up for taking longer than a probe may, and none is
//! begun before a [`knock`], which the server does not notice, has shown that somebody is there.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, IoError, Opts, OptsBuilder, Row, ServerError};

use super::option_file::Credentials;
use super::tcp::knock;
use super::{Answer, Asking, Probe};
use crate::config::GaleraOptions;
use crate::table::health::Verdict;

const QUESTIONS: [&str; 2] = [
    "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_ready', 'wsrep_cluster_status', 'wsrep_local_state', \
    'wsrep_local_state_comment', 'wsrep_incoming_addresses')",
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('wsrep_provider', 'wsrep_reject_queries', 'read_only', \
    'pxc_maint_mode')",
];
/// More than the questions have answers.
const MAX_ROWS: usize = 32;
/// More than an answer takes, however many members there are.
const MAX_PACKET: usize = 256 * 1024;
/// Most members that are heard of.
const MAX_MEMBERS: usize = 128;
/// How long a login may take before it counts as lost, for the reason above.
const LOGIN: Duration = Duration::from_secs(60);
/// The first pause after a login that failed, which doubles, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
const KEEPALIVE: Duration = Duration::from_secs(10);

/// `wsrep_local_state`, as Galera numbers them.
const DONOR: &str = "2";
const SYNCED: &str = "4";

/// Asks one server.
pub(super) struct Galera {
    address: SocketAddr,
    options: GaleraOptions,
    login: Opts,
    connection: Option<Conn>,
    attempt: Option<Attempt>,
    refusal: Option<Refusal>,
}

/// A login under way.
struct Attempt {
    begun: Instant,
    result: Pin<Box<dyn Future<Output = mysql_async::Result<Conn>>>>,
}

/// A login that failed.
struct Refusal {
    answer: Answer,
    /// Until then this is the answer.
    until: Instant,
    /// How long that was.
    pause: Duration,
}

impl Galera {
    pub(super) fn new(address: SocketAddr, options: GaleraOptions, credentials: Credentials) -> Galera {
        // All that would be asked for after the login is said here.
        let login = OptsBuilder::default()
            .ip_or_hostname(address.ip().to_string())
            .tcp_port(address.port())
            .tcp_keepalive(Some(KEEPALIVE))
            .prefer_socket(Some(false))
            .max_allowed_packet(Some(MAX_PACKET))
            .wait_timeout(Some(28_800))
            .user(Some(credentials.user))
            .pass(credentials.password);
        Galera { address, options, login: login.into(), connection: None, attempt: None, refusal: None }
    }

    async fn ask_once(&mut self) -> io::Result<Answer> {
        // One that is dropped in the middle of a question is not used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match self.log_in().await? {
                Ok(connection) => connection,
                Err(answer) => return Ok(answer),
            },
        };
        let answer = match answers(&mut connection).await {
            Ok(answers) => judge(&answers, &self.options),
            Err(Error::Server(error)) => Answer::new(Verdict::Down, error.message),
            Err(error) => return Err(io_error(error)),
        };
        self.connection = Some(connection);
        Ok(answer)
    }

    /// A new connection, or what follows from not being let in.
    async fn log_in(&mut self) -> io::Result<Result<Conn, Answer>> {
        if let Some(refusal) = self.refusal.as_ref().filter(|refusal| refusal.until > Instant::now()) {
            return Ok(Err(refusal.answer.clone()));
        }
        if self.attempt.as_ref().is_none_or(|attempt| attempt.begun.elapsed() > LOGIN) {
            self.attempt = None;
            knock(self.address).await?;
        }
        let begin = || Attempt { begun: Instant::now(), result: Conn::new(self.login.clone()) };
        let result = self.attempt.get_or_insert_with(begin).result.as_mut().await;
        self.attempt = None;
        match result {
            Ok(connection) => {
                self.refusal = None;
                Ok(Ok(connection))
            }
            Err(error) => Ok(Err(self.refused(&error))),
        }
    }

    /// Notes why a login failed, and for how long none is tried.
    fn refused(&mut self, error: &Error) -> Answer {
        let answer = match error {
            Error::Server(error) => Answer::new(verdict_of_refusal(error), error.message.clone()),
            error => Answer::new(Verdict::Down, format!("login failed: {}", reason(error))),
        };
        let pause = self.refusal.as_ref().map_or(PAUSE.0, |before| (before.pause * 2).min(PAUSE.1));
        self.refusal = Some(Refusal { answer: answer.clone(), until: Instant::now() + pause, pause });
        answer
    }
}

impl Probe for Galera {
    fn ask(&mut self) -> Asking<'_> {
        Box::pin(async {
            let kept = self.connection.is_some();
            match self.ask_once().await {
                // The server has closed it: it was restarted, or has not heard from us for too long.
                Err(_) if kept => self.ask_once().await,
                result => result,
            }
        })
    }
}

/// A server that is full, or does not like who asks, goes on serving those that are in.
fn verdict_of_refusal(error: &ServerError) -> Verdict {
    match error.code {
        // Too many connections: of all, of this user, of this user and hour.
        1040 | 1203 | 1226 => Verdict::Avoid,
        // No access: for this user, to this database, without a password, with one that has expired.
        1045 | 1044 | 1698 | 1820 | 1862 => Verdict::Avoid,
        // Nor for anybody else from this host: blocked, or not allowed.
        1129 | 1130 => Verdict::Avoid,
        _ => Verdict::Down,
    }
}

async fn answers(connection: &mut Conn) -> mysql_async::Result<HashMap<String, String>> {
    let mut answers = HashMap::new();
    for question in QUESTIONS {
        let mut rows = connection.query_iter(question).await?;
        while let Some(row) = rows.next().await? {
            if answers.len() >= MAX_ROWS {
                return Err(Error::Other("the server answers what it was not asked".into()));
            }
            answers.extend(name_and_value(row));
        }
    }
    Ok(answers)
}

fn name_and_value(row: Row) -> Option<(String, String)> {
    let (name, value) = mysql_async::from_row_opt::<(Vec<u8>, Vec<u8>)>(row).ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((text(&name).to_ascii_lowercase(), text(&value)))
}

/// What a server that says this of itself is good for.
fn judge(answers: &HashMap<String, String>, options: &GaleraOptions) -> Answer {
    let says = |name: &str| answers.get(name).map_or("", String::as_str);
    let is = |name: &str, value: &str| says(name).eq_ignore_ascii_case(value);
    let unless =
        |name: &str, usual: &str| (!says(name).is_empty() && !is(name, usual)).then(|| because(name, says(name)));
    let has_galera = !matches!(says("wsrep_provider"), "" | "none") && answers.contains_key("wsrep_cluster_status");
    let synced = is("wsrep_local_state", SYNCED);
    let donates = is("wsrep_local_state", DONOR);
    let state = || because("wsrep_local_state", says("wsrep_local_state_comment"));
    let verdicts = [
        has_galera.then(|| unless("wsrep_cluster_status", "Primary")).flatten().map(|it| (Verdict::Down, it)),
        has_galera.then(|| unless("wsrep_reject_queries", "NONE")).flatten().map(|it| (Verdict::Down, it)),
        (has_galera && !synced && !donates).then(|| (Verdict::Down, state())),
        has_galera.then(|| unless("wsrep_ready", "ON")).flatten().map(|it| (Verdict::Down, it)),
        (has_galera && donates && options.donor != Verdict::Ready).then(|| (options.donor, state())),
        unless("pxc_maint_mode", "DISABLED").map(|it| (Verdict::Avoid, it)),
        unless("read_only", "OFF").filter(|_| !options.read_only_is_fit).map(|it| (Verdict::Avoid, it)),
    ];
    // Of several reasons the gravest; of those that are equally grave the first.
    let worst = verdicts.into_iter().flatten().min_by_key(|(verdict, _)| *verdict);
    let (verdict, reason) = worst.unwrap_or((Verdict::Ready, String::new()));
    Answer { members: members(says("wsrep_incoming_addresses")), ..Answer::new(verdict, reason) }
}

fn because(name: &str, value: &str) -> String {
    format!("{name} is {value}")
}

/// Arbitrators have no address, and some servers do not know theirs.
fn members(text: &str) -> Vec<String> {
    let is_address = |it: &&str| !matches!(*it, "" | "AUTO" | "unspecified") && !it.ends_with(":0");
    text.split(',').map(str::trim).filter(is_address).take(MAX_MEMBERS).map(str::to_owned).collect()
}

/// The system's own error where there is one, so that a want of descriptors is known for what it is.
fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(IoError::Io(error)) => error,
        error => io::Error::other(reason(&error)),
    }
}

/// Without the library's words for what kind of error it is.
fn reason(error: &Error) -> String {
    match error {
        Error::Driver(error) => error.to_string(),
        Error::Io(IoError::Io(error)) => error.to_string(),
        Error::Other(error) => error.to_string(),
        error => error.to_string(),
    }
}
