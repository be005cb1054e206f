//! What checks come to.

use crate::verdict::Verdict;

/// What a check has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum CheckResult {
    /// The destination says that it is READY.
    Ready,
    /// SPARE.
    Spare,
    /// AVOID.
    Avoid,
    /// DOWN.
    Down,
    /// It does not answer, or not in the way that is expected.
    Failed,
    /// It has not answered in time.
    TimedOut,
    /// It was not asked, for lack of something on this machine.
    NotMade,
}

impl CheckResult {
    /// All of them.
    pub const ALL: [CheckResult; 7] = [
        CheckResult::Ready,
        CheckResult::Spare,
        CheckResult::Avoid,
        CheckResult::Down,
        CheckResult::Failed,
        CheckResult::TimedOut,
        CheckResult::NotMade,
    ];

    /// As it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            CheckResult::Ready => "ready",
            CheckResult::Spare => "spare",
            CheckResult::Avoid => "avoid",
            CheckResult::Down => "down",
            CheckResult::Failed => "failed",
            CheckResult::TimedOut => "timed-out",
            CheckResult::NotMade => "not-made",
        }
    }
}

impl From<Verdict> for CheckResult {
    fn from(verdict: Verdict) -> CheckResult {
        match verdict {
            Verdict::Ready => CheckResult::Ready,
            Verdict::Spare => CheckResult::Spare,
            Verdict::Avoid => CheckResult::Avoid,
            Verdict::Down => CheckResult::Down,
        }
    }
}
