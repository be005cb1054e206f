//! The keys of the configuration file. Each says the same as an option of the command line, whose definition says what
//! values there are.

/// Where in the file a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// `[process]`
    Process,
    /// `[pool.NAME]`
    Pool,
    /// `[service.NAME]`
    Service,
}

/// What a key's value is, and how the command line says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// True is the option, false is its absence.
    Flag,
    /// False is the option, which switches something off.
    Off,
    /// A whole number.
    Count,
    /// A number of seconds.
    Seconds,
    /// A string.
    Text,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A string in which control characters may stand, for which the option takes escapes.
    Escaped,
    /// How to check: a string, or a table of what that is made of.
    Check,
    /// Strings, which the option takes separated by commas.
    List,
    /// A port, a string, or a list of them.
    ListenList,
    /// An address: a port, or a string.
    Address,
    /// Control addresses: one, or a list, of ports, strings and tables. The option may be given several times.
    Control,
    /// Strings, each of which is a destination.
    Destinations,
    /// One of [`POLICIES`].
    Policy,
    /// The name of a pool.
    Pool,
    /// The name of a service.
    Service,
}

/// A key of the file.
pub(super) struct Key {
    pub section: Section,
    pub name: &'static str,
    pub kind: Kind,
    /// The option's long name, where that is another one.
    option: Option<&'static str>,
}

impl Section {
    pub(super) const ALL: [Section; 3] = [Section::Process, Section::Pool, Section::Service];

    /// Its first line, where its name is still to be chosen.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Section::Process => "[process]",
            Section::Pool => "[pool.NAME]",
            Section::Service => "[service.NAME]",
        }
    }
}

impl Key {
    const fn new(section: Section, name: &'static str, kind: Kind) -> Key {
        Key { section, name, kind, option: None }
    }

    const fn of_option(section: Section, name: &'static str, kind: Kind, option: &'static str) -> Key {
        Key { section, name, kind, option: Some(option) }
    }

    /// What the definition of the command line calls the option.
    pub(super) fn id(&self) -> String {
        self.option().replace('-', "_")
    }

    /// The option's long name, without dashes.
    pub(super) fn option(&self) -> &'static str {
        self.option.unwrap_or(self.name)
    }
}

/// The policies, and the options that choose them; the first is the one without an option.
pub(super) const POLICIES: [(&str, &str); 6] = [
    ("least-connected", ""),
    ("round-robin", "round"),
    ("random", "random"),
    ("first", "first"),
    ("source", "source"),
    ("single", "single"),
];

/// All keys, in the order in which they are printed.
pub(super) const KEYS: &[Key] = &[
    Key::new(Section::Process, "threads", Kind::Count),
    Key::of_option(Section::Process, "cpu-affinity", Kind::Text, "cpus"),
    Key::of_option(Section::Process, "max-connections", Kind::Count, "max_conn"),
    Key::of_option(Section::Process, "connection-rate", Kind::Count, "process-connection-rate"),
    Key::new(Section::Process, "control", Kind::Control),
    Key::new(Section::Process, "fifo", Kind::Text),
    Key::new(Section::Process, "http", Kind::Address),
    Key::new(Section::Process, "http-host", Kind::List),
    Key::new(Section::Process, "http-admin", Kind::Text),
    Key::new(Section::Process, "daemon", Kind::Flag),
    Key::new(Section::Process, "user", Kind::Text),
    Key::new(Section::Process, "pidfile", Kind::Text),
    Key::new(Section::Process, "state", Kind::Text),
    Key::new(Section::Process, "log", Kind::Text),
    Key::new(Section::Process, "log-format", Kind::Choice(&["text", "logfmt", "json"])),
    Key::new(Section::Process, "verbose", Kind::Flag),
    Key::new(Section::Process, "connection-log-file", Kind::Text),
    Key::new(Section::Process, "drain-timeout", Kind::Seconds),
    Key::new(Section::Process, "prefer", Kind::Choice(&["ipv4", "ipv6"])),
    Key::new(Section::Process, "strict-names", Kind::Flag),
    Key::new(Section::Pool, "destinations", Kind::Destinations),
    Key::new(Section::Pool, "backups", Kind::List),
    Key::of_option(Section::Pool, "max-connections", Kind::Count, "destination-max-connections"),
    Key::of_option(Section::Pool, "min-connections", Kind::Count, "destination-min-connections"),
    Key::new(Section::Pool, "full-connections", Kind::Count),
    Key::new(Section::Pool, "max-queue", Kind::Count),
    Key::new(Section::Pool, "watchdog", Kind::Check),
    Key::new(Section::Pool, "interval", Kind::Seconds),
    Key::new(Section::Pool, "down-interval", Kind::Seconds),
    Key::new(Section::Pool, "timeout", Kind::Seconds),
    Key::new(Section::Pool, "rise", Kind::Count),
    Key::new(Section::Pool, "fall", Kind::Count),
    Key::new(Section::Pool, "slow-start", Kind::Seconds),
    Key::new(Section::Pool, "shutdown-sessions", Kind::Choice(&["always", "elsewhere", "never"])),
    Key::new(Section::Pool, "shutdown-backup-sessions", Kind::Flag),
    Key::new(Section::Pool, "extra", Kind::Seconds),
    Key::new(Section::Pool, "check-send-proxy", Kind::Count),
    Key::new(Section::Pool, "agent", Kind::Address),
    Key::new(Section::Pool, "agent-interval", Kind::Seconds),
    Key::new(Section::Pool, "agent-send", Kind::Escaped),
    Key::new(Section::Pool, "discover", Kind::Flag),
    Key::new(Section::Pool, "latency", Kind::Count),
    Key::new(Section::Pool, "resolve", Kind::Seconds),
    Key::new(Section::Pool, "resolve-all", Kind::Flag),
    Key::new(Section::Service, "listen", Kind::ListenList),
    Key::new(Section::Service, "pool", Kind::Pool),
    Key::new(Section::Service, "policy", Kind::Policy),
    Key::new(Section::Service, "top", Kind::Flag),
    Key::new(Section::Service, "avoid", Kind::Service),
    Key::new(Section::Service, "connect-timeout", Kind::Seconds),
    Key::new(Section::Service, "wait", Kind::Seconds),
    Key::new(Section::Service, "queue-timeout", Kind::Seconds),
    Key::new(Section::Service, "retries", Kind::Count),
    Key::new(Section::Service, "connect-from", Kind::List),
    Key::new(Section::Service, "client-idle-timeout", Kind::Seconds),
    Key::new(Section::Service, "server-idle-timeout", Kind::Seconds),
    Key::new(Section::Service, "half-close-timeout", Kind::Seconds),
    Key::new(Section::Service, "tcp-user-timeout", Kind::Seconds),
    Key::new(Section::Service, "keepalive", Kind::Off),
    Key::new(Section::Service, "keepalive-time", Kind::Count),
    Key::new(Section::Service, "keepalive-interval", Kind::Count),
    Key::new(Section::Service, "keepalive-count", Kind::Count),
    Key::new(Section::Service, "nodelay", Kind::Off),
    Key::new(Section::Service, "defer-accept", Kind::Flag),
    Key::new(Section::Service, "backlog", Kind::Count),
    Key::new(Section::Service, "interface", Kind::Text),
    Key::new(Section::Service, "socket-owner", Kind::Text),
    Key::new(Section::Service, "socket-group", Kind::Text),
    Key::new(Section::Service, "socket-mode", Kind::Text),
    Key::new(Section::Service, "transparent", Kind::Flag),
    Key::new(Section::Service, "greeting", Kind::Choice(&["mysql", "none"])),
    Key::new(Section::Service, "send-proxy", Kind::Count),
    Key::new(Section::Service, "proxy-v2-options", Kind::List),
    Key::new(Section::Service, "accept-proxy", Kind::List),
    Key::new(Section::Service, "linger", Kind::Flag),
    Key::new(Section::Service, "synchronous", Kind::Flag),
    Key::new(Section::Service, "allow", Kind::List),
    Key::new(Section::Service, "deny", Kind::List),
    Key::of_option(Section::Service, "max-connections", Kind::Count, "service-max-connections"),
    Key::new(Section::Service, "max-connections-per-source", Kind::Count),
    Key::new(Section::Service, "connection-rate", Kind::Count),
    Key::new(Section::Service, "connection-rate-per-source", Kind::Count),
    Key::new(Section::Service, "over-limit", Kind::Choice(&["wait", "reset"])),
    Key::new(Section::Service, "connection-log", Kind::Choice(&["off", "text", "json"])),
    Key::new(Section::Service, "connection-log-rate", Kind::Count),
];

/// The key with this name in this section.
pub(super) fn find(section: Section, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// What the file calls an option.
pub(super) fn name_of(option: &str) -> &str {
    KEYS.iter().find(|key| key.option() == option).map_or(option, |key| key.name)
}

/// The names of a section's keys.
pub(super) fn names(section: Section) -> Vec<&'static str> {
    KEYS.iter().filter(|key| key.section == section).map(|key| key.name).collect()
}
