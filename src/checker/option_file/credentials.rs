//! What an option file says of the account to log in to, and the files that it names.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use super::Setting;
use crate::checker::mysql::{Login, LoginTls};
use crate::checker::tls::{self, Identity};
use crate::config::{GaleraOptions, ProbeSpec, TlsMode, TlsOptions};

/// The longest option file, and the longest of each file that it names. All of them fit into one message between the
/// daemon and its checker.
const MAX_SIZE: u64 = 64 * 1024;
const MAX_PEM: u64 = 14 * 1024;
/// The most that the files of a check over TLS have together.
const MAX_AUTHORITIES: u64 = 40 * 1024;

/// The account to log in to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    user: String,
    password: Option<String>,
    /// What the file says of TLS; `None` if nothing.
    tls: Option<TlsMode>,
    authorities: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    /// The files that all of this was read from.
    sources: Vec<Source>,
}

impl Default for Credentials {
    fn default() -> Self {
        Credentials {
            user: "root".to_owned(),
            password: None,
            tls: None,
            authorities: None,
            certificate: None,
            key: None,
            sources: Vec::new(),
        }
    }
}

/// Without the secrets.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the account that the checks of `spec` log in to, with the rights that the program was started with. If the
    /// option file may not be read, what a process with more rights has `known` is used.
    ///
    /// # Errors
    /// One line that names the file, and says what is wrong with it.
    pub fn for_checks(spec: &ProbeSpec, known: Option<Credentials>) -> Result<Credentials, String> {
        Credentials::from_files(spec, known, Kind::Any)
    }

    /// The same in a process that already serves, which must not block on a pipe that nobody writes to.
    ///
    /// # Errors
    /// The same, and that a file is no regular one.
    pub fn for_other_checks(spec: &ProbeSpec, known: Option<Credentials>) -> Result<Credentials, String> {
        Credentials::from_files(spec, known, Kind::File)
    }

    fn from_files(spec: &ProbeSpec, known: Option<Credentials>, kind: Kind) -> Result<Credentials, String> {
        let options = match spec {
            ProbeSpec::Galera(options) => options,
            spec => return spec.tls().map_or(Ok(Credentials::default()), |tls| Credentials::of_tls(tls, known, kind)),
        };
        let credentials = match &options.defaults_file {
            Some(path) => Credentials::read(path, known, kind)?,
            None => Credentials::default(),
        };
        credentials.login(options)?;
        Ok(credentials)
    }

    /// Reads the authorities of which one must have signed a server's certificate, and what is shown to a server.
    fn of_tls(tls: &TlsOptions, known: Option<Credentials>, kind: Kind) -> Result<Credentials, String> {
        if tls.key.is_some() && tls.cert.is_none() {
            return Err("key without cert: there is no certificate to show".to_owned());
        }
        if tls.verify_host.is_some() && tls.ca.is_none() {
            return Err("verify-host without ca: any certificate is accepted".to_owned());
        }
        let paths = || [&tls.ca, &tls.cert, &tls.key].into_iter().flatten();
        // Where other files were named, that process has something else.
        let known = known.filter(|it| it.sources.iter().map(|source| &source.path).eq(paths()));
        let mut credentials = Credentials::default();
        let mut read =
            |path: &Option<PathBuf>| path.as_ref().map(|path| credentials.read_tls_file(path, kind)).transpose();
        let files = read(&tls.ca).and_then(|ca| Ok((ca, read(&tls.cert)?, read(&tls.key)?)));
        match (files, known) {
            (Ok((authorities, certificate, key)), _) => {
                let key = key.or_else(|| certificate.clone());
                credentials = Credentials { authorities, certificate, key, ..credentials };
            }
            (Err((ErrorKind::PermissionDenied, _)), Some(known)) => credentials = known,
            (Err((_, reason)), _) => return Err(reason),
        }
        let texts = [&credentials.authorities, &credentials.certificate, &credentials.key];
        if texts.into_iter().flatten().map(|text| escaped_length(text)).sum::<u64>() > MAX_AUTHORITIES {
            let paths: Vec<String> = paths().map(|path| path.display().to_string()).collect();
            return Err(format!("{}: more than {MAX_AUTHORITIES} bytes, or many short lines", paths.join(", ")));
        }
        credentials.tls_config(tls)?;
        Ok(credentials)
    }

    /// Reads a file that the options of TLS name.
    fn read_tls_file(&mut self, path: &Path, kind: Kind) -> Result<String, (ErrorKind, String)> {
        let told = |reason: &str| format!("{}: {reason}", path.display());
        let (contents, metadata) =
            read(path, MAX_AUTHORITIES, kind).map_err(|error| (error.kind(), told(&error.to_string())))?;
        if is_writable_for_all(&metadata) {
            return Err((ErrorKind::InvalidData, told(WRITABLE_FOR_ALL)));
        }
        self.sources.push(Source::of(path, &metadata));
        String::from_utf8(contents).map_err(|_| (ErrorKind::InvalidData, told("not PEM")))
    }

    /// TLS for a server that is asked for by name, or by address.
    ///
    /// # Errors
    /// One line that says which of the files is of no use, and why.
    pub fn tls_config(&self, tls: &TlsOptions) -> Result<Arc<ClientConfig>, String> {
        let authorities = self.authorities.as_deref().filter(|_| tls.ca.is_some());
        let identity = self.certificate.as_deref().zip(self.key.as_deref()).filter(|_| tls.cert.is_some());
        let identity = identity.map(|(certificates, key)| Identity { certificates, key });
        let host = tls.verify_host.as_deref().or(tls.sni.as_deref());
        tls::config_for(authorities, identity, host, &tls.alpn).map_err(|error| {
            let key = tls.key.as_ref().or(tls.cert.as_ref());
            for (name, path) in [("ssl-ca", tls.ca.as_ref()), ("ssl-cert", tls.cert.as_ref()), ("ssl-key", key)] {
                if let Some((rest, path)) = error.strip_prefix(name).zip(path) {
                    return format!("{}{rest}", path.display());
                }
            }
            error
        })
    }

    fn read(path: &Path, known: Option<Credentials>, kind: Kind) -> Result<Credentials, String> {
        match (read(path, MAX_SIZE, kind), known) {
            (Err(error), Some(known)) if error.kind() == ErrorKind::PermissionDenied => Ok(known),
            (Err(error), _) => Err(format!("{}: {error}", path.display())),
            // MariaDB's own reader ignores such a file.
            (Ok((_, metadata)), _) if is_writable_for_all(&metadata) => {
                Err(format!("{}: {WRITABLE_FOR_ALL}", path.display()))
            }
            (Ok((contents, metadata)), _) => {
                let told = |(line, reason)| format!("{}, line {line}: {reason}", path.display());
                let sources = vec![Source::of(path, &metadata)];
                let mut credentials = Credentials { sources, ..Credentials::default() };
                for setting in super::parse(&contents).map_err(told)? {
                    credentials.set(&setting, kind).map_err(|reason| told((setting.line, reason)))?;
                }
                Ok(credentials)
            }
        }
    }

    fn set(&mut self, setting: &Setting, kind: Kind) -> Result<(), String> {
        let value = setting.value.clone().unwrap_or_default();
        match setting.name.as_str() {
            "user" => self.user = value,
            "password" => self.password = Some(value),
            "ssl-ca" => self.authorities = self.read_pem(&value, kind)?,
            "ssl-cert" => self.certificate = self.read_pem(&value, kind)?,
            "ssl-key" => self.key = self.read_pem(&value, kind)?,
            "skip-ssl" | "disable-ssl" => self.tls = Some(TlsMode::Off),
            "ssl" => {
                let off = setting.value.is_some() && !is_true(&value);
                self.tls = Some(if off { TlsMode::Off } else { TlsMode::Require });
            }
            "ssl-mode" => {
                self.tls = Some(match value.to_ascii_uppercase().as_str() {
                    "DISABLED" => TlsMode::Off,
                    "PREFERRED" => TlsMode::Prefer,
                    "REQUIRED" => TlsMode::Require,
                    "VERIFY_CA" | "VERIFY_IDENTITY" => TlsMode::VerifyCa,
                    _ => return Err("no such ssl-mode".to_owned()),
                });
            }
            // What else clients need.
            _ => {}
        }
        Ok(())
    }

    /// An empty name takes back what was set before.
    fn read_pem(&mut self, path: &str, kind: Kind) -> Result<Option<String>, String> {
        if path.is_empty() {
            return Ok(None);
        }
        let file = Path::new(path);
        let (contents, metadata) = read(file, MAX_PEM, kind).map_err(|error| format!("{path}: {error}"))?;
        self.sources.push(Source::of(file, &metadata));
        String::from_utf8(contents).map(Some).map_err(|_| format!("{path}: not PEM"))
    }

    /// How to log in with these, as the checks' `options` say.
    ///
    /// # Errors
    /// One line that says what of certificates and keys is missing, or of no use.
    pub fn login(&self, options: &GaleraOptions) -> Result<Login, String> {
        let mode = options.tls.or(self.tls).unwrap_or(TlsMode::Prefer);
        let identity = match (&self.certificate, &self.key) {
            (Some(certificates), Some(key)) => Some(Identity { certificates, key }),
            (None, None) => None,
            (Some(_), None) => return Err("ssl-cert without ssl-key".to_owned()),
            (None, Some(_)) => return Err("ssl-key without ssl-cert".to_owned()),
        };
        let authorities = self.authorities.as_deref().filter(|_| mode == TlsMode::VerifyCa);
        if mode == TlsMode::VerifyCa && authorities.is_none() {
            return Err("tls=verify-ca needs ssl-ca in the option file".to_owned());
        }
        let tls = match mode {
            TlsMode::Off => None,
            _ => Some(LoginTls {
                config: tls::config(authorities, identity)?,
                required: mode != TlsMode::Prefer,
                verified: mode == TlsMode::VerifyCa,
                has_certificate: identity.is_some(),
            }),
        };
        Ok(Login { user: self.user.clone(), password: self.password.clone().unwrap_or_default(), tls })
    }
}

/// What is wrong with a file that every user may write to.
const WRITABLE_FOR_ALL: &str = "every user may write to it (chmod o-w)";

fn is_writable_for_all(metadata: &fs::Metadata) -> bool {
    metadata.is_file() && metadata.mode() & 0o002 != 0
}

/// How long a text is in a message.
fn escaped_length(text: &str) -> u64 {
    serde_json::to_string(text).map_or(u64::MAX, |text| text.len() as u64)
}

/// What MariaDB takes for true.
fn is_true(value: &str) -> bool {
    ["1", "on", "true", "yes"].iter().any(|it| value.eq_ignore_ascii_case(it))
}

/// Which kinds of files may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Pipes as well, such as those of a shell's `<(...)`. Reading one may block, which only the start may.
    Any,
    /// Regular files only.
    File,
}

/// Reads a file, of a bounded size.
fn read(path: &Path, max_size: u64, kind: Kind) -> io::Result<(Vec<u8>, fs::Metadata)> {
    let mut options = OpenOptions::new();
    if kind == Kind::File {
        // Otherwise opening a pipe blocks until a process opens it for writing.
        options.custom_flags(OFlag::O_NONBLOCK.bits());
    }
    let file = options.read(true).open(path)?;
    let metadata = file.metadata()?;
    if kind == Kind::File && !metadata.is_file() {
        return Err(io::Error::other("not a regular file, which is all that is read while checks go on"));
    }
    let mut contents = Vec::new();
    file.take(max_size + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > max_size {
        return Err(io::Error::other(format!("longer than {max_size} bytes")));
    }
    Ok((contents, metadata))
}

/// A file, as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    path: PathBuf,
    stamp: Stamp,
}

impl Source {
    fn of(path: &Path, metadata: &fs::Metadata) -> Source {
        Source { path: path.to_owned(), stamp: Stamp::of(metadata) }
    }
}

/// Differs between two versions of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// A file that is not there has a stamp too. What is not a file, such as a pipe, never changes.
    fn now(source: &Source) -> Stamp {
        match fs::metadata(&source.path) {
            Ok(metadata) if metadata.is_file() => Stamp::of(&metadata),
            Ok(_) => source.stamp.clone(),
            Err(_) => Stamp::default(),
        }
    }
}

/// An option file that is read again when it has changed.
pub struct OptionFile {
    options: GaleraOptions,
    credentials: Credentials,
    login: Login,
    /// The stamps of the credentials' sources at the last look.
    seen: Vec<Stamp>,
}

impl OptionFile {
    /// Begins with what was read before.
    ///
    /// # Errors
    /// See [`Credentials::login`].
    pub fn new(options: GaleraOptions, credentials: Credentials) -> Result<OptionFile, String> {
        let login = credentials.login(&options)?;
        let seen = credentials.sources.iter().map(|source| source.stamp.clone()).collect();
        Ok(OptionFile { options, credentials, login, seen })
    }

    /// How to log in at present.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Reads the file again if it, or one that it names, has changed. While its new contents are of no use, the old ones
    /// stay in force.
    ///
    /// # Errors
    /// One line that names the file and says why it is of no use; once for each change.
    pub fn refresh(&mut self) -> Result<(), String> {
        let Some(path) = &self.options.defaults_file else { return Ok(()) };
        let now: Vec<Stamp> = self.credentials.sources.iter().map(Stamp::now).collect();
        if now == self.seen {
            return Ok(());
        }
        self.seen = now;
        let stays = |error| format!("{error}; the credentials stay as they were");
        let credentials = Credentials::read(path, None, Kind::File).map_err(stays)?;
        self.login = credentials.login(&self.options).map_err(|error| stays(format!("{}: {error}", path.display())))?;
        self.seen = credentials.sources.iter().map(|source| source.stamp.clone()).collect();
        self.credentials = credentials;
        Ok(())
    }
}
