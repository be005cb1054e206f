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
    let Some(most) = health.agent.max_connections.filter(|most| before != Some(*most)) else { return };
    let label = table.label();
    let (pool, it) = (label.pool(), label.of(address));
    let many = match most {
        0 => "any number of connections".to_owned(),
        most => format!("at most {}", Counted(most as usize, "connection")),
    };
    info!(destination:% = address, pool; "destination {it}: its agent says that it may have {many}");
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
    // Where none was fit from the start, nobody knows before all have been judged.
    let is_news = match judgement.changed_from.flatten() {
        Some(before) => before >= Verdict::Spare,
        None => table.snapshot().iter().all(|it| it.health.verdict.is_some()),
    };
    if is_news && serving == 0 {
        let of = if pool.is_empty() { String::new() } else { format!("pool {pool}: ") };
        error!(pool; "{of}no destination is left that takes new clients: they are turned away");
    }
}
