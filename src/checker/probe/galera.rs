//! What MySQL or MariaDB, and Galera in it, say of themselves.
//!
//! Most checks use a connection that is kept. Every few, and those that follow a hint, log in afresh: whether new clients
//! are let in shows only there.
//!
//! A server that sees too many logins cut short refuses all connections from their host (`max_connect_errors`), those
//! of glbd's clients too. So a login is not given up for taking longer than a check may, and none begins before a
//! [`knock`], which the server does not notice, has shown that it accepts connections.

mod account;
mod judge;
mod refusal;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::time::{Instant, timeout};

use super::dialer::Dialer;
use super::stream::{ByteStream, at_port};
use super::tcp::knock;
use super::{Answer, Asking, Probe};
use crate::address::PeerAddress;
use crate::checker::mysql::{self, Error, Login};
use crate::config::GaleraOptions;
pub(super) use account::Account;
use judge::judge;
use refusal::{Context, refused};

type Session = mysql::Session<Box<dyn ByteStream>>;

/// Settings of a session under which its questions are answered at once, or end. A server that does not know one of
/// them answers with an error, which changes nothing.
const SETTINGS: [&str; 3] = [
    // Otherwise an answer may wait until all write sets are applied.
    "SET SESSION wsrep_sync_wait = 0",
    "SET SESSION max_statement_time = 60",
    "SET SESSION lock_wait_timeout = 60, wait_timeout = 28800",
];
const QUESTIONS: [&str; 2] = [
    "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_ready', 'wsrep_cluster_status', 'wsrep_local_state', \
    'wsrep_local_state_comment', 'wsrep_incoming_addresses', 'wsrep_cluster_state_uuid', 'wsrep_cluster_conf_id', \
    'wsrep_cluster_size', 'wsrep_local_recv_queue', 'Threads_connected')",
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('wsrep_provider', 'wsrep_reject_queries', 'read_only', \
    'pxc_maint_mode', 'max_connections')",
];
/// A host that does not acknowledge what was sent for so long has vanished.
const VANISHED: Duration = Duration::from_secs(30);
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5)).with_retries(4);
/// How long TLS that has failed is done without: a server counts a handshake that was cut short.
const WITHOUT_TLS: Duration = Duration::from_secs(60);
/// How long a server may take to count a session as ended.
const GOODBYE: Duration = Duration::from_secs(1);

/// Checks one server.
pub(super) struct Galera {
    address: PeerAddress,
    options: GaleraOptions,
    account: Account,
    dialer: Dialer,
    kept: Option<Session>,
    /// Checks since the last login.
    checks: u32,
    /// The last login was refused, so that the kept connection says too little.
    was_refused: bool,
    /// Why TLS, which is preferred but not required, is done without, and since when.
    tls_failure: Option<(String, Instant)>,
    /// The account may have one connection only: the kept one ends before another begins.
    single: bool,
}

impl Galera {
    pub(super) fn new(destination: PeerAddress, options: GaleraOptions, account: Account, dialer: Dialer) -> Galera {
        let address = at_port(destination, options.port);
        let (kept, checks, was_refused, tls_failure, single) = (None, 0, false, None, false);
        Galera { address, options, account, dialer, kept, checks, was_refused, tls_failure, single }
    }

    async fn check(&mut self, fresh: bool) -> io::Result<Answer> {
        self.checks = self.checks.saturating_add(1);
        if fresh || self.was_refused || self.checks >= self.options.login {
            return self.log_in_and_ask().await;
        }
        match self.ask_kept().await {
            Some(answer) => Ok(answer),
            // There is none, or the server has closed it: it was restarted, or has ended idle sessions.
            None => self.log_in_and_ask().await,
        }
    }

    /// Asks over the kept connection; `None` if there is none that works.
    async fn ask_kept(&mut self) -> Option<Answer> {
        // If this future is dropped in the middle of a question, the connection is not used again.
        let mut session = self.kept.take()?;
        match ask(&mut session).await {
            Ok(answers) => {
                self.kept = Some(session);
                Some(judge(&answers, &self.options, 0))
            }
            Err(error) => refused(&error, &Context::Question),
        }
    }

    /// Asks over a new connection, which then takes the place of the kept one.
    async fn log_in_and_ask(&mut self) -> io::Result<Answer> {
        let login = self.account.login();
        // A UNIX socket's server would notice, and connecting to it takes no time.
        if !self.address.is_unix() {
            knock(self.address).await?;
        }
        self.tls_failure.take_if(|(_, since)| since.elapsed() >= WITHOUT_TLS);
        if self.single {
            self.end_kept().await;
        }
        let mut result = self.log_in(&login).await;
        if matches!(&result, Err(Error::Server(error)) if refusal::is_too_many(error)) && self.kept.is_some() {
            self.single = true;
            self.end_kept().await;
            result = self.log_in(&login).await;
        }
        if let (Err(Error::Tls(reason)), Some(tls)) = (&result, &login.tls)
            && !tls.required
        {
            self.tls_failure = Some((reason.clone(), Instant::now()));
            result = self.log_in(&login).await;
        }
        self.was_refused = result.is_err();
        match result {
            Ok(session) => self.ask_new(session).await,
            Err(error) => self.answer_without_login(&error, &login).await,
        }
    }

    async fn ask_new(&mut self, mut session: Session) -> io::Result<Answer> {
        match prepare_and_ask(&mut session).await {
            Ok(answers) => {
                self.checks = 0;
                // The one before is dropped, and says goodbye.
                let leaving = self.kept.replace(session).map_or(0, |_| 1);
                Ok(judge(&answers, &self.options, leaving))
            }
            Err(error) => {
                self.was_refused = true;
                refused(&error, &Context::Question).ok_or_else(|| io_error(error))
            }
        }
    }

    /// The reason of the refusal, unless the kept connection, if there is one, says something worse.
    async fn answer_without_login(&mut self, error: &Error, login: &Login) -> io::Result<Answer> {
        let context = Context::login(login, self.tls_failure.as_ref().map(|(reason, _)| reason.as_str()));
        let Some(refusal) = refused(error, &context) else {
            return Err(login_error(error));
        };
        Ok(match self.ask_kept().await {
            Some(answer) if answer.verdict < refusal.verdict => answer,
            Some(answer) => Answer { verdict: refusal.verdict, reason: refusal.reason, ..answer },
            None => refusal,
        })
    }

    async fn log_in(&self, login: &Login) -> mysql::Result<Session> {
        let stream = self.dialer.connect_plain(self.address).await?;
        if !self.address.is_unix() {
            let socket = SockRef::from(&stream);
            socket.set_tcp_nodelay(true)?;
            socket.set_tcp_keepalive(&KEEPALIVE)?;
            socket.set_tcp_user_timeout(Some(VANISHED))?;
        }
        let plain = Login { tls: None, ..login.clone() };
        let login = if self.tls_failure.is_some() && login.tls.as_ref().is_some_and(|tls| !tls.required) {
            &plain
        } else {
            login
        };
        mysql::log_in(stream, self.address.ip_or_local(), login).await
    }

    /// Ends the kept connection, if there is one, and waits until the server no longer counts it.
    async fn end_kept(&mut self) {
        if let Some(session) = self.kept.take() {
            // A server that takes longer will find out by itself.
            let _ = timeout(GOODBYE, session.quit()).await;
        }
    }
}

impl Probe for Galera {
    fn ask(&mut self, fresh: bool) -> Asking<'_> {
        Box::pin(self.check(fresh))
    }

    fn is_waited_for(&self) -> bool {
        true
    }

    fn end(&mut self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        // Dropping a session says goodbye, and takes no time.
        self.kept = None;
        Box::pin(async {})
    }
}

async fn prepare_and_ask(session: &mut Session) -> mysql::Result<HashMap<String, String>> {
    for setting in SETTINGS {
        match session.query(setting).await {
            Ok(_) | Err(Error::Server(_)) => {}
            Err(error) => return Err(error),
        }
    }
    ask(session).await
}

async fn ask(session: &mut Session) -> mysql::Result<HashMap<String, String>> {
    let mut answers = HashMap::new();
    for question in QUESTIONS {
        let rows = session.query(question).await?;
        answers.extend(rows.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)));
    }
    Ok(answers)
}

/// The system's own error where there is one, so that a want of descriptors is known for what it is.
fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) if error.raw_os_error().is_some() => error,
        error => io::Error::other(error.to_string()),
    }
}

fn login_error(error: &Error) -> io::Error {
    let system = if let Error::Io(error) = error { error.raw_os_error() } else { None };
    match system {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(format!("login failed: {error}")),
    }
}
