//! Options that would do nothing, or do not fit together.

use std::path::PathBuf;

use super::options::{ConnectFrom, Options};
use super::{ControlPlace, LogTarget, ProbeSpec, ProxyVersion};
use crate::address::{Endpoint, ListenAddress, ListenAddresses};

/// An option's name, and whether it was given.
type Given = (bool, &'static str);

impl Options {
    /// Which options would do nothing, and which do not fit together: a line for each, which names it and says what it
    /// needs.
    pub fn misfits(&self) -> Vec<String> {
        let kinds = [self.socket_files(), self.http_rights(), self.numbers(), self.limits(), self.checks()];
        kinds.into_iter().flatten().chain(self.same_place()).chain(self.same_file()).collect()
    }

    fn socket_files(&self) -> Vec<String> {
        let options = [
            (self.socket_owner.is_some(), "--socket-owner"),
            (self.socket_group.is_some(), "--socket-group"),
            (self.socket_mode.is_some(), "--socket-mode"),
        ];
        let has_file = self.listen.as_ref().is_some_and(ListenAddresses::have_file);
        in_vain(&options, has_file, " is for the files of UNIX sockets: the service listens at no unix:PATH")
    }

    fn http_rights(&self) -> Vec<String> {
        let options = [(self.http_admin.is_some(), "--http-admin"), (!self.http_host.is_empty(), "--http-host")];
        in_vain(&options, self.http.is_some(), ": no HTTP is spoken: give --http as well")
    }

    /// Values that are none.
    fn numbers(&self) -> Vec<String> {
        let in_background = self.daemon && self.log == Some(LogTarget::Stderr);
        let is_too_short = !self.tcp_user_timeout.is_zero() && self.tcp_user_timeout.as_millis() == 0;
        let is_not_alone = self.connect_from.len() > 1 && self.connect_from.contains(&ConnectFrom::Client);
        let wrong = [
            (in_background, "--log stderr: in the background there is none; leave out --daemon"),
            (is_too_short, "--tcp-user-timeout: less than a millisecond"),
            (is_not_alone, "--connect-from: 'client' stands alone"),
        ];
        let twice = self.deny.iter().find(|network| self.allow.contains(network));
        let twice = twice.map(|network| format!("--deny: {network} is in --allow as well"));
        told(&wrong).chain(twice).collect()
    }

    fn limits(&self) -> Vec<String> {
        let is_limited = self.service_max_connections.is_some() || self.connection_rate.is_some();
        let destinations = self.destination_max_connections;
        let (least, full) = (self.destination_min_connections, self.full_connections);
        let is_old_header = self.send_proxy != Some(ProxyVersion::V2);
        let wrong = [
            (
                self.over_limit.is_some() && !is_limited,
                "--over-limit: the service has no limit: there is neither --service-max-connections nor \
                 --connection-rate",
            ),
            (least.is_some() && full.is_none(), "--destination-min-connections needs --full-connections as well"),
            (least.is_none() && full.is_some(), "--full-connections needs --destination-min-connections as well"),
            (
                least.is_some() && destinations.is_none(),
                "--destination-min-connections needs --destination-max-connections as well",
            ),
            (
                self.max_queue.is_some() && destinations.is_none() && self.agent.is_none(),
                "--max-queue: destinations are not limited, so that no client waits: give \
                 --destination-max-connections",
            ),
            (
                self.first && destinations.is_none(),
                "--first: destinations are not limited, and the first would get all clients: give \
                 --destination-max-connections",
            ),
            (
                !self.proxy_v2_options.is_empty() && is_old_header,
                "--proxy-v2-options needs version 2 of the header: give --send-proxy 2",
            ),
        ];
        let more = least.zip(destinations).filter(|(least, most)| least > most).map(|(least, most)| {
            format!("--destination-min-connections: {least} is more than --destination-max-connections {most}")
        });
        told(&wrong).chain(more).collect()
    }

    fn checks(&self) -> Vec<String> {
        let of_agents =
            [(self.agent_interval.is_some(), "--agent-interval"), (self.agent_send.is_some(), "--agent-send")];
        let of_checks = [
            (self.down_interval.is_some(), "--down-interval"),
            (self.check_send_proxy.is_some(), "--check-send-proxy"),
            (self.timeout.is_some(), "--timeout"),
            (self.rise.is_some(), "--rise"),
            (self.fall.is_some(), "--fall"),
            (!self.slow_start.is_zero(), "--slow-start"),
            (self.keep_sessions, "--keep-sessions"),
            (self.shutdown_sessions.is_some(), "--shutdown-sessions"),
            (self.shutdown_backup_sessions, "--shutdown-backup-sessions"),
            (!self.extra.is_zero(), "--extra"),
            (self.discover, "--discover"),
            (self.latency > 0, "--latency"),
        ];
        let by_script = self.check_send_proxy.is_some() && matches!(self.watchdog, Some(ProbeSpec::Exec(_)));
        let mut wrong = in_vain(&of_agents, self.agent.is_some(), " needs an agent to ask: give --agent as well");
        wrong.extend(by_script.then(|| "--check-send-proxy: a script connects by itself".to_owned()));
        let has_checks = self.watchdog.is_some() || self.agent.is_some();
        wrong.extend(in_vain(&of_checks, has_checks, " needs checks of the destinations: give --watchdog as well"));
        wrong
    }

    /// Addresses that only one can listen at.
    fn same_place(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (index, address) in self.control.iter().enumerate() {
            let mut before = self.control[..index].iter();
            if before.any(|it| it.is_at_place_of(address) && it != address) {
                wrong.push(format!("--control: {address} is given twice, with other options"));
            }
        }
        let http = self.http.iter().map(|it| (it, "--http"));
        for (address, option) in self.control.iter().map(|it| (it, "--control")).chain(http) {
            let ControlPlace::Tcp(Endpoint { host, port }) = &address.place else { continue };
            let place = ListenAddress { host: Some(host.clone()), port: *port };
            if self.listen.iter().flat_map(ListenAddresses::iter).any(|it| it.overlaps(&place)) {
                wrong.push(format!("{option}: a service listens at {address} already"));
            }
        }
        if let Some(http) = self.http.as_ref().filter(|http| self.control.iter().any(|it| it.is_at_place_of(http))) {
            wrong.push(format!("--http: {http} is a control address"));
        }
        wrong
    }

    fn same_file(&self) -> Option<String> {
        let connections = (&self.connection_log_file, "--connection-log-file");
        let files = [(&self.fifo, "--fifo"), (&self.pidfile, "--pidfile"), (&self.state, "--state"), connections];
        let files = files.iter().filter_map(|(path, option)| Some((path.as_deref()?, *option)));
        let sockets = self.control.iter().filter_map(|it| Some((it.path()?, "--control")));
        let mut given: Vec<(PathBuf, &str)> = Vec::new();
        for (path, option) in sockets.chain(files) {
            // Without a working directory, what is relative is refused later.
            let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let is_another = |other: &str| other != option;
            if let Some((_, other)) = given.iter().find(|(other, whose)| *other == absolute && is_another(whose)) {
                return Some(format!("{other} and {option} cannot be the same file, '{}'", path.display()));
            }
            given.push((absolute, option));
        }
        None
    }
}

/// A line for each that was given though what it needs was not.
fn in_vain(options: &[Given], has_what_it_needs: bool, needs: &str) -> Vec<String> {
    let given = options.iter().filter(|(given, _)| *given && !has_what_it_needs);
    given.map(|(_, option)| format!("{option}{needs}")).collect()
}

/// The lines that are true.
fn told(lines: &[Given]) -> impl Iterator<Item = String> {
    lines.iter().filter(|(is_so, _)| *is_so).map(|(_, line)| (*line).to_owned())
}
