//! What a server's refusal to let the watchdog in, or to answer it, says of the server.

use crate::checker::mysql::{Error, Login, ServerError};
use crate::checker::probe::Answer;
use crate::pool::health::Verdict;

/// What was refused.
pub(super) enum Context {
    Login {
        /// Of what a login lacked that accounts may require.
        lacked: Option<String>,
    },
    Question,
}

impl Context {
    pub(super) fn login(login: &Login, tls_failure: Option<&str>) -> Context {
        let lacked = match (&login.tls, tls_failure) {
            (None, _) => Some("without TLS".to_owned()),
            (Some(_), Some(reason)) => Some(format!("without TLS, which failed: {reason}")),
            (Some(tls), None) if !tls.has_certificate => Some("without a client certificate".to_owned()),
            (Some(_), None) => None,
        };
        Context::Login { lacked }
    }
}

/// What kind of error a server's number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server serves no client.
    Unfit,
    /// It refuses new connections, all or those from this host, and goes on to serve the open ones.
    Full,
    /// The connection was ended, or a statement was; the server says nothing of itself.
    Ended,
    /// It does not like the account, or how it is used.
    Account,
}

/// Sorts the errors that MySQL, MariaDB and Percona have by their numbers. One that is not known counts as one that
/// concerns the watchdog only: the server answers, and no client's session may end because of the watchdog's account.
pub(super) fn kind(code: u16) -> Kind {
    match code {
        // The node is not prepared for applications; the server shuts down, or is not available.
        1047 | 1053 | 1077 | 1079 | 3168 => Kind::Unfit,
        // Out of memory or threads; too many connections, of all or of a user; the host is unknown, blocked or not allowed,
        // and clients come from the same host as the watchdog; offline, or read-only, for all but administrators.
        1037 | 1038 | 1040 | 1041 | 1042 | 1129 | 1130 | 1135 | 1203 | 1836 | 3032 => Kind::Full,
        // Killed, timed out, or idle for too long.
        1080 | 1152 | 1158 | 1159 | 1160 | 1161 | 1184 | 1205 | 1317 | 1927 | 1969 | 3024 | 4031 => Kind::Ended,
        // Among others: access denied (1044, 1045, 1142, 1227, 1698), password expired (1820, 1862), account locked (3118,
        // 3955, 4151), quota (1226), TLS (3159), plugin (1251, 1275, 1524, 4153).
        _ => Kind::Account,
    }
}

/// Whether the account has as many connections as it may have, of which the watchdog's own may be one.
pub(super) fn is_too_many(error: &ServerError) -> bool {
    matches!(error.code, 1203 | 1226)
}

/// The answer that a refusal comes to; `None` if it is no answer.
pub(super) fn refused(error: &Error, context: &Context) -> Option<Answer> {
    match error {
        Error::Server(error) => match kind(error.code) {
            Kind::Unfit => Some(Answer::new(Verdict::Down, error.to_string())),
            Kind::Full => Some(Answer::new(Verdict::Avoid, error.to_string())),
            Kind::Account => Some(spare(&error.to_string(), context)),
            Kind::Ended => None,
        },
        Error::Unsuited(reason) => Some(spare(reason, context)),
        Error::Tls(_) => Some(spare(&error.to_string(), context)),
        Error::Io(_) | Error::Protocol(_) => None,
    }
}

fn spare(reason: &str, context: &Context) -> Answer {
    let (what, lacked) = match context {
        Context::Login { lacked } => ("log in", lacked.as_deref()),
        Context::Question => ("ask", None),
    };
    let lacked = lacked.map(|lacked| format!("; {lacked}")).unwrap_or_default();
    Answer::new(Verdict::Spare, format!("cannot {what}: {reason}{lacked} (clients may still be served)"))
}
