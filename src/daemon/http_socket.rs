//! The socket of the HTTP listener, and who may ask for what there: opened at the start, taken over from another process,
//! or other than before after a reload.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use log::warn;
use socket2::Socket;

use super::control_sockets::{ControlSpot, Purpose};
use super::running::Running;
use crate::config::{Config, ControlPlace, HttpAddress};
use crate::http::{Access, Handle, Listener, Samples, Token};
use crate::process::{Identity, Leftovers};

/// What an HTTP listener needs.
#[derive(Debug)]
pub(super) struct HttpSocket {
    pub listener: Listener,
    pub access: Access,
    /// Those of the process before this one.
    pub samples: Samples,
    /// The file of a UNIX socket that was made for it.
    made: Option<PathBuf>,
}

impl HttpSocket {
    /// Opens what is asked for, if anything is.
    ///
    /// # Errors
    /// Why that is not possible.
    pub(super) fn open(config: &Config, identity: Option<&Identity>) -> Result<Option<HttpSocket>, String> {
        let Some(address) = &config.http else { return Ok(None) };
        let access = access(config, None)?;
        let (listener, made) = listen(address, identity)?;
        Ok(Some(HttpSocket { listener, access, samples: Samples::default(), made }))
    }

    /// Goes on with the socket of another process, if it is the one that is asked for. That process had this token, which
    /// this one may not be allowed to read.
    ///
    /// # Errors
    /// Why what is asked for is not possible.
    pub(super) fn take_over(
        config: &Config,
        handed: Option<&(String, Option<Token>)>,
        socket: Option<Socket>,
        samples: Samples,
    ) -> Result<Option<HttpSocket>, String> {
        let Some(address) = &config.http else { return Ok(None) };
        let access = access(config, handed.and_then(|(_, token)| token.as_ref()))?;
        let socket = socket.filter(|_| handed.is_some_and(|(before, _)| *before == address.spec()));
        let (listener, made) = match socket.map(Listener::new).transpose() {
            Ok(Some(listener)) => (listener, None),
            Ok(None) => listen(address, None)?,
            Err(error) => return Err(format!("the HTTP socket that is handed over: {error}")),
        };
        Ok(Some(HttpSocket { listener, access, samples, made }))
    }

    /// Has the file of the socket removed at the end.
    pub(super) fn note(&self, leftovers: &mut Leftovers) {
        self.made.iter().for_each(|path| leftovers.add(path.clone()));
    }

    /// It was opened in vain.
    pub(super) fn undo(self) {
        self.made.iter().for_each(|path| remove(path));
    }
}

/// What a reload changes about HTTP.
pub(super) enum HttpChange {
    Nothing,
    /// It is spoken like this from now on.
    Spoken(HttpSocket),
    /// It is spoken no longer.
    Silent,
}

impl HttpChange {
    /// From what there is to what is asked for.
    ///
    /// # Errors
    /// Why that is not possible. Nothing has changed then.
    pub(super) fn prepare(running: &Running, before: &Config, wanted: &Config) -> Result<HttpChange, String> {
        let (Some(handle), Some(address)) = (&running.http, &wanted.http) else {
            let open = HttpSocket::open(wanted, None)?;
            return Ok(match open {
                Some(socket) => HttpChange::Spoken(socket),
                None if running.http.is_some() => HttpChange::Silent,
                None => HttpChange::Nothing,
            });
        };
        let known = handle.access().token.as_ref().filter(|_| before.http_admin == wanted.http_admin);
        let access = access(wanted, known)?;
        let stays = before.http.as_ref().is_some_and(|it| it.is_at_place_of(address));
        if stays && before.http.as_ref() != Some(address) {
            // Nothing can fail later on but what leaves it so.
            ControlSpot::locate_for(Purpose::Http, address, None)?.or_own().set_access()?;
        }
        if stays && access == *handle.access() {
            return Ok(HttpChange::Nothing);
        }
        let (listener, made) = match stays {
            true => (handle.listener().try_clone().map_err(|error| Purpose::Http.trouble(address, error))?, None),
            false => listen(address, None)?,
        };
        Ok(HttpChange::Spoken(HttpSocket { listener, access, samples: Samples::default(), made }))
    }

    /// Nothing comes of it.
    pub(super) fn undo(self) {
        if let HttpChange::Spoken(socket) = self {
            socket.undo();
        }
    }

    /// Carries it out. Returns what was done, if anything.
    pub(super) fn carry_out(
        self,
        running: &mut Running,
        leftovers: &mut Leftovers,
        before: &Config,
        wanted: &Config,
    ) -> Option<String> {
        let moves = match (&before.http, &wanted.http) {
            (Some(before), Some(wanted)) => !before.is_at_place_of(wanted),
            (before, wanted) => before.is_some() != wanted.is_some(),
        };
        let left = before.http.as_ref().filter(|_| moves);
        let line = match self {
            HttpChange::Nothing => return None,
            HttpChange::Silent => {
                running.http = None;
                "process: HTTP is spoken no longer".to_owned()
            }
            HttpChange::Spoken(socket) => {
                socket.note(leftovers);
                if let Err(error) = running.speak_http(Some(socket)) {
                    warn!("HTTP is not spoken: {error}");
                }
                match &wanted.http {
                    Some(address) if moves => format!("process: HTTP is spoken on {address}"),
                    _ => "process: HTTP clients have other rights".to_owned(),
                }
            }
        };
        // One of the same path has taken its place.
        let stays = |path: &Path| wanted.http.as_ref().and_then(HttpAddress::path) == Some(path);
        if let Some(path) = left.and_then(HttpAddress::path).filter(|path| !stays(path)) {
            leftovers.remove_file(path);
        }
        Some(line)
    }
}

/// What is handed to another process beside the socket.
pub(super) fn handed(config: &Config, handle: Option<&Handle>) -> Option<(String, Option<Token>)> {
    let (address, handle) = config.http.as_ref().zip(handle)?;
    Some((address.spec(), handle.access().token.clone()))
}

/// Looks whether a start could read the token.
///
/// # Errors
/// Why it could not.
pub(super) fn check(config: &Config) -> Result<(), String> {
    access(config, None).map(drop)
}

/// Who may ask for what. A token that this user may not read, as root may have at the start, is the one that is `known`.
fn access(config: &Config, known: Option<&Token>) -> Result<Access, String> {
    let mut hosts = config.http_hosts.clone();
    if let Some(ControlPlace::Tcp(endpoint)) = config.http.as_ref().map(|it| &it.place) {
        hosts.push(endpoint.host.to_string().to_ascii_lowercase());
    }
    // What the machine calls itself. Where that cannot be read, its addresses are left.
    let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    hosts.extend((!own.trim().is_empty()).then(|| own.trim().to_ascii_lowercase()));
    let token = config.http_admin.as_ref().map(|path| Token::read(path));
    let token = match (token.transpose(), known) {
        (Ok(token), _) => token,
        (Err(error), Some(known)) if error.kind() == ErrorKind::PermissionDenied => {
            warn!("{error}; the token that was read before stays");
            Some(known.clone())
        }
        (Err(error), _) => return Err(error.to_string()),
    };
    Ok(Access { hosts, token })
}

fn listen(address: &HttpAddress, identity: Option<&Identity>) -> Result<(Listener, Option<PathBuf>), String> {
    let door = ControlSpot::locate_for(Purpose::Http, address, identity)?.open()?;
    let listener = Listener::new(door.into_socket()).map_err(|error| Purpose::Http.trouble(address, error))?;
    Ok((listener, address.path().map(Path::to_owned)))
}

fn remove(path: &Path) {
    // One that is gone already needs nothing more.
    let _ = fs::remove_file(path);
}
