//! Names the listening sockets that a service was given together.

use mio::Token;

use super::{Key, Side};

/// The listening sockets of one call of [`Handle::serve`](super::Handle::serve).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerGroup(u32);

impl ListenerGroup {
    /// Numbers come again after more groups than a process sees.
    pub(super) fn new(number: usize) -> ListenerGroup {
        ListenerGroup((number & Key::MASK) as u32)
    }

    /// The token of its sockets. No connection has this slot.
    pub(super) fn token(self) -> Token {
        Key { generation: self.0, slot: Key::MASK as u32 }.token(Side::Client)
    }

    /// The group that a token belongs to, unless it is a connection's.
    pub(super) fn of(token: Token) -> Option<ListenerGroup> {
        let (key, side) = Key::of(token);
        (key.slot as usize == Key::MASK && side == Side::Client).then_some(ListenerGroup(key.generation))
    }
}
