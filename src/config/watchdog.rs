//! How destinations are to be watched: what `-w SPEC` and the options around it say.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ShutdownSessions;
use crate::verdict::Verdict;

/// How destinations are watched.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchdogOptions {
    /// What is asked.
    pub probe: ProbeSpec,
    /// From the beginning of a probe to that of the next.
    pub interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// Probes in a row that it takes to become better.
    pub rise: u32,
    /// Probes in a row that it takes to become worse.
    pub fall: u32,
    /// How long the weight of a destination that came back grows.
    pub slow_start: Duration,
    /// When the sessions of a destination that is DOWN are closed.
    pub shutdown_sessions: ShutdownSessions,
    /// Whether those to backups are closed once one that comes before them is READY again.
    pub shutdown_backup_sessions: bool,
    /// Whether members that the probes report are added.
    pub discover: bool,
    /// Over how many probes the latency by which weights are scaled is averaged; `None`: they are not scaled.
    pub latency_samples: Option<u32>,
}

/// What to ask a destination, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeSpec {
    /// A program that answers for it, in GLB's protocol.
    Exec(String),
    /// Whether it accepts connections.
    Tcp,
    /// What status an HTTP server answers with.
    Http(HttpOptions),
    /// What MySQL or MariaDB, and Galera in it, say.
    Galera(GaleraOptions),
}

/// What page to ask for, and what to think of the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpOptions {
    /// `None`: the destination's.
    pub port: Option<u16>,
    /// Begins with a slash.
    pub path: String,
    /// The statuses of a destination that is READY.
    pub ready: Vec<u16>,
    /// The statuses of one that is SPARE.
    pub spare: Vec<u16>,
    /// The statuses of one that is AVOID. With any other status, it is DOWN.
    pub avoid: Vec<u16>,
}

/// How to ask MySQL, and what to think of the answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaleraOptions {
    /// The option file with user and password; `None`: user root without one.
    pub defaults_file: Option<PathBuf>,
    /// The verdict on a node that gives its state to another, was told to fall behind, or catches up.
    pub donor: Verdict,
    /// Whether a server that is read-only is fit.
    pub read_only_is_fit: bool,
    /// The port to ask at; `None`: the destination's.
    pub port: Option<u16>,
    /// How to agree on TLS; `None`: as the option file says, or else [`TlsMode::Prefer`].
    pub tls: Option<TlsMode>,
    /// The longest queue of write sets with which a node is READY; `None`: any.
    pub max_recv_queue: Option<u64>,
    /// Whether nodes without Galera are DOWN once one has shown Galera.
    pub require_galera: bool,
    /// Every such check logs in afresh.
    pub login: u32,
}

impl Default for GaleraOptions {
    fn default() -> Self {
        GaleraOptions {
            defaults_file: None,
            donor: Verdict::Spare,
            read_only_is_fit: false,
            port: None,
            tls: None,
            max_recv_queue: None,
            require_galera: true,
            login: 5,
        }
    }
}

/// How to agree on TLS with a MySQL server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsMode {
    /// Not at all.
    Off,
    /// Where the server offers it. Any certificate is accepted.
    Prefer,
    /// Always. Any certificate is accepted.
    Require,
    /// Always. The certificate must come from an authority in `ssl-ca`.
    VerifyCa,
}

impl ProbeSpec {
    /// Whether nodes without Galera do not count among nodes that have it.
    pub fn requires_galera(&self) -> bool {
        matches!(self, ProbeSpec::Galera(options) if options.require_galera)
    }

    /// Reads `BACKEND[:STRING]`.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<ProbeSpec, String> {
        let (backend, argument) = text.split_once(':').unwrap_or((text, ""));
        match backend {
            "exec" if argument.trim().is_empty() => Err("exec needs a command (exec:COMMAND)".to_owned()),
            "exec" if argument.contains('\0') => Err("the command contains a NUL".to_owned()),
            "exec" => Ok(ProbeSpec::Exec(argument.trim().to_owned())),
            "tcp" if argument.is_empty() => Ok(ProbeSpec::Tcp),
            "tcp" => Err(format!("tcp takes nothing more, not '{argument}'")),
            "http" => Ok(ProbeSpec::Http(HttpOptions::parse(argument)?)),
            "galera" | "mysql" => Ok(ProbeSpec::Galera(GaleraOptions::parse(argument)?)),
            _ => Err(format!(
                "no such backend '{backend}' (there are exec:COMMAND, tcp, http:[PORT][/PATH][;ready=STATUS,...] and \
                galera:[OPTIONS])"
            )),
        }
    }
}

impl HttpOptions {
    /// Reads `[PORT][/PATH][;ready=STATUS,...][;spare=STATUS,...][;avoid=STATUS,...]`. The lists are taken from the end,
    /// since a path may contain semicolons too.
    fn parse(text: &str) -> Result<HttpOptions, String> {
        let (mut ready, mut spare, mut avoid) = (None, Vec::new(), Vec::new());
        let mut target = text;
        while let Some((front, list)) = target.rsplit_once(';') {
            match list.split_once('=') {
                Some(("ready", list)) => ready = Some(statuses(list)?),
                Some(("spare", list)) => spare = statuses(list)?,
                Some(("avoid", list)) => avoid = statuses(list)?,
                _ => break,
            }
            target = front;
        }
        let ready = ready.unwrap_or_else(|| vec![200]);
        if let Some(twice) = spare
            .iter()
            .find(|it| ready.contains(it))
            .or(avoid.iter().find(|it| ready.contains(it) || spare.contains(it)))
        {
            return Err(format!("http: status {twice} is in two lists"));
        }
        if target.starts_with("//") {
            return Err(format!(
                "http: '{target}' names a host, but the page is asked for at each destination's (http:[PORT][/PATH])"
            ));
        }
        let (port, path) = target.split_at(target.find('/').unwrap_or(target.len()));
        let port = if port.is_empty() { None } else { Some(parse_port("http", port)?) };
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("http: the path '{path}' contains what no path may contain"));
        }
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        Ok(HttpOptions { port, path, ready, spare, avoid })
    }
}

fn statuses(list: &str) -> Result<Vec<u16>, String> {
    let status = |text: &str| match text.parse() {
        Ok(status @ 200..=599) if text.len() == 3 => Ok(status),
        _ => Err(format!("http: '{text}' is not a status (200 to 599)")),
    };
    list.split(',').map(status).collect()
}

fn parse_port(backend: &str, text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{backend}: '{text}' is not a port (1 to 65535)")),
    }
}

impl GaleraOptions {
    fn parse(text: &str) -> Result<GaleraOptions, String> {
        let mut options = GaleraOptions::default();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some((name, value)) => options.set(name, value)?,
                None => return Err(no_such_option(option)),
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let one_of = |values: &str| format!("galera: {name}={value} is not one of {values}");
        match name {
            "defaults-file" if value.is_empty() => return Err("galera: defaults-file needs a path".to_owned()),
            "defaults-file" => self.defaults_file = Some(value.into()),
            "donor" => {
                self.donor = match value {
                    "ready" => Verdict::Ready,
                    "spare" => Verdict::Spare,
                    "avoid" => Verdict::Avoid,
                    "down" => Verdict::Down,
                    _ => return Err(one_of("ready, spare, avoid and down")),
                }
            }
            "read-only" if value == "ok" => self.read_only_is_fit = true,
            "read-only" => return Err(one_of("ok")),
            "port" => self.port = Some(parse_port("galera", value)?),
            "tls" => {
                self.tls = Some(match value {
                    "off" => TlsMode::Off,
                    "prefer" => TlsMode::Prefer,
                    "require" => TlsMode::Require,
                    "verify-ca" => TlsMode::VerifyCa,
                    _ => return Err(one_of("off, prefer, require and verify-ca")),
                });
            }
            "max-recv-queue" => self.max_recv_queue = Some(number(name, value)?),
            "require-galera" => {
                self.require_galera = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(one_of("yes and no")),
                }
            }
            "login" => {
                let checks = number(name, value)?;
                self.login = u32::try_from(checks)
                    .ok()
                    .filter(|checks| *checks > 0)
                    .ok_or_else(|| format!("galera: login={value} is not a number of checks (1 or more)"))?;
            }
            _ => return Err(no_such_option(&format!("{name}={value}"))),
        }
        Ok(())
    }
}

fn number(name: &str, value: &str) -> Result<u64, String> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or_else(|| format!("galera: {name}={value} is not a number"))
}

fn no_such_option(option: &str) -> String {
    format!(
        "galera: no such option '{option}' (there are defaults-file=PATH, donor=ready|spare|avoid|down, read-only=ok, \
        port=N, tls=off|prefer|require|verify-ca, max-recv-queue=N, require-galera=yes|no and login=N)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn probes_are_read_in_every_form() {
        let http = |port, path: &str| {
            let (path, ready) = (path.to_owned(), vec![200]);
            ProbeSpec::Http(HttpOptions { port, path, ready, spare: Vec::new(), avoid: Vec::new() })
        };
        let listed = |path: &str, [ready, spare, avoid]: [&[u16]; 3]| {
            let [ready, spare, avoid] = [ready, spare, avoid].map(<[u16]>::to_vec);
            ProbeSpec::Http(HttpOptions { port: Some(9200), path: path.to_owned(), ready, spare, avoid })
        };
        let plain = GaleraOptions::default();
        let chosen = GaleraOptions {
            defaults_file: Some(PathBuf::from("/a=b")),
            donor: Verdict::Down,
            read_only_is_fit: true,
            port: Some(33062),
            tls: Some(TlsMode::VerifyCa),
            max_recv_queue: Some(100),
            require_galera: false,
            login: 1,
        };
        let all = "galera:defaults-file=/a=b,donor=down,read-only=ok,port=33062,tls=verify-ca,max-recv-queue=100,\
            require-galera=no,login=1";
        for (text, spec) in [
            ("exec:mysql.sh -utest -ptestpass", ProbeSpec::Exec("mysql.sh -utest -ptestpass".to_owned())),
            ("exec:a:b", ProbeSpec::Exec("a:b".to_owned())),
            ("tcp", ProbeSpec::Tcp),
            ("tcp:", ProbeSpec::Tcp),
            ("http", http(None, "/")),
            ("http:9200", http(Some(9200), "/")),
            ("http:/a/b?c", http(None, "/a/b?c")),
            ("http:9200/a:1", http(Some(9200), "/a:1")),
            ("http:9200/;spare=503", listed("/", [&[200], &[503], &[]])),
            ("http:9200/a;b=1;avoid=404,410;ready=200,204", listed("/a;b=1", [&[200, 204], &[], &[404, 410]])),
            ("http:9200;spare=503", listed("/", [&[200], &[503], &[]])),
            ("galera", ProbeSpec::Galera(plain.clone())),
            ("mysql:", ProbeSpec::Galera(plain)),
            (all, ProbeSpec::Galera(chosen)),
        ] {
            assert_eq!(ProbeSpec::parse(text), Ok(spec), "{text}");
        }
    }

    #[test]
    fn what_is_no_probe_is_told() {
        for text in [
            "",
            "exec",
            "exec: ",
            "tcp:1",
            "http:0",
            "http:+1",
            "http:a",
            "http:1/a b",
            "http:1/\r\n",
            "ping",
            "galera:donor=maybe",
            "galera:donor",
            "galera:defaults-file=",
            "galera:password=secret",
            "http://HOST/",
            "http:9200/;spare=",
            "http:9200/;spare=99",
            "http:9200/;spare=200",
            "http:9200/;spare=503;avoid=503",
            "galera:port=0",
            "galera:port=+1",
            "galera:tls=on",
            "galera:read-only=no",
            "galera:max-recv-queue=-1",
            "galera:require-galera=1",
            "galera:login=0",
            "galera:login=5000000000",
        ] {
            assert!(ProbeSpec::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_say_what_there_is() {
        for (text, error) in [
            (
                "http://HOST/",
                "http: '//HOST/' names a host, but the page is asked for at each destination's (http:[PORT][/PATH])",
            ),
            ("galera:tls=on", "galera: tls=on is not one of off, prefer, require and verify-ca"),
            ("galera:login=0", "galera: login=0 is not a number of checks (1 or more)"),
            ("galera:max-recv-queue=few", "galera: max-recv-queue=few is not a number"),
            ("galera:port=0", "galera: '0' is not a port (1 to 65535)"),
        ] {
            assert_eq!(ProbeSpec::parse(text), Err(error.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(backend in "(exec|tcp|http|galera|)", text in "\\PC{0,40}") {
            let _ = ProbeSpec::parse(&format!("{backend}:{text}"));
        }
    }
}
