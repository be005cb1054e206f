//! Log lines about verdicts.

use log::{error, info, warn};

use super::monitor::Judgement;
use crate::config::WatchdogOptions;
use crate::counted::Counted;
use crate::pool::Pool;
use crate::pool::health::{ShutdownSessions, Verdict};

/// Tells that an agent has said another number of connections than before.
pub(super) fn limit(judgement: &Judgement, table: &Pool) {
    let Judgement { id, address, health, .. } = judgement;
    let before = table.health_of(*id).and_then(|before| before.agent.max_connections);
    match health.agent.max_connections.filter(|most| before != Some(*most)) {
        Some(0) => info!("destination {address}: its agent says that it may have any number of connections"),
        Some(most) => info!("destination {address}: its agent says that it may have at most {most} connections"),
        None => {}
    }
}

/// Tells of a verdict that has changed; of `sessions` closed, where any were to be.
pub(super) fn verdict(judgement: &Judgement, sessions: Option<usize>, options: &WatchdogOptions, table: &Pool) {
    let Judgement { id, address, health, .. } = judgement;
    let Some(verdict) = health.verdict else { return };
    let colon = if health.reason.is_empty() { "" } else { ": " };
    let label = table.label();
    let pool = label.pool();
    let what = format!("destination {} {verdict}{colon}{}", label.of(address), health.reason);
    let serving = table.serving();
    match verdict {
        Verdict::Ready => return info!(destination:% = address, pool; "{what}"),
        Verdict::Spare | Verdict::Avoid => warn!(destination:% = address, pool; "{what}"),
        Verdict::Down => {
            let then = match (sessions, table.sessions_on(*id), options.shutdown_sessions) {
                (Some(count), ..) => format!("{} closed", Counted(count, "session")),
                (None, 0, _) => "it has no sessions".to_owned(),
                (None, count, ShutdownSessions::Never) => format!("it keeps its {}", Counted(count, "session")),
                (None, count, _) => {
                    format!("it keeps its {} until another destination is READY", Counted(count, "session"))
                }
            };
            warn!(destination:% = address, pool; "{what}; {then}; destinations left: {serving}");
        }
    }
    let served_before = judgement.changed_from.flatten() >= Some(Verdict::Spare);
    if served_before && serving == 0 {
        let of = if pool.is_empty() { String::new() } else { format!("pool {pool}: ") };
        error!(pool; "{of}no destination is left that takes new clients: they are turned away");
    }
}
