//! The configuration file, read again while everybody stays connected: all of it comes into force, or nothing.
//!
//! What can fail comes first: reading, resolving, listening. What follows cannot, and touches only what is asked for
//! otherwise than before.

mod carry_out;
mod control;
mod ready;

use log::{info, warn};

use super::http_socket::HttpChange;
use super::serving::Serving;
use crate::config::{self, Config, Refused};
use crate::control::ReloadOutcome;
use crate::desired;
use crate::resolve;
use carry_out::Work;
use control::NewControl;

impl Serving {
    /// Reads the configuration file again, and has it come into force. Says what that has come to in the log as well.
    pub(super) fn reload(&mut self) -> ReloadOutcome {
        let outcome = self.try_reload();
        let file = self.config.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        match &outcome {
            Ok(lines) => {
                let count = lines.len();
                info!("{file} read again, changes: {count}");
                lines.iter().for_each(|line| info!("{line}"));
            }
            Err(reasons) => reasons.iter().for_each(|reason| warn!("not reloaded: {reason}; nothing has changed")),
        }
        outcome
    }

    fn try_reload(&mut self) -> ReloadOutcome {
        if self.running.threads.is_none() {
            return Err(vec!["this process accepts nobody any more".to_owned()]);
        }
        let arguments = config::own_arguments().map_err(|reason| vec![reason])?;
        let wanted = Config::reread(arguments, &self.directory).map_err(|refused| match refused {
            Refused::Show(text) | Refused::Wrong(text) => vec![text],
            Refused::WrongFile(reasons) => reasons,
        })?;
        let mut wanted = wanted.with_paths_in(&self.directory);
        self.keep_borrowed(&mut wanted);
        let before = self.config.clone();
        let tasks = desired::difference(&before, &wanted);
        let http = HttpChange::prepare(&self.running, &before, &wanted).map_err(|reason| vec![reason])?;
        let new_control = match NewControl::prepare(&tasks, &self.running) {
            Ok(new_control) => new_control,
            Err(reason) => {
                http.undo();
                return Err(vec![reason]);
            }
        };
        let ready = match self.prepare(&wanted, &tasks, &new_control) {
            Ok(ready) => ready,
            Err(reason) => {
                http.undo();
                return Err(vec![reason]);
            }
        };
        let mut lines = Work::new(&mut self.running, &wanted, &tasks, ready).carry_out();
        lines.extend(self.follow_control(new_control, &tasks));
        lines.extend(http.carry_out(&mut self.running, &mut self.leftovers, &before, &wanted));
        resolve::prefer_ipv6(wanted.prefer_ipv6);
        if before.verbose != wanted.verbose {
            crate::log::set_level(crate::log::level(wanted.verbose));
            lines.push(format!("process: verbose is {}", wanted.verbose));
        }
        if before.log_format != wanted.log_format {
            crate::log::set_format(wanted.log_format);
            lines.push(format!("process: log-format is {}", wanted.log_format));
        }
        self.see_to_files(&before, &wanted);
        if before.connection_rate != wanted.connection_rate {
            self.running.workers.set_connection_rate(wanted.connection_rate);
            let rate = wanted.connection_rate.map_or("not limited".to_owned(), |rate| format!("limited to {rate}"));
            lines.push(format!("process: new connections a second are {rate}"));
        }
        self.config = desired::in_force(&before, wanted);
        self.running.tell_configuration(&self.config);
        Ok(lines)
    }

    /// Has the files of new UNIX sockets removed at the end, and those at which no service listens any more now.
    fn see_to_files(&mut self, before: &Config, wanted: &Config) {
        self.running.doors.iter_mut().for_each(|doors| self.leftovers.join(doors.take_made()));
        let files = |config: &Config| config.services.iter().flat_map(|it| it.listen.files()).collect::<Vec<_>>();
        let stay = files(wanted);
        files(before).into_iter().filter(|file| !stay.contains(file)).for_each(|file| {
            // One that stays is replaced by whatever listens there next.
            self.leftovers.remove_file(file);
        });
    }

    /// Where a service manager has decided where a service listens, or the control sockets, that is where they are.
    fn keep_borrowed(&self, wanted: &mut Config) {
        let Some(doors) = &self.running.doors else { return };
        if doors.has_borrowed_control() {
            wanted.control = self.config.control.clone();
        }
        for service in &mut wanted.services {
            let borrowed = doors.of_service(&service.name).any(|door| door.borrowed);
            let current = self.config.services.iter().find(|it| it.name == service.name);
            if let Some(current) = current.filter(|_| borrowed) {
                service.listen = current.listen.clone();
            }
        }
    }
}
