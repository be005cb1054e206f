//! What the weight of a destination is multiplied by: less while it grows, where it answers slowly, and as its agent says.

use std::time::{Duration, Instant};

use super::Watched;
use crate::config::WatchdogOptions;
use crate::health::members::ClusterView;

/// In how many steps the weight of one that came back grows.
const STEPS: u32 = 20;
const SHORTEST_STEP: Duration = Duration::from_millis(50);
/// A scale that differs by less is not worth to change all picks for.
const SAME_SCALE: f64 = 0.05;

impl Watched {
    /// A moving average, as far as there are samples for one.
    pub(super) fn measure(&mut self, took: Duration, options: &WatchdogOptions) {
        let most = options.latency_samples.unwrap_or(1);
        self.samples = (self.samples + 1).min(most);
        let (before, part) = (self.health.latency.as_secs_f64(), f64::from(self.samples));
        self.health.latency = Duration::from_secs_f64((before + (took.as_secs_f64() - before) / part).max(0.0));
    }

    /// What its weight is to be multiplied by, unless that hardly differs from before.
    pub(in crate::health) fn rescale(&mut self, view: &ClusterView, options: &WatchdogOptions, now: Instant) {
        let grown = self.returned.map_or(1.0, |returned| {
            let part = now.saturating_duration_since(returned).as_secs_f64() / options.slow_start.as_secs_f64();
            // Also where there is no slow start, and the division gives no number.
            if part < 1.0 { part.max(1.0 / f64::from(STEPS)) } else { 1.0 }
        });
        if grown >= 1.0 {
            self.returned = None;
        }
        let speed = options.latency_samples.map_or(1.0, |_| view.speed(self.health.latency));
        let (scale, before) = (grown * speed * self.health.agent.factor(), self.health.scale);
        if (scale - before).abs() >= SAME_SCALE * before || grown * speed >= 1.0 {
            self.health.scale = scale;
        }
        self.grown = now;
    }

    /// When its weight is to grow by the next step, if it grows.
    pub(in crate::health) fn next_step(&self, options: &WatchdogOptions) -> Option<Instant> {
        self.returned.map(|_| self.grown + (options.slow_start / STEPS).max(SHORTEST_STEP))
    }
}
