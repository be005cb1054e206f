//! Whether services take clients, for load balancers in front of this one.

use crate::status::{Service, Status};

/// Whether services take clients, and why not: a line each.
pub(super) struct Readiness {
    pub is_ready: bool,
    pub text: String,
}

impl Readiness {
    /// Of all services, or of this one; `None` if there is none of this name.
    pub(super) fn of(status: &Status, name: Option<&str>, takes_none: Option<&'static str>) -> Option<Readiness> {
        let asked = |service: &&Service| name.is_none_or(|name| service.name == name);
        let services: Vec<&Service> = status.services.iter().filter(asked).collect();
        if services.is_empty() {
            return None;
        }
        let full = status.process.connections >= status.process.max_connections;
        let reason = |service: &Service| match service {
            _ if takes_none.is_some() => takes_none,
            _ if full => Some("the process has as many connections as it may have"),
            it if it.full => Some("it has as many clients as it may have"),
            it if !it.ready => Some("no destination takes clients"),
            _ => None,
        };
        let reasons: Vec<Option<&str>> = services.iter().map(|service| reason(service)).collect();
        let line = |(service, reason): (&&Service, &Option<&str>)| match reason {
            None => format!("{}: ready\n", service.name),
            Some(reason) => format!("{}: {reason}\n", service.name),
        };
        let text = services.iter().zip(&reasons).map(line).collect();
        Some(Readiness { is_ready: reasons.iter().all(Option::is_none), text })
    }
}
