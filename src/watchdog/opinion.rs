//! From single answers to a verdict: how many in a row it takes to change it.

use crate::table::health::Verdict;

/// What is held of one destination, given all answers so far.
#[derive(Debug, Clone)]
pub(super) struct Opinion {
    rise: u32,
    fall: u32,
    /// `None` before the first answer.
    verdict: Option<Verdict>,
    /// Answers in a row, up to the last, that would make it better; or worse.
    contrary: u32,
    contrary_is_better: bool,
    /// Answers in a row, up to the last, that it is down.
    failures: u32,
}

impl Opinion {
    /// The one that there is already, if any. To become better takes `rise` answers in a row, to become worse `fall`.
    pub(super) fn new(rise: u32, fall: u32, verdict: Option<Verdict>) -> Opinion {
        Opinion { rise, fall, verdict, contrary: 0, contrary_is_better: false, failures: 0 }
    }

    /// Takes an answer into account. True when the verdict is another now; the first answer is taken at its word.
    pub(super) fn hear(&mut self, answer: Verdict) -> bool {
        self.failures = if answer == Verdict::Down { self.failures.saturating_add(1) } else { 0 };
        let changes = match self.verdict {
            None => true,
            Some(verdict) if verdict == answer => {
                self.contrary = 0;
                false
            }
            Some(verdict) => {
                let better = answer > verdict;
                self.contrary = if better == self.contrary_is_better { self.contrary + 1 } else { 1 };
                self.contrary_is_better = better;
                self.contrary >= if better { self.rise } else { self.fall }
            }
        };
        if changes {
            (self.verdict, self.contrary) = (Some(answer), 0);
        }
        changes
    }

    /// What it is held for; `None` before the first answer.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Whether the last answer contradicts the verdict.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.contrary > 0
    }

    /// Answers in a row, up to the last, that it is down.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn verdict_after(answers: &[Verdict]) -> Option<Verdict> {
        let mut opinion = Opinion::new(2, 3, None);
        for answer in answers {
            opinion.hear(*answer);
        }
        opinion.verdict()
    }

    #[test]
    fn it_takes_several_answers_in_a_row_but_for_the_first() {
        use Verdict::{Avoid, Down, Ready};
        for (answers, verdict) in [
            (&[][..], None),
            (&[Down], Some(Down)),
            (&[Ready, Down, Down], Some(Ready)),
            (&[Ready, Down, Down, Down], Some(Down)),
            (&[Ready, Down, Down, Ready, Down], Some(Ready)),
            (&[Ready, Avoid, Down, Avoid], Some(Avoid)),
            (&[Down, Ready], Some(Down)),
            (&[Down, Ready, Ready], Some(Ready)),
            (&[Down, Ready, Down, Ready], Some(Down)),
            (&[Avoid, Ready, Down, Ready], Some(Avoid)),
        ] {
            assert_eq!(verdict_after(answers), verdict, "{answers:?}");
        }
    }

    proptest! {
        #[test]
        fn a_verdict_is_always_the_last_answer_when_it_changes_and_never_changes_early(
            rise in 1u32..5, fall in 1u32..5,
            answers in prop::collection::vec(select(vec![Verdict::Down, Verdict::Avoid, Verdict::Ready]), 0..60)
        ) {
            let mut opinion = Opinion::new(rise, fall, None);
            let (mut before, mut since) = (None, 0);
            for answer in answers {
                since += 1;
                if opinion.hear(answer) {
                    prop_assert_eq!(opinion.verdict(), Some(answer));
                    if let Some(before) = before {
                        let least = if answer > before { rise } else { fall };
                        prop_assert!(since >= least);
                    }
                    (before, since) = (Some(answer), 0);
                } else {
                    prop_assert_eq!(opinion.verdict(), before);
                }
                prop_assert_eq!(opinion.is_in_doubt(), opinion.verdict() != Some(answer));
            }
        }
    }
}
