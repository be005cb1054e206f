//! The `http` check: what is asked for, and what is thought of the answer.

use serde::{Deserialize, Serialize};

use super::pattern::{Pattern, Statuses};
use super::spec::{Spec, parse_port, unescape};
use super::tls::{self, TlsOptions};

/// What to ask an HTTP server for, and what to think of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpOptions {
    /// `None`: the destination's.
    pub port: Option<u16>,
    /// `None`: there is none.
    pub tls: Option<TlsOptions>,
    /// What is asked for.
    pub request: HttpRequest,
    /// What the status means.
    pub statuses: Statuses,
    /// What the answer has to contain as well.
    pub expected: HttpContent,
    /// What it must not contain.
    pub unexpected: HttpContent,
}

/// What an answer is searched for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpContent {
    /// In the body.
    pub body: Vec<Pattern>,
    /// In the head.
    pub headers: Vec<HeaderPattern>,
}

/// What an HTTP server is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// Such as `GET`.
    pub method: String,
    /// Begins with a slash.
    pub path: String,
    /// `1.0` or `1.1`.
    pub version: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// May be empty.
    pub body: Vec<u8>,
}

/// A header that an answer is searched for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderPattern {
    /// Its name, in any case.
    pub name: String,
    /// What its value contains.
    pub value: Vec<u8>,
}

const NAMES: [&str; 14] = [
    "method",
    "version",
    "host",
    "header",
    "body",
    "ready",
    "spare",
    "avoid",
    "expect",
    "expect-regex",
    "expect-header",
    "expect-not",
    "expect-not-regex",
    "expect-not-header",
];

impl HttpOptions {
    /// Reads `[PORT][/PATH][;NAME=VALUE]...`; `encrypted`, of a page that is asked for over TLS.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub(super) fn parse(text: &str, encrypted: bool) -> Result<HttpOptions, String> {
        HttpOptions::parse_all(text, encrypted).map_err(|reason| format!("http: {reason}"))
    }

    fn parse_all(text: &str, encrypted: bool) -> Result<HttpOptions, String> {
        let Spec { target, options } = Spec::parse("http", text, &option_names())?;
        if target.starts_with("//") {
            return Err(format!(
                "'{target}' names a host, but the page is asked for at each destination's (http:[PORT][/PATH])"
            ));
        }
        let (port, path) = target.split_at(target.find('/').unwrap_or(target.len()));
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("the path '{path}' contains what no path may contain"));
        }
        let port = match port {
            "" => None,
            port => Some(parse_port("http", port).map_err(|error| error.replacen("http: ", "", 1))?),
        };
        let request = HttpRequest {
            method: "GET".to_owned(),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            version: "1.1".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        let (statuses, tls) = (Statuses::default(), encrypted.then(TlsOptions::default));
        let (expected, unexpected) = (HttpContent::default(), HttpContent::default());
        let mut parsed = HttpOptions { port, tls, request, statuses, expected, unexpected };
        let mut given: Vec<&str> = Vec::new();
        for (name, value) in options {
            let may_repeat = name == "header" || name.starts_with("expect");
            if given.contains(&name) && !may_repeat {
                return Err(format!("{name} is given twice"));
            }
            given.push(name);
            parsed.set(name, value)?;
        }
        parsed.statuses.check()?;
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let request = &mut self.request;
        match name {
            "method" if is_token(value) => request.method = value.to_owned(),
            "method" => return Err(format!("'{value}' is not a method")),
            "version" if ["1.0", "1.1"].contains(&value) => request.version = value.to_owned(),
            "version" => return Err(format!("version={value} is neither 1.0 nor 1.1")),
            "host" => request.headers.push(header(&format!("Host: {value}"))?),
            "header" => request.headers.push(header(value)?),
            "body" => request.body = unescape(value)?,
            "ready" | "spare" | "avoid" => self.statuses.set(name, value)?,
            name if name.starts_with("expect-not") => {
                self.unexpected
                    .add(&name.replacen("-not", "", 1), value)
                    .map_err(|reason| format!("{name}: {reason}"))?;
            }
            name if name.starts_with("expect") => {
                self.expected.add(name, value).map_err(|reason| format!("{name}: {reason}"))?;
            }
            name => tls::set(&mut self.tls, name, value)?,
        }
        let mut offered = self.tls.iter().flat_map(|tls| &tls.alpn);
        match offered.find(|name| !["http/1.1", "http/1.0"].contains(&name.as_str())) {
            Some(name) => Err(format!("alpn: the check cannot speak '{name}', only http/1.1 and http/1.0")),
            None => Ok(()),
        }
    }
}

impl HttpContent {
    /// Adds what `expect`, `expect-regex` or `expect-header` says.
    fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        if name != "expect-header" {
            self.body.push(Pattern::parse(name, value)?);
            return Ok(());
        }
        let (name, value) = value.split_once(':').unwrap_or((value, ""));
        if !is_token(name) {
            return Err(format!("'{name}' is not the name of a header (NAME or NAME: TEXT)"));
        }
        self.headers.push(HeaderPattern { name: name.to_owned(), value: unescape(value.trim())? });
        Ok(())
    }
}

/// The names of all options.
pub(super) fn option_names() -> Vec<&'static str> {
    NAMES.into_iter().chain(tls::NAMES).collect()
}

/// Reads `NAME: VALUE`.
fn header(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("'{text}' is not a header (NAME: VALUE)");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let value = String::from_utf8(unescape(value.trim())?).map_err(|_| wrong())?;
    if !is_token(name) || value.is_empty() || value.contains(char::is_control) {
        return Err(wrong());
    }
    let is_ours = |it: &&&str| name.eq_ignore_ascii_case(it);
    if let Some(ours) = ["Connection", "Content-Length", "Transfer-Encoding"].iter().find(is_ours) {
        return Err(format!("the header {ours} is glbd's own"));
    }
    Ok((name.to_owned(), value))
}

/// Whether it is what HTTP calls a token, as the names of methods and headers are.
fn is_token(text: &str) -> bool {
    let may_stand = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(may_stand)
}
