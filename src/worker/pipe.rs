//! Pipes for splice(2), which moves bytes from socket to socket without copying them.
//!
//! A pipe costs two descriptors, and kernel memory while it is full, so a flow has one only while it carries bulk. They
//! are lent out from a pool that each worker keeps; the number of all is bounded.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::socket::Socket;

/// Pipes that a worker keeps for the next flow.
const MAX_IDLE: usize = 4;

/// A pipe. Boxed, because most flows have none, and each has room for one.
pub(super) struct Pipe<S: Socket>(Box<Contents<S>>);

/// Its ends, and how much is in it.
struct Contents<S: Socket> {
    ends: S::Pipe,
    bytes: usize,
    _permit: Permit,
}

impl<S: Socket> Pipe<S> {
    fn new(permit: Permit) -> io::Result<Pipe<S>> {
        Ok(Pipe(Box::new(Contents { ends: S::open_pipe()?, bytes: 0, _permit: permit })))
    }

    /// Whether everything that went in has come out.
    pub(super) fn is_empty(&self) -> bool {
        self.0.bytes == 0
    }

    /// Takes in up to so much of what a socket has to read; 0 at its end.
    ///
    /// # Errors
    /// `EAGAIN` when there is nothing to read (or the pipe is full), and those of recv(2).
    pub(super) fn fill_from(&mut self, source: &S, most: usize) -> io::Result<usize> {
        let count = source.splice_into(&self.0.ends, most)?;
        self.0.bytes += count;
        Ok(count)
    }

    /// Lets a socket have what it takes.
    ///
    /// # Errors
    /// `EAGAIN` when it takes nothing now, and those of send(2).
    pub(super) fn empty_into(&mut self, sink: &S) -> io::Result<usize> {
        let count = sink.splice_out_of(&self.0.ends, self.0.bytes)?;
        self.0.bytes = self.0.bytes.saturating_sub(count);
        Ok(count)
    }
}

/// How many pipes there may be, in all workers together.
#[derive(Clone)]
pub(super) struct PipeBudget(Arc<AtomicUsize>);

struct Permit(PipeBudget);

impl PipeBudget {
    pub(super) fn new(pipes: usize) -> PipeBudget {
        PipeBudget(Arc::new(AtomicUsize::new(pipes)))
    }

    fn permit(&self) -> Option<Permit> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.is_ok().then(|| Permit(self.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One worker's pipes.
pub(super) struct PipePool<S: Socket> {
    idle: Vec<Pipe<S>>,
    budget: PipeBudget,
}

impl<S: Socket> PipePool<S> {
    pub(super) fn new(budget: PipeBudget) -> PipePool<S> {
        PipePool { idle: Vec::new(), budget }
    }

    /// An empty pipe. `None`: there can be no more now.
    pub(super) fn lend(&mut self) -> Option<Pipe<S>> {
        self.idle.pop().or_else(|| Pipe::new(self.budget.permit()?).ok())
    }

    /// Closes those that are not lent.
    pub(super) fn clear(&mut self) {
        self.idle.clear();
    }

    /// Takes a pipe back. One with something in it is of no use any more, and closed.
    pub(super) fn give_back(&mut self, pipe: Pipe<S>) {
        if pipe.is_empty() && self.idle.len() < MAX_IDLE {
            self.idle.push(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::model::ModelSocket;

    #[test]
    fn a_pipe_that_is_closed_makes_room_for_another_in_every_worker() {
        let budget = PipeBudget::new(MAX_IDLE + 2);
        let (mut first, mut second) =
            (PipePool::<ModelSocket>::new(budget.clone()), PipePool::<ModelSocket>::new(budget));
        let mut lent: Vec<_> = std::iter::from_fn(|| first.lend()).collect();
        assert_eq!(lent.len(), MAX_IDLE + 2);
        assert!(second.lend().is_none());
        // With something in it, it is of no use to another flow.
        lent[0].0.bytes = 1;
        first.give_back(lent.remove(0));
        assert!(second.lend().is_some_and(|pipe| pipe.is_empty()));
        lent.into_iter().for_each(|pipe| first.give_back(pipe));
        let taken: Vec<_> = std::iter::from_fn(|| second.lend()).collect();
        assert_eq!(taken.len(), 2, "the others are kept for the next flow");
        drop(taken);
        first.clear();
        let taken: Vec<_> = std::iter::from_fn(|| second.lend()).collect();
        assert_eq!(taken.len(), MAX_IDLE + 2);
    }
}
