//! What each destination was like in the last hour, for the page.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use crate::status::{Destination, Status};

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(30);
/// An hour of them.
const MOST_SAMPLES: usize = 120;
/// Most destinations of which there are any: with more, the page is no place to look at them.
const MOST_DESTINATIONS: usize = 1000;

/// What a destination was like in the time before each sample.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Series {
    /// Connections at that moment.
    connections: VecDeque<usize>,
    /// New connections.
    opened: VecDeque<u64>,
    /// Bytes, both ways.
    bytes: VecDeque<u64>,
    /// The verdict.
    verdicts: VecDeque<String>,
    #[serde(skip)]
    before: Option<(u64, u64)>,
}

/// What the destinations of each pool were like.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples(BTreeMap<(String, String), Series>);

impl Series {
    fn add(&mut self, now: &Destination) {
        let totals = (now.connections.total, now.bytes_in.wrapping_add(now.bytes_out));
        let (connections, bytes) = self.before.replace(totals).unwrap_or(totals);
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
        let mut before = std::mem::take(&mut self.0);
        let pairs = status.pools.iter().flat_map(|pool| pool.destinations.iter().map(move |it| (pool, it)));
        for (pool, destination) in pairs.take(MOST_DESTINATIONS) {
            let key = (pool.name.clone(), destination.address.clone());
            let mut series = before.remove(&key).unwrap_or_default();
            series.add(destination);
            self.0.insert(key, series);
        }
    }

    /// All of them, in JSON.
    pub(super) fn json(&self) -> String {
        let one = |((pool, destination), series): (&(String, String), &Series)| serde_json::json!({ "pool": pool, "destination": destination, "samples": series });
        let series: Vec<_> = self.0.iter().map(one).collect();
        serde_json::json!({ "interval": INTERVAL.as_secs(), "destinations": series }).to_string()
    }
}

/// Takes samples.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let status = shared.settings.source.now();
        shared.samples.lock().add(&status);
    }
}
