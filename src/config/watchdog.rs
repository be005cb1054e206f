//! How destinations are to be watched: what `-w SPEC` and the options around it say.

use std::path::PathBuf;
use std::time::Duration;

use crate::table::health::Verdict;

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
    /// Whether connections to a destination that is down are left alone.
    pub keep_sessions: bool,
    /// Whether members that the probes report are added.
    pub discover: bool,
    /// Over how many probes the latency by which weights are scaled is averaged; `None`: they are not scaled.
    pub latency_samples: Option<u32>,
}

/// What to ask a destination, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeSpec {
    /// A program that answers for it, in GLB's protocol.
    Exec(String),
    /// Whether it accepts connections.
    Tcp,
    /// Whether an HTTP server says status 200.
    Http {
        /// `None`: the destination's.
        port: Option<u16>,
        /// Begins with a slash.
        path: String,
    },
    /// What MySQL or MariaDB, and Galera in it, say.
    Galera(GaleraOptions),
}

/// How to ask MySQL, and what to think of the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GaleraOptions {
    /// The option file with user and password; `None`: user root without one.
    pub defaults_file: Option<PathBuf>,
    /// What a node is good for while it gives its state to another, or was told to fall behind.
    pub donor: Verdict,
    /// Whether a server that is read-only is fit.
    pub read_only_is_fit: bool,
}

impl ProbeSpec {
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
            "http" => parse_http(argument),
            "galera" | "mysql" => Ok(ProbeSpec::Galera(GaleraOptions::parse(argument)?)),
            _ => Err(format!(
                "no such backend '{backend}' (there are exec:COMMAND, tcp, http:[PORT][/PATH] and galera:[OPTIONS])"
            )),
        }
    }
}

fn parse_http(text: &str) -> Result<ProbeSpec, String> {
    let (port, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port.parse::<u16>() {
        _ if port.is_empty() => None,
        Ok(port) if digits && port > 0 => Some(port),
        _ => return Err(format!("http: '{port}' is not a port (1 to 65535)")),
    };
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("http: the path '{path}' contains what no path may contain"));
    }
    Ok(ProbeSpec::Http { port, path: if path.is_empty() { "/".to_owned() } else { path.to_owned() } })
}

impl GaleraOptions {
    fn parse(text: &str) -> Result<GaleraOptions, String> {
        let mut options = GaleraOptions { defaults_file: None, donor: Verdict::Avoid, read_only_is_fit: false };
        for option in text.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("defaults-file", path)) if !path.is_empty() => options.defaults_file = Some(path.into()),
                Some(("donor", "ready")) => options.donor = Verdict::Ready,
                Some(("donor", "avoid")) => options.donor = Verdict::Avoid,
                Some(("donor", "down")) => options.donor = Verdict::Down,
                Some(("read-only", "ok")) => options.read_only_is_fit = true,
                _ => {
                    return Err(format!(
                        "galera: no such option '{option}' (there are defaults-file=PATH, donor=ready|avoid|down and \
                        read-only=ok)"
                    ));
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn probes_are_read_in_every_form() {
        let http = |port, path: &str| ProbeSpec::Http { port, path: path.to_owned() };
        let galera = |defaults_file: Option<&str>, donor, read_only_is_fit| {
            ProbeSpec::Galera(GaleraOptions {
                defaults_file: defaults_file.map(PathBuf::from),
                donor,
                read_only_is_fit,
            })
        };
        for (text, spec) in [
            ("exec:mysql.sh -utest -ptestpass", ProbeSpec::Exec("mysql.sh -utest -ptestpass".to_owned())),
            ("exec:a:b", ProbeSpec::Exec("a:b".to_owned())),
            ("tcp", ProbeSpec::Tcp),
            ("tcp:", ProbeSpec::Tcp),
            ("http", http(None, "/")),
            ("http:9200", http(Some(9200), "/")),
            ("http:/a/b?c", http(None, "/a/b?c")),
            ("http:9200/a:1", http(Some(9200), "/a:1")),
            ("galera", galera(None, Verdict::Avoid, false)),
            ("mysql:", galera(None, Verdict::Avoid, false)),
            ("galera:defaults-file=/a=b,donor=down,read-only=ok", galera(Some("/a=b"), Verdict::Down, true)),
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
        ] {
            assert!(ProbeSpec::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(backend in "(exec|tcp|http|galera|)", text in "\\PC{0,40}") {
            let _ = ProbeSpec::parse(&format!("{backend}:{text}"));
        }
    }
}
