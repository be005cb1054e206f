//! One connect at a time, for those who ask for it.

use std::collections::VecDeque;

use super::Key;

/// Whose turn it is to connect.
#[derive(Default)]
pub(super) struct ConnectTurns {
    current: Option<Key>,
    waiting: VecDeque<Key>,
}

impl ConnectTurns {
    /// Whether this connection, which connects in turn, may do so at once; if not, [`next`](ConnectTurns::next) names it
    /// in its turn.
    pub(super) fn may_connect(&mut self, key: Key) -> bool {
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
