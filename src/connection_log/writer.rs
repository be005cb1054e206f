//! The thread that writes the connection log.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Sender, bounded};
use parking_lot::{Condvar, Mutex};

use super::file::Place;
use super::rate::{LeftOut, Rates};
use super::{Ended, Style, format};
use crate::supervise;

/// How long lines are collected before they are written together.
const COLLECTING: Duration = Duration::from_millis(50);
/// Most connections that wait to be written.
const MOST_WAITING: usize = 16 * 1024;
/// Lines are written once there are so many bytes of them: few enough to stay in the processor's cache until then.
const AT_ONCE: usize = 64 * 1024;
/// How long [`flush`] waits.
const FLUSHING: Duration = Duration::from_millis(500);

/// What workers have for the thread.
struct Queue {
    /// Whether anything was ever added. If so, some of it may not be written yet.
    is_in_use: bool,
    ended: Vec<Ended>,
    /// There was no room for these.
    left_out: usize,
    /// The style of the last of them.
    style: Style,
    /// Those who wait until all is written.
    flushing: Vec<Sender<()>>,
}

static QUEUE: Mutex<Queue> =
    Mutex::new(Queue { is_in_use: false, ended: Vec::new(), left_out: 0, style: Style::Off, flushing: Vec::new() });
/// Signalled when there is something to write, or a thread waits in [`flush`].
static NEWS: Condvar = Condvar::new();

/// Starts the thread, once in a process. Lines go to the end of this file, or to the log.
///
/// # Errors
/// When the file cannot be opened, or the thread not be started.
pub fn start(path: Option<&Path>) -> io::Result<()> {
    let mut writer =
        Writer { place: Place::open(path)?, rates: Rates::default(), spare: Vec::new(), text: String::new() };
    supervise::start("connections", move || writer.run()).map(drop)
}

/// A connection has ended.
pub fn add(ended: Ended) {
    let mut queue = QUEUE.lock();
    if queue.ended.len() >= MOST_WAITING {
        queue.left_out += 1;
        queue.style = ended.style;
        return;
    }
    let was_empty = queue.ended.is_empty();
    queue.is_in_use = true;
    queue.ended.push(ended);
    drop(queue);
    if was_empty {
        NEWS.notify_one();
    }
}

/// Waits until all is written that was added so far, at most half a second.
pub fn flush() {
    let mut queue = QUEUE.lock();
    if !queue.is_in_use {
        return;
    }
    let (done, written) = bounded(1);
    queue.flushing.push(done);
    drop(queue);
    NEWS.notify_one();
    // The sender is dropped when all is written.
    let _ = written.recv_timeout(FLUSHING);
}

struct Writer {
    place: Place,
    rates: Rates,
    /// Two that are empty, kept for their memory while there is much to write.
    spare: Vec<Ended>,
    text: String,
}

/// What the thread has taken from the queue.
struct Taken {
    ended: Vec<Ended>,
    left_out: usize,
    style: Style,
    /// Dropped when all is written.
    flushing: Vec<Sender<()>>,
}

impl Writer {
    fn run(&mut self) {
        loop {
            let mut taken = self.take();
            self.write(&taken, Instant::now());
            taken.ended.clear();
            self.spare = taken.ended;
        }
    }

    /// Waits until there is something to write, and a little longer for more.
    fn take(&mut self) -> Taken {
        let mut queue = QUEUE.lock();
        if queue.ended.is_empty() {
            (self.spare, self.text, queue.ended) = Default::default();
        }
        while queue.ended.is_empty() && queue.flushing.is_empty() {
            let Some(next) = self.rates.next() else {
                NEWS.wait(&mut queue);
                continue;
            };
            if NEWS.wait_until(&mut queue, next).timed_out() {
                break;
            }
        }
        let until = Instant::now() + COLLECTING;
        while !queue.ended.is_empty() && queue.flushing.is_empty() {
            if NEWS.wait_until(&mut queue, until).timed_out() {
                break;
            }
        }
        Taken {
            ended: std::mem::replace(&mut queue.ended, std::mem::take(&mut self.spare)),
            left_out: std::mem::take(&mut queue.left_out),
            style: queue.style,
            flushing: std::mem::take(&mut queue.flushing),
        }
    }

    fn write(&mut self, taken: &Taken, now: Instant) {
        let stamped = self.place.stamps();
        let text = std::mem::take(&mut self.text);
        let mut text = self.left_out(text, now, false);
        self.rates.tidy(SystemTime::now());
        for ended in &taken.ended {
            if self.rates.permit(ended) {
                text = format::ended(text, ended, stamped);
            }
            if text.len() >= AT_ONCE {
                self.place.write(&text);
                text.clear();
            }
        }
        if taken.left_out > 0 {
            let told = (taken.left_out, "they came faster than they could be written");
            text = format::left_out(text, taken.style, None, told, stamped);
        }
        if !taken.flushing.is_empty() {
            // The process may be about to end.
            text = self.left_out(text, now, true);
        }
        if !text.is_empty() {
            self.place.write(&text);
            text.clear();
        }
        if !taken.flushing.is_empty() {
            self.place.say_lost();
        }
        self.text = text;
    }

    /// Adds what services have had too much of in seconds that are over, or in all.
    fn left_out(&mut self, text: String, now: Instant, all: bool) -> String {
        let stamped = self.place.stamps();
        self.rates.over(now, all).into_iter().fold(text, |text, LeftOut { service, style, count, most }| {
            let told = (count, format_args!("more than {most} a second"));
            format::left_out(text, style, Some(&service), told, stamped)
        })
    }
}
