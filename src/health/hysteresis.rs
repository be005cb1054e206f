//! From single observations of a destination to a verdict: how many in a row it takes to change it.

use crate::pool::health::Verdict;

/// What a check says of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Observation {
    /// The destination says itself what it is good for.
    Word(Verdict),
    /// It does not answer, which may be the network's fault, or a moment's.
    Silence,
}

impl Observation {
    /// What it would make of the destination.
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Observation::Word(verdict) => verdict,
            Observation::Silence => Verdict::Down,
        }
    }
}

/// The verdict on one destination, given all observations so far.
///
/// - The first observation is taken at its word.
/// - To become better takes `rise` observations in a row.
/// - A destination that says itself that it is worse gets no new clients from that moment on. To be DOWN, which costs it
///   its sessions, takes `fall` observations in a row, silence included.
/// - Silence changes nothing before it has lasted for `fall` observations.
/// - An answer that is late takes the place of the silence that its check has counted as, unless that changed the verdict.
#[derive(Debug, Clone)]
pub(super) struct Hysteresis {
    rise: u32,
    fall: u32,
    /// `None` before the first observation.
    verdict: Option<Verdict>,
    /// Observations in a row, up to the last, that were better than the verdict.
    better: u32,
    /// Observations in a row, up to the last, that it is down.
    failures: u32,
    last: Option<Observation>,
    /// `better` and `failures` before the check that was last silent.
    before_silence: Option<(u32, u32)>,
}

impl Hysteresis {
    /// With the verdict that there is already, if any.
    pub(super) fn new(rise: u32, fall: u32, verdict: Option<Verdict>) -> Hysteresis {
        Hysteresis { rise, fall, verdict, better: 0, failures: 0, last: None, before_silence: None }
    }

    /// Takes an observation into account; one that is late is of the same check as the silence before it. Returns true if
    /// the verdict has changed.
    pub(super) fn observe(&mut self, observation: Observation, is_late: bool) -> bool {
        match (observation, is_late) {
            (Observation::Silence, true) => {}
            (Observation::Silence, false) => self.before_silence = Some((self.better, self.failures)),
            (Observation::Word(_), late) => {
                if let Some(before) = self.before_silence.take().filter(|_| late) {
                    (self.better, self.failures) = before;
                }
            }
        }
        let observed = observation.verdict();
        self.failures = if observed == Verdict::Down { self.failures.saturating_add(1) } else { 0 };
        self.better = match self.verdict {
            Some(verdict) if observed > verdict => self.better.saturating_add(1),
            _ => 0,
        };
        self.last = Some(observation);
        let before = self.verdict;
        self.verdict = Some(match before {
            None => observed,
            Some(verdict) if observed > verdict => {
                if self.better >= self.rise {
                    observed
                } else {
                    verdict
                }
            }
            Some(_) if self.failures >= self.fall => Verdict::Down,
            Some(verdict) => match observation {
                Observation::Silence => verdict,
                Observation::Word(word) => word.max(Verdict::Avoid).min(verdict),
            },
        });
        if self.verdict != before {
            (self.better, self.before_silence) = (0, None);
        }
        self.verdict != before
    }

    /// `None` before the first observation.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Whether the last observation contradicts the verdict.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.last.is_some_and(|last| Some(last.verdict()) != self.verdict)
    }

    /// Observations in a row, up to the last, that it is down.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::Observation::{Silence, Word};
    use super::*;
    use Verdict::{Avoid, Down, Ready, Spare};
    use proptest::prelude::*;
    use proptest::sample::select;

    fn verdict_after(observations: &[Observation]) -> Option<Verdict> {
        let mut hysteresis = Hysteresis::new(2, 3, None);
        for observation in observations {
            hysteresis.observe(*observation, false);
        }
        hysteresis.verdict()
    }

    #[test]
    fn a_late_answer_takes_the_place_of_its_checks_silence() {
        for (observations, verdict) in [
            // A server that always answers late becomes READY as any other.
            (
                &[(Word(Down), false), (Silence, false), (Word(Ready), true), (Silence, false), (Word(Ready), true)][..],
                Ready,
            ),
            // One that was asked several times while it was silent is no worse.
            (
                &[(Word(Down), false), (Word(Ready), false), (Silence, false), (Silence, true), (Word(Ready), true)],
                Ready,
            ),
            // What an earlier check did not answer stays silence.
            (
                &[(Word(Down), false), (Word(Ready), false), (Silence, false), (Silence, false), (Word(Ready), true)],
                Down,
            ),
            // A late no is one no.
            (&[(Word(Ready), false), (Silence, false), (Silence, true), (Word(Down), true), (Silence, false)], Avoid),
            // Silence that made it DOWN did so.
            (
                &[
                    (Word(Avoid), false),
                    (Word(Ready), false),
                    (Silence, false),
                    (Silence, true),
                    (Silence, true),
                    (Word(Ready), true),
                ],
                Down,
            ),
        ] {
            let mut hysteresis = Hysteresis::new(2, 3, None);
            for (observation, is_late) in observations {
                hysteresis.observe(*observation, *is_late);
            }
            assert_eq!(hysteresis.verdict(), Some(verdict), "{observations:?}");
        }
    }

    #[test]
    fn a_nodes_own_no_counts_at_once_and_silence_after_a_while() {
        for (observations, verdict) in [
            (&[][..], None),
            (&[Silence], Some(Down)),
            (&[Word(Down)], Some(Down)),
            (&[Word(Ready), Silence, Silence], Some(Ready)),
            (&[Word(Ready), Silence, Silence, Silence], Some(Down)),
            (&[Word(Ready), Silence, Silence, Word(Ready), Silence], Some(Ready)),
            (&[Word(Ready), Word(Down)], Some(Avoid)),
            (&[Word(Ready), Word(Down), Silence, Word(Down)], Some(Down)),
            (&[Word(Ready), Word(Avoid)], Some(Avoid)),
            (&[Word(Ready), Word(Spare)], Some(Spare)),
            (&[Word(Spare), Word(Down)], Some(Avoid)),
            (&[Word(Ready), Word(Down), Word(Ready)], Some(Avoid)),
            (&[Word(Ready), Word(Down), Word(Ready), Word(Ready)], Some(Ready)),
            (&[Word(Down), Word(Ready)], Some(Down)),
            (&[Word(Down), Word(Ready), Word(Ready)], Some(Ready)),
            (&[Word(Down), Word(Ready), Silence, Word(Ready)], Some(Down)),
            (&[Word(Down), Word(Ready), Word(Spare)], Some(Spare)),
        ] {
            assert_eq!(verdict_after(observations), verdict, "{observations:?}");
        }
    }

    fn observation() -> impl Strategy<Value = Observation> {
        select(vec![Silence, Word(Down), Word(Avoid), Word(Spare), Word(Ready)])
    }

    proptest! {
        #[test]
        fn it_gets_better_or_loses_its_sessions_only_after_several_observations_in_a_row(
            rise in 1u32..5, fall in 1u32..5, observations in prop::collection::vec(observation(), 0..60)
        ) {
            let mut hysteresis = Hysteresis::new(rise, fall, None);
            let (mut before, mut good, mut bad) = (None, 0, 0);
            for observation in observations {
                let observed = observation.verdict();
                good = if before.is_some_and(|before| observed > before) { good + 1 } else { 0 };
                bad = if observed == Down { bad + 1 } else { 0 };
                let changed = hysteresis.observe(observation, false);
                let verdict = hysteresis.verdict();
                prop_assert_eq!(changed, verdict != before);
                if let (Some(before), Some(verdict)) = (before, verdict) {
                    prop_assert!(verdict <= before || good >= rise, "better after {good}");
                    prop_assert!(verdict > Down || before == Down || bad >= fall, "down after {bad}");
                    // Its own word that it is not fit for new clients counts from the first one on.
                    if let Word(word) = observation && word < before {
                        prop_assert!(verdict <= word.max(Avoid));
                    }
                    if observation == Silence && bad < fall {
                        prop_assert_eq!(verdict, before);
                    }
                }
                prop_assert_eq!(hysteresis.is_in_doubt(), verdict != Some(observed));
                if changed {
                    good = 0;
                }
                before = verdict;
            }
        }
    }
}
