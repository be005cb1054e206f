//! Names for connections, which destinations are told by the PROXY protocol.

use std::hash::{BuildHasher, RandomState};

/// Gives names that no other connection has, in whichever daemon.
pub(super) struct UniqueIds {
    /// Chosen by chance, for each worker of each process.
    worker: u64,
    /// How many there were.
    count: u64,
}

impl UniqueIds {
    pub(super) fn new() -> UniqueIds {
        // Its keys come from the kernel's random numbers, and no two have the same.
        UniqueIds { worker: RandomState::new().hash_one(std::process::id()), count: 0 }
    }

    /// The next name: 32 hexadecimal digits, the first half of which is the worker's.
    pub(super) fn next(&mut self) -> String {
        self.count += 1;
        format!("{:016x}{:016x}", self.worker, self.count)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_connections_have_the_same_name() {
        let mut workers: Vec<UniqueIds> = (0..50).map(|_| UniqueIds::new()).collect();
        let names: BTreeSet<String> = workers.iter_mut().flat_map(|it| [it.next(), it.next()]).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }
}
