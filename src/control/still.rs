//! How the rest of the program has the control thread stand still, so that nothing changes while the table is handed to
//! another process, and close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::Control;
use super::fifo::Fifo;
use super::late::{Commands, LateReport, ReportSender};
use super::listeners::ControlListener;
use crate::pool::Pool;

/// How long conversations may go on before all stands still: long enough for a netcat with one command.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a move of a single destination that is under way is given up.
const ENDS: &str = "a signal came that ends this process";

const SERVE: u8 = 0;
const STAND_STILL: u8 = 1;
const CLOSE: u8 = 2;

/// What the control thread is to do, and whether it does.
#[derive(Default)]
pub(super) struct Wish {
    wanted: AtomicU8,
    still: AtomicBool,
}

impl Wish {
    pub(super) fn is_still(&self) -> bool {
        self.still.load(Ordering::SeqCst)
    }
}

/// How the rest of the program reaches the control thread.
pub struct Handle {
    pub(super) sender: ReportSender,
    pub(super) wish: Arc<Wish>,
}

impl Handle {
    /// Pools and services are others than before, which the state file is to follow.
    pub fn setup_changed(&self) {
        self.sender.send(LateReport::SetupChanged);
    }

    /// Listens at these sockets and no others. Conversations go on to their end.
    pub fn listen_at(&self, listeners: Vec<ControlListener>) {
        self.sender.send(LateReport::ListenAt(listeners));
    }

    /// How another thread gives commands.
    pub fn commands(&self) -> Commands {
        Commands(self.sender.clone())
    }

    /// Takes care of a pool that is new.
    pub fn follow(&self, pool: &Pool) {
        self.sender.follow(pool);
    }

    /// Lets conversations end that have begun, but for those that take long, and then obeys nobody: see
    /// [`is_still`](Handle::is_still). Who comes now waits to be accepted.
    pub fn stand_still(&self) {
        self.want(STAND_STILL);
    }

    /// Whether nothing is obeyed any more.
    pub fn is_still(&self) -> bool {
        self.wish.is_still()
    }

    /// Goes on after having stood still.
    pub fn go_on(&self) {
        self.want(SERVE);
    }

    /// Closes the control sockets and the FIFO, so that another daemon can open them; and the conversations that are
    /// left, if it stands still. Otherwise the process is about to end: moves of single destinations that wait for sessions
    /// to end are cancelled.
    pub fn close(&self) {
        self.want(CLOSE);
    }

    /// Waits until the control thread does what it was told before this and has answered, though no longer than `patience`.
    pub fn settle(&self, patience: Duration) {
        let (settled, answered) = bounded(0);
        self.sender.send(LateReport::Settle(settled));
        // Closed without a word.
        let _ = answered.recv_timeout(patience);
    }

    fn want(&self, wish: u8) {
        self.wish.wanted.store(wish, Ordering::SeqCst);
        // Fails only when the counter behind it is full, and then the thread will wake.
        let _ = self.sender.waker.wake();
    }
}

impl Control {
    /// Whether to go on as usual.
    pub(super) fn heed_wish(&mut self, now: Instant) -> bool {
        match self.wish.wanted.load(Ordering::SeqCst) {
            STAND_STILL => {
                let patient_until = *self.patient_until.get_or_insert(now + PATIENCE);
                let talked = self.conversations.is_empty() || now >= patient_until;
                // Half a command that was read would be missed by the one who reads the other half.
                self.fifo.iter_mut().for_each(|fifo| fifo.only_finish(true));
                let quiet = self.fifo.as_ref().is_none_or(Fifo::is_quiet) && !self.unfinished;
                self.wish.still.store(talked && quiet, Ordering::SeqCst);
            }
            CLOSE => {
                if !self.executor.is_retired {
                    self.stop_changes();
                }
                self.listeners.close(self.poll.registry());
                self.fifo.take().into_iter().for_each(|fifo| fifo.close(self.poll.registry()));
                // Whoever comes next has the table, and the file that it is kept in.
                self.executor.retire();
                if self.wish.still.swap(false, Ordering::SeqCst) {
                    self.conversations.clear();
                }
                self.patient_until = None;
            }
            _ => {
                self.patient_until = None;
                self.fifo.iter_mut().for_each(|fifo| fifo.only_finish(false));
                if self.wish.still.swap(false, Ordering::SeqCst) {
                    // What came in the meantime was not looked at.
                    self.unfinished = true;
                }
            }
        }
        !self.wish.is_still()
    }

    /// Cancels the moves of single destinations: the sessions that they wait for end since the process does.
    fn stop_changes(&mut self) {
        // After an upgrade, what has changed since is for the other process to keep.
        if !self.wish.is_still() {
            self.read_reports();
        }
        self.executor.source.inventory.now().services.iter().for_each(|it| it.rotation().cancel_switchover(ENDS));
    }
}
