//! One connect at a time, for those who ask for it.

use std::collections::VecDeque;

use super::Key;

/// Whose turn it is to connect.
pub(super) struct ConnectTurns {
    one_at_a_time: bool,
    current: Option<Key>,
    waiting: VecDeque<Key>,
}

impl ConnectTurns {
    pub(super) fn new(one_at_a_time: bool) -> ConnectTurns {
        ConnectTurns { one_at_a_time, current: None, waiting: VecDeque::new() }
    }

    /// Whether this connection may connect at once; if not, [`next`](ConnectTurns::next) names it in its turn.
    pub(super) fn may_connect(&mut self, key: Key) -> bool {
        if !self.one_at_a_time {
            return true;
        }
        if self.current.is_some() {
            self.waiting.push_back(key);
            return false;
        }
        self.current = Some(key);
        true
    }

    /// The one that is to connect now, if the one before is through.
    pub(super) fn next(&mut self, is_connecting: impl Fn(Key) -> bool) -> Option<Key> {
        if self.current.is_some_and(is_connecting) {
            return None;
        }
        self.current = self.waiting.pop_front();
        self.current
    }
}
