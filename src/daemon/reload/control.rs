//! The control sockets in a reload.

use std::net::SocketAddr;

use log::log;

use crate::config::ControlAddress;
use crate::daemon::control_sockets::{ControlDoor, ControlSpot};
use crate::daemon::prepared;
use crate::daemon::running::Running;
use crate::daemon::serving::Serving;
use crate::desired::Task;
use crate::process::Leftovers;

/// What is new about the control sockets. When this is dropped, all is as before.
#[derive(Default)]
pub(super) struct NewControl {
    opened: Vec<ControlDoor>,
    /// The files of those.
    files: Leftovers,
    /// How the files of others were that are for others now.
    before: Vec<ControlSpot>,
}

impl Drop for NewControl {
    fn drop(&mut self) {
        for spot in self.before.drain(..) {
            // It could be changed just now.
            let _ = spot.set_access();
        }
    }
}

impl NewControl {
    /// Opens the sockets that are new, and has the files of others be for whom they are to be.
    ///
    /// # Errors
    /// One line that says why one cannot be opened or changed. Nothing has changed then.
    pub(super) fn prepare(tasks: &[Task], running: &Running) -> Result<NewControl, String> {
        let mut new = NewControl::default();
        for task in tasks {
            match task {
                Task::OpenControl(address) => {
                    let opened = ControlSpot::locate(address, None)?.open();
                    new.opened.push(opened.map_err(|reason| reason + hint(address, running))?);
                    address.path().into_iter().for_each(|path| new.files.add(path.to_owned()));
                }
                Task::ChangeControl(before, address) if address.path().is_some() => {
                    let before = ControlSpot::locate(before, None)?.or_own();
                    ControlSpot::locate(address, None)?.or_own().set_access()?;
                    new.before.push(before);
                }
                _ => {}
            }
        }
        Ok(new)
    }

    /// Where control sockets will listen, as far as that is no path.
    pub(super) fn addresses(&self, tasks: &[Task], running: &Running) -> Vec<SocketAddr> {
        let is_dropped = |door: &&ControlDoor| {
            let is_it = |task: &Task| matches!(task, Task::DropControl(it) if it.is_at_place_of(&door.address));
            tasks.iter().any(is_it)
        };
        let stay = running.control_doors().filter(|door| !is_dropped(door));
        stay.chain(&self.opened).filter_map(ControlDoor::socket_address).collect()
    }
}

/// What else there is to say where a port is taken.
fn hint(address: &ControlAddress, running: &Running) -> &'static str {
    let port = ControlSpot::locate(address, None).ok().and_then(|spot| spot.socket_address()).map(|it| it.port());
    let is_own = |own: SocketAddr| Some(own.port()) == port;
    match running.control_doors().filter_map(ControlDoor::socket_address).any(is_own) {
        true => "; this daemon has the port at another address, which takes a restart to change",
        false => "",
    }
}

impl Serving {
    /// Listens at the new control sockets, and no longer at those that are dropped. Returns what was done.
    pub(super) fn follow_control(&mut self, mut new: NewControl, tasks: &[Task]) -> Vec<String> {
        let (mut lines, mut dropped) = (Vec::new(), Vec::new());
        let Some(doors) = &mut self.running.doors else { return lines };
        new.before.clear();
        self.leftovers.join(std::mem::take(&mut new.files));
        let mut opened: Vec<String> = Vec::new();
        for task in tasks {
            match task {
                Task::OpenControl(address) => lines.push(format!("control {} opened", told(address))),
                Task::ChangeControl(_, address) => {
                    let same = doors.control.iter_mut().filter(|door| door.address.is_at_place_of(address));
                    same.for_each(|door| door.address = (*address).clone());
                    lines.push(format!("control {} has other options", told(address)));
                }
                Task::DropControl(address) => {
                    let gone = doors.control.extract_if(.., |door| door.address.is_at_place_of(address));
                    dropped.extend(gone);
                }
                _ => {}
            }
        }
        for door in new.opened.drain(..) {
            let notice = door.socket_address().and_then(|at| prepared::note_if_exposed((at, door.address.read_only)));
            notice.into_iter().for_each(|(level, notice)| log!(level, "{notice}"));
            opened.push(door.address.to_string());
            doors.control.push(door);
        }
        if lines.is_empty() && dropped.is_empty() {
            return lines;
        }
        let listener = |door: &ControlDoor| match opened.contains(&door.address.to_string()) {
            true => door.listener().ok(),
            false => Some(door.known_listener()),
        };
        self.running.control.listen_at(doors.control.iter().filter_map(listener).collect());
        for door in dropped {
            let stays = door.own_file().is_some_and(|path| !self.leftovers.remove_file(path));
            let file = if stays { "; its file stays until the end, since this user may not remove it" } else { "" };
            lines.push(format!("control {} closed{file}", door.address));
        }
        lines
    }
}

fn told(address: &ControlAddress) -> String {
    if address.read_only { format!("{address}, read-only,") } else { address.to_string() }
}
