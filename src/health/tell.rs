//! Log lines about verdicts.

use log::{error, info, warn};

use super::monitor::Judgement;
use crate::config::WatchdogOptions;
use crate::table::Table;
use crate::table::health::{ShutdownSessions, Verdict};

/// Tells of a verdict that has changed; of `sessions` closed, where any were to be.
pub(super) fn verdict(judgement: &Judgement, sessions: Option<usize>, options: &WatchdogOptions, table: &Table) {
    let Judgement { address, health, .. } = judgement;
    let Some(verdict) = health.verdict else { return };
    let colon = if health.reason.is_empty() { "" } else { ": " };
    let what = format!("destination {address} {verdict}{colon}{}", health.reason);
    let serving = table.serving();
    match verdict {
        Verdict::Ready => return info!("{what}"),
        Verdict::Spare | Verdict::Avoid => warn!("{what}"),
        Verdict::Down => {
            let then = match (sessions, options.shutdown_sessions) {
                (Some(count), _) => format!("{count} sessions closed"),
                (None, ShutdownSessions::Never) => "its sessions are left alone".to_owned(),
                (None, _) => "its sessions stay until another destination is READY".to_owned(),
            };
            warn!("{what}; {then}; destinations left: {serving}");
        }
    }
    let served_before = judgement.changed_from.flatten() >= Some(Verdict::Spare);
    if served_before && serving == 0 {
        error!("no destination is left that takes new clients: they are turned away");
    }
}
