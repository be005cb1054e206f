//! The entry point for a fuzzer (`fuzz/`) of what another process of glbd hands over.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::handover::hear;
use crate::pool::health::ShutdownSessions;
use crate::pool::{Balancing, PolicyKind, Pool, PoolSettings, SavedPool, SavedRotation, Tried};

/// A process that says this: a message, or a table.
pub fn handover(bytes: &[u8]) {
    hear(bytes);
    let Ok((pool, choices)) = serde_json::from_slice::<(SavedPool, SavedRotation)>(bytes) else { return };
    for policy in [PolicyKind::LeastConnected, PolicyKind::Single] {
        let table = Pool::new(PoolSettings {
            avoid_failed_for: Duration::from_secs(1),
            watched: true,
            ..PoolSettings::default()
        })
        .rotation(Balancing { policy, top: false, shutdown_sessions: ShutdownSessions::Elsewhere });
        table.restore(pool.clone(), Instant::now());
        table.restore_choices(choices.clone(), Instant::now());
        table.elect_single();
        table.pick(Ipv4Addr::LOCALHOST.into(), &mut Tried::default(), Instant::now());
        drop((table.save(Instant::now()), table.save_choices(Instant::now())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::fuzz::tests::{corpus, replay};

    #[test]
    fn what_is_in_the_corpus_makes_nothing_panic() {
        replay("handover", handover);
    }

    /// Otherwise a change of the table would leave a corpus that tries nothing.
    #[test]
    fn a_table_is_in_the_corpus() {
        let is_table = |bytes: &Vec<u8>| {
            serde_json::from_slice::<(SavedPool, SavedRotation)>(bytes).is_ok_and(|it| it != Default::default())
        };
        assert!(corpus("handover").iter().any(is_table));
    }
}
