//! Why a client was not taken.

/// Why a client was refused, or further ones have to wait in the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum LimitReached {
    /// Its address is not allowed.
    Denied,
    /// The service has as many connections as it may, and resets more.
    ConnectionsReset,
    /// They come faster than the service takes them, which resets more.
    RateReset,
    /// Its source has as many connections as it may.
    SourceConnectionsReset,
    /// Its source makes more of them than it may.
    SourceRateReset,
    /// The service has as many connections as it may: further clients wait.
    ConnectionsWait,
    /// They come faster than the service takes them: further clients wait.
    RateWait,
    /// The process has as many connections as it may: further clients wait.
    ProcessConnectionsWait,
    /// They come faster than the process takes them: further clients wait.
    ProcessRateWait,
}

impl LimitReached {
    /// All of them.
    pub const ALL: [LimitReached; 9] = [
        LimitReached::Denied,
        LimitReached::ConnectionsReset,
        LimitReached::RateReset,
        LimitReached::SourceConnectionsReset,
        LimitReached::SourceRateReset,
        LimitReached::ConnectionsWait,
        LimitReached::RateWait,
        LimitReached::ProcessConnectionsWait,
        LimitReached::ProcessRateWait,
    ];

    /// The limit, as it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            LimitReached::Denied => "denied",
            LimitReached::ConnectionsReset | LimitReached::ConnectionsWait => "connections",
            LimitReached::RateReset | LimitReached::RateWait => "rate",
            LimitReached::SourceConnectionsReset => "source-connections",
            LimitReached::SourceRateReset => "source-rate",
            LimitReached::ProcessConnectionsWait => "process-connections",
            LimitReached::ProcessRateWait => "process-rate",
        }
    }

    /// What has become of the client.
    pub fn effect(self) -> &'static str {
        match self {
            LimitReached::Denied
            | LimitReached::ConnectionsReset
            | LimitReached::RateReset
            | LimitReached::SourceConnectionsReset
            | LimitReached::SourceRateReset => "reset",
            LimitReached::ConnectionsWait
            | LimitReached::RateWait
            | LimitReached::ProcessConnectionsWait
            | LimitReached::ProcessRateWait => "wait",
        }
    }
}
