//! What each destination was like in the last hour, for the page.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Shared;
use crate::status::{Destination, Status};

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(30);
/// An hour of them.
const MOST_SAMPLES: usize = 120;
/// Most destinations of which there are any: with more, the page is no place to look at them.
const MOST_DESTINATIONS: usize = 1000;

/// What a destination was like in the time before each sample.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Series {
    /// Connections at that moment.
    connections: VecDeque<usize>,
    /// New connections.
    opened: VecDeque<u64>,
    /// Bytes, both ways.
    bytes: VecDeque<u64>,
    /// The verdict.
    verdicts: VecDeque<String>,
    /// What connections and bytes had come to at the last one.
    before: Option<(u64, u64)>,
}

/// What the destinations of each pool were like. Another process goes on with them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Samples {
    pools: BTreeMap<String, BTreeMap<String, Series>>,
    /// When the last one was taken.
    taken: Option<SystemTime>,
}

impl Series {
    fn add(&mut self, now: &Destination) {
        let totals = (now.connections.total, now.bytes_in.wrapping_add(now.bytes_out));
        let (connections, bytes) = self.before.unwrap_or(totals);
        // A process that takes over does not know at once what had come before.
        self.before = Some((totals.0.max(connections), totals.1.max(bytes)));
        push(&mut self.connections, now.connections.now);
        push(&mut self.opened, totals.0.saturating_sub(connections));
        push(&mut self.bytes, totals.1.saturating_sub(bytes));
        push(&mut self.verdicts, now.verdict.clone());
    }
}

fn push<T>(samples: &mut VecDeque<T>, sample: T) {
    if samples.len() >= MOST_SAMPLES {
        samples.pop_front();
    }
    samples.push_back(sample);
}

impl Samples {
    /// Adds what is so now. Destinations that are gone are forgotten.
    fn add(&mut self, status: &Status) {
        let mut before = std::mem::take(&mut self.pools);
        let pairs = status.pools.iter().flat_map(|pool| pool.destinations.iter().map(move |it| (pool, it)));
        for (pool, destination) in pairs.take(MOST_DESTINATIONS) {
            let known = before.get_mut(&pool.name).and_then(|pool| pool.remove(&destination.address));
            let mut series = known.unwrap_or_default();
            series.add(destination);
            self.pools.entry(pool.name.clone()).or_default().insert(destination.address.clone(), series);
        }
        self.taken = Some(SystemTime::now());
    }

    /// How long it is until the next one.
    fn pause(&self) -> Duration {
        let passed = self.taken.map(|taken| taken.elapsed().unwrap_or_default());
        passed.map_or(Duration::ZERO, |passed| INTERVAL.saturating_sub(passed))
    }

    /// All of them, in JSON.
    pub(super) fn json(&self) -> String {
        let pools = self.pools.iter().flat_map(|(pool, all)| all.iter().map(move |(it, series)| (pool, it, series)));
        let one = |(pool, destination, it): (&String, &String, &Series)| {
            let Series { connections, opened, bytes, verdicts, .. } = it;
            let samples = serde_json::json!({
                "connections": connections, "opened": opened, "bytes": bytes, "verdicts": verdicts
            });
            serde_json::json!({ "pool": pool, "destination": destination, "samples": samples })
        };
        let destinations: Vec<_> = pools.map(one).collect();
        serde_json::json!({ "interval": INTERVAL.as_secs(), "destinations": destinations }).to_string()
    }
}

/// Takes samples.
pub(super) async fn keep(shared: Arc<Shared>) {
    let first = Instant::now() + shared.samples.lock().pause();
    let mut tick = interval_at(first, INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let status = shared.settings.source.now();
        shared.samples.lock().add(&status);
    }
}
